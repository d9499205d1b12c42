"""Priors p(z): density, draws, and divergence from the posterior; in nats per image."""

import math

import keras
from keras import ops

__all__ = ["StandardNormal"]


@keras.saving.register_keras_serializable(package="kvae")
class StandardNormal(keras.layers.Layer):
    r"""The standard normal prior, N(0, I).

    $$D_{KL}(q(z|x) \,\|\, p(z)) =
    -\tfrac12 \sum_j 1 + \log\sigma_j^2 - \mu_j^2 - \sigma_j^2$$

    Args:
        latent_dim: The number of latents.

    References:
        Kingma and Welling (2014), "Auto-encoding variational Bayes", arXiv:1312.6114, appendix B.

    Example:
        >>> import numpy as np
        >>> from kvae.priors import StandardNormal
        >>> zeros = np.zeros((1, 3), "float32")
        >>> print(float(StandardNormal(3).kl(zeros + 2, zeros, zeros)[0]))  # 3 latents at mean 2
        6.0
    """

    def __init__(self, latent_dim: int, **kwargs):
        super().__init__(**kwargs)
        self.latent_dim = latent_dim
        self.built = True

    def log_prob(self, z):
        """Log-density of each row of z: (batch, latent) to (batch,), float32, nats."""
        z = ops.cast(z, "float32")
        return -0.5 * ops.sum(ops.square(z) + math.log(2 * math.pi), axis=-1)

    def sample(self, count: int, seed=None):
        """Draws `count` latents: (count, latent), float32."""
        return keras.random.normal((count, self.latent_dim), seed=seed, dtype="float32")

    def kl(self, mean, log_variance, z):
        """Divergence of N(mean, exp(log_variance)) from the prior, in closed form.

        Args:
            mean: (batch, latent), float32.
            log_variance: (batch, latent), float32, the natural log of a variance.
            z: (batch, latent), a draw; not needed here, for priors without a closed form it is.

        Returns:
            (batch,), float32, nats, summed over latents.
        """
        return ops.sum(self.kl_per_latent(mean, log_variance), axis=-1)

    def kl_per_latent(self, mean, log_variance):
        """The divergence of each latent by itself: (batch, latent), float32, nats."""
        return 0.5 * (ops.square(mean) + ops.expm1(log_variance) - log_variance)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "latent_dim": self.latent_dim}
