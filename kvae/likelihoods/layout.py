"""Layout: converts images to arrays with pixels on the last axis, and back."""

from typing import Any

from keras import ops

from kvae.steps import transposed

__all__ = ["as_images", "pixels_last"]


def pixels_last(values: Any) -> Any:
    """Converts (batch, height, width, any) to (batch, any, pixel), float32."""
    values = ops.cast(values, "float32")
    _, height, width, depth = values.shape
    return transposed(ops.reshape(values, (-1, height * width, depth)))


def as_images(values: Any, parameters: Any) -> Any:
    """Converts (batch, channel, pixel) to images of the size of `parameters`."""
    size = (-1, *parameters.shape[1:3], values.shape[1])
    return ops.reshape(ops.transpose(values, (0, 2, 1)), size)
