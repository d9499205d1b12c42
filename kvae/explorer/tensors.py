"""Tensors: weights as bytes, each by its number: int16 or int8, and float32 where small."""

import base64
import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import ops

__all__ = ["KINDS", "Tensors"]

# Of 16 bits int16 with a scale for each channel moves pixels a seventh as far as float16 does.
KINDS = ("int16", "int8")
SMALL = 512  # values; so many cost little as float32, and biases and scales are seen most


class Tensors:
    """A list of arrays, packed one after the other into bytes.

    An entry of the list is `[dtype, offset, shape]`, with the offset in bytes, a multiple of 4. Of
    integers there is a fourth, the number of the tensor of scales: one for each entry of the last
    axis, by which the integers are multiplied.

    Args:
        kind: What arrays of more than one axis become: "int16" or "int8".
    """

    def __init__(self, kind: str = KINDS[0]) -> None:
        if kind not in KINDS:
            raise ValueError(f"`weights` must be one of {', '.join(KINDS)}. Received: {kind!r}")
        self.kind = kind
        self.entries: list[list[Any]] = []
        self.bytes = bytearray()
        self.numbers: dict[int, tuple[Any, int]] = {}

    def add(self, array: Any) -> int:
        """Packs an array of numbers, and gives its number."""
        array = np.asarray(array, "float32")
        if array.ndim < 2 or array.size <= SMALL or not np.isfinite(array).all():
            return self.packed(array)
        largest = np.abs(array).max(axis=tuple(range(array.ndim - 1)))
        scales = np.maximum(largest / np.iinfo(self.kind).max, 1e-12)
        return self.packed(np.rint(array / scales).astype(self.kind), self.packed(scales))

    def add_variable(self, variable: Any) -> int:
        """Packs a weight of a model, once, and gives its number.

        It is kept, since another that is made once this one is gone may have the same `id`.
        """
        if id(variable) not in self.numbers:
            self.numbers[id(variable)] = variable, self.add(ops.convert_to_numpy(variable))
        return self.numbers[id(variable)][1]

    @contextlib.contextmanager
    def undone(self) -> Iterator[None]:
        """Takes back what is added within, where that ends in an error."""
        entries, size, numbers = len(self.entries), len(self.bytes), dict(self.numbers)
        try:
            yield
        except Exception:
            del self.entries[entries:], self.bytes[size:]
            self.numbers = numbers
            raise

    def packed(self, array: np.ndarray, *scales: int) -> int:
        """Appends the bytes of an array as it is."""
        self.bytes += bytes(-len(self.bytes) % 4)
        self.entries.append([array.dtype.name, len(self.bytes), list(array.shape), *scales])
        self.bytes += array.astype(array.dtype.newbyteorder("<")).tobytes()
        return len(self.entries) - 1

    def array(self, number: int) -> np.ndarray:
        """What a reader makes of a tensor, float32."""
        dtype, offset, shape, *scales = self.entries[number]
        count = int(np.prod(shape))
        stored = np.frombuffer(bytes(self.bytes), np.dtype(dtype).newbyteorder("<"), count, offset)
        values = stored.astype("float32").reshape(shape)
        return values * self.array(scales[0]) if scales else values

    def text(self) -> str:
        """All bytes, in base64."""
        return base64.b64encode(self.bytes).decode()
