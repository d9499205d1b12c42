"""Batches: a function of arrays applied piece by piece, so that memory stays bounded."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import tree

from kvae.limits import release
from kvae.parts import checked_integer

__all__ = ["in_batches"]


def in_batches(function: Callable[[Any], Any], array: np.ndarray, batch_size: int) -> Any:
    """Applies a function batch by batch, the last one padded, so that one shape is compiled."""
    size = min(checked_integer("batch_size", batch_size), len(array))
    results = None
    for start in range(0, len(array), size):
        # Of a file it may be read only, or in another machine's order of bytes.
        batch = np.require(array[start : start + size], array.dtype.newbyteorder("="), "W")
        count = len(batch)
        if count < size:
            batch = np.concatenate([batch, np.repeat(batch[-1:], size - count, axis=0)])
        parts = function(batch)
        if results is None:  # one array from the start, so that nothing is held twice
            results = tree.map_structure(
                lambda part: np.empty((len(array), *part.shape[1:]), part.dtype), parts
            )
        for whole, part in zip(tree.flatten(results), tree.flatten(parts), strict=True):
            whole[start : start + count] = part[:count]
        release(array)
    return results
