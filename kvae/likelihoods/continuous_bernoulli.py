"""Continuous Bernoulli: a density of grey values in [0, 1]."""

import math
from typing import Any

import keras
from keras import ops

from kvae.likelihoods.likelihood import Likelihood, flat, uniform_like

__all__ = ["ContinuousBernoulli"]

NEAR_ZERO = 0.4  # smaller logits use series, which avoid cancellation


@keras.saving.register_keras_serializable(package="kvae")
class ContinuousBernoulli(Likelihood):
    r"""Independent continuous Bernoulli values: a density over [0, 1], for grey values.

    $$\log p(x|z) = \sum_j x_j \log p_j + (1 - x_j) \log(1 - p_j) + \log C(l_j), \quad
    p_j = \sigma(l_j), \quad C(l) = \frac{l}{\tanh(l / 2)}$$

    It turns the Bernoulli loss on soft targets into a likelihood: C is the constant that makes the
    density integrate to one. The decoder outputs the logits l, one per value. The mean is not p,
    but lies closer to one half. A density may exceed one, so the nats may have either sign. They
    are not comparable with those of a probability, such as `Bernoulli` or `DiscretizedLogistic`
    gives.

    References:
        Loaiza-Ganem and Cunningham (2019), "The continuous Bernoulli: fixing a pervasive error in
        variational autoencoders", arXiv:1907.06845.

    Example:
        >>> import numpy as np
        >>> from kvae.likelihoods import ContinuousBernoulli
        >>> white = np.ones((1, 2, 2, 1), "float32")
        >>> likelihood = ContinuousBernoulli()
        >>> nats = likelihood.log_prob(white, 2 * white)
        >>> print(round(float(nats[0]), 3))  # 4 log(2 e² / (e² - 1))
        3.354
    """

    @property
    def protocol(self) -> str:
        """How images are observed and scored, in words."""
        return "grey values, continuous Bernoulli"

    @property
    def measure(self) -> str:
        """The kind of quantity whose logarithm `log_prob` is."""
        return "density"

    def log_prob(self, observed: Any, parameters: Any) -> Any:
        """Log-density of each image over [0, 1] for each value: (batch,), float32, nats."""
        x, logits = flat(observed), flat(parameters)
        small, square = ops.abs(logits) < NEAR_ZERO, ops.square(logits)
        size = ops.where(small, 1.0, ops.abs(logits))  # no 0/0, whose gradient `where` lets through
        series = math.log(2) + square * (1 / 12 - square * (7 / 1440 - square * (31 / 90720)))
        log_c = ops.where(small, series, ops.log(size) - ops.log(ops.tanh(size / 2)))
        return ops.sum(x * logits - ops.softplus(logits) + log_c, axis=1)

    def mean(self, parameters: Any) -> Any:
        """The expected image, (batch, height, width, channels), float32 in [0, 1]."""
        logits = ops.cast(parameters, "float32")
        small, square = ops.abs(logits) < NEAR_ZERO, ops.square(logits)
        safe = ops.where(small, 1.0, logits)
        series = logits * (1 / 12 - square * (1 / 720 - square / 30240))
        mean = 0.5 + ops.where(small, series, 0.5 / ops.tanh(safe / 2) - 1 / safe)
        return ops.clip(mean, 0.0, 1.0)

    def sample(self, parameters: Any, seed: Any = None) -> Any:
        """One draw of each image, (batch, height, width, channels), float32 in [0, 1]."""
        logits = ops.cast(parameters, "float32")
        size = ops.maximum(ops.abs(logits), 1e-6)  # at which it is uniform to all digits
        darker = -ops.log1p(uniform_like(logits, seed) * ops.expm1(-size)) / size
        return ops.clip(ops.where(logits > 0, 1 - darker, darker), 0.0, 1.0)
