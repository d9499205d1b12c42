"""Forms: images, labels and sample weights as users pass them, or as a stream of batches.

A stream is any iterable of batches: a data set, a loader, a generator.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kvae.data.values import as_array, is_picture
from kvae.model.condition import Condition

__all__ = ["Border", "Look", "array_like", "native", "parts_of", "refusal", "trailing"]

IMAGES, LABELS = ("image", "images"), ("label", "labels")  # TensorFlow Datasets has the first
Triple = tuple[Any, Any, Any]  # images, labels, sample weights


def refusal(name: str, expected: str, received: Any) -> str:
    """The message about an invalid argument."""
    text = " ".join(repr(received).split())
    text = text if len(text) < 60 else type(received).__name__
    return f"`{name}` must be {expected}. Received: {name}={text}"


def parts_of(batch: Any) -> Triple:
    """Splits a batch into images, labels and sample weights, or None, without changing them."""
    if isinstance(batch, Mapping):
        found = [name for name in IMAGES if name in batch]
        if not found:
            keys = ", ".join(map(repr, batch)) or "no keys"
            raise ValueError(f"A dict must hold its images as 'image'. Received: {keys[:80]}")
        labels = [batch[name] for name in LABELS if name in batch]
        return batch[found[0]], labels[0] if labels else None, None
    if not isinstance(batch, (list, tuple)):
        return batch, None, None
    if not 1 <= len(batch) <= 3:
        raise ValueError(
            "A batch must be images, (images, labels) or (images, labels, weights). "
            f"Received: {len(batch)} parts"
        )
    images, labels, weights = (*batch, None, None)[:3]
    if isinstance(images, Mapping):
        images, own, _ = parts_of(images)
        labels = own if labels is None else labels
    return images, labels, weights


def array_like(value: Any) -> bool:
    """Whether it is an array, a list of images, or a nested list of at least three axes."""
    if hasattr(value, "shape"):
        return True
    if not isinstance(value, (list, tuple)) or not value:
        return False
    if all(is_picture(one) or len(getattr(one, "shape", ())) in (2, 3) for one in value):
        return True
    rows = value[0]
    return isinstance(rows, list) and bool(rows) and isinstance(rows[0], list)


def trailing(images: Any, labels: Any, weights: Any) -> tuple:
    """Removes None from a batch, which TensorFlow does not accept.

    Keras drops weights if there are no labels, so the weights also take the place of the labels.
    """
    labels = weights if labels is None else labels
    parts = (images, labels, weights)
    return parts[: 3 if weights is not None else 2 if labels is not None else 1]


@dataclasses.dataclass(frozen=True)
class Border:
    """The inputs that a model accepts.

    Attributes:
        check: A function that returns images as an array, or raises a ValueError that says what is
            expected.
        image_shape: (height, width, channels).
        takes_labels: Whether labels are passed on; otherwise they are dropped.
        reads_bytes: Whether `check` may refuse an image of bytes for its values.
        unit_floats: Whether `check` accepts all floats in [0, 1], and no others.
        condition: The condition of a conditional model, which is given as labels; else None.
    """

    check: Callable[[Any], np.ndarray]
    image_shape: tuple[int, int, int]
    takes_labels: bool
    reads_bytes: bool
    unit_floats: bool
    condition: Condition | None = None

    def unwrapped(self, x: Any) -> Any:
        """Unwraps a list of one batch, as Keras unwraps the inputs of a model with one input."""
        if isinstance(x, (list, tuple)) and len(x) == 1:
            shape = tuple(getattr(x[0], "shape", ()))
            if len(shape) == 4 or (len(shape) == 3 and (*shape[1:], 1) == self.image_shape):
                return x[0]
        return x

    def let_in(self, x: Any, y: Any, sample_weight: Any, class_weight: Any) -> Triple:
        """Returns images, labels and sample weights as arrays, or raises a ValueError.

        Arrays of NumPy and of the backend stay as they are; others become NumPy arrays.
        """
        x = self.unwrapped(x)
        if not array_like(x):
            raise ValueError(refusal("x", "an array of images", x))
        array = self.check(x)
        images = x if is_native(x) else array
        if len(images.shape) == 3:
            images = images[..., None]
        count = len(array)
        dropped = class_weight is None and not self.takes_labels
        check_classes(class_weight, y, sample_weight)
        if self.condition is not None:
            return images, self.condition.checked(y, count), checked_weights(sample_weight, count)
        y = None if dropped and y is x else checked_labels(y, count)
        return images, None if dropped else y, checked_weights(sample_weight, count)


class Look:
    """Converts each batch of a stream for Keras, or raises a ValueError that names it.

    Args:
        border: The inputs that the model accepts.
        name: Name of the stream: `x` or `validation_data`.
        class_weight: Weights by class, or None.
    """

    def __init__(self, border: Border, name: str, class_weight: Any = None) -> None:
        self.border = border
        self.name = name
        self.class_weight = class_weight
        self.drops_labels = class_weight is None and not border.takes_labels
        self.gives_lists = False  # of images: its first batch was a list
        self.kind = ""

    def __call__(self, number: int, batch: Any) -> tuple:
        """Returns a batch as (images,), (images, labels) or (images, labels, weights).

        Args:
            number: Number of the batch, from 1.
            batch: The batch of the stream.
        """
        try:
            return trailing(*self.looked_at(batch))
        except ValueError as error:
            raise ValueError(f"Batch {number:,} of `{self.name}`: {error}") from None

    def looked_at(self, batch: Any) -> Triple:
        """Splits and checks a batch: images, labels and weights."""
        images, labels, weights = self.apart(batch)
        if self.drops_labels:
            labels = None
        images, labels, weights = self.border.let_in(images, labels, weights, self.class_weight)
        kind = kind_of(images)
        if kind != (self.kind or kind):
            raise ValueError(
                "The images of all batches must be of one kind of number. "
                f"Received: {kind} after {self.kind}"
            )
        self.kind = kind
        if self.class_weight is not None:
            weights = weights_of_classes(labels, self.class_weight)
        return native(images), tree.map_structure(native, labels), native(weights)

    def apart(self, batch: Any) -> Triple:
        """Splits a batch into images, labels and weights; refuses a single image."""
        batch = self.border.unwrapped(batch)
        listed = isinstance(batch, list) and array_like(batch)
        if listed and (self.gives_lists or len(batch) > 3 or all(map(is_picture, batch))):
            self.gives_lists = True
            return batch, None, None
        images, labels, weights = parts_of(batch)
        shape = tuple(getattr(images, "shape", ()))
        if is_picture(images) or shape in (self.border.image_shape, self.border.image_shape[:2]):
            kind = f"of shape {shape}" if shape else type(images).__name__
            raise ValueError(
                "Images must come in batches, as `.batch(32)` of a data set, or `batch_size=32` of "
                f"a loader, makes them. Received: one image, {kind}"
            )
        return images, labels, weights

    # For data sets that TensorFlow checks without their values

    def fits(self, spec: Any) -> bool:
        """Whether batches with these shapes and dtypes are accepted, except for image values.

        Args:
            spec: A batch, in which shapes and dtypes may stand for arrays.
        """
        try:
            images, _, weights = parts_of(spec)
        except ValueError:
            return False
        rank = getattr(getattr(images, "shape", None), "rank", None)
        if self.border.condition is not None:  # its labels must be checked
            return False
        if rank is None or weights is not None or self.class_weight is not None:
            return False
        shape = tuple(images.shape[1:])
        return self.border.image_shape == (shape if rank == 4 else (*shape, 1))

    def settles(self, spec: Any) -> bool:
        """Whether all such batches are accepted."""
        if not self.fits(spec) or self.border.reads_bytes:
            return False
        return parts_of(spec)[0].dtype.name in ("uint8", "bool")

    def wants_unit(self, spec: Any) -> bool:
        """Whether such batches are accepted if their images are in [0, 1]."""
        return self.fits(spec) and self.border.unit_floats and parts_of(spec)[0].dtype.is_floating

    def arranged(self, batch: Any, as_given: bool = False) -> tuple:
        """The result of a call for symbolic tensors, whose values are not known yet.

        Args:
            batch: A batch as the data set has it.
            as_given: Whether the labels of a conditional model stay as they are.
        """
        images, labels, weights = parts_of(batch)
        if self.border.condition is not None and not as_given:
            labels = self.border.condition.arranged(labels)
        if images.shape.rank == 3:
            images = images[..., None]
        return trailing(images, None if self.drops_labels else labels, weights)


def is_native(value: Any) -> bool:
    """Whether it is an array of NumPy or of the backend."""
    return isinstance(value, np.ndarray) or ops.is_tensor(value)


def native(value: Any) -> Any:
    """Converts an array for the backend: NumPy arrays get native byte order."""
    if value is None or ops.is_tensor(value):
        return value
    array = as_array(value)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def kind_of(images: Any) -> str:
    """The kind of numbers of images, which determines their meaning."""
    dtype = keras.backend.standardize_dtype(images.dtype)
    return "floats" if "float" in dtype else "bool" if dtype == "bool" else "integers"


def weights_of_classes(labels: Any, class_weight: dict) -> np.ndarray:
    """The weight of each image by its label, a number or one-hot; 1 for other classes."""
    labels = as_array(labels)
    if labels.ndim > 1:
        labels = labels.argmax(axis=-1) if labels.shape[-1] > 1 else labels[..., 0]
    each = [class_weight.get(int(label), 1.0) for label in np.rint(labels)]
    return np.array(each, keras.config.floatx())


def check_classes(class_weight: Any, y: Any, sample_weight: Any) -> None:
    """Raises a ValueError unless `class_weight` is a dict, with labels and no other weights."""
    if class_weight is None:
        return
    if not isinstance(class_weight, dict):
        raise ValueError(refusal("class_weight", "a dict of classes to weights", class_weight))
    for label, weight in class_weight.items():
        if not (isinstance(weight, numbers.Real) and math.isfinite(weight) and float(weight) >= 0):
            raise ValueError(refusal(f"class_weight[{label!r}]", "finite, at least 0", weight))
    if y is None:
        raise ValueError("`class_weight` needs labels: give them as `y`, or in the data set.")
    if len(getattr(y, "shape", ())) > 2:
        raise ValueError(
            "`class_weight` needs labels, a number or a row for each image. "
            f"Received: shape {tuple(y.shape)}"
        )
    if sample_weight is not None:
        raise ValueError("`class_weight` and `sample_weight` cannot be given together.")


def checked_labels(y: Any, count: int) -> Any:
    """Returns labels, one for each image, or raises a ValueError."""
    if isinstance(y, (list, tuple)) and y and not is_picture(y[0]) and np.ndim(y[0]) == 0:
        y = np.asarray(y)
    if isinstance(y, (list, tuple)) and len(y) == count and array_like(y):
        y = as_array(y)
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
    """Returns sample weights, one for each image, or raises a ValueError."""
    if weights is None:
        return None
    if isinstance(weights, (list, tuple)):
        weights = np.asarray(weights)
    array = as_array(weights)
    if array.shape not in ((count,), (count, 1)):
        raise ValueError(
            f"`sample_weight` must have one value for each image, shape ({count},). "
            f"Received: shape {array.shape}"
        )
    if array.dtype.kind not in "buif":
        raise ValueError(f"`sample_weight` must be numbers. Received: dtype {array.dtype}")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and math.isfinite(high)):  # in this form, NaN is refused too
        raise ValueError(
            "`sample_weight` must be finite and at least 0. "
            f"Received: values from {low:g} to {high:g}"
        )
    return weights
