"""Converts images to arrays, and explains what is wrong with them."""

import math
import os
from typing import Any

import numpy as np

from kvae.limits import pieces

__all__ = ["PIECE", "as_array", "extremes", "is_picture", "paths_of", "range_cure", "shape_cure"]

PIECE = 2**22  # bytes checked at a time; fits in a cache


def as_array(values: Any) -> np.ndarray:
    """Converts images, or any values, to a NumPy array; arrays are not copied or read.

    Args:
        values: An array; a tensor of any framework, on any device; or a list of arrays of one
            shape, of PIL images of one size, or of numbers.

    Raises:
        ValueError: If the arrays of a list are of several shapes.
    """
    if isinstance(values, np.ndarray):
        return values
    if isinstance(values, (list, tuple)):
        return stacked(values)
    if getattr(values, "mode", None) == "P":  # PIL's palette: NumPy would get places in it
        values = values.convert("RGB")
    if hasattr(values, "detach"):  # PyTorch's: in a graph, and on any device
        values = values.detach().cpu()
        values = values.float() if "bfloat16" in str(values.dtype) else values
    array = np.asarray(values)
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def stacked(values: list | tuple) -> np.ndarray:
    """Stacks the arrays of a list; a list of one batch is that batch."""
    if not any(hasattr(value, "__array__") or is_picture(value) for value in values[:1]):
        try:
            return np.asarray(values)  # of numbers
        except ValueError:
            raise ValueError("The rows of a list must all be of one length.") from None
    arrays = [as_array(value) for value in values]
    if len(arrays) == 1 and arrays[0].ndim == 4:
        return arrays[0]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise ValueError(
            f"The images of a list must be of one shape. Received: shapes {shapes[0]} and "
            f"{shapes[1]}. Resize them."
        )
    return np.stack(arrays)


def paths_of(given: Any) -> list[str | os.PathLike]:
    """The paths of files, if images are given by paths; else an empty list."""
    some = given if isinstance(given, (list, tuple)) else [given]
    return list(some) if all(isinstance(one, (str, os.PathLike)) for one in some) else []


def is_picture(value: Any) -> bool:
    """Whether this is a PIL image, which has no shape."""
    return hasattr(value, "__array_interface__") and not hasattr(value, "shape")


def extremes(array: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest value; NaN if there is one."""
    pairs = [(piece.min(), piece.max()) for piece in pieces(array, PIECE)]
    lows, highs = zip(*pairs, strict=True)
    return float(np.min(lows)), float(np.max(highs))


def shape_cure(shape: tuple[int, ...], image_shape: tuple[int, int, int]) -> str:
    """Advice about arrays of this shape, as a sentence; empty if there is none."""
    height, width, channels = image_shape
    if shape in ((height, width, channels), (height, width)):
        return " One image is a batch of one: images[numpy.newaxis]."
    if len(shape) == 4 and shape[1] == channels != shape[3]:
        return " Put the channels last: numpy.moveaxis(images, 1, -1)."
    if shape == (channels, height, width):
        return " Put the channels last: numpy.moveaxis(image, 0, -1)[numpy.newaxis]."
    if len(shape) == 2 and shape[1] == math.prod(image_shape):
        return f" Give them their shape: images.reshape(-1, {height}, {width}, {channels})."
    return ""


def range_cure(kind: str, low: float, high: float) -> str:
    """Advice about values of this range, as a sentence.

    Args:
        kind: "f" for floats, which should be in [0, 1]; others are integers, in 0…255.
        low: Smallest value.
        high: Largest value.
    """
    if not math.isfinite(high - low):
        return "numpy.isfinite(images) says which are numbers."
    if low >= 0:
        if kind == "f" and high <= 1.1:  # a result of resizing
            return "Clip them: images.clip(0, 1)."
        if kind == "f" and high <= 255:
            return "Divide them by 255, or pass them as uint8."
        return "Divide them by the greatest value that they can have, to floats in [0, 1]."
    if kind != "f":
        return "Shift and scale them to 0…255."
    if low > -0.1 and high <= 1.1:
        return "Clip them: images.clip(0, 1)."
    if low >= -1 and high <= 1:
        return "Rescale them: (images + 1) / 2."
    return "Undo the standardisation: images * std + mean."
