"""Given: arguments of `fit` and its kin, looked at, and made what Keras takes."""

import math
import numbers
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kvae.parts import positive_integer

__all__ = ["check_classes", "checked", "prepared", "prepared_batch", "validation"]

COUNTS = ("batch_size", "validation_batch_size", "steps", "steps_per_epoch", "validation_steps")
EPOCHS = ("epochs", "initial_epoch")
Check = Callable[[Any], Any]  # of an array of images
Triple = tuple[Any, Any, Any]  # images, labels, sample weights


def checked(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments that are no data, or a ValueError on the first that Keras would misread."""
    given = dict(given)
    for name in COUNTS:
        if given.get(name) is not None:
            if not positive_integer(given[name]):
                raise ValueError(refusal(name, "an integer of at least 1, or None", given[name]))
            given[name] = int(given[name])  # PyTorch refuses NumPy's
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


def refusal(name: str, expected: str, received: Any) -> str:
    """What is said of an argument that is not what it should be."""
    text = " ".join(repr(received).split())
    text = text if len(text) < 60 else type(received).__name__
    return f"`{name}` must be {expected}. Received: {name}={text}"


def checked_frequency(value: Any) -> int | list[int]:
    """`validation_freq`, which Keras would look at after an epoch only."""
    if positive_integer(value):
        return int(value)
    if isinstance(value, list) and all(map(positive_integer, value)):
        return [int(epoch) for epoch in value]
    expected = "an integer of at least 1, or a list of such epochs"
    raise ValueError(refusal("validation_freq", expected, value))


def checked_callbacks(callbacks: Any) -> Any:
    """A `CallbackList` as it is; one callback, or any nest of them, as a list."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    flat = tree.flatten(callbacks)
    for callback in flat:
        if not isinstance(callback, keras.callbacks.Callback):
            raise ValueError(refusal("callbacks", "objects of keras.callbacks.Callback", callback))
    return flat


def check_classes(class_weight: Any, y: Any, sample_weight: Any) -> None:
    """Raises a ValueError unless classes can be weighed: by a dict, of labels, and once."""
    if class_weight is None:
        return
    if not isinstance(class_weight, dict):
        raise ValueError(refusal("class_weight", "a dict of classes to weights", class_weight))
    for label, weight in class_weight.items():
        if not (isinstance(weight, numbers.Real) and math.isfinite(weight) and float(weight) >= 0):
            raise ValueError(refusal(f"class_weight[{label!r}]", "finite, at least 0", weight))
    if y is None:
        raise ValueError("`class_weight` needs labels: give them as `y`, or in the data set.")
    if sample_weight is not None:
        raise ValueError("`class_weight` and `sample_weight` cannot be given together.")


def prepared(
    check: Check, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None
) -> Triple:
    """Images, labels and sample weights as Keras takes them.

    Arrays are checked whole; of data sets and generators the first batch is.

    Args:
        check: Raises a ValueError unless an array holds images.
        x: An array, or a data set of batches.
        y: Labels, which a VAE ignores but for the weights of their classes.
        sample_weight: (count,) or (count, 1).
        class_weight: Weights by class, or None.

    Raises:
        ValueError: If one is not what it should be.
    """
    if isinstance(x, (list, tuple)) and len(x) == 1 and hasattr(x[0], "shape"):
        x = x[0]  # as Keras unwraps the inputs of a model with one
    if x is None or isinstance(x, (list, tuple, dict, str, bytes, numbers.Number)):
        raise ValueError(refusal("x", "an array of images, or a data set of batches of them", x))
    if hasattr(x, "shape"):
        x, y, sample_weight = prepared_batch(check, x, y, sample_weight, class_weight)
        # Keras drops weights where there are no labels: so weights stand in for them.
        return x, sample_weight if y is None else y, sample_weight

    def look(batch: Any) -> Triple:
        parts = batch if isinstance(batch, (list, tuple)) else (batch,)
        if not 1 <= len(parts) <= 3:
            raise ValueError(
                "A batch must be images, (images, labels) or (images, labels, weights). "
                f"Received: {len(parts)} parts"
            )
        images, labels, weights = (*parts, None, None)[:3]
        return prepared_batch(check, images, labels, weights, class_weight)

    return looked_at(x, look), y, sample_weight


def looked_at(data: Any, look: Callable[[Any], Triple]) -> Any:
    """A data set, after a look at its first batch; an iterator, which is looked at as it begins."""
    if isinstance(data, keras.utils.PyDataset):
        _, labels, weights = look(data[0])
        return Labelled(data) if labels is None and weights is not None else data
    if hasattr(data, "__next__"):
        return with_a_look(data, look)
    if hasattr(data, "__iter__"):
        nothing = object()
        batch = next(iter(data), nothing)
        if batch is nothing:
            raise ValueError("`x` is a data set without a batch.")
        look(batch)
    return data


def with_a_look(batches: Iterator, look: Callable[[Any], Any]) -> Iterator:
    """The batches of an iterator, each a tuple, as Keras wants them; the first is looked at."""
    for i, batch in enumerate(batches):
        if i == 0:
            look(batch)
        yield tuple(batch) if isinstance(batch, (list, tuple)) else (batch,)


class Labelled(keras.utils.PyDataset):
    """A data set of (images, None, weights), the weights for labels: TensorFlow takes no None."""

    def __init__(self, data: keras.utils.PyDataset) -> None:
        super().__init__(data.workers, data.use_multiprocessing, data.max_queue_size)
        self.data = data

    @property
    def num_batches(self) -> int | None:
        """The number of batches, None where there is no end."""
        return self.data.num_batches

    def __getitem__(self, index: int) -> Triple:
        """One batch."""
        images, _, weights = self.data[index]
        return images, weights, weights

    def on_epoch_begin(self) -> None:
        """Hands on."""
        self.data.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Hands on."""
        self.data.on_epoch_end()


def prepared_batch(
    check: Check, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None
) -> Triple:
    """An array of images, its labels and its sample weights, or a ValueError."""
    if not hasattr(x, "shape"):
        raise ValueError(refusal("x", "an array of images", x))
    check(x)
    check_classes(class_weight, y, sample_weight)
    count = int(x.shape[0])
    return x, checked_labels(y, count), checked_weights(sample_weight, count)


def checked_labels(y: Any, count: int) -> Any:
    """Labels, of each image one."""
    if isinstance(y, (list, tuple)) and y and np.ndim(y[0]) == 0:
        y = np.asarray(y)
    for part in tree.flatten(y):
        if part is None:
            continue
        shape = tuple(getattr(part, "shape", ()))
        if not shape or shape[0] != count:
            raise ValueError(
                f"`y` must have one label for each image, {count} of them. Received: shape {shape}"
            )
        if isinstance(part, np.ndarray) and part.dtype.kind not in "buif":
            raise ValueError(f"`y` must be numbers. Received: dtype {part.dtype}")
    return y


def checked_weights(weights: Any, count: int) -> Any:
    """Sample weights, of each image one."""
    if weights is None:
        return None
    if isinstance(weights, (list, tuple)):
        weights = np.asarray(weights)
    array = np.asarray(ops.convert_to_numpy(weights) if hasattr(weights, "shape") else weights)
    if array.shape not in ((count,), (count, 1)):
        raise ValueError(
            f"`sample_weight` must have one value for each image, shape ({count},). "
            f"Received: shape {array.shape}"
        )
    if array.dtype.kind not in "buif":
        raise ValueError(f"`sample_weight` must be numbers. Received: dtype {array.dtype}")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and math.isfinite(high)):  # so written, NaN is refused too
        raise ValueError(
            "`sample_weight` must be finite and at least 0. "
            f"Received: values from {low:g} to {high:g}"
        )
    return weights


def validation(check: Check, data: Any) -> Any:
    """`validation_data`: images, a tuple of up to three, or a data set."""
    if data is None:
        return None
    if not isinstance(data, (tuple, list)):
        x, _, _ = prepared(check, data)
        return x
    if not 1 <= len(data) <= 3:
        raise ValueError(
            "`validation_data` must be images, (images, labels) or (images, labels, weights). "
            f"Received: a {type(data).__name__} of {len(data)}"
        )
    return prepared(check, *data)
