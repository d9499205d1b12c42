"""Feed: batches of arrays, in an order that is a function of a seed and of the steps made."""

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

    Keras shuffles by whatever state a global generator is in, which no file keeps; here the order
    of an epoch is that of its key, so that a run that goes on sees the images that it would have.

    Args:
        arrays: Of one length: images, and labels and weights if there are any.
        batch_size: Images in a batch; the last one may be short.
        key: Called at the start of each epoch, for what its order is made of: integers that are
            not negative. None: as they lie.
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
        """Puts the images in the order of this epoch."""
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
        """Of an epoch."""
        return math.ceil(len(self.arrays[0]) / self._batch_size)

    @property
    def batch_size(self) -> int:
        """Of all but the last one."""
        return self._batch_size

    @property
    def has_partial_batch(self) -> bool:
        """Whether the last one is short."""
        return bool(self.partial_batch_size)

    @property
    def partial_batch_size(self) -> int | None:
        """The size of the last one, where it is short."""
        return len(self.arrays[0]) % self._batch_size or None


def in_floatx(array: np.ndarray) -> np.ndarray:
    """Floats as Keras computes with them; anything else as it is, but in this machine's order."""
    dtype = keras.config.floatx() if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
    return array.astype(dtype, copy=False)


def arrays_of(*given: Any) -> tuple[np.ndarray, ...] | None:
    """Images, and labels and weights if they are there: NumPy arrays of one length, or None."""
    arrays = list(given)
    while arrays and arrays[-1] is None:
        arrays.pop()
    fit = all(isinstance(array, np.ndarray) and array.dtype.kind in "buif" for array in arrays)
    lengths = {len(array) for array in arrays} if fit else ()
    return tuple(arrays) if len(lengths) == 1 and 0 not in lengths else None
