"""Gaussian: a density with a fixed scale, a shared scale, or a scale for each value."""

import math
from typing import Any

import keras
from keras import ops

from kvae.likelihoods.likelihood import (
    Likelihood,
    bounded_scale,
    checked_min_scale,
    flat,
    is_positive,
)

__all__ = ["Gaussian"]


@keras.saving.register_keras_serializable(package="kvae")
class Gaussian(Likelihood):
    r"""Independent Gaussian values: a density over the real line, for grey values and colours.

    $$\log p(x|z) = -\sum_j \frac{(x_j - \mu_j)^2}{2 \sigma_j^2} + \log \sigma_j
    + \tfrac12 \log 2 \pi$$

    The locations μ are the outputs of the decoder without squashing, so that black and white can be
    met exactly. A learned scale is σ = softplus(raw − 1) + `min_scale`, about 0.3 at first. Images
    lie in [0, 1], but the density covers the whole line: `sample` may leave [0, 1], and `mean` is
    clipped to it for pictures. A density may exceed one, so the nats may have either sign. If
    pixels never change, the nats are determined by `min_scale`. They are not comparable with those
    of a probability.

    Args:
        scale: "pixel" learns σ for each value of each image (two parameters per value). "shared"
            learns one σ for all values, a variable of this layer. A number fixes σ; the loss is
            then the squared error over 2σ², plus a constant.
        min_scale: Lower bound of a learned σ. The default is about one step of 8-bit images.

    References:
        Rybkin et al. (2021), "Simple and effective VAE training with calibrated decoders",
        arXiv:2006.13202 (the shared scale).

    Example:
        >>> import numpy as np
        >>> from kvae.likelihoods import Gaussian
        >>> black = np.zeros((1, 2, 2, 1), "float32")
        >>> likelihood = Gaussian(scale=0.1)
        >>> print(round(float(likelihood.log_prob(black, black)[0]), 3))  # -4 log(0.1 √(2π))
        5.535
    """

    def __init__(
        self, scale: str | float = "pixel", min_scale: float = 1 / 256, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if scale not in ("pixel", "shared") and not is_positive(scale):
            raise ValueError(
                f"`scale` must be 'pixel', 'shared' or a positive number. Received: scale={scale!r}"
            )
        self.scale = scale if isinstance(scale, str) else float(scale)
        self.min_scale = checked_min_scale(min_scale)
        self.parameters_per_value = 2 if scale == "pixel" else 1
        if scale == "shared":
            self.raw_scale = self.add_weight(
                name="raw_scale", shape=(), initializer="zeros", dtype="float32", autocast=False
            )

    @property
    def protocol(self) -> str:
        """How images are observed and scored, in words."""
        kinds = {"pixel": "a learned scale a value", "shared": "one learned scale"}
        return f"grey values, Gaussian with {kinds.get(str(self.scale), f'scale {self.scale}')}"

    @property
    def measure(self) -> str:
        """The kind of quantity whose logarithm `log_prob` is."""
        return "density"

    def location_and_scale(self, parameters: Any) -> Any:
        """μ, (batch, height, width, channels), and σ, of that shape or a scalar; float32."""
        parameters = ops.cast(parameters, "float32")
        if self.scale == "shared":
            return parameters, bounded_scale(ops.cast(self.raw_scale, "float32"), self.min_scale)
        if self.scale != "pixel":
            return parameters, ops.cast(self.scale, "float32")
        location, raw_scale = ops.split(parameters, 2, axis=-1)
        return location, bounded_scale(raw_scale, self.min_scale)

    def log_prob(self, observed: Any, parameters: Any) -> Any:
        """Log-density of each image, over the reals for each value: (batch,), float32, nats."""
        location, scale = map(flat, self.location_and_scale(parameters))
        error = (flat(observed) - location) / scale
        constant = 0.5 * math.log(2 * math.pi)
        return -ops.sum(0.5 * ops.square(error) + ops.log(scale) + constant, axis=1)

    def mean(self, parameters: Any) -> Any:
        """The locations clipped to [0, 1]: (batch, height, width, channels), float32."""
        return ops.clip(self.location_and_scale(parameters)[0], 0.0, 1.0)

    def sample(self, parameters: Any, seed: Any = None) -> Any:
        """One draw of each image, (batch, height, width, channels), float32, unbounded."""
        location, scale = self.location_and_scale(parameters)
        noise = keras.random.normal(ops.shape(location), seed=seed, dtype="float32")
        return location + scale * noise

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "scale": self.scale, "min_scale": self.min_scale}
