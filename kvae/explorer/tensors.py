"""Tensors: numbered weights as bytes, in int16 or int8, or in float32 if small."""

import base64
import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import ops

__all__ = ["KINDS", "Tensors"]

# With 16 bits, int16 with a scale for each channel moves pixels a seventh as far as float16.
KINDS = ("int16", "int8")
SMALL = 512  # values; so many cost little as float32, and biases and scales are seen most


class Tensors:
    """A list of arrays, packed into bytes one after another.

    An entry of the list is `[dtype, offset, shape]`, with the offset in bytes, a multiple of 4.
    Entries of integers have a fourth item, the number of the tensor of scales. It has one scale for
    each index of the last axis, by which the integers are multiplied.

    Args:
        kind: Type of arrays with more than one axis: "int16" or "int8".
    """

    def __init__(self, kind: str = KINDS[0]) -> None:
        if kind not in KINDS:
            raise ValueError(f"`weights` must be one of {', '.join(KINDS)}. Received: {kind!r}")
        self.kind = kind
        self.entries: list[list[Any]] = []
        self.bytes = bytearray()
        self.numbers: dict[int, tuple[Any, int]] = {}

    def add(self, array: Any) -> int:
        """Packs an array of numbers, and returns its number."""
        array = np.asarray(array, "float32")
        if array.ndim < 2 or array.size <= SMALL or not np.isfinite(array).all():
            return self.packed(array)
        largest = np.abs(array).max(axis=tuple(range(array.ndim - 1)))
        scales = np.maximum(largest / np.iinfo(self.kind).max, 1e-12)
        return self.packed(np.rint(array / scales).astype(self.kind), self.packed(scales))

    def add_variable(self, variable: Any) -> int:
        """Packs a weight of a model, once, and returns its number.

        The weight is kept alive, because a later one could have the same `id`.
        """
        if id(variable) not in self.numbers:
            self.numbers[id(variable)] = variable, self.add(ops.convert_to_numpy(variable))
        return self.numbers[id(variable)][1]

    @contextlib.contextmanager
    def undone(self) -> Iterator[None]:
        """A context that removes what was added within it if it ends in an error."""
        entries, size, numbers = len(self.entries), len(self.bytes), dict(self.numbers)
        try:
            yield
        except Exception:
            del self.entries[entries:], self.bytes[size:]
            self.numbers = numbers
            raise

    def packed(self, array: np.ndarray, *scales: int) -> int:
        """Appends the bytes of an array unchanged."""
        self.bytes += bytes(-len(self.bytes) % 4)
        self.entries.append([array.dtype.name, len(self.bytes), list(array.shape), *scales])
        self.bytes += array.astype(array.dtype.newbyteorder("<")).tobytes()
        return len(self.entries) - 1

    def array(self, number: int) -> np.ndarray:
        """The tensor as a reader restores it, float32."""
        dtype, offset, shape, *scales = self.entries[number]
        count = int(np.prod(shape))
        stored = np.frombuffer(bytes(self.bytes), np.dtype(dtype).newbyteorder("<"), count, offset)
        values = stored.astype("float32").reshape(shape)
        return values * self.array(scales[0]) if scales else values

    def text(self) -> str:
        """All bytes, in base64."""
        return base64.b64encode(self.bytes).decode()
