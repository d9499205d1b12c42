"""File: a model of kvae loaded, or one line on why it cannot be."""

import json
import os
import pathlib
import re
import zipfile
from typing import Any

import keras

from kvae.model.vae import VAE
from kvae.shipped import SHIPPED, path_of

__all__ = ["load"]

# What Keras says, however deep inside, of a class or a function of the user's.
UNKNOWN = re.compile(r"Could not locate (class|function) '([^']+)'")


def load(
    path: str | os.PathLike,
    compile: bool = True,
    custom_objects: dict[str, Any] | None = None,
    safe_mode: bool = True,
) -> VAE:
    """Loads a model that kvae saved: `keras.saving.load_model`, with one clear line where it fails.

    Args:
        path: A `.keras` file; or the name of a model that comes with kvae, "mnist", "mnist-conv" or
            "mnist-conv-large", where there is no file of that name.
        compile: Whether to load the optimizer too, to train further.
        custom_objects: Classes and functions of your own by name, where they are not registered
            with Keras.
        safe_mode: Whether to refuse what runs code of the file, such as a Lambda layer.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no model of kvae, or is damaged, or holds classes that are not known.

    Example:
        >>> import kvae
        >>> kvae.load("mnist").image_shape
        (28, 28, 1)
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"`path` must be the path of a file. Received: path={path!r}")
    if not isinstance(custom_objects, (dict, type(None))):
        raise ValueError(
            "`custom_objects` must be a dict of names to classes or functions. "
            f"Received: {type(custom_objects).__name__}"
        )
    if str(path) in SHIPPED and not is_there(pathlib.Path(path)):
        path = path_of(str(path))
    path = pathlib.Path(path)
    if not is_there(path):
        raise FileNotFoundError(
            f"There is no model at {path}. Those that come with kvae: {', '.join(SHIPPED)}."
        )
    kind = registered_name(path)
    if is_kerass(kind):
        raise ValueError(not_ours(path, kind))
    if not (path.is_dir() or path.suffix == ".keras"):
        raise ValueError(f"The name of a model's file ends in .keras. Received: {path}")
    try:
        model = keras.saving.load_model(
            path, custom_objects=custom_objects, compile=compile, safe_mode=safe_mode
        )
    except Exception as error:  # whatever a damaged archive sets off inside Keras
        raise ValueError(f"{path} cannot be loaded: {reason_of(error)}") from error
    if not isinstance(model, VAE):
        raise ValueError(not_ours(path, kind))
    return model


def is_there(path: pathlib.Path) -> bool:
    """Whether there is a file, or a folder that holds a model: a run's own folder does not."""
    return path.is_file() or (path / "config.json").is_file()


def registered_name(path: pathlib.Path) -> str:
    """The class of the model in a file, or in a folder (`save(..., zipped=False)`).

    Returns:
        Such as "kvae>VAE", or "keras" where it is one of Keras's own.

    Raises:
        ValueError: If it is not what Keras writes.
    """
    try:
        if path.is_dir():
            config = json.loads((path / "config.json").read_bytes())
        else:
            with zipfile.ZipFile(path) as archive:
                config = json.loads(archive.read("config.json"))
        return str(config.get("registered_name") or config.get("module") or "")
    except (zipfile.BadZipFile, OSError, KeyError, ValueError, AttributeError):
        raise ValueError(f"{path} is not a .keras file, or is damaged.") from None


def is_kerass(kind: str) -> bool:
    """Whether a class is one of Keras's own, or unknown."""
    return kind.partition(">")[0].partition(".")[0] in ("keras", "")


def not_ours(path: pathlib.Path, kind: str) -> str:
    """What is said of another model."""
    named = "another Keras model" if is_kerass(kind) else kind
    return f"{path} is not a model of kvae, but {named}; keras.saving.load_model may open it."


def reason_of(error: Exception) -> str:
    """Why Keras failed, in a line."""
    text = " ".join(str(error).split())
    unknown = UNKNOWN.search(text)
    if unknown:
        kind, name = unknown.groups()
        return (
            f"the {kind} {name!r} is not known. Import what defines it, if it is registered with "
            "keras.saving.register_keras_serializable, or give it: "
            f"custom_objects={{{name!r}: {name}}}."
        )
    if "arbitrary code" in text:
        return (
            "it holds a Lambda layer, which runs Python code of the file. If you trust where it "
            "comes from, load it with safe_mode=False."
        )
    return next(iter(str(error).splitlines()), "") or type(error).__name__
