"""Inferred prior: −ELBO, and how far the covariance of the latents is from identity (DIP-VAE)."""

from typing import Any

import keras
from keras import ops

from kvae.objectives.objective import Objective, checked
from kvae.objectives.terms import Terms
from kvae.parts import chosen

__all__ = ["InferredPrior"]

# Of the diagonal, as a multiple of that of the rest: as the paper has it.
DIAGONAL = {"means": 10.0, "draws": 1.0}


@keras.saving.register_keras_serializable(package="kvae")
class InferredPrior(Objective):
    r"""DIP-VAE: −ELBO, and how far the covariance of the latents over images is from identity.

    $$-\mathbb{E}_{q(z|x)} \log p(x|z) + \beta D_{KL}(q(z|x) \,\|\, p(z)) + \lambda_{od} \sum_{i
    \ne j} S_{ij}^2 + \lambda_d \sum_i (S_{ii} - 1)^2$$

    (Kumar, Sattigeri and Balakrishnan, equations 6 and 7), where S is the covariance over images of
    the posterior means (DIP-VAE-I), or that of z, which is the same and the mean of the posterior
    variances on its diagonal (DIP-VAE-II). It is that of the batch, divided by its size; so batches
    of a few images pull it towards 0. The loss is `reconstruction + beta · kl + off_diagonal ·
    correlated + diagonal · unscaled` at every step; the last two sums are metrics, without a unit,
    and in nats only by their weights.

    Args:
        beta: The weight of the KL term. It can be assigned to.
        warmup_steps: Over this many training steps that weight rises linearly to `beta`. It can be
            assigned to.
        samples: Draws of z for each image; the covariance needs none.
        covariance_of: "means" (I) or "draws" (II).
        off_diagonal: λ_od, nats.
        diagonal: λ_d, nats; 10 times `off_diagonal` of the means and as much of draws, as in the
            paper, where it is None.

    Raises:
        ValueError: If an argument is not what it should be; later, if the prior ties latents
            together, if they come in groups, or if several devices share a batch (but on JAX, where
            each sees all of it).

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
        """−ELBO and the distance from identity: a float32 scalar, nats per image."""
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
        """The covariance over the images of the batch, by their weights: (latent, latent).

        It is made of means over all images alone.
        """
        mean = terms.outputs["mean"]
        total = ops.maximum(terms.mean_weight, 1e-30)
        # Any centre does; near to the mean little is lost to rounding.
        mean = mean - ops.stop_gradient(terms.mean_of(mean) / total)
        centre = terms.mean_of(mean) / total
        products = terms.mean_of(mean[:, :, None] * mean[:, None]) / total
        covariance = products - centre[:, None] * centre
        if self.covariance_of == "means":
            return covariance
        variance = terms.mean_of(ops.exp(terms.outputs["log_variance"])) / total
        return covariance + ops.diag(variance)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; settings as they stand now."""
        names = ("covariance_of", "off_diagonal", "diagonal")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
