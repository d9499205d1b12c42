"""Transposition: puts pixels last, since compilers are fast along a long last axis."""

from typing import Any

from keras import ops

__all__ = ["transposed"]


def transposed(values: Any) -> Any:
    """Transposes (batch, a, b) to (batch, b, a)."""
    return ops.transpose(values, (0, 2, 1))
