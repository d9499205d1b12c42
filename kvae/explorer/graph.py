"""Graphs: Keras models as plain values, which a reader of a few lines can run anywhere.

A graph is `{"inputs": [shape, …], "nodes": [node, …], "outputs": [number, …]}`. Shapes are without
the batch: a reader runs one image at a time. Values are numbered, the inputs first and then what
each node makes, and all are float32 with channels last. A node is

    {"op": "conv", "layer": "up_1_conv", "from": [3], "shape": [28, 28, 32], "tensors": [7, 8], …}

with the numbers of what it takes, the shape of what it makes and the numbers of its weights (see
`Tensors`). The operations:

    add, multiply, concatenate   of all that they take; concatenate along the last axis
    affine                       x · tensor + tensor, each of one value or of the last axis
    dense                        x @ tensor [+ tensor] along the last axis
    conv                         `strides`, `padding` ((top, bottom), (left, right)); tensor of
                                 (height, width, in, out) [+ tensor]
    max_pool, average_pool       `size`, `strides`
    mean                         over height and width
    norm                         x / √(mean of x² over the last axis + `epsilon`) [· tensor]
    activation                   `function`: relu, silu, tanh, sigmoid, softplus, elu, leaky_relu
                                 (`slope`), softmax, exponential
    reshape                      to `shape`
    permute                      `axes`, counted from 0
    pad                          `amounts`: ((before, after), …) for each axis; negative ones crop
    repeat                       (any,) to (`count`, any)
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.explorer.tensors import Tensors

__all__ = ["OPERATIONS", "Unrunnable", "graph_of"]

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
DEEPEST = 50  # models within models


class Unrunnable(ValueError):
    """A model has a layer that graphs do not know."""


def graph_of(model: keras.Model, tensors: Tensors) -> dict[str, Any]:
    """The graph of a Functional model; models within it become part of it.

    Args:
        model: Of layers that kvae's networks are made of, each called with tensors alone.
        tensors: To which the weights are added.

    Raises:
        Unrunnable: If there is another layer, or the model is not Functional.

    Example:
        >>> import kvae
        >>> from kvae.explorer import Tensors, graph_of
        >>> decoder = kvae.build_decoder((8, 8, 1), 2, "dense", widths=(16,))
        >>> [node["op"] for node in graph_of(decoder, Tensors())["nodes"]]
        ['dense', 'activation', 'dense', 'reshape']
    """
    shapes = [[*given.shape[1:]] for given in model.inputs]
    writer = Writer(tensors, len(shapes))
    outputs = writer.write(model, list(range(len(shapes))))
    return {"inputs": shapes, "nodes": writer.nodes, "outputs": outputs}


class Writer:
    """Writes nodes in the order in which they can be run.

    Args:
        tensors: To which weights are added.
        inputs: How many values there are before the first node.
    """

    def __init__(self, tensors: Tensors, inputs: int) -> None:
        self.tensors = tensors
        self.inputs = inputs
        self.nodes: list[dict[str, Any]] = []

    def write(self, model: keras.Model, given: list[int], depth: int = 0) -> list[int]:
        """The numbers of what a model makes of values with these numbers."""
        if not isinstance(model, keras.Model) or not hasattr(model, "operations"):
            raise Unrunnable(f"{model.name} is no Functional model")
        if depth > DEEPEST:
            raise Unrunnable(f"{model.name} lies too deep")
        config = model.get_config()
        described = {layer["name"]: layer for layer in config["layers"]}
        made: dict[tuple[str, int], list[int]] = {}
        for name, number in zip(references(config["input_layers"]), given, strict=True):
            made[name[:2]] = [number]

        def value(name: str, node: int, place: int) -> int:
            if (name, node) not in made:
                calls = described[name]["inbound_nodes"]
                call = calls[min(node, len(calls) - 1)]  # a model's own making counts in outputs
                if call["kwargs"].keys() - {"training", "mask"}:
                    raise Unrunnable(f"{name} is called in a way that is not known")
                taken = [value(*one) for one in references(call["args"])]
                made[name, node] = self.apply(model.get_layer(name), taken, depth)
            return made[name, node][place]

        return [value(*one) for one in references(config["output_layers"])]

    def apply(self, layer: keras.Layer, taken: list[int], depth: int) -> list[int]:
        """The numbers of what a layer makes of values with these numbers."""
        if isinstance(layer, keras.Model):
            return self.write(layer, taken, depth + 1)
        if type(layer) not in OPERATIONS:
            raise Unrunnable(f"{layer.name} is a {type(layer).__name__}")
        shape = [*layer.output.shape[1:]]
        function = getattr(layer, "activation", None)
        for node in OPERATIONS[type(layer)](layer, self.tensors):
            taken = [self.append(node, layer.name, taken, shape)]
        if function is not None:
            for node in activation(function, layer.name):
                taken = [self.append(node, layer.name, taken, shape)]
        return taken

    def append(self, node: dict, layer: str, taken: list[int], shape: list[int]) -> int:
        """Appends a node, and gives the number of what it makes."""
        self.nodes.append({**node, "layer": layer, "from": taken, "shape": shape})
        return self.inputs + len(self.nodes) - 1


def references(values: Any) -> list[tuple[str, int, int]]:
    """What of which layer's call a config names: (layer, call, place), in order."""
    if isinstance(values, dict):
        return [tuple(values["config"]["keras_history"])]
    if isinstance(values, (list, tuple)):
        if len(values) == 3 and isinstance(values[0], str):
            return [tuple(values)]  # type: ignore[list-item]
        return [one for part in values for one in references(part)]
    if values is None:
        return []
    raise Unrunnable(f"a layer is given {values!r}, which is no tensor")


def activation(function: Any, name: str, **rest: Any) -> list[dict]:
    """The node of an activation function; of none, no node."""
    called = getattr(function, "__name__", "")
    if called == "linear":
        return []
    if called not in FUNCTIONS:
        raise Unrunnable(f"{name} has the activation {called or function!r}")
    if called == "leaky_relu":
        rest = {"slope": 0.2, **rest}
    return [{"op": "activation", "function": called, **rest}]


def weighted(layer: keras.Layer, tensors: Tensors) -> list[int]:
    """The numbers of kernel and bias."""
    parts = [layer.kernel, layer.bias] if layer.use_bias else [layer.kernel]
    return [tensors.add_variable(part) for part in parts]


def dense(layer: keras.layers.Dense, tensors: Tensors) -> list[dict]:
    """The node of a dense layer."""
    return [{"op": "dense", "tensors": weighted(layer, tensors)}]


def conv(layer: keras.layers.Conv2D, tensors: Tensors) -> list[dict]:
    """The node of a convolution; its padding as Keras splits it."""
    if layer.groups != 1 or {*layer.dilation_rate} != {1} or layer.data_format != "channels_last":
        raise Unrunnable(f"{layer.name} has groups, dilation or channels first")
    padding = [[0, 0], [0, 0]]
    if layer.padding == "same":
        sides = zip(layer.input.shape[1:3], layer.kernel_size, layer.strides, strict=True)
        for axis, (length, size, stride) in enumerate(sides):
            extra = max(0, (-(-length // stride) - 1) * stride + size - length)
            padding[axis] = [extra // 2, extra - extra // 2]
    return [
        {
            "op": "conv",
            "strides": [*layer.strides],
            "padding": padding,
            "tensors": weighted(layer, tensors),
        }
    ]


def affine(layer: keras.Layer, tensors: Tensors) -> list[dict]:
    """The node of a layer that multiplies and adds."""
    if isinstance(layer, keras.layers.Rescaling):
        scale, offset = (np.ravel(np.asarray(x, "float32")) for x in (layer.scale, layer.offset))
    else:
        if layer.axis not in (-1, len(layer.input.shape) - 1):
            raise Unrunnable(f"{layer.name} does not work along the last axis")
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        found = (getattr(layer, name, None) for name in names)
        gamma, beta, mean, variance = (
            None if one is None else ops.convert_to_numpy(one) for one in found
        )
        scale = (1.0 if gamma is None else gamma) / np.sqrt(variance + layer.epsilon)
        offset = (0.0 if beta is None else beta) - mean * scale
    return [{"op": "affine", "tensors": [tensors.add(scale), tensors.add(offset)]}]


def norm(layer: keras.layers.RMSNormalization, tensors: Tensors) -> list[dict]:
    """The node of a root mean square norm."""
    if layer.axis not in (-1, [-1]):
        raise Unrunnable(f"{layer.name} does not work along the last axis")
    scale = getattr(layer, "scale", None)
    numbers = [] if scale is None else [tensors.add_variable(scale)]
    return [{"op": "norm", "epsilon": float(layer.epsilon), "tensors": numbers}]


def pool(layer: Any, tensors: Tensors) -> list[dict]:
    """The node of a pooling."""
    if layer.padding != "valid":
        raise Unrunnable(f"{layer.name} has padding")
    kind = "max_pool" if isinstance(layer, keras.layers.MaxPooling2D) else "average_pool"
    return [{"op": kind, "size": [*layer.pool_size], "strides": [*layer.strides]}]


def pad(layer: Any, tensors: Tensors) -> list[dict]:
    """The node of a layer that pads or crops."""
    crops = isinstance(layer, (keras.layers.Cropping1D, keras.layers.Cropping2D))
    amounts = np.reshape(layer.cropping if crops else layer.padding, (-1, 2))
    amounts = np.pad(-amounts if crops else amounts, ((0, 1), (0, 0)))
    return [{"op": "pad", "amounts": amounts.tolist()}]


def concatenate(layer: keras.layers.Concatenate, tensors: Tensors) -> list[dict]:
    """The node of values behind each other."""
    if layer.axis not in (-1, len(layer.output.shape) - 1):
        raise Unrunnable(f"{layer.name} does not work along the last axis")
    return [{"op": "concatenate"}]


def leaky(layer: keras.layers.LeakyReLU, tensors: Tensors) -> list[dict]:
    """The node of a leaky ReLU."""
    return [{"op": "activation", "function": "leaky_relu", "slope": float(layer.negative_slope)}]


def plain(op: str) -> Callable[..., list[dict]]:
    """What makes a node that has no more than its operation."""
    return lambda layer, tensors: [{"op": op}]


def nothing(layer: keras.Layer, tensors: Tensors) -> list[dict]:
    """No node, of what changes nothing once a model is trained."""
    return []


def permute(layer: keras.layers.Permute, tensors: Tensors) -> list[dict]:
    """The node of axes in another order."""
    return [{"op": "permute", "axes": [axis - 1 for axis in layer.dims]}]


def repeat(layer: keras.layers.RepeatVector, tensors: Tensors) -> list[dict]:
    """The node of a row that is repeated."""
    return [{"op": "repeat", "count": layer.n}]


OPERATIONS: dict[type, Callable[..., list[dict]]] = {
    keras.layers.Activation: nothing,  # its function follows
    keras.layers.Add: plain("add"),
    keras.layers.AveragePooling2D: pool,
    keras.layers.BatchNormalization: affine,
    keras.layers.Concatenate: concatenate,
    keras.layers.Conv2D: conv,
    keras.layers.Cropping1D: pad,
    keras.layers.Cropping2D: pad,
    keras.layers.Dense: dense,
    keras.layers.Dropout: nothing,
    keras.layers.Flatten: plain("reshape"),
    keras.layers.GlobalAveragePooling2D: plain("mean"),
    keras.layers.Identity: nothing,
    keras.layers.LeakyReLU: leaky,
    keras.layers.MaxPooling2D: pool,
    keras.layers.Multiply: plain("multiply"),
    keras.layers.Permute: permute,
    keras.layers.RepeatVector: repeat,
    keras.layers.Reshape: plain("reshape"),
    keras.layers.RMSNormalization: norm,
    keras.layers.Rescaling: affine,
    keras.layers.ZeroPadding1D: pad,
    keras.layers.ZeroPadding2D: pad,
}
