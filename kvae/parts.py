"""Parts: base classes of likelihoods, priors and objectives; fixed arguments, settings."""

import difflib
import functools
import inspect
import weakref
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

__all__ = [
    "Fixed",
    "Part",
    "arguments_of",
    "attributes_of_layers",
    "check_seed",
    "check_temperature",
    "checked_integer",
    "checked_truth",
    "chosen",
    "is_integer",
    "made",
    "positive_integer",
    "with_nested",
]

# Attributes that Keras sets on every layer while it writes a SavedModel.
SET_IN_EXPORT = ("train_function", "test_function", "predict_function")
HOTTEST = 1e6  # largest temperature; more would overflow float32


class Fixing(type):
    """Metaclass of classes whose instances cannot change their arguments later."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Makes an instance, and then fixes it."""
        instance = super().__call__(*args, **kwargs)
        object.__setattr__(instance, "is_fixed", True)
        return instance

    @property
    def __signature__(cls) -> inspect.Signature:
        """The signature of the constructor, for help and editors; `__call__` would hide it."""
        own = inspect.signature(cls.__init__)  # type: ignore[misc]
        return own.replace(parameters=list(own.parameters.values())[1:])


class Fixed(metaclass=Fixing):
    """An object whose constructor's arguments cannot be assigned to later.

    A compiled or recorded step has read the arguments once, and would not see a change.

    Attributes:
        settable: Arguments that may be assigned to nevertheless.
    """

    is_fixed = False
    settable: tuple[str, ...] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuses to assign to fixed arguments."""
        if self.is_fixed and name in arguments_of(type(self)) and name not in self.settable:
            if not isinstance(getattr(type(self), name, None), property):
                raise AttributeError(fixed(name, type(self).__name__))
        super().__setattr__(name, value)


def fixed(name: str, kind: str) -> str:
    """The message about an assignment to a fixed argument."""
    return (
        f"`{name}` of {kind} is fixed when it is made: a compiled step would not see it change. "
        f"Make another {kind}."
    )


@functools.cache
def attributes_of_layers() -> frozenset[str]:
    """The attributes of every Keras layer, such as `trainable` and `dtype_policy`."""
    return frozenset({*dir(keras.layers.Layer), *vars(keras.layers.Layer()), *SET_IN_EXPORT})


@functools.cache
def arguments_of(kind: type) -> frozenset[str]:
    """The arguments of the constructors of a class and of its base classes."""
    found: set[str] = set()
    for base in kind.__mro__:
        if issubclass(base, Fixed) and "__init__" in vars(base):
            for name, parameter in inspect.signature(vars(base)["__init__"]).parameters.items():
                if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    found.add(name)
    return frozenset(found - {"self"})


class Part(Fixed, keras.layers.Layer):
    """Base class of the parts of a VAE: a Keras layer with fixed arguments and settings.

    A setting is a variable that every step reads, so that it can be assigned to at any time. It is
    not a weight: `get_weights`, `load_weights` and callbacks that restore the best weights do not
    touch it. Layers and weights of a part are made in its constructor: `build` is never called.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.held: dict[str, Any] = {}
        self.owners: Any = weakref.WeakSet()  # the models that this is a part of
        self.built = True

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuses to assign to anything but settings, private names and Keras's attributes."""
        if self.is_fixed and not name.startswith("_") and name not in attributes_of_layers():
            if not isinstance(getattr(type(self), name, None), property):
                kind = type(self).__name__
                if not hasattr(self, name):
                    raise AttributeError(f"{kind} has no attribute `{name}`.")
                raise AttributeError(fixed(name, kind))
        super().__setattr__(name, value)

    def add_setting(self, name: str, value: float) -> keras.Variable:
        """Makes a setting: a float32 scalar that is neither trained nor a weight."""
        variable = self.add_weight(
            name=name,
            shape=(),
            initializer=keras.initializers.Constant(value),
            dtype="float32",
            trainable=False,
            autocast=False,
        )
        self.held[name] = variable
        return variable

    def assign_setting(self, name: str, value: float) -> None:
        """Sets a setting, also during `fit`."""
        for model in list(self.owners):
            model.settle()
        self.held[name].assign(ops.cast(value, "float32"))

    @property
    def weights(self) -> list[keras.Variable]:
        """The variables that are weights: all except settings."""
        held = {id(variable) for variable in self.held.values()}
        return [weight for weight in super().weights if id(weight) not in held]

    def save_own_variables(self, store: Any) -> None:
        """Saves the weights of this layer; settings are in its configuration."""
        for i, variable in enumerate(self.own_weights()):
            store[str(i)] = variable

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved."""
        for i, variable in enumerate(self.own_weights()):
            variable.assign(store[str(i)])

    def own_weights(self) -> list[keras.Variable]:
        """The weights of this layer itself, without layers within it."""
        held = {id(variable) for variable in self.held.values()}
        own = [*self._trainable_variables, *self._non_trainable_variables]
        return [variable for variable in own if id(variable) not in held]


def with_nested(part: Part) -> list[Part]:
    """A part and its nested parts, such as the priors of groups."""
    return [layer for layer in part._flatten_layers() if isinstance(layer, Part)]


def is_integer(value: Any) -> bool:
    """Whether the value is an integer, Python's or NumPy's."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def positive_integer(value: Any) -> bool:
    """Whether the value is an integer of at least 1."""
    return is_integer(value) and int(value) >= 1


def checked_integer(name: str, value: Any) -> int:
    """Returns an integer of at least 1 as a Python integer, or raises a ValueError."""
    if not positive_integer(value):
        raise ValueError(f"`{name}` must be an integer of at least 1. Received: {name}={value!r}")
    return int(value)


def checked_truth(name: str, value: Any) -> bool:
    """Returns a Python boolean, or raises a ValueError."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"`{name}` must be True or False. Received: {name}={value!r}")
    return bool(value)


def chosen(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Returns one of these words, or raises a ValueError."""
    if not (isinstance(value, str) and value in choices):
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, choices))}. Received: {name}={value!r}"
        )
    return value


def check_seed(seed: Any) -> None:
    """Raises a ValueError unless this is a valid seed."""
    if not (is_integer(seed) and 0 <= seed < 2**32):
        raise ValueError(f"`seed` must be an integer in 0…2³² − 1. Received: seed={seed!r}")


def check_temperature(temperature: Any) -> None:
    """Raises a ValueError unless this is a valid temperature."""
    numeric = isinstance(temperature, (int, float, np.number)) and not isinstance(temperature, bool)
    if not (numeric and 0 <= temperature <= HOTTEST):  # refuses NaN too
        raise ValueError(
            f"`temperature` must be finite and at least 0, and {HOTTEST:,.0f} at most. "
            f"Received: temperature={temperature!r}"
        )


def made(table: Mapping[str, type], what: str, name: str, *given: Any, **arguments: Any) -> Any:
    """Makes the part of this name with these arguments.

    Args:
        table: The classes by name.
        what: Kind of the classes, for messages.
        name: Name of the class.
        *given: Arguments that all classes have.
        **arguments: Arguments that only some have.

    Raises:
        ValueError: If there is no such class, or it has no such argument.
    """
    if name not in table:
        near = difflib.get_close_matches(str(name), table, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        names = ", ".join(map(repr, table))
        raise ValueError(f"There is no {what} {name!r}; there are {names}.{hint}")
    for argument in arguments:
        if argument not in inspect.signature(table[name]).parameters:
            having = [one for one in table if argument in inspect.signature(table[one]).parameters]
            hint = f" Those that have it: {', '.join(having)}." if having else ""
            raise ValueError(f"The {what} {name!r} has no argument `{argument}`.{hint}")
    return table[name](*given, **arguments)
