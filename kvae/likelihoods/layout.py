"""Layout: pixels last and back, since compilers are many times as fast along a long last axis."""

from typing import Any

import keras
from keras import ops

__all__ = ["as_images", "pixels_last"]


def pixels_last(values: Any) -> Any:
    """(batch, height, width, any) to (batch, any, pixel), float32."""
    values = ops.cast(values, "float32")
    _, height, width, depth = values.shape
    values = ops.reshape(values, (-1, height * width, depth))
    if keras.backend.backend() == "jax":
        return transposed_at_once(values)
    return ops.transpose(values, (0, 2, 1))


def transposed_at_once(values: Any) -> Any:
    """(batch, pixel, any) to (batch, any, pixel), by JAX.

    On a CPU XLA would go through a transposed array anew, value by value, in all that is computed
    of it: three times as slow as this, a product with the unit matrix, which it computes once.
    """
    import jax

    if jax.default_backend() != "cpu":
        return ops.transpose(values, (0, 2, 1))
    batch, _, depth = values.shape
    unit = jax.numpy.broadcast_to(jax.numpy.eye(depth, dtype=values.dtype), (batch, depth, depth))
    return jax.lax.dot_general(unit, values, (((2,), (2,)), ((0,), (0,))))


def as_images(values: Any, parameters: Any) -> Any:
    """(batch, channel, pixel) to (batch, height, width, channel), of the size of parameters."""
    size = (-1, *parameters.shape[1:3], values.shape[1])
    return ops.reshape(ops.transpose(values, (0, 2, 1)), size)
