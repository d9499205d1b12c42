"""Runtimes: each format written, and run by what its users have: neither kvae nor Keras."""

import pathlib
from collections.abc import Callable

import numpy as np

from kvae.model import Graph

__all__ = ["run", "write"]

Arrays = dict[str, np.ndarray]


def write(name: str, graph: Graph, path: pathlib.Path, metadata: str, weights: str) -> None:
    """Writes a graph in the format of this name.

    Args:
        name: A key of `FORMATS`.
        graph: Made on the backend that can.
        path: Of the file or folder, which is not there yet.
        metadata: A text that goes along.
        weights: "float32", "float16" or "int8".
    """
    if name == "torch":
        from kvae.exports.torch_format import write_torch

        write_torch(graph, path, metadata, weights)
        return
    if name == "openvino":
        write_openvino(graph, path, metadata, weights)
        return
    from kvae.exports import tensorflow_formats as tensorflow

    writers = {
        "onnx": tensorflow.write_onnx,
        "saved-model": tensorflow.write_saved_model,
        "litert": tensorflow.write_litert,
    }
    writers[name](graph, path, metadata, weights)


def write_openvino(graph: Graph, path: pathlib.Path, metadata: str, weights: str) -> None:
    """Writes an .xml and a .bin file, by way of ONNX; the metadata in the runtime's `kvae`."""
    import openvino

    from kvae.exports.tensorflow_formats import write_onnx

    onnx = path.with_suffix(".onnx")
    try:
        write_onnx(graph, onnx, metadata, "float32")
        model = openvino.Core().read_model(onnx)
        model.set_rt_info(metadata, "kvae")
        openvino.save_model(model, path, compress_to_fp16=weights == "float16")
    finally:
        onnx.unlink(missing_ok=True)


def run(name: str, path: pathlib.Path, inputs: Arrays) -> Arrays:
    """The outputs by name, float32, of a file that is run in its own runtime.

    Args:
        name: A key of `FORMATS`.
        path: Of the file or folder.
        inputs: By name.
    """
    runners: dict[str, Callable[[pathlib.Path, Arrays], Arrays]] = {
        "onnx": run_onnx,
        "litert": run_litert,
        "openvino": run_openvino,
    }
    if name == "saved-model":
        from kvae.exports.tensorflow_formats import run_saved_model

        return run_saved_model(path, inputs)
    if name == "torch":
        from kvae.exports.torch_format import run_torch

        return run_torch(path, inputs)
    return runners[name](path, inputs)


def run_onnx(path: pathlib.Path, inputs: Arrays) -> Arrays:
    """The outputs of an ONNX file in ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def run_litert(path: pathlib.Path, inputs: Arrays) -> Arrays:
    """The outputs of a LiteRT file in LiteRT's interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    serve = Interpreter(str(path)).get_signature_runner("serving_default")
    return serve(**inputs)


def run_openvino(path: pathlib.Path, inputs: Arrays) -> Arrays:
    """The outputs of a file in OpenVINO, computed in float32, which is not its default."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    names = [output.any_name for output in model.outputs]  # compiled, they have others beside
    found = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs)
    return {name: found[number] for number, name in enumerate(names)}
