"""Discretised logistic: a likelihood of 8-bit images, with probabilities of 256 levels."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.data.values import PIECE
from kvae.likelihoods.likelihood import (
    Likelihood,
    bounded_scale,
    checked_min_scale,
    flat,
    is_positive,
    less_heard,
    uniform_like,
)
from kvae.limits import pieces

__all__ = ["DiscretizedLogistic"]


@keras.saving.register_keras_serializable(package="kvae")
class DiscretizedLogistic(Likelihood):
    r"""Independent discretised logistic values: probabilities of 8-bit grey or colour images.

    $$p(x = k/255) = \sigma(b_k) - \sigma(a_k), \quad
    a_k = \frac{(k - \tfrac12) / 255 - \mu}{s}, \quad b_k = \frac{(k + \tfrac12) / 255 - \mu}{s}$$

    with a = −∞ for black and b = +∞ for white, so that the probabilities of the levels sum to one.
    The decoder outputs two parameters per value: μ = ½ + the first, s = softplus(the second − 1) +
    `min_scale`. Only multiples of 1/255 have a probability. For bits per value, see
    `bits_per_dimension`.

    Some values are predicted to within a level, such as those of a plain background. There, log p
    is 100 times as steep along the location as elsewhere, and would dominate training: backgrounds
    that are off by half a level would drown out a colour that is still to be learned. Therefore
    gradients of locations are scaled down, value by value, where the scale is small. The
    probabilities do not change.

    Args:
        min_scale: Lower bound of s. With the default, an eighth of a bin, the likeliest level can
            have a probability of up to 0.96 (black and white: of 1).
        max_slope: Largest slope of log p along a location in training, in nats per level. None:
            gradients are not scaled.

    References:
        Kingma et al. (2016), "Improving variational inference with inverse autoregressive flow",
        arXiv:1606.04934, appendix. Salimans et al. (2017), "PixelCNN++", arXiv:1701.05517. Of
        gradients: Seitzer et al. (2022), "On the pitfalls of heteroscedastic uncertainty estimation
        with probabilistic neural networks", arXiv:2203.09168, who weigh the whole loss.

    Example:
        >>> import keras, numpy as np
        >>> from kvae.likelihoods import DiscretizedLogistic
        >>> likelihood = DiscretizedLogistic()
        >>> levels = likelihood.observe(np.arange(256, dtype="uint8").reshape(256, 1, 1, 1))
        >>> nats = likelihood.log_prob(levels, np.zeros((256, 1, 1, 2), "float32"))
        >>> print(round(float(keras.ops.sum(keras.ops.exp(nats))), 4))
        1.0
    """

    parameters_per_value = 2
    support = "bool, integers in 0…255 or floats that are multiples of 1/255"

    def __init__(
        self, min_scale: float = 1 / 2048, max_slope: float | None = 0.2, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.min_scale = checked_min_scale(min_scale)
        if not (max_slope is None or is_positive(max_slope)):
            raise ValueError(
                f"`max_slope` must be a positive number, or None. Received: max_slope={max_slope!r}"
            )
        self.max_slope = None if max_slope is None else float(max_slope)

    @property
    def protocol(self) -> str:
        """How images are observed and scored, in words."""
        return "8-bit values, discretised logistic"

    @property
    def measure(self) -> str:
        """The kind of quantity whose logarithm `log_prob` is."""
        return "probability"

    def check(self, images: Any, image_shape: tuple[int, int, int]) -> np.ndarray:
        """Like `Likelihood.check`; also refuses floats between the 256 levels."""
        array = super().check(images, image_shape)
        if array.dtype.kind == "f":
            for piece in pieces(array, PIECE):
                between = piece[np.abs(255 * piece - np.rint(255 * piece)) > 1e-3]
                if len(between):
                    raise ValueError(
                        f"Images must be {self.support}. Received: {array.dtype} with "
                        f"{between[0]:g}. Pass them as uint8, or take another likelihood."
                    )
        return array

    def location_and_scale(self, parameters: Any) -> Any:
        """μ and s, both (batch, height, width, channels), float32, in levels (times 255)."""
        location, raw_scale = ops.split(ops.cast(parameters, "float32"), 2, axis=-1)
        return 127.5 + 255 * location, 255 * bounded_scale(raw_scale, self.min_scale)

    def log_prob(self, observed: Any, parameters: Any) -> Any:
        """Log-probability of each image: (batch,), float32, nats."""
        location, scale = map(flat, self.location_and_scale(parameters))
        location = less_steep(location, scale, self.max_slope)
        level = ops.round(255 * flat(observed))  # integers, so differences are exact
        return ops.sum(log_prob_of_level(level, location, scale), axis=1)

    def mean(self, parameters: Any) -> Any:
        """The expected image, (batch, height, width, channels), float32 in [0, 1].

        This is the mean of the logistic clipped to [0, 1] before rounding, in closed form. Rounding
        moves it by at most half a level, and by nothing visible once s is one level or more.
        """
        return mean_of_cut(*self.location_and_scale(parameters))

    def sample(self, parameters: Any, seed: Any = None) -> Any:
        """One draw of each image, (batch, height, width, channels), float32, multiples of 1/255."""
        location, scale = self.location_and_scale(parameters)
        noise = uniform_like(location, seed)
        logistic = ops.log(noise) - ops.log1p(-noise)
        return ops.clip(ops.round(location + scale * logistic), 0.0, 255.0) / 255.0

    def get_config(self) -> dict:
        """The constructor's arguments."""
        own = {"min_scale": self.min_scale, "max_slope": self.max_slope}
        return {**super().get_config(), **own}


def less_steep(location: Any, scale: Any, max_slope: float | None) -> Any:
    """Returns locations unchanged, with gradients limited to `max_slope` for small scales.

    The slope of log p is at most 1 / scale, all in levels.
    """
    if max_slope is None:
        return location
    return less_heard(location, ops.stop_gradient(ops.minimum(1.0, max_slope * scale)))


def log_prob_of_level(level: Any, location: Any, scale: Any) -> Any:
    """Log-probability of levels 0…255 under discretised logistics; all in levels, float32."""
    above, below = (level - location + 0.5) / scale, (level - location - 0.5) / scale
    # σ(b) - σ(a) = σ(b) σ(-a) (1 - exp(a - b)): a product without cancellation.
    under_upper_edge = ops.where(level < 255, -ops.softplus(-above), 0.0)
    over_lower_edge = ops.where(level > 0, -ops.softplus(below), 0.0)
    inside = ops.logical_and(level > 0, level < 255)
    overlap = ops.where(inside, ops.log(-ops.expm1(-1 / scale)), 0.0)
    return under_upper_edge + over_lower_edge + overlap


def mean_of_cut(location: Any, scale: Any) -> Any:
    """Means of logistics clipped to 0…255, given in levels, as float32 in [0, 1]."""
    offset = location - 127.5
    far, near = 127.5 + ops.abs(offset), 127.5 - ops.abs(offset)
    # Softplus of non-positive values only: LiteRT computes log(1 + exp(x)), which overflows.
    near = near / scale
    softplus = ops.maximum(near, 0.0) + ops.softplus(-ops.abs(near))
    gap = scale * (softplus - ops.softplus(-far / scale))
    return ops.clip((127.5 + ops.sign(offset) * (127.5 - gap)) / 255, 0.0, 1.0)
