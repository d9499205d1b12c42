"""Graphs: Keras models as plain values, which a small reader can run anywhere.

A graph is `{"inputs": [shape, …], "nodes": [node, …], "outputs": [number, …]}`. Shapes leave out
the batch: a reader runs one image at a time. Values are numbered: first the inputs, then the output
of each node. All values are float32 with channels last. A node is

    {"op": "conv", "layer": "up_1_conv", "from": [3], "shape": [28, 28, 32], "tensors": [7, 8], …}

`from` has the numbers of its inputs, `shape` the shape of its output, and `tensors` the numbers of
its weights (see `Tensors`). The operations are:

    add, multiply                of values of one shape
    concatenate                  along the last axis
    affine                       x · tensor + tensor, each of one value or of the last axis
    dense                        x @ tensor [+ tensor] along the last axis
    conv                         `size`, `strides`, `padding` ((top, bottom), (left, right)); tensor
                                 of (height, width, in, out) [+ tensor]
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

from collections.abc import Sequence
from typing import Any

import keras
from keras import tree

from kvae.explorer.operations import OPERATIONS, Unrunnable, activation
from kvae.explorer.tensors import Tensors

__all__ = ["graph_of"]

Value = tuple[int, list[int]]  # number and shape


def graph_of(model: keras.Model, tensors: Tensors) -> dict[str, Any]:
    """Makes the graph of a Functional or Sequential model, with nested models flattened.

    Args:
        model: A model of layers that kvae's networks use, each called with tensors only.
        tensors: The `Tensors` to which the weights are added.

    Raises:
        Unrunnable: If the model has another layer, or is of another kind.

    Example:
        >>> import kvae
        >>> from kvae.explorer import Tensors, graph_of
        >>> decoder = kvae.build_decoder((8, 8, 1), 2, "dense", widths=(16,))
        >>> [node["op"] for node in graph_of(decoder, Tensors())["nodes"]]
        ['dense', 'activation', 'dense', 'reshape']
    """
    check_kind(model)
    inputs = [(number, shape_of(given)) for number, given in enumerate(model.inputs)]
    writer = Writer(tensors, len(inputs))
    try:
        outputs = writer.write(model, inputs)
    except RecursionError as error:
        raise Unrunnable(f"{model.name} is too deep") from error
    return {
        "inputs": [shape for _, shape in inputs],
        "nodes": writer.nodes,
        "outputs": [number for number, _ in outputs],
    }


def check_kind(model: keras.Model) -> None:
    """Checks that a model only calls its layers one after the other."""
    calls = (kind for kind in type(model).__mro__ if "call" in vars(kind))
    keras_own = next(calls).__module__.split(".")[0] == "keras"
    if not keras_own or not model.built or not getattr(model, "outputs", None):
        raise Unrunnable(f"{model.name} is no Functional and no Sequential model")


def shape_of(tensor: keras.KerasTensor) -> list[int]:
    """A tensor's shape, without the batch."""
    shape = list(tensor.shape[1:])
    if None in shape:
        raise Unrunnable(f"{tensor.name} has no fixed shape")
    return shape


class Writer:
    """Writes nodes in an order in which they can be run.

    Args:
        tensors: To which weights are added.
        inputs: Number of values before the first node.
    """

    def __init__(self, tensors: Tensors, inputs: int) -> None:
        self.tensors = tensors
        self.inputs = inputs
        self.nodes: list[dict[str, Any]] = []

    def write(self, model: keras.Model, given: Sequence[Value]) -> list[Value]:
        """Adds the nodes of a model applied to these values; returns its outputs."""
        check_kind(model)
        # Keyed by the call that makes a tensor: a layer that is called twice makes two.
        made = {history(tensor): one for tensor, one in zip(model.inputs, given, strict=True)}

        def value(tensor: keras.KerasTensor) -> Value:
            if history(tensor) not in made:
                layer, call, _ = history(tensor)
                node = layer._inbound_nodes[call]
                taken = [value(one) for one in taken_by(node)]
                results = self.apply(layer, taken, shape_of(node.outputs[0]))
                if len(results) != len(node.outputs):
                    raise Unrunnable(f"{layer.name} makes several values")
                made.update(zip(map(history, node.outputs), results, strict=True))
            return made[history(tensor)]

        return [value(tensor) for tensor in model.outputs]

    def apply(self, layer: Any, taken: list[Value], shape: list[int]) -> list[Value]:
        """Adds the nodes of a layer applied to these values, the first of which has this shape."""
        if isinstance(layer, keras.Model):
            return self.write(layer, taken)
        if type(layer) not in OPERATIONS:
            raise Unrunnable(f"{layer.name} is a {type(layer).__name__}")
        nodes = OPERATIONS[type(layer)](layer, self.tensors, [shape for _, shape in taken])
        if function := getattr(layer, "activation", None):
            nodes += activation(function, layer.name)
        for node in nodes:
            numbers = [number for number, _ in taken]
            self.nodes.append({**node, "layer": layer.name, "from": numbers, "shape": shape})
            taken = [(self.inputs + len(self.nodes) - 1, shape)]
        return taken


def history(tensor: keras.KerasTensor) -> tuple[Any, int, int]:
    """Returns the layer that made a tensor, the number of its call, and of its output.

    Keras has no public name for this. A model's config contains it, but not for every kind of
    model.
    """
    layer, call, place = tensor._keras_history
    return layer, call, place


def taken_by(node: Any) -> list[keras.KerasTensor]:
    """The tensors that a layer was called with; raises an error if it had other arguments."""
    arguments = tree.flatten(node.arguments.args)
    rest = {k: v for k, v in node.arguments.kwargs.items() if k not in ("training", "mask")}
    other = [one for one in (*arguments, *tree.flatten(rest)) if one is not None]
    if not all(isinstance(one, keras.KerasTensor) for one in other):
        raise Unrunnable(f"{node.operation.name} is called with more than tensors")
    return other
