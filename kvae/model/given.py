"""Checks the arguments of `fit` and similar methods, and converts them for Keras."""

import numbers
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import tree

from kvae.model.forms import Border, Look, array_like, native, parts_of, refusal, trailing
from kvae.parts import positive_integer

__all__ = ["checked", "prepared", "prepared_batch", "validation"]

COUNTS = ("batch_size", "validation_batch_size", "steps", "steps_per_epoch", "validation_steps")
EPOCHS = ("epochs", "initial_epoch")
NOTHING = (type(None), str, bytes, numbers.Number, Mapping, list, tuple, set)
Streamed = Callable[[Any, Look], Any]  # makes a checked stream for Keras


def checked(given: dict[str, Any]) -> dict[str, Any]:
    """Checks the arguments other than data; refuses those that Keras would misread."""
    given = dict(given)
    for name in COUNTS:
        if given.get(name) is not None:
            if not positive_integer(given[name]):
                raise ValueError(refusal(name, "an integer of at least 1, or None", given[name]))
            given[name] = int(given[name])  # PyTorch refuses NumPy integers
    for name in EPOCHS:
        if name in given:
            if not (positive_integer(given[name]) or given[name] == 0):
                raise ValueError(refusal(name, "an integer of at least 0", given[name]))
            given[name] = int(given[name])
    if "validation_freq" in given:
        given["validation_freq"] = checked_frequency(given["validation_freq"])
    shuffle = given.get("shuffle")
    if isinstance(shuffle, str) and shuffle != "batch":
        raise ValueError(refusal("shuffle", 'True, False or "batch"', shuffle))
    if given.get("verbose", "auto") not in ("auto", 0, 1, 2):
        raise ValueError(refusal("verbose", '"auto", 0, 1 or 2', given["verbose"]))
    split = given.get("validation_split") or 0.0
    if not (isinstance(split, numbers.Real) and 0 <= float(split) < 1):
        raise ValueError(refusal("validation_split", "at least 0 and below 1", split))
    if given.get("callbacks") is not None:
        given["callbacks"] = checked_callbacks(given["callbacks"])
    return given


def checked_frequency(value: Any) -> int | list[int]:
    """Checks `validation_freq`, at which Keras would look only after an epoch."""
    if positive_integer(value):
        return int(value)
    if isinstance(value, list) and all(map(positive_integer, value)):
        return [int(epoch) for epoch in value]
    expected = "an integer of at least 1, or a list of such epochs"
    raise ValueError(refusal("validation_freq", expected, value))


def checked_callbacks(callbacks: Any) -> Any:
    """Returns a `CallbackList`, or one or nested callbacks as a list."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    flat = tree.flatten(callbacks)
    for callback in flat:
        if not isinstance(callback, keras.callbacks.Callback):
            raise ValueError(refusal("callbacks", "objects of keras.callbacks.Callback", callback))
    return flat


def prepared(
    border: Border,
    streamed: Streamed,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    name: str = "x",
) -> tuple[Any, Any, Any]:
    """Converts images, labels and sample weights for Keras.

    Arrays are checked as a whole, streams batch by batch as they come.

    Args:
        border: The inputs that the model accepts.
        streamed: A function that wraps a stream of batches, with a check of each, for Keras.
        x: Images, a dict that holds them, or a stream of batches.
        y: Labels, which a VAE ignores except for class weights.
        sample_weight: (count,) or (count, 1).
        class_weight: Weights by class, or None.
        name: Name of `x` in messages.

    Raises:
        ValueError: If one of them is invalid.
    """
    if isinstance(x, Mapping):
        x, own, _ = parts_of(x)
        y = own if y is None else y
    x = border.unwrapped(x)
    if array_like(x):
        x, y, sample_weight = border.let_in(x, y, sample_weight, class_weight)
        return (*trailing(x, y, sample_weight), None, None)[:3]
    if isinstance(x, NOTHING) or not (
        hasattr(x, "__iter__") or isinstance(x, keras.utils.PyDataset)
    ):
        raise ValueError(refusal("x", "an array of images, or a data set of batches of them", x))
    for other, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ValueError(
                f"`{other}` should not be passed beside a data set, whose batches hold it: "
                "(images, labels, weights)."
            )
    return streamed(x, Look(border, name, class_weight)), None, None


def prepared_batch(
    border: Border, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None
) -> tuple[Any, Any, Any]:
    """Returns one batch of images, labels and sample weights, or raises a ValueError."""
    if isinstance(x, Mapping):
        x, own, _ = parts_of(x)
        y = own if y is None else y
    images, y, sample_weight = border.let_in(x, y, sample_weight, class_weight)
    return native(images), y, sample_weight


def validation(border: Border, streamed: Streamed, data: Any) -> Any:
    """Converts `validation_data`: images, a tuple of up to three, a dict or a stream."""
    if data is None:
        return None
    name = "validation_data"
    if not isinstance(data, (tuple, list)) or (len(data) > 3 and array_like(data)):
        parts = prepared(border, streamed, data, name=name)
        return parts if parts[1] is not None else parts[0]
    if not 1 <= len(data) <= 3:
        raise ValueError(
            "`validation_data` must be images, (images, labels) or (images, labels, weights). "
            f"Received: a {type(data).__name__} of {len(data)}"
        )
    x, y, sample_weight = (*data, None, None)[:3]
    return prepared(border, streamed, x, y, sample_weight, name=name)
