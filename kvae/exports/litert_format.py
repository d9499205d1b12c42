"""LiteRT: a .tflite file, which is LiteRT's alone: no operation of TensorFlow's."""

import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from kvae.model import Graph

__all__ = ["run", "write"]


def write(graph: Graph, path: pathlib.Path, metadata: str, weights: str) -> None:
    """Writes a .tflite file; the metadata in its buffer `kvae`.

    With int8 weights LiteRT also rounds what goes into matrix products and convolutions to 8 bits,
    while it runs; with float16 it computes in float32.
    """
    options: dict[str, Any] = {}
    if weights != "float32":
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if weights == "float16":
        options["target_spec"] = {"supported_types": [tf.float16]}
    graph.export(str(path), format="litert", **options)
    arrange(path, list(graph.input_specs), graph.output_names, metadata)


def arrange(path: pathlib.Path, inputs: Any, outputs: Any, metadata: str) -> None:
    """Gives a file our order of inputs and outputs, which is alphabetical, and the metadata.

    Raises:
        ImportError: If this TensorFlow has not what reads such files.
        ValueError: If it has operations that are TensorFlow's, which LiteRT alone does not run.
    """
    try:  # no public API reads and writes such files
        from tensorflow.lite.python import schema_py_generated as schema
        from tensorflow.lite.tools import flatbuffer_utils
    except ImportError as error:
        raise ImportError(
            f"TensorFlow {tf.__version__} does not have tensorflow.lite.tools.flatbuffer_utils, "
            "with which kvae names inputs and outputs: install another one, such as 2.21."
        ) from error
    model = flatbuffer_utils.read_model(str(path))
    foreign = [code.customCode.decode() for code in model.operatorCodes if code.customCode]
    if foreign:
        raise ValueError(f"LiteRT does not have {', '.join(foreign)}")
    (signature,) = model.signatureDefs
    main = model.subgraphs[signature.subgraphIndex]
    for maps, names, ports in (
        (signature.inputs, inputs, "inputs"),
        (signature.outputs, outputs, "outputs"),
    ):
        places = {one.name.decode(): one.tensorIndex for one in maps}
        setattr(main, ports, np.array([places[name] for name in names], "int32"))
        for name, place in places.items():
            main.tensors[place].name = name.encode()
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(metadata.encode(), "uint8")
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"kvae", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    flatbuffer_utils.write_model(model, str(path))


def run(path: pathlib.Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs in LiteRT's interpreter, by name."""
    from ai_edge_litert.interpreter import Interpreter

    serve = Interpreter(str(path)).get_signature_runner("serving_default")
    return serve(**inputs)
