"""Logistic mixture: probabilities of 8-bit colours that may be one thing or another."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.likelihoods.discretized_logistic import (
    DiscretizedLogistic,
    log_prob_of_level,
    mean_of_cut,
)
from kvae.likelihoods.likelihood import bounded_scale, uniform_like
from kvae.parts import checked_integer

__all__ = ["LogisticMixture"]


@keras.saving.register_keras_serializable(package="kvae")
class LogisticMixture(DiscretizedLogistic):
    r"""A mixture of discretised logistics for each pixel: sharper where one bell is not enough.

    $$p(x) = \sum_k \pi_k \prod_c \sigma(b_{kc}) - \sigma(a_{kc})$$

    with a and b as for `DiscretizedLogistic`. A pixel's channels c share the component k, so that a
    pixel is likely to be white or blue, and not some of each: where it is unclear which, one
    logistic would have to be as wide as from one to the other.

    The decoder gives 3 · `components` parameters a value: first the locations, μ = ½ + the
    parameter + a spread, by which components begin apart; then the scales; then the logits of π,
    which are summed over the channels.

    Args:
        components: How many logistics a pixel has.
        min_scale: As for `DiscretizedLogistic`.

    References:
        Salimans et al. (2017), "PixelCNN++: improving the PixelCNN with discretized logistic
        mixture likelihood", arXiv:1701.05517; here channels do not depend on each other.

    Example:
        >>> import keras, numpy as np
        >>> from kvae.likelihoods import LogisticMixture
        >>> likelihood = LogisticMixture(components=2)
        >>> levels = likelihood.observe(np.arange(256, dtype="uint8").reshape(256, 1, 1, 1))
        >>> nats = likelihood.log_prob(levels, np.zeros((256, 1, 1, 6), "float32"))
        >>> print(round(float(keras.ops.sum(keras.ops.exp(nats))), 4))
        1.0
    """

    def __init__(self, components: int = 3, min_scale: float = 1 / 2048, **kwargs: Any) -> None:
        super().__init__(min_scale=min_scale, **kwargs)
        self.components = checked_integer("components", components)
        self.parameters_per_value = 3 * self.components
        self.locations = self.components
        # Of the components' locations around the mean of them, in grey values.
        places = np.arange(self.components) - (self.components - 1) / 2
        self.spread = (0.5 * places / max(1, self.components - 1)).astype("float32")

    @property
    def protocol(self) -> str:
        """How images are observed and scored, in words."""
        return f"8-bit values, mixture of {self.components} discretised logistics"

    def split(self, parameters: Any) -> tuple[Any, Any, Any]:
        """Locations and scales, in levels, and the logarithms of π.

        Pixels come last, since compilers are many times as fast along a long last axis.

        Returns:
            (batch, component, channel, pixel) twice, and (batch, component, pixel), float32.
        """
        parameters = pixels_last(parameters)
        _, values, pixels = parameters.shape
        size = (-1, 3, self.components, values // (3 * self.components), pixels)
        location, raw_scale, logits = ops.unstack(ops.reshape(parameters, size), axis=1)
        logits = ops.sum(logits, axis=2)
        weights = logits - ops.logsumexp(logits, axis=1, keepdims=True)
        scale = 255 * bounded_scale(raw_scale, self.min_scale)
        spread = ops.convert_to_tensor(self.spread[:, None, None])
        return 127.5 + 255 * (location + spread), scale, weights

    def log_prob(self, observed: Any, parameters: Any) -> Any:
        """Log-probability of each image: (batch,), float32, nats."""
        location, scale, weights = self.split(parameters)
        level = ops.round(255 * pixels_last(observed))[:, None]
        each = weights + ops.sum(log_prob_of_level(level, location, scale), axis=2)
        return ops.sum(ops.logsumexp(each, axis=1), axis=-1)

    def mean(self, parameters: Any) -> Any:
        """The expected image, (batch, height, width, channels), float32 in [0, 1]."""
        location, scale, weights = self.split(parameters)
        means = ops.exp(weights)[:, :, None] * mean_of_cut(location, scale)
        return as_images(ops.sum(means, axis=1), parameters)

    def sample(self, parameters: Any, seed: Any = None) -> Any:
        """One draw of each image, (batch, height, width, channels), float32, multiples of 1/255."""
        location, scale, weights = self.split(parameters)
        # One draw for both, since a seed that is a number would give the same twice.
        noise = uniform_like(ops.concatenate([weights, location[:, 0]], axis=1), seed)
        which, noise = noise[:, : self.components], noise[:, self.components :]
        chosen = ops.argmax(weights - ops.log(-ops.log(which)), axis=1)
        chosen = ops.one_hot(chosen, self.components, axis=1)[:, :, None]
        location, scale = (ops.sum(chosen * part, axis=1) for part in (location, scale))
        logistic = ops.log(noise) - ops.log1p(-noise)
        levels = ops.clip(ops.round(location + scale * logistic), 0.0, 255.0)
        return as_images(levels / 255, parameters)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "components": self.components}


def pixels_last(values: Any) -> Any:
    """(batch, height, width, any) to (batch, any, pixel), float32."""
    values = ops.cast(values, "float32")
    _, height, width, depth = values.shape
    return ops.transpose(ops.reshape(values, (-1, height * width, depth)), (0, 2, 1))


def as_images(values: Any, parameters: Any) -> Any:
    """(batch, channel, pixel) to (batch, height, width, channel), of the size of parameters."""
    size = (-1, *parameters.shape[1:3], values.shape[1])
    return ops.reshape(ops.transpose(values, (0, 2, 1)), size)
