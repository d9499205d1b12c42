"""Applies functions to arrays in batches, so that memory stays bounded."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import tree

from kvae.limits import release
from kvae.parts import checked_integer

__all__ = ["in_batches"]


def in_batches(
    function: Callable[..., Any], array: np.ndarray, batch_size: int, *beside: np.ndarray | None
) -> Any:
    """Applies a function batch by batch, the last one padded, so that one shape is compiled.

    Args:
        function: A function of a batch of `array` and of those of `beside`.
        array: (count, …).
        batch_size: Number of rows in a batch.
        *beside: Further arrays, (count, …), or None, which is passed on.
    """
    size = min(checked_integer("batch_size", batch_size), len(array))

    def batch_of(whole: np.ndarray | None, start: int) -> np.ndarray | None:
        if whole is None:
            return None
        # An array of a file may be read-only, or in another byte order.
        batch = np.require(whole[start : start + size], whole.dtype.newbyteorder("="), "W")
        if len(batch) < size:
            batch = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
        return batch

    results = None
    for start in range(0, len(array), size):
        count = min(size, len(array) - start)
        parts = function(*(batch_of(whole, start) for whole in (array, *beside)))
        if results is None:  # one array from the start, to avoid a second copy
            results = tree.map_structure(
                lambda part: np.empty((len(array), *part.shape[1:]), part.dtype), parts
            )
        for whole, part in zip(tree.flatten(results), tree.flatten(parts), strict=True):
            whole[start : start + count] = part[:count]
        release(array)
    return results
