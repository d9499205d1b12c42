"""Likelihood: the base class of all p(x|z); nats per image."""

import math
import numbers
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.data.values import as_array, extremes, range_cure, shape_cure
from kvae.parts import Part

__all__ = [
    "Likelihood",
    "bits_per_dimension",
    "bounded_scale",
    "checked_min_scale",
    "flat",
    "is_positive",
    "scaled",
    "uniform_like",
]


class Likelihood(Part):
    """Base class of likelihoods p(x|z). A subclass defines `log_prob`, `mean` and `sample`.

    If it draws random numbers to observe images, it also defines `observe` and `observe_once`. It
    should define `measure`. Register the class with `keras.saving.register_keras_serializable`, so
    that files can hold it.

    Attributes:
        parameters_per_value: Number of raw parameters that the decoder outputs for each value. They
            lie along the last axis: first the `channels` locations (or logits), then the scales.
        locations: Number of these that are locations (or logits): 1, or more for a mixture.
        first_raw_scale: Raw parameter of the scales of a decoder that begins at the mean.
        support: The images that `check` accepts, in words.
        protocol: How images are observed and scored, in words, for the card of a model.
        measure: The kind of quantity whose logarithm `log_prob` is: "probability", "density",
            "neither", or "unstated" if a likelihood of your own does not define it. Figures are
            comparable only if their measure is the same, and is a probability or a density.

    Example:
        >>> import keras, numpy as np
        >>> import kvae
        >>> @keras.saving.register_keras_serializable("mine")
        ... class SquaredError(kvae.Likelihood):  # half of it: a Gaussian of scale 1
        ...     def log_prob(self, observed, parameters):
        ...         error = keras.ops.square(observed - parameters)
        ...         return -0.5 * keras.ops.sum(error + np.log(2 * np.pi), axis=(1, 2, 3))
        ...
        ...     def mean(self, parameters):
        ...         return keras.ops.clip(parameters, 0, 1)
        ...
        ...     def sample(self, parameters, seed=None):
        ...         return keras.random.normal(parameters.shape, parameters, seed=seed)
        >>> vae = kvae.VAE.from_preset("mlp", (8, 8, 1), latent_dim=4, likelihood=SquaredError())
        >>> vae.reconstruct(np.zeros((2, 8, 8, 1), "uint8")).shape
        (2, 8, 8, 1)
    """

    parameters_per_value = 1
    locations = 1
    first_raw_scale = 0.0
    support = "bool, integers in 0…255 or floats in [0, 1]"

    @property
    def protocol(self) -> str:
        """How images are observed and scored, in words."""
        return f"grey values, {type(self).__name__}"

    @property
    def measure(self) -> str:
        """The kind of quantity whose logarithm `log_prob` is."""
        return "unstated"

    def check(self, images: Any, image_shape: tuple[int, int, int]) -> np.ndarray:
        """Returns images as an array, or raises a ValueError that says what is expected.

        NumPy arrays are not copied, and values of uint8 and bool arrays are not read.

        Args:
            images: (count, height, width, channels), integers in 0…255 or floats in [0, 1]; grey
                images may be (count, height, width). An array, a tensor of any framework, or a list
                of images.
            image_shape: The (height, width, channels) that the model expects.

        Returns:
            (count, height, width, channels), of the same dtype.
        """
        if not (hasattr(images, "__array__") or isinstance(images, (list, tuple))):
            raise ValueError(
                "Images must be an array, a tensor or a list of images. "
                f"Received: {type(images).__name__}"
            )
        array = as_array(images)
        if array.ndim == 3 and (*array.shape[1:], 1) == tuple(image_shape):
            array = array[..., np.newaxis]
        if array.ndim != 4 or array.shape[1:] != tuple(image_shape) or not len(array):
            raise ValueError(
                f"Images must have shape (count, {', '.join(map(str, image_shape))}). "
                f"Received: shape {array.shape}.{shape_cure(array.shape, image_shape)}"
            )
        if array.dtype.kind not in "buif":
            raise ValueError(f"Images must be {self.support}. Received: dtype {array.dtype}")
        if array.dtype in (np.uint8, np.bool_):
            return array
        low, high = extremes(array)
        if not (low >= 0 and high <= (1 if array.dtype.kind == "f" else 255)):  # refuses NaN too
            raise ValueError(
                f"Images must be {self.support}. Received: {array.dtype} from {low:g} to {high:g}. "
                + range_cure(array.dtype.kind, low, high)
            )
        return array

    def observe(self, images: Any, seed: Any = None) -> Any:
        """Converts images to what the model sees and is scored on: here unchanged grey values.

        Args:
            images: (batch, height, width, channels), uint8 in 0…255 or float in [0, 1].
            seed: Random seed, for likelihoods that draw random numbers to observe images.

        Returns:
            (batch, height, width, channels), float32 in [0, 1].
        """
        return scaled(images)

    def observe_once(self, images: Any, generator: np.random.Generator) -> np.ndarray:
        """Like `observe`, with random numbers from NumPy, which are the same on every backend.

        Args:
            images: (batch, height, width, channels), uint8 in 0…255 or float in [0, 1].
            generator: NumPy's random number generator.
        """
        return ops.convert_to_numpy(self.observe(images))

    def log_prob_of_draws(self, observed: Any, parameters: Any, draws: int) -> Any:
        """Computes `log_prob` of each image under each of its draws of z, for evaluation only.

        Args:
            observed: (batch, height, width, channels), float in [0, 1].
            parameters: (batch · draws, height, width, channels · parameters_per_value); an image's
                draws follow each other.
            draws: Number of draws per image.

        Returns:
            (batch, draws), float32, nats.
        """
        # Broadcast instead of repeated, so that compilers need no copy for each draw.
        size = (-1, draws, *observed.shape[1:])
        same = ops.broadcast_to(observed[:, None], (ops.shape(observed)[0], *size[1:]))
        same = ops.reshape(same, (-1, *observed.shape[1:]))
        return ops.reshape(self.log_prob(same, parameters), (-1, draws))

    def log_prob(self, observed: Any, parameters: Any) -> Any:
        """Computes the log-probability or log-density of each image, with all constants.

        Args:
            observed: (batch, height, width, channels), float in [0, 1].
            parameters: (batch, height, width, channels · parameters_per_value).

        Returns:
            (batch,), float32, nats, summed over height, width and channels.
        """
        raise NotImplementedError

    def mean(self, parameters: Any) -> Any:
        """The expected image, (batch, height, width, channels), float32 in [0, 1]."""
        raise NotImplementedError

    def sample(self, parameters: Any, seed: Any = None) -> Any:
        """One draw of each image, (batch, height, width, channels), float32."""
        raise NotImplementedError

    def parameters_of(self, mean: np.ndarray) -> np.ndarray:
        """Finds raw parameters with this `mean`, with which a decoder can begin.

        It bisects each location in ±8, with the scales at `first_raw_scale`. Grey values are
        clipped to 0.001…0.999, and to the range of such locations.

        Args:
            mean: (batch, height, width, channels), float in [0, 1].

        Returns:
            (batch, height, width, channels · parameters_per_value), float32.
        """
        mean = np.clip(np.asarray(mean, "float32"), 1e-3, 1 - 1e-3)
        others = self.parameters_per_value - self.locations
        rest = np.zeros((*mean.shape[:3], mean.shape[3] * others))
        rest[..., : mean.shape[3] * self.locations] = self.first_raw_scale
        low, high = np.full(mean.shape, -8.0), np.full(mean.shape, 8.0)
        for _ in range(30):
            middle = (low + high) / 2
            locations = np.tile(middle, self.locations)
            parameters = np.concatenate([locations, rest], axis=-1).astype("float32")
            below = ops.convert_to_numpy(self.mean(parameters)) < mean
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return parameters


def bits_per_dimension(nats: Any, image_shape: tuple[int, int, int]) -> Any:
    """Converts nats per image to bits per value: nats / (height · width · channels · ln 2).

    Bits per value are comparable between models if the nats are those of a probability of 8-bit
    levels, such as `DiscretizedLogistic` gives; a uniform guess then costs 8 bits. For a density
    they are not comparable.

    Args:
        nats: −log p of images, a number or an array.
        image_shape: (height, width, channels).

    Example:
        >>> import math
        >>> from kvae.likelihoods import bits_per_dimension
        >>> print(round(bits_per_dimension(32 * 32 * 3 * math.log(256), (32, 32, 3)), 6))
        8.0
    """
    return nats / (math.prod(image_shape) * math.log(2))


def flat(values: Any) -> Any:
    """Flattens (batch, …) to (batch, values), float32; a scalar stays a scalar.

    XLA sums one axis several times as fast as three, if the values are flattened first.
    """
    values = ops.cast(values, "float32")
    return ops.reshape(values, (ops.shape(values)[0], -1)) if len(values.shape) else values


def scaled(images: Any) -> Any:
    """Converts images to float32 in [0, 1]; integers are divided by 255."""
    if isinstance(images, np.ndarray):
        if images.dtype.kind in "iu":
            images = images.astype("float32") / np.float32(255)  # XLA's quotients are slightly off
        elif not images.flags.writeable:
            images = images.copy()  # PyTorch warns about read-only arrays
    images = ops.convert_to_tensor(images)
    if "int" in keras.backend.standardize_dtype(images.dtype):
        return ops.cast(images, "float32") / 255.0
    return ops.cast(images, "float32")


def less_heard(value: Any, share: Any) -> Any:
    """Returns the value unchanged, but passes on only this share of its gradient."""
    held = ops.stop_gradient(value)
    return held + share * (value - held)


def uniform_like(values: Any, seed: Any = None) -> Any:
    """Draws uniform noise of that shape, float32, strictly between 0 and 1: finite logits."""
    noise = keras.random.uniform(ops.shape(values), seed=seed, dtype="float32")
    return ops.clip(noise, 1e-7, 1 - 1e-7)


def bounded_scale(raw_scale: Any, min_scale: float) -> Any:
    """Maps raw parameters to scales above `min_scale`; raw 0 gives about 0.3."""
    return ops.softplus(raw_scale - 1) + min_scale


def is_positive(value: Any) -> bool:
    """Whether the value is a positive and finite number."""
    return isinstance(value, numbers.Real) and value is not True and 0 < float(value) < math.inf


def checked_min_scale(min_scale: float) -> float:
    """`min_scale` as a float, or a ValueError."""
    if not is_positive(min_scale):
        raise ValueError(
            f"`min_scale` must be a positive number. Received: min_scale={min_scale!r}"
        )
    return float(min_scale)
