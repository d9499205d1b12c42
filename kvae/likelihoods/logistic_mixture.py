"""Logistic mixture: a likelihood of 8-bit colours with several modes."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.likelihoods.discretized_logistic import (
    DiscretizedLogistic,
    less_steep,
    log_prob_of_level,
    mean_of_cut,
)
from kvae.likelihoods.layout import as_images, pixels_last
from kvae.likelihoods.likelihood import bounded_scale, less_heard, uniform_like
from kvae.parts import checked_integer, checked_truth

__all__ = ["LogisticMixture"]

FIRST_FLOOR = 0.05  # of the scales; 13 grey levels
PACE = 4.0  # speed of its logarithm, in steps of the learning rate


@keras.saving.register_keras_serializable(package="kvae")
class LogisticMixture(DiscretizedLogistic):
    r"""A mixture of discretised logistics for each pixel: probabilities of 8-bit colours.

    $$p(x) = \sum_k \pi_k \prod_c \sigma(b_{kc}) - \sigma(a_{kc})$$

    with a and b as for `DiscretizedLogistic`. The channels c of a pixel share the component k. So a
    pixel that is either white or blue gets a component for each; a single logistic would have to
    span both. Within a component, the deviation of one channel from its location moves the location
    of the next to $\mu_{kc} + t_{kc} (x_{c-1} - \mu_{k,c-1})$: if a pixel is brighter than
    expected, it is so in all its channels.

    The decoder outputs 4 · `components` parameters per value (3 if channels are not coupled). First
    come the locations, μ = ½ + the parameter + a spread, which separates the components at the
    start. Then come the scales, then the logits of π, which are summed over the channels, then the
    couplings t, which the first channel does not use.

    Args:
        components: Number of logistics per pixel.
        coupled: Whether each channel depends on the one before it. With one channel there is
            nothing to couple.
        floor: Whether all scales have a common, learned lower bound. It begins at 0.05 and falls as
            the images improve. So no part of an image, such as a plain background, becomes certain
            before the others are learned.
        min_scale: As for `DiscretizedLogistic`.
        max_slope: As for `DiscretizedLogistic`.

    References:
        Salimans et al. (2017), "PixelCNN++: improving the PixelCNN with discretized logistic
        mixture likelihood", arXiv:1701.05517; there each channel depends on all before it, here on
        the one before it.

    Example:
        >>> import keras, numpy as np
        >>> from kvae.likelihoods import LogisticMixture
        >>> likelihood = LogisticMixture(components=2, coupled=False)
        >>> levels = likelihood.observe(np.arange(256, dtype="uint8").reshape(256, 1, 1, 1))
        >>> nats = likelihood.log_prob(levels, np.zeros((256, 1, 1, 6), "float32"))
        >>> print(round(float(keras.ops.sum(keras.ops.exp(nats))), 4))
        1.0
    """

    # Scales of 0.05, or 13 levels: a decoder with wider scales treats as noise what it could learn.
    first_raw_scale = -2.0

    def __init__(
        self,
        components: int = 3,
        coupled: bool = True,
        floor: bool = True,
        min_scale: float = 1 / 2048,
        max_slope: float | None = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(min_scale=min_scale, max_slope=max_slope, **kwargs)
        self.components = checked_integer("components", components)
        self.coupled = checked_truth("coupled", coupled)
        self.floor = checked_truth("floor", floor)
        self.parameters_per_value = (4 if coupled else 3) * self.components
        self.locations = self.components
        if self.floor:
            self.raw_floor = self.add_weight(
                name="raw_floor", shape=(), initializer="zeros", dtype="float32", autocast=False
            )
        # Spread of the components' locations around their mean, in grey values.
        places = np.arange(self.components) - (self.components - 1) / 2
        self.spread = (0.5 * places / max(1, self.components - 1)).astype("float32")

    @property
    def protocol(self) -> str:
        """How images are observed and scored, in words."""
        coupled = ", channels coupled" if self.coupled else ""
        return f"8-bit values, mixture of {self.components} discretised logistics{coupled}"

    def split(self, parameters: Any) -> tuple[Any, Any, Any, Any]:
        """Splits parameters into locations and scales, in levels, couplings, and log π.

        Pixels come last, because compilers are many times as fast along a long last axis.

        Returns:
            Three of (batch, component, channel, pixel), where the couplings are None if there are
            none, and (batch, component, pixel). All are float32.
        """
        parameters = pixels_last(parameters)
        _, values, pixels = parameters.shape
        channels = values // self.parameters_per_value
        size = (-1, self.components, channels, pixels)
        # Split instead of unstacked: XLA's gradient is then one array, not a sum of four padded
        # ones.
        parts = ops.split(parameters, 4 if self.coupled else 3, axis=1)
        location, raw_scale, logits, *rest = (ops.reshape(part, size) for part in parts)
        logits = ops.sum(logits, axis=2)
        weights = logits - ops.logsumexp(logits, axis=1, keepdims=True)
        scale = 255 * bounded_scale(raw_scale, self.min_scale)
        if self.floor:
            # The mean over values: a sum would use up the norm to which all gradients are clipped.
            raw_floor = less_heard(self.raw_floor, 1 / (channels * pixels))
            scale = ops.maximum(scale, 255 * FIRST_FLOOR * ops.exp(PACE * raw_floor))
        spread = ops.convert_to_tensor(self.spread[:, None, None])
        couplings = rest[0] if rest and channels > 1 else None
        return 127.5 + 255 * (location + spread), scale, couplings, weights

    def log_prob(self, observed: Any, parameters: Any) -> Any:
        """Log-probability of each image: (batch,), float32, nats."""
        location, scale, couplings, weights = self.split(parameters)
        location = less_steep(location, scale, self.max_slope)
        level = ops.round(255 * pixels_last(observed))[:, None]
        if couplings is not None:
            beyond = couplings[:, :, 1:] * (level - location)[:, :, :-1]
            moved = location[:, :, 1:] + beyond
            location = ops.concatenate([location[:, :, :1], moved], axis=2)
        each = weights + ops.sum(log_prob_of_level(level, location, scale), axis=2)
        return ops.sum(ops.logsumexp(each, axis=1), axis=-1)

    def mean(self, parameters: Any) -> Any:
        """The expected image, (batch, height, width, channels), float32 in [0, 1].

        A coupled channel is treated as a logistic with the mean and variance that it has before it
        is clipped to 0…255. This is exact if nothing is clipped.
        """
        location, scale, couplings, weights = self.split(parameters)
        if couplings is not None:
            location, scale = alone(location, scale, couplings)
        means = ops.exp(weights)[:, :, None] * mean_of_cut(location, scale)
        # Weights add up to 1 except for rounding.
        return as_images(ops.clip(ops.sum(means, axis=1), 0.0, 1.0), parameters)

    def sample(self, parameters: Any, seed: Any = None) -> Any:
        """One draw of each image, (batch, height, width, channels), float32, multiples of 1/255."""
        location, scale, couplings, weights = self.split(parameters)
        # One draw for both, because a seed that is a number would give the same noise twice.
        noise = uniform_like(ops.concatenate([weights, location[:, 0]], axis=1), seed)
        which, noise = noise[:, : self.components], noise[:, self.components :]
        chosen = ops.argmax(weights - ops.log(-ops.log(which)), axis=1)
        chosen = ops.one_hot(chosen, self.components, axis=1)[:, :, None]
        location, scale = (ops.sum(chosen * part, axis=1) for part in (location, scale))
        step = scale * (ops.log(noise) - ops.log1p(-noise))
        if couplings is not None:
            couplings = ops.sum(chosen * couplings, axis=1)
        levels: list[Any] = []
        for c in range(location.shape[1]):
            level = location[:, c] + step[:, c]
            if levels and couplings is not None:
                level = level + couplings[:, c] * (levels[-1] - location[:, c - 1])
            levels.append(ops.clip(ops.round(level), 0.0, 255.0))
        return as_images(ops.stack(levels, axis=1) / 255, parameters)

    @classmethod
    def from_config(cls, config: dict) -> "LogisticMixture":
        """Builds the likelihood; earlier files, without couplings and floor, stay without."""
        return cls(**{"coupled": False, "floor": False, **config})

    def get_config(self) -> dict:
        """The constructor's arguments."""
        own = {"components": self.components, "coupled": self.coupled, "floor": self.floor}
        return {**super().get_config(), **own}


def alone(location: Any, scale: Any, couplings: Any) -> tuple[Any, Any]:
    """Marginal locations and scales of coupled channels; (…, channel, pixel), in levels."""
    locations, scales = [location[:, :, 0]], [scale[:, :, 0]]
    for c in range(1, location.shape[2]):
        beyond = 255 * mean_of_cut(locations[-1], scales[-1]) - location[:, :, c - 1]
        coupling = couplings[:, :, c]
        locations.append(location[:, :, c] + coupling * beyond)
        scales.append(ops.sqrt(ops.square(scale[:, :, c]) + ops.square(coupling * scales[-1])))
    return ops.stack(locations, axis=2), ops.stack(scales, axis=2)
