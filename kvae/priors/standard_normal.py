"""The standard normal prior."""

import math
from typing import Any

import keras
from keras import ops

from kvae.priors.prior import Prior

__all__ = ["StandardNormal"]


@keras.saving.register_keras_serializable(package="kvae")
class StandardNormal(Prior):
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

    closed_form = True

    def log_prob(self, z: Any, context: Any = None) -> Any:
        """Log-density of each row of z: (batch, latent) to (batch,), float32, nats."""
        z = ops.cast(z, "float32")
        return -0.5 * ops.sum(ops.square(z) + math.log(2 * math.pi), axis=-1)

    def to_noise(self, z: Any, context: Any = None) -> Any:
        """Returns the latents unchanged."""
        return z

    def from_noise(self, noise: Any, context: Any = None) -> Any:
        """Returns the noise unchanged."""
        return noise

    def kl(self, mean: Any, log_variance: Any, z: Any, context: Any = None) -> Any:
        """Computes the KL of N(mean, exp(log_variance)) from the prior, in closed form.

        Args:
            mean: (batch, latent), float32.
            log_variance: (batch, latent), float32, the natural log of a variance.
            z: (batch, latent), a draw. Not used here; priors without a closed form need it.
            context: Not used: the prior is the same for every context.

        Returns:
            (batch,), float32, nats, summed over latents.
        """
        return ops.sum(self.kl_per_latent(mean, log_variance), axis=-1)

    def kl_per_latent(self, mean: Any, log_variance: Any) -> Any:
        """Computes the KL of each latent: (batch, latent), float32, nats."""
        return 0.5 * (ops.square(mean) + ops.expm1(log_variance) - log_variance)
