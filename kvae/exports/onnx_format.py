"""ONNX: names and order of inputs and outputs, the card, and smaller weights, in one file."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from kvae.exports.rounding import as_int8, is_rounded
from kvae.model import Graph

__all__ = ["run", "write"]


def write(graph: Graph, path: pathlib.Path, metadata: str, weights: str) -> None:
    """Writes an .onnx file; the metadata under `kvae`."""
    graph.export(str(path), format="onnx")
    arrange(path, list(graph.input_specs), graph.output_names, {"kvae": metadata})
    if weights != "float32":
        shrink(path, weights)


def arrange(
    path: pathlib.Path, inputs: Sequence[str], outputs: Sequence[str], metadata: dict[str, str]
) -> None:
    """Gives a file our order of inputs and outputs, one name of the batch, and the metadata.

    Args:
        path: The file, whose inputs and outputs have their names.
        inputs: The names of the inputs, in order.
        outputs: The names of the outputs, in order.
        metadata: Texts by name.

    Raises:
        ValueError: If it has other inputs or outputs.
    """
    import onnx

    model = onnx.load(path)
    for values, names in ((model.graph.input, inputs), (model.graph.output, outputs)):
        found = {value.name: value for value in values}
        if found.keys() != set(names):
            raise ValueError(f"it has {', '.join(found)} where {', '.join(names)} should be")
        ordered = [found[name] for name in names]
        del values[:]
        values.extend(ordered)
        for value in values:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for name, text in metadata.items():
        model.metadata_props.add(key=name, value=text)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def shrink(path: pathlib.Path, weights: str) -> None:
    """Stores weights as float16, or as int8 with a scale for each output of a layer.

    They are float32 again before they are used: what is computed stays float32.

    Args:
        path: The file, which is written anew.
        weights: "float16" or "int8".
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    kept, added = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if not is_rounded(values, weights):
            kept.append(tensor)
            continue
        small, name = f"{tensor.name}_{weights}", tensor.name
        if weights == "float16":
            with np.errstate(over="ignore"):  # overflow is detected when the file is run
                kept.append(numpy_helper.from_array(values.astype(np.float16), small))
            added.append(helper.make_node("Cast", [small], [name], to=onnx.TensorProto.FLOAT))
            continue
        axis = 0 if values.ndim == 4 else values.ndim - 1  # kernels are (out, in, height, width)
        codes, scales = as_int8(values, axis)
        kept += [
            numpy_helper.from_array(codes, small),
            numpy_helper.from_array(scales, f"{small}_scale"),
        ]
        inputs: list[Any] = [small, f"{small}_scale"]
        added.append(helper.make_node("DequantizeLinear", inputs, [name], axis=axis))
    nodes = [*added, *model.graph.node]
    for held, new in ((model.graph.initializer, kept), (model.graph.node, nodes)):
        del held[:]
        held.extend(new)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def run(path: pathlib.Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs in ONNX Runtime, by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))
