"""Fingerprint: the attributes of a model's parts on which a recorded step depends."""

import collections
import types
import weakref
from typing import Any

import keras
import numpy as np

__all__ = ["KNOWN_PACKAGES", "fingerprint"]

KNOWN_PACKAGES = {"keras", "kvae"}  # their code reads only its arguments and attributes
SMALL = 2**16  # bytes of an array that is compared by value

# Attributes that a step does not read, or that it changes itself.
IGNORED = {
    *("_losses", "_loss_ids", "_losses_override", "_called"),
    "training",  # PyTorch's flag, which Keras's layers do not look at
    # Keras's records of how a layer was made and called.
    *("_auto_config", "_build_shapes_dict", "_inbound_nodes", "_outbound_nodes", "_input_spec"),
    *("_inputs", "_outputs", "_inputs_struct", "_outputs_struct", "_nodes", "_nodes_by_depth"),
    *("_operations_by_depth", "_call_context_args", "_call_signature", "_call_has_context_arg"),
    *("call_signature_parameters", "_call_has_training_arg", "_call_has_mask_arg", "build"),
    *("quantize", "built", "name", "_path", "_parent_path", "_lock", "_lock_violation_msg"),
    *(
        "_tracker",
        "tracker",
        "locked",
        "backend",
        "supports_jit",
        "_remat_mode",
        "_convert_input_args",
    ),
    *("_allow_non_tensor_positional_args", "_compiled_trainable_state"),
    *("kernel_initializer", "bias_initializer", "beta_initializer", "gamma_initializer"),
    *("moving_mean_initializer", "moving_variance_initializer"),
    # Attributes of PyTorch, whose hooks Keras does not call.
    *("_torch_params", "_parameters", "_buffers", "_non_persistent_buffers_set"),
    *("_backward_pre_hooks", "_backward_hooks", "_is_full_backward_hook", "_forward_hooks"),
    *("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks"),
    *("_forward_pre_hooks_with_kwargs", "_state_dict_hooks", "_state_dict_pre_hooks"),
    *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
    # Attributes of a model itself.
    *("_compile_config", "_compile_loss", "optimizer", "card", "executions", "graphs", "history"),
    *("kept", "told", "train_function", "test_function", "predict_function"),
    # Attributes of `fit`: made again in each epoch, and used when first needed.
    *("_eval_epoch_iterator", "_jit_compile"),
    *("stop_training", "stop_evaluating", "stop_predicting"),
}
PLAIN = {bool, int, float, complex, str, bytes, type(None), type(Ellipsis), slice, range}
FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, np.ufunc)


class ForeignCode(Exception):
    """Code of another package may be called."""


def fingerprint(*parts: Any) -> tuple | None:
    """Describes objects and all their content, by value; variables by identity.

    Equal fingerprints mean the same step. Code of other packages may read more than attributes (a
    global, a counter, `numpy.random`), so nothing can tell whether its steps are the same.

    Args:
        *parts: A model, and whatever else a step calls.

    Returns:
        A hashable value to compare. None if there is code of another package than Keras or kvae.
    """
    walk = Walk()
    try:
        for part in parts:
            walk.add(part)
    except ForeignCode:
        return None
    return tuple(walk.found)


class Same:
    """A stand-in for an object, equal to others for the same object, which it keeps alive."""

    __slots__ = ("it",)

    def __init__(self, it: Any) -> None:
        self.it = it

    def __eq__(self, other: Any) -> Any:
        return type(other) is Same and self.it is other.it

    def __hash__(self) -> Any:
        return id(self.it)


class Walk:
    """Walks through objects, each once."""

    def __init__(self) -> None:
        self.found: list = []
        self.seen: dict[int, int] = {}

    def add(self, value: Any) -> None:
        """Describes a value and all its content."""
        kind = type(value)
        self.found.append(kind)
        if kind in PLAIN:
            self.found.append(value)
        elif id(value) in self.seen:
            self.found.append(self.seen[id(value)])
        else:
            self.seen[id(value)] = len(self.seen)
            way = WAYS.get(kind) or WAYS.setdefault(kind, way_of(kind))
            way(self, value)

    def add_sequence(self, value: Any) -> None:
        """Describes items in their order."""
        self.found.append(len(value))
        for item in value:
            self.add(item)

    def add_set(self, value: Any) -> None:
        """Describes items without an order, by their own equality."""
        self.found.append(frozenset(value))

    def add_dict(self, value: Any) -> None:
        """Describes names and values, without ignored ones."""
        self.found.append("{")
        for name, item in value.items():
            if name not in IGNORED:
                self.found.append(name)
                self.add(item)
        self.found.append("}")

    def add_object(self, value: Any) -> None:
        """Describes the attributes of an object."""
        self.add_dict(vars(value))

    def add_variable(self, value: Any) -> None:
        """Describes a variable by identity, and its relevant attributes."""
        self.found.append(Same(value))
        for name in ("regularizer", "constraint", "trainable", "_autocast"):
            self.add(getattr(value, name, None))

    def add_array(self, value: Any) -> None:
        """Describes a small array by value, a large one by identity."""
        small = value.nbytes <= SMALL and value.dtype != object
        self.found += (value.dtype, value.shape, value.tobytes() if small else Same(value))

    def add_function(self, value: Any) -> None:
        """Describes a function by identity, with what it is bound to."""
        package = (getattr(value, "__module__", None) or "").partition(".")[0]
        if package not in KNOWN_PACKAGES:
            raise ForeignCode
        self.found.append(Same(getattr(value, "__func__", value)))
        if isinstance(value, types.MethodType):
            self.add(value.__self__)

    def add_itself(self, value: Any) -> None:
        """Describes a value by identity."""
        self.found.append(Same(value))

    def refuse(self, value: Any) -> None:
        """Gives up."""
        raise ForeignCode


def way_of(kind: type) -> Any:
    """The method that describes objects of a class."""
    packages = {base.__module__.partition(".")[0] for base in kind.__mro__}
    if issubclass(kind, keras.Variable):
        return Walk.add_variable
    if issubclass(kind, keras.layers.Lambda):
        return Walk.refuse
    if issubclass(kind, dict):
        return Walk.add_dict
    if issubclass(kind, (list, tuple, collections.deque)):
        return Walk.add_sequence
    if issubclass(kind, (set, frozenset)):
        return Walk.add_set
    if issubclass(kind, np.ndarray):
        return Walk.add_array
    if issubclass(kind, FUNCTIONS):
        return Walk.add_function
    if kind.__module__.partition(".")[0] in KNOWN_PACKAGES and not issubclass(
        kind, (keras.KerasTensor, type)
    ):
        return Walk.add_object if kind.__dictoffset__ else Walk.add_itself
    if packages & KNOWN_PACKAGES and not issubclass(kind, (keras.KerasTensor, type)):
        return Walk.refuse
    if issubclass(kind, type) or kind is weakref.ref:
        return Walk.add_itself
    called = any("__call__" in vars(base) for base in kind.__mro__)
    return Walk.refuse if called else Walk.add_itself


WAYS: dict = {}
