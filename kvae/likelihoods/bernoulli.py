"""Bernoulli: a likelihood of black-and-white pixels."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.likelihoods.likelihood import Likelihood, flat, scaled, uniform_like
from kvae.noise import uniform

__all__ = ["Bernoulli"]

BINARIZATIONS = ("dynamic", "threshold", "none")
FACTORS = 16  # factors per product; each is at most 2, so it cannot overflow float32


@keras.saving.register_keras_serializable(package="kvae")
class Bernoulli(Likelihood):
    r"""Independent Bernoulli pixels, for black-and-white images and images that are binarised.

    $$\log p(x|z) = \sum_j x_j \log p_j + (1 - x_j) \log(1 - p_j), \quad p_j = \sigma(l_j)$$

    The decoder outputs the logits l, one per value. The sum is over height, width and channels.

    Args:
        binarize: How grey values in [0, 1] are binarised. "dynamic" draws each pixel anew at every
            step, white with the grey value as its probability. "threshold" makes values of at least
            one half white. "none" keeps grey values as soft targets. That is common, but is not a
            likelihood of any data: compare such figures only with each other.

    References:
        Salakhutdinov and Murray (2008), "On the quantitative analysis of deep belief networks"
        (dynamic binarisation of MNIST).

    Example:
        >>> import numpy as np
        >>> from kvae.likelihoods import Bernoulli
        >>> white = np.ones((1, 2, 2, 1), "float32")
        >>> print(round(float(Bernoulli().log_prob(white, 0 * white)[0]), 4))  # 4 log(1/2)
        -2.7726
    """

    def __init__(self, binarize: str = "dynamic", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if binarize not in BINARIZATIONS:
            raise ValueError(
                f"`binarize` must be one of {', '.join(map(repr, BINARIZATIONS))}. "
                f"Received: binarize={binarize!r}"
            )
        self.binarize = binarize

    @property
    def measure(self) -> str:
        """The kind of quantity whose logarithm `log_prob` is; "neither" with soft targets."""
        return "neither" if self.binarize == "none" else "probability"

    @property
    def protocol(self) -> str:
        """How grey values are binarised, in words."""
        return f"binarize {self.binarize}"

    def observe(self, images: Any, seed: Any = None) -> Any:
        """Converts images to what the model sees and is scored on.

        Args:
            images: (batch, height, width, channels), uint8 in 0…255 or float in [0, 1].
            seed: An integer or a `keras.random.SeedGenerator`, for dynamic binarisation. Without a
                seed, "dynamic" thresholds at one half, so that the result is deterministic.

        Returns:
            (batch, height, width, channels), float32 in [0, 1]; 0 or 1 unless `binarize` is "none".
        """
        images = scaled(images)
        if self.binarize == "none":
            return images
        if self.binarize == "threshold" or seed is None:
            return ops.cast(images >= 0.5, "float32")
        return ops.cast(uniform(ops.shape(images), seed) < images, "float32")

    def observe_once(self, images: Any, generator: np.random.Generator) -> np.ndarray:
        """Like `observe`, with random numbers from NumPy, which are the same on every backend."""
        if self.binarize != "dynamic":
            return super().observe_once(images, generator)
        grey = ops.convert_to_numpy(scaled(images))
        return (generator.random(grey.shape, dtype="float32") < grey).astype("float32")

    def log_prob_of_draws(self, observed: Any, parameters: Any, draws: int) -> Any:
        """Computes `log_prob` of each image under each of its draws of z, for evaluation only.

        The sum of softplus(l) = max(l, 0) + log(1 + exp(-|l|)) is computed in groups, as the
        logarithm of a product. This saves most of the logarithms, but its gradient would be slow.

        Args:
            observed: (batch, height, width, channels), float in [0, 1].
            parameters: (batch · draws, height, width, channels), logits.
            draws: Number of draws per image.

        Returns:
            (batch, draws), float32, nats.
        """
        if type(self).log_prob is not Bernoulli.log_prob:  # in a derived class
            return super().log_prob_of_draws(observed, parameters, draws)
        values = math.prod(observed.shape[1:])
        group = max(size for size in range(1, FACTORS + 1) if values % size == 0)
        # Groups lie across the last axis, so that neighbours are reduced side by side.
        size = (group, values // group)
        x = ops.reshape(ops.cast(observed, "float32"), (-1, 1, *size))
        logits = ops.reshape(ops.cast(parameters, "float32"), (-1, draws, *size))
        linear = ops.sum(x * logits - ops.maximum(logits, 0.0), axis=2)
        products = ops.prod(1 + ops.exp(-ops.abs(logits)), axis=2)
        return ops.sum(linear - ops.log(products), axis=2)

    def log_prob(self, observed: Any, parameters: Any) -> Any:
        """Computes the log-probability of each image.

        Args:
            observed: (batch, height, width, channels), float in [0, 1].
            parameters: (batch, height, width, channels), logits.

        Returns:
            (batch,), float32, nats.
        """
        x, logits = flat(observed), flat(parameters)
        return ops.sum(x * logits - ops.softplus(logits), axis=1)

    def mean(self, parameters: Any) -> Any:
        """The expected image, (batch, height, width, channels), float32 in [0, 1]."""
        return ops.sigmoid(ops.cast(parameters, "float32"))

    def sample(self, parameters: Any, seed: Any = None) -> Any:
        """One draw of each image, (batch, height, width, channels), float32, 0 or 1."""
        mean = self.mean(parameters)
        return ops.cast(uniform_like(mean, seed) < mean, "float32")

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "binarize": self.binarize}
