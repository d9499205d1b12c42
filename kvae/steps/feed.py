"""Feed: batches of arrays, in an order that depends on a seed and the number of steps."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree
from keras.src.trainers.data_adapters.data_adapter import DataAdapter  # here and in stream.py

from kvae.limits import read_rows

__all__ = ["Feed", "arrays_of", "in_floatx"]


class Feed(DataAdapter):
    """Batches of NumPy arrays, as `fit` of each backend takes them.

    Keras shuffles by the state of a global generator, which no file keeps. Here the order of an
    epoch depends only on its key, so that a resumed run sees the images in the same order.

    Args:
        arrays: Arrays of one length: images, and optionally labels and weights.
        batch_size: Number of images in a batch; the last batch may be short.
        key: A function that is called at the start of each epoch and returns the key of its order,
            non-negative integers. None: the order of the arrays.
    """

    def __init__(
        self,
        arrays: tuple[np.ndarray, ...],
        batch_size: int,
        key: Callable[[], list[int]] | None = None,
    ) -> None:
        self.arrays = arrays
        self.key = key
        self.rows: Any = np.arange(len(arrays[0]))
        self._batch_size = batch_size

    def on_epoch_begin(self) -> None:
        """Shuffles the images for this epoch."""
        if self.key is not None:
            self.rows = np.random.default_rng(self.key()).permutation(len(self.rows))

    def get_numpy_iterator(self) -> Iterator[tuple]:
        """The batches of one epoch."""
        for start in range(0, len(self.rows), self._batch_size):
            rows = self.rows[start : start + self._batch_size]
            yield self.taken(rows)

    def taken(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """A batch of these rows."""
        return tuple(in_floatx(read_rows(array, rows)) for array in self.arrays)

    get_jax_iterator = get_numpy_iterator

    def get_torch_dataloader(self) -> Iterator[tuple]:
        """The batches of one epoch, on the device."""
        for batch in self.get_numpy_iterator():
            yield tree.map_structure(ops.convert_to_tensor, batch)

    @property
    def num_batches(self) -> int:
        """The number of batches of an epoch."""
        return math.ceil(len(self.arrays[0]) / self._batch_size)

    @property
    def batch_size(self) -> int:
        """The size of all batches but the last."""
        return self._batch_size

    @property
    def has_partial_batch(self) -> bool:
        """Whether the last batch is short."""
        return bool(self.partial_batch_size)

    @property
    def partial_batch_size(self) -> int | None:
        """The size of the last batch if it is short."""
        return len(self.arrays[0]) % self._batch_size or None


def in_floatx(array: np.ndarray) -> np.ndarray:
    """Converts floats to Keras's `floatx`, and other arrays to native byte order."""
    dtype = keras.config.floatx() if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
    return array.astype(dtype, copy=False)


def arrays_of(*given: Any) -> tuple[np.ndarray, ...] | None:
    """The images, labels and weights that are given, as NumPy arrays of one length; or None."""
    arrays = list(given)
    while arrays and arrays[-1] is None:
        arrays.pop()
    fit = all(isinstance(array, np.ndarray) and array.dtype.kind in "buif" for array in arrays)
    lengths = {len(array) for array in arrays} if fit else ()
    return tuple(arrays) if len(lengths) == 1 and 0 not in lengths else None
