"""Transposed arrays on JAX."""

from typing import Any

import jax
from keras import ops

__all__ = ["transposed"]


def transposed(values: Any) -> Any:
    """Transposes (batch, a, b) to (batch, b, a).

    On a CPU it is a product with the unit matrix. Otherwise XLA fuses the transposition into
    everything computed from it, which then reads memory in strides: the loss of a mixture and its
    gradient take twice as long.
    """
    # Keras's symbolic tensors, from which a generator is made, have no batch size yet.
    if not isinstance(values, jax.Array) or jax.default_backend() != "cpu":
        return ops.transpose(values, (0, 2, 1))
    batch, _, depth = values.shape
    unit = jax.numpy.broadcast_to(jax.numpy.eye(depth, dtype=values.dtype), (batch, depth, depth))
    return jax.lax.dot_general(
        unit, values, (((2,), (2,)), ((0,), (0,))), precision=jax.lax.Precision.HIGHEST
    )
