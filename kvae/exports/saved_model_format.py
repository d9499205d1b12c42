"""SavedModel: a folder for TensorFlow and TensorFlow Serving."""

import pathlib

import numpy as np
import tensorflow as tf

from kvae.model import Graph

__all__ = ["run", "write"]

METADATA = pathlib.Path("assets.extra", "kvae.json")


def write(graph: Graph, path: pathlib.Path, metadata: str, weights: str) -> None:
    """Writes a folder, with float32 weights; the metadata in its `assets.extra/kvae.json`."""
    graph.export(str(path))
    (path / METADATA).parent.mkdir()
    (path / METADATA).write_text(metadata)


def run(path: pathlib.Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of its signature for serving, by name."""
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    outputs = serve(**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in outputs.items()}
