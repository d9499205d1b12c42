"""Transposed: pixels last, since compilers are many times as fast along a long last axis."""

from typing import Any

from keras import ops

__all__ = ["transposed"]


def transposed(values: Any) -> Any:
    """(batch, a, b) to (batch, b, a)."""
    return ops.transpose(values, (0, 2, 1))
