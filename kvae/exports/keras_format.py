"""Keras: a .keras file of Keras's own layers alone, which opens on any backend without kvae."""

import json
import pathlib
import zipfile
from typing import Any

import keras
import numpy as np

from kvae.model import Graph

__all__ = ["run", "write"]

THEIRS = ("keras", "builtins")  # packages that come with Keras
CONFIG, METADATA = "config.json", "metadata.json"  # as Keras calls them


def write(graph: Graph, path: pathlib.Path, metadata: str, weights: str) -> None:
    """Writes a .keras file, with float32 weights; metadata under `kvae` in its `metadata.json`.

    Raises:
        ValueError: If it has classes that are not Keras's.
    """
    graph.functional().save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    foreign = sorted(foreign_to_keras(json.loads(members[CONFIG])))
    if foreign:
        raise ValueError(
            f"it has {', '.join(foreign)}, and would open only where that is defined; "
            "`vae.save` writes such a model"
        )
    said = json.loads(members[METADATA]) | {"kvae": json.loads(metadata)}
    members[METADATA] = json.dumps(said).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def foreign_to_keras(config: Any) -> set[str]:
    """The names of the classes and functions in a configuration that are not Keras's."""
    if isinstance(config, list):
        return {name for part in config for name in foreign_to_keras(part)}
    if not isinstance(config, dict):
        return set()
    names = {name for part in config.values() for name in foreign_to_keras(part)}
    if "class_name" in config and "config" in config:
        name = config.get("registered_name") or config["class_name"]
        package = name.partition(">")[0] if ">" in name else config.get("module") or "keras"
        if config["class_name"] == "function":  # Keras's own functions have only a name
            names.add(str(config["config"]))
        elif package.partition(".")[0] not in THEIRS:
            names.add(name)
    return names


def run(path: pathlib.Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs in Keras, by name."""
    outputs = keras.saving.load_model(path, compile=False)(inputs, training=False)
    return {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}
