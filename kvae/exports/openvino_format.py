"""OpenVINO: an .xml file and the .bin file of its weights, by way of ONNX."""

import pathlib

import numpy as np

from kvae.exports import onnx_format
from kvae.model import Graph

__all__ = ["run", "write"]


def write(graph: Graph, path: pathlib.Path, metadata: str, weights: str) -> None:
    """Writes an .xml and a .bin file; the metadata in the runtime's information, under `kvae`."""
    import openvino

    onnx = path.with_suffix(".onnx")
    try:
        onnx_format.write(graph, onnx, metadata, "float32")
        model = openvino.Core().read_model(onnx)
        model.set_rt_info(metadata, "kvae")
        openvino.save_model(model, path, compress_to_fp16=weights == "float16")
    finally:
        onnx.unlink(missing_ok=True)


def run(path: pathlib.Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs in OpenVINO, by name, computed in float32, which is not its default."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    names = [output.any_name for output in model.outputs]  # compiled outputs have further names
    outputs = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs)
    return {name: outputs[number] for number, name in enumerate(names)}
