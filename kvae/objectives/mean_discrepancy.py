"""Mean discrepancy: −ELBO plus the distance of q(z) from the prior (InfoVAE, MMD)."""

from typing import Any

import keras
from keras import ops

from kvae.objectives.objective import Objective, checked
from kvae.objectives.terms import Terms, averaged

__all__ = ["MeanDiscrepancy"]


@keras.saving.register_keras_serializable(package="kvae")
class MeanDiscrepancy(Objective):
    r"""InfoVAE: −ELBO plus the maximum mean discrepancy of q(z) and p(z).

    $$-\mathbb{E}_{q(z|x)} \log p(x|z) + (1 - \alpha) D_{KL}(q(z|x) \,\|\, p(z)) + (\alpha +
    \lambda - 1) \operatorname{MMD}(q(z), p(z))$$

    (Zhao, Song and Ermon, equation 6), where q(z) is the average of q(z|x) over images. `beta` is
    1 − α and `mmd_weight` is α + λ − 1; with `beta=0` it is MMD-VAE. The loss is `reconstruction +
    beta · kl + mmd_weight · mmd` at every step.

    `mmd` is a metric. It has no unit and is at most 2; its weight turns it into nats:

    $$\operatorname{MMD} = \mathbb{E} k(z, z') - 2 \mathbb{E} k(z, y) + \mathbb{E} k(y, y'), \quad
    k(a, b) = \exp\left(-\frac{|a - b|^2}{2 h^2 d}\right)$$

    with z, z' from q(z) and y, y' from p(z), h the bandwidth and d the number of latents. The terms
    with y are computed in closed form, and z and z' are draws of different images of the batch. So
    the estimate is unbiased, and may be slightly negative. With a learned prior, all of this is
    computed in the noise that the prior maps to latents.

    Args:
        beta: Weight of the KL term, 1 − α. Can be assigned to.
        warmup_steps: Number of training steps over which that weight rises linearly to `beta`. Can
            be assigned to.
        samples: Number of draws of z per image.
        mmd_weight: Weight of the discrepancy, in nats.
        bandwidth: Bandwidth of the kernel, in units of the square root of the number of latents.

    Raises:
        ValueError: If an argument is invalid; later, if the prior is a mixture, or several devices
            share a batch (except on JAX, where each device sees the whole batch).

    References:
        Zhao, Song and Ermon (2019), "InfoVAE: balancing learning and inference in variational
        autoencoders", arXiv:1706.02262. Gretton et al. (2012), "A kernel two-sample test", JMLR 13.

    Example:
        >>> import kvae
        >>> objective = kvae.MeanDiscrepancy(beta=0.5, mmd_weight=100)
        >>> vae = kvae.VAE.from_preset("mlp", (8, 8, 1), latent_dim=4, objective=objective)
        >>> vae.objective.shown
        ('mmd',)
    """

    shown = ("mmd",)
    compares_images = True

    def __init__(
        self,
        beta: float = 1.0,
        warmup_steps: float = 0,
        samples: int = 1,
        mmd_weight: float = 1000.0,
        bandwidth: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(beta, warmup_steps, samples, **kwargs)
        self.mmd_weight = checked("mmd_weight", mmd_weight)
        self.bandwidth = checked("bandwidth", bandwidth)
        if not self.bandwidth:
            raise ValueError("`bandwidth` must be above 0. Received: bandwidth=0")

    def check(self, prior: Any) -> None:
        """Raises a ValueError if the prior is not invertible: then there is no noise to compare."""
        super().check(prior)
        if not prior.invertible:
            raise ValueError(
                f"{type(self).__name__} compares draws in the noise that a prior makes latents of, "
                "which needs a prior such as standard-normal or real-nvp. "
                f"Received: {type(prior).__name__}"
            )

    def loss(self, terms: Terms, training: bool = True) -> Any:
        """−ELBO plus the weighted discrepancy: a float32 scalar, nats per image."""
        self.check_whole(terms)
        terms.shown["mmd"] = mmd = self.discrepancy(terms)
        kl = self.kl_weight(training) * terms.mean_of(terms.kl)
        return terms.mean_of(terms.reconstruction) + kl + self.mmd_weight * mmd

    def discrepancy(self, terms: Terms) -> Any:
        """The discrepancy of the batch's draws from the prior, times the mean weight: a scalar.

        For one image it is not defined, and 0.
        """
        noise = terms.prior.to_noise(terms.z, **terms.given)
        latents = noise.shape[-1]
        variance = latents * self.bandwidth**2
        squares = ops.sum(ops.square(noise), axis=-1)
        distances = squares[:, None] + squares - 2.0 * ops.matmul(noise, ops.transpose(noise))
        kernel = ops.exp(-0.5 / variance * ops.maximum(distances, 0.0))
        kernel = averaged(ops.transpose(averaged(kernel, terms.samples)), terms.samples)
        shrunk = (variance / (variance + 1)) ** (latents / 2)
        crossed = averaged(shrunk * ops.exp(-0.5 / (variance + 1) * squares), terms.samples)
        within = (variance / (variance + 2)) ** (latents / 2)

        weights = ops.ones_like(crossed) if terms.is_plain else terms.weight
        rows = ops.arange(ops.shape(crossed)[0], dtype="int32")
        pairs = ops.where(rows[:, None] == rows, 0.0, weights[:, None] * weights)
        sum_of_pairs, sum_of_weights = ops.sum(pairs), ops.sum(weights)
        least = 1e-30
        among = ops.sum(pairs * kernel) / ops.maximum(sum_of_pairs, least)
        between = ops.sum(weights * crossed) / ops.maximum(sum_of_weights, least)
        known = ops.where(sum_of_pairs > 0, among - 2.0 * between + within, 0.0)
        return terms.mean_weight * known

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, with the current values of settings."""
        own = {"mmd_weight": self.mmd_weight, "bandwidth": self.bandwidth}
        return {**super().get_config(), **own}
