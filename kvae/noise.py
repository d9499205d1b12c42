"""Noise by hashing: fast, the same on every backend, and computed from tensors alone."""

import math
from typing import Any

import keras
from keras import ops

__all__ = ["Seeds", "StepSeeds", "normal", "uniform"]

OF_STEPS = 0x2545F491  # separates the noise of training from all other noise
MOST_DRAWS = 64  # of a step


class Seeds(keras.random.SeedGenerator):
    """The seeds of a generator, for the noise of a share of a batch.

    The noise of a value is a hash of its index in the whole batch, so it does not depend on the
    number of devices that share the batch. The object has no state of its own.

    Args:
        generator: The generator of the seeds.
        share: The `kvae.share.Share` of this device. None: the whole batch.
    """

    def __init__(self, generator: keras.random.SeedGenerator, share: Any = None) -> None:
        self.of = generator
        self.share = share

    def next(self, ordered: bool = True) -> Any:
        """The next seed of the generator."""
        return self.of.next(ordered)


class StepSeeds(Seeds):
    """The seeds of one training step, from the generator's seed, the step and a count.

    The draws of a step do not depend on earlier draws, so a resumed run draws what an uninterrupted
    one would. Each call of the model makes a new object; it has no state of its own.

    Args:
        generator: The generator whose seed is used; it does not change.
        step: Number of training steps made, a variable.
        share: As for `Seeds`.
    """

    def __init__(self, generator: keras.random.SeedGenerator, step: Any, share: Any = None) -> None:
        super().__init__(generator, share)
        self.first = step
        self.drawn = 0

    def next(self, ordered: bool = True) -> Any:
        """Two words that no other step has, like the state of a generator."""
        dtype = keras.backend.standardize_dtype(self.of.state.dtype)
        seed = ops.bitwise_xor(ops.convert_to_tensor(self.of.state)[0], OF_STEPS)
        number = ops.cast(self.first, dtype) * MOST_DRAWS + self.drawn
        self.drawn += 1
        return ops.stack([ops.cast(seed, dtype), ops.cast(number, dtype)])


def uniform(shape: tuple, seed: Any) -> Any:
    """Draws uniform noise in [0, 1): a hash of each value's index and a generator's state.

    On a CPU it takes a tenth of the time of JAX's own noise, which was a quarter of the training
    time of a small model with noise for each pixel. Unlike Keras's noise, it needs no number from
    the device, so that a step can be compiled on PyTorch too.

    Args:
        shape: Shape of the noise; at most 2³² values.
        seed: An integer or a `keras.random.SeedGenerator`.

    Returns:
        The noise, float32, multiples of 2⁻²⁴.

    References:
        Jarzynski and Olano (2020), "Hash functions for GPU rendering", JCGT 9(3) (pcg3d).

    Example:
        >>> from keras import ops
        >>> from kvae.noise import uniform
        >>> noise = ops.convert_to_numpy(uniform((2, 3), seed=0))
        >>> noise.shape, bool((noise >= 0).all()), bool((noise < 1).all())
        ((2, 3), True, True)
    """
    return fraction(words(shape, seed)[2])


def normal(shape: tuple, seed: Any) -> Any:
    """Draws standard normal noise, float32, like `uniform`, by the Box–Muller transform.

    Args:
        shape: Shape of the noise.
        seed: An integer or a `keras.random.SeedGenerator`.
    """
    _, first, second = words(shape, seed)
    radius = ops.sqrt(-2.0 * ops.log(1.0 - fraction(first)))
    return radius * ops.cos(2 * math.pi * fraction(second))


def words(shape: tuple, seed: Any) -> tuple:
    """Draws three random words for each value: int32, of that shape."""
    if isinstance(seed, keras.random.SeedGenerator):
        keys = ops.cast(seed.next(), "int32")
    else:
        keys = ops.convert_to_tensor([int32(seed), 0], dtype="int32")
    size = math.prod(shape[1:])
    row = ops.arange(shape[0], dtype="int32")
    share = getattr(seed, "share", None)
    if share is not None:  # each image has the same number of consecutive rows
        row = row + share.before * (shape[0] // ops.maximum(share.images, 1))
    rows = ops.reshape(row * size, (-1, *[1] * len(shape[1:])))
    number = rows + ops.reshape(ops.arange(size, dtype="int32"), shape[1:])
    x, y, z = mixed(*(congruential(word) for word in (number, keys[0], keys[1])))
    x, y, z = (ops.bitwise_xor(word, shifted(word, 16)) for word in (x, y, z))
    return mixed(x, y, z)


def congruential(word: Any) -> Any:
    """A step of a linear congruential generator: int32, overflow wraps."""
    return word * 1664525 + 1013904223


def mixed(x: Any, y: Any, z: Any) -> tuple:
    """Adds to each word, in turn, the product of the other two: int32, overflow wraps."""
    x = x + y * z
    y = y + z * x
    return x, y, z + x * y


def shifted(word: Any, bits: int) -> Any:
    """Shifts right, with zeros from the left as for unsigned integers: int32."""
    return ops.bitwise_and(ops.right_shift(word, bits), 2 ** (32 - bits) - 1)


def fraction(word: Any) -> Any:
    """Converts a word to a number in [0, 1): float32, multiples of 2⁻²⁴."""
    return ops.cast(shifted(word, 8), "float32") * 2.0**-24


def int32(value: int) -> int:
    """Converts an integer to 32 bits with a sign."""
    return (value + 2**31) % 2**32 - 2**31
