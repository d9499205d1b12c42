"""What TensorFlow writes: SavedModel, and by way of it LiteRT and ONNX; and its own runtime."""

import contextlib
import pathlib
import sys
from typing import Any

import numpy as np
import tensorflow as tf

from kvae.exports.onnx_file import finish, shrink
from kvae.model import Graph

__all__ = ["run_saved_model", "write_litert", "write_onnx", "write_saved_model"]

METADATA = pathlib.Path("assets.extra", "kvae.json")  # of a SavedModel


def write_saved_model(graph: Graph, path: pathlib.Path, metadata: str, weights: str) -> None:
    """Writes a folder for TensorFlow and TensorFlow Serving; the metadata in `assets.extra`."""
    with quiet():
        graph.export(str(path))
    (path / METADATA).parent.mkdir()
    (path / METADATA).write_text(metadata)


def write_onnx(graph: Graph, path: pathlib.Path, metadata: str, weights: str) -> None:
    """Writes an ONNX file; the metadata under `kvae`."""
    with quiet():
        graph.export(str(path), format="onnx")
    finish(path, list(graph.input_specs), graph.output_names, {"kvae": metadata})
    if weights != "float32":
        shrink(path, weights)


def write_litert(graph: Graph, path: pathlib.Path, metadata: str, weights: str) -> None:
    """Writes a LiteRT file; the metadata in its buffer `kvae`."""
    options: dict[str, Any] = {}
    if weights != "float32":
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if weights == "float16":
        options["target_spec"] = {"supported_types": [tf.float16]}
    with quiet():
        graph.export(str(path), format="litert", **options)
    arrange(path, list(graph.input_specs), graph.output_names, metadata)


def arrange(path: pathlib.Path, inputs: Any, outputs: Any, metadata: str) -> None:
    """Gives a LiteRT file our order of inputs and outputs, which is alphabetical, and the metadata.

    Raises:
        ValueError: If it has operations that are TensorFlow's, which LiteRT alone does not run.
    """
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    foreign = [code.customCode.decode() for code in model.operatorCodes if code.customCode]
    if foreign:
        raise ValueError(f"LiteRT does not have {', '.join(foreign)}")
    (signature,) = model.signatureDefs
    main = model.subgraphs[signature.subgraphIndex]
    for maps, names, kind in (
        (signature.inputs, inputs, "inputs"),
        (signature.outputs, outputs, "outputs"),
    ):
        places = {one.name.decode(): one.tensorIndex for one in maps}
        setattr(main, kind, np.array([places[name] for name in names], "int32"))
        for name, place in places.items():
            main.tensors[place].name = name.encode()
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(metadata.encode(), "uint8")
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"kvae", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    flatbuffer_utils.write_model(model, str(path))


def run_saved_model(path: pathlib.Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of a SavedModel's signature for serving, by name."""
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    found = serve(**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in found.items()}


@contextlib.contextmanager
def quiet() -> Any:
    """Sends what converters print elsewhere: the last line of stdout is the result."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
