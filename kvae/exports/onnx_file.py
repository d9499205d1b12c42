"""ONNX: names and order of what goes in and out, the card, and smaller weights, in a file of it."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["finish", "shrink"]

LEAST = 256  # values of a weight that is worth making smaller


def finish(
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
    model.producer_name = "kvae"
    onnx.checker.check_model(model)
    onnx.save(model, path)


def shrink(path: pathlib.Path, weights: str) -> None:
    """Keeps weights as float16, or as int8 with a scale for each place of their last axis.

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
        if values.dtype != np.float32 or values.size < LEAST:
            kept.append(tensor)
            continue
        small, name = f"{tensor.name}_{weights}", tensor.name
        if weights == "float16":
            kept.append(numpy_helper.from_array(values.astype(np.float16), small))
            added.append(helper.make_node("Cast", [small], [name], to=onnx.TensorProto.FLOAT))
            continue
        codes, scales = coded(values)
        kept += [
            numpy_helper.from_array(codes, small),
            numpy_helper.from_array(scales, f"{small}_scale"),
        ]
        given: list[Any] = [small, f"{small}_scale"]
        added.append(helper.make_node("DequantizeLinear", given, [name], axis=values.ndim - 1))
    nodes = [*added, *model.graph.node]
    for held, new in ((model.graph.initializer, kept), (model.graph.node, nodes)):
        del held[:]
        held.extend(new)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def coded(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights as int8, and the scale of each place of their last axis, float32."""
    largest = np.abs(values).max(axis=tuple(range(values.ndim - 1)))
    scales = np.maximum(largest / 127, np.finfo("float32").tiny).astype("float32")
    return np.rint(values / scales).astype(np.int8), scales
