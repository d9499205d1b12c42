"""Inferred prior: −ELBO plus a penalty on the covariance of the latents (DIP-VAE)."""

from typing import Any

import keras
from keras import ops

from kvae.objectives.objective import Objective, checked
from kvae.objectives.terms import Terms
from kvae.parts import chosen

__all__ = ["InferredPrior"]

# Weight of the diagonal as a multiple of `off_diagonal`, as in the paper.
DIAGONAL = {"means": 10.0, "draws": 1.0}


@keras.saving.register_keras_serializable(package="kvae")
class InferredPrior(Objective):
    r"""DIP-VAE: −ELBO plus the distance of the covariance of the latents from the identity.

    $$-\mathbb{E}_{q(z|x)} \log p(x|z) + \beta D_{KL}(q(z|x) \,\|\, p(z)) + \lambda_{od} \sum_{i
    \ne j} S_{ij}^2 + \lambda_d \sum_i (S_{ii} - 1)^2$$

    These are equations 6 and 7 of Kumar, Sattigeri and Balakrishnan. S is the covariance over
    images of the posterior means (DIP-VAE-I) or of z (DIP-VAE-II), which has the mean posterior
    variances added to its diagonal. It is computed from the batch and divided by the batch size, so
    batches of a few images pull it towards 0. The loss is `reconstruction + beta · kl +
    off_diagonal · correlated + diagonal · unscaled` at every step. The last two sums are metrics
    without a unit; their weights turn them into nats.

    Args:
        beta: Weight of the KL term. Can be assigned to.
        warmup_steps: Number of training steps over which that weight rises linearly to `beta`. Can
            be assigned to.
        samples: Number of draws of z per image. The covariance does not use them.
        covariance_of: "means" (DIP-VAE-I) or "draws" (DIP-VAE-II).
        off_diagonal: λ_od, in nats.
        diagonal: λ_d, in nats. None: as in the paper, 10 times `off_diagonal` with "means" and
            equal to it with "draws".

    Raises:
        ValueError: If an argument is invalid; later, if latents depend on each other in the prior,
            if they come in groups, or if several devices share a batch (except on JAX, where each
            device sees the whole batch).

    References:
        Kumar, Sattigeri and Balakrishnan (2018), "Variational inference of disentangled latent
        concepts from unlabeled observations", arXiv:1711.00848.

    Example:
        >>> import kvae
        >>> objective = kvae.InferredPrior(covariance_of="draws", off_diagonal=5)
        >>> parts = {"prior": kvae.StandardNormal(4), "objective": objective}
        >>> vae = kvae.VAE.from_preset("mlp", (8, 8, 1), latent_dim=4, **parts)
        >>> vae.objective.diagonal
        5.0
    """

    shown = ("correlated", "unscaled")
    factorised = one_group = compares_images = True

    def __init__(
        self,
        beta: float = 1.0,
        warmup_steps: float = 0,
        samples: int = 1,
        covariance_of: str = "means",
        off_diagonal: float = 10.0,
        diagonal: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(beta, warmup_steps, samples, **kwargs)
        self.covariance_of = chosen("covariance_of", covariance_of, tuple(DIAGONAL))
        self.off_diagonal = checked("off_diagonal", off_diagonal)
        if diagonal is None:
            diagonal = DIAGONAL[covariance_of] * self.off_diagonal
        self.diagonal = checked("diagonal", diagonal)

    def loss(self, terms: Terms, training: bool = True) -> Any:
        """−ELBO plus the weighted distance from the identity: a scalar, nats per image."""
        self.check_whole(terms)
        covariance = self.covariance(terms)
        variances = ops.diagonal(covariance)
        squares = ops.sum(ops.square(covariance)) - ops.sum(ops.square(variances))
        terms.shown["correlated"] = terms.mean_weight * squares
        terms.shown["unscaled"] = terms.mean_weight * ops.sum(ops.square(variances - 1.0))
        penalty = self.off_diagonal * terms.shown["correlated"]
        penalty = penalty + self.diagonal * terms.shown["unscaled"]
        kl = self.kl_weight(training) * terms.mean_of(terms.kl)
        return terms.mean_of(terms.reconstruction) + kl + penalty

    def covariance(self, terms: Terms) -> Any:
        """The weighted covariance over the images of the batch: (latent, latent).

        It uses only means over all images.
        """
        mean = terms.outputs["mean"]
        total = ops.maximum(terms.mean_weight, 1e-30)
        # Any centre works; one near the mean loses little to rounding.
        mean = mean - ops.stop_gradient(terms.mean_of(mean) / total)
        centre = terms.mean_of(mean) / total
        products = terms.mean_of(mean[:, :, None] * mean[:, None]) / total
        covariance = products - centre[:, None] * centre
        if self.covariance_of == "means":
            return covariance
        variance = terms.mean_of(ops.exp(terms.outputs["log_variance"])) / total
        return covariance + ops.diag(variance)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, with the current values of settings."""
        names = ("covariance_of", "off_diagonal", "diagonal")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
