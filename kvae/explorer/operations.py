"""Operations: each layer of kvae's networks as nodes of a graph."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.explorer.tensors import Tensors

__all__ = ["OPERATIONS", "Unrunnable", "activation"]

FUNCTIONS = (
    "relu",
    "silu",
    "tanh",
    "sigmoid",
    "softplus",
    "elu",
    "leaky_relu",
    "softmax",
    "exponential",
)
Shapes = Sequence[list[int]]  # of the inputs of a layer, without the batch
Maker = Callable[[Any, Tensors, Shapes], list[dict[str, Any]]]


class Unrunnable(ValueError):
    """A model has a layer that graphs do not know."""


def activation(function: Any, name: str) -> list[dict[str, Any]]:
    """The node of an activation function; no node for the identity."""
    called = getattr(function, "__name__", "")
    if function is keras.activations.linear:
        return []
    if called not in FUNCTIONS or function is not getattr(keras.activations, called):
        raise Unrunnable(f"{name} has the activation {called or function!r}")
    slope = {"slope": 0.2} if called == "leaky_relu" else {}
    return [{"op": "activation", "function": called, **slope}]


def weighted(layer: Any, tensors: Tensors) -> list[int]:
    """The numbers of kernel and bias."""
    if getattr(layer, "quantization_mode", None):
        raise Unrunnable(f"{layer.name} is quantised")
    parts = [layer.kernel, layer.bias] if layer.use_bias else [layer.kernel]
    return [tensors.add_variable(part) for part in parts]


def dense(layer: Any, tensors: Tensors, shapes: Shapes) -> list[dict[str, Any]]:
    """The node of a dense layer."""
    return [{"op": "dense", "tensors": weighted(layer, tensors)}]


def conv(layer: Any, tensors: Tensors, shapes: Shapes) -> list[dict[str, Any]]:
    """The node of a convolution, with its padding as Keras splits it."""
    if layer.groups != 1 or {*layer.dilation_rate} != {1} or layer.data_format != "channels_last":
        raise Unrunnable(f"{layer.name} has groups, dilation or channels first")
    padding = [[0, 0], [0, 0]]
    if layer.padding == "same":
        sides = zip(shapes[0][:2], layer.kernel_size, layer.strides, strict=True)
        for axis, (length, size, stride) in enumerate(sides):
            extra = max(0, (-(-length // stride) - 1) * stride + size - length)
            padding[axis] = [extra // 2, extra - extra // 2]
    return [
        {
            "op": "conv",
            "size": [*layer.kernel_size],
            "strides": [*layer.strides],
            "padding": padding,
            "tensors": weighted(layer, tensors),
        }
    ]


def rescaling(layer: Any, tensors: Tensors, shapes: Shapes) -> list[dict[str, Any]]:
    """The node of a rescaling layer."""
    parts = [np.ravel(np.asarray(part, "float32")) for part in (layer.scale, layer.offset)]
    if any(len(part) not in (1, shapes[0][-1]) for part in parts):
        raise Unrunnable(f"{layer.name} does not work along the last axis")
    return [{"op": "affine", "tensors": [tensors.add(part) for part in parts]}]


def batch_norm(layer: Any, tensors: Tensors, shapes: Shapes) -> list[dict[str, Any]]:
    """The node of a trained batch normalisation."""
    if layer.axis not in (-1, len(shapes[0])):
        raise Unrunnable(f"{layer.name} does not work along the last axis")
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    found = (getattr(layer, name, None) for name in names)
    gamma, beta, mean, variance = (
        None if one is None else ops.convert_to_numpy(one) for one in found
    )
    scale = (1.0 if gamma is None else gamma) / np.sqrt(variance + layer.epsilon)
    offset = (0.0 if beta is None else beta) - mean * scale
    return [{"op": "affine", "tensors": [tensors.add(scale), tensors.add(offset)]}]


def norm(layer: Any, tensors: Tensors, shapes: Shapes) -> list[dict[str, Any]]:
    """The node of a root mean square norm."""
    if layer.axis not in (-1, [-1]):
        raise Unrunnable(f"{layer.name} does not work along the last axis")
    scale = getattr(layer, "scale", None)
    numbers = [] if scale is None else [tensors.add_variable(scale)]
    return [{"op": "norm", "epsilon": float(layer.epsilon), "tensors": numbers}]


def pool(layer: Any, tensors: Tensors, shapes: Shapes) -> list[dict[str, Any]]:
    """The node of a pooling."""
    if layer.padding != "valid" or layer.data_format != "channels_last":
        raise Unrunnable(f"{layer.name} has padding or channels first")
    kind = "max_pool" if isinstance(layer, keras.layers.MaxPooling2D) else "average_pool"
    return [{"op": kind, "size": [*layer.pool_size], "strides": [*layer.strides]}]


def pad(layer: Any, tensors: Tensors, shapes: Shapes) -> list[dict[str, Any]]:
    """The node of a layer that pads or crops."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise Unrunnable(f"{layer.name} has channels first")
    crops = isinstance(layer, (keras.layers.Cropping1D, keras.layers.Cropping2D))
    amounts = np.reshape(layer.cropping if crops else layer.padding, (-1, 2))
    amounts = np.pad(-amounts if crops else amounts, ((0, 1), (0, 0)))
    return [{"op": "pad", "amounts": amounts.tolist()}]


def mean(layer: Any, tensors: Tensors, shapes: Shapes) -> list[dict[str, Any]]:
    """The node of a mean over height and width."""
    if layer.data_format != "channels_last":
        raise Unrunnable(f"{layer.name} has channels first")
    return [{"op": "mean"}]


def concatenate(layer: Any, tensors: Tensors, shapes: Shapes) -> list[dict[str, Any]]:
    """The node of a concatenation."""
    if layer.axis not in (-1, len(shapes[0])):
        raise Unrunnable(f"{layer.name} does not work along the last axis")
    return [{"op": "concatenate"}]


def merged(op: str) -> Maker:
    """A function that makes the node of values of one shape."""

    def make(layer: Any, tensors: Tensors, shapes: Shapes) -> list[dict[str, Any]]:
        if any(shape != shapes[0] for shape in shapes):
            raise Unrunnable(f"{layer.name} takes values of several shapes")
        return [{"op": op}]

    return make


def leaky(layer: Any, tensors: Tensors, shapes: Shapes) -> list[dict[str, Any]]:
    """The node of a leaky ReLU."""
    return [{"op": "activation", "function": "leaky_relu", "slope": float(layer.negative_slope)}]


def reshape(layer: Any, tensors: Tensors, shapes: Shapes) -> list[dict[str, Any]]:
    """The node of a reshape."""
    return [{"op": "reshape"}]


def no_nodes(layer: Any, tensors: Tensors, shapes: Shapes) -> list[dict[str, Any]]:
    """No node, for layers that do nothing in a trained model."""
    return []


def permute(layer: Any, tensors: Tensors, shapes: Shapes) -> list[dict[str, Any]]:
    """The node of a permutation of axes."""
    return [{"op": "permute", "axes": [axis - 1 for axis in layer.dims]}]


def repeat(layer: Any, tensors: Tensors, shapes: Shapes) -> list[dict[str, Any]]:
    """The node of a repeated row."""
    return [{"op": "repeat", "count": layer.n}]


OPERATIONS: dict[type, Maker] = {
    keras.layers.Activation: no_nodes,  # the node of its function follows
    keras.layers.Add: merged("add"),
    keras.layers.AveragePooling2D: pool,
    keras.layers.BatchNormalization: batch_norm,
    keras.layers.Concatenate: concatenate,
    keras.layers.Conv2D: conv,
    keras.layers.Cropping1D: pad,
    keras.layers.Cropping2D: pad,
    keras.layers.Dense: dense,
    keras.layers.Dropout: no_nodes,
    keras.layers.Flatten: reshape,
    keras.layers.GlobalAveragePooling2D: mean,
    keras.layers.Identity: no_nodes,
    keras.layers.LeakyReLU: leaky,
    keras.layers.MaxPooling2D: pool,
    keras.layers.Multiply: merged("multiply"),
    keras.layers.Permute: permute,
    keras.layers.RepeatVector: repeat,
    keras.layers.Reshape: reshape,
    keras.layers.RMSNormalization: norm,
    keras.layers.Rescaling: rescaling,
    keras.layers.ZeroPadding1D: pad,
    keras.layers.ZeroPadding2D: pad,
}
