"""Total correlation: the KL term split in three parts, one of which has a larger weight."""

import math
from typing import Any

import keras
from keras import ops

from kvae.objectives.objective import Objective, checked
from kvae.objectives.terms import Terms, averaged, repeated
from kvae.parts import chosen
from kvae.priors.prior import log_normal

__all__ = ["TotalCorrelation"]

ESTIMATES = ("stratified", "weighted")
NEXT_TO_NOTHING = 1e-30  # smallest share, so that its logarithm is finite


@keras.saving.register_keras_serializable(package="kvae")
class TotalCorrelation(Objective):
    r"""−ELBO with an extra weight on the total correlation of the latents (β-TCVAE).

    $$\mathbb{E}_x D_{KL}(q(z|x) \,\|\, p(z)) = \underbrace{D_{KL}(q(z, x) \,\|\, q(z)\,
    p(x))}_\text{mutual information} + \underbrace{D_{KL}(q(z) \,\|\, \textstyle\prod_j
    q(z_j))}_\text{total correlation} + \underbrace{\textstyle\sum_j D_{KL}(q(z_j) \,\|\,
    p(z_j))}_\text{dimension-wise KL}$$

    This splits the KL term in three (Chen et al., equation 2). q(z) is the average of q(z|x) over
    the N training images. The loss is `reconstruction + kl + (beta − 1) · total_correlation` at
    every step. At β = 1 it is −ELBO. During warm-up, all terms but `reconstruction` have a smaller
    weight.

    Each part is a metric, a mean over images in nats: `mutual_information`, `total_correlation`,
    `dimension_wise_kl`. They add up to `kl`, except for the noise of the draws of z. A batch knows
    q(z) only at its own images, so the estimates depend on the batch size. M is the number of
    images in the batch:

    - "stratified" (equation S5 of the supplement): at its own draw, an image has the share 1/N in
      q(z), and each of the other images of the batch has (N − 1) / (N (M − 1)). In the paper, one
      of the others has a different share; this is the mean over all choices of it. It is unbiased
      for q(z), and exact if the batch is the whole data set.
    - "weighted" (equation S4): each image has the share 1 / (N M). The parts are off by constants
      of the order of log N, which do not change the gradient.

    If many latents identify an image with certainty, only that image is near to its draw. The
    mutual information then comes close to log N, its upper bound, and the total correlation takes
    the rest.

    A step holds batch² · samples · latents numbers. With sample weights, q(z) is the weighted
    average of q(z|x).

    Args:
        beta: Weight of the total correlation. Can be assigned to.
        warmup_steps: Number of training steps over which the weights of all three parts rise
            linearly from 0. Can be assigned to.
        samples: Number of draws of z per image.
        estimate: "stratified" or "weighted".
        train_images: N. `fit` counts the images of arrays; for a stream you must give it. Can be
            assigned to. While it is 0, a batch counts as the whole data set.

    Raises:
        ValueError: If an argument is invalid; later, if latents depend on each other in the prior,
            if they come in groups, or if several devices share a batch (except on JAX, where each
            device sees the whole batch).

    References:
        Chen et al. (2018), "Isolating sources of disentanglement in variational autoencoders",
        arXiv:1802.04942.

    Example:
        >>> import kvae
        >>> objective = kvae.TotalCorrelation(beta=4)
        >>> parts = {"prior": kvae.StandardNormal(4), "objective": objective}
        >>> vae = kvae.VAE.from_preset("mlp", (8, 8, 1), latent_dim=4, **parts)
        >>> [name for name in vae.trackers if name not in ("reconstruction", "kl", "elbo")]
        ['mutual_information', 'total_correlation', 'dimension_wise_kl']
    """

    shown = ("mutual_information", "total_correlation", "dimension_wise_kl")
    factorised = one_group = compares_images = True

    def __init__(
        self,
        beta: float = 6.0,
        warmup_steps: float = 0,
        samples: int = 1,
        estimate: str = "stratified",
        train_images: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(beta, warmup_steps, samples, **kwargs)
        self.estimate = chosen("estimate", estimate, ESTIMATES)
        self.add_setting("train_images", checked("train_images", train_images))

    @property
    def train_images(self) -> Any:
        """The number of training images, a variable; 0 if it is not known."""
        return self.held["train_images"]

    @train_images.setter
    def train_images(self, value: int) -> None:
        self.assign_setting("train_images", checked("train_images", value))

    def begin(self, images: int | None) -> None:
        """Keeps the number of training images."""
        if images is not None:
            self.train_images = images
        elif not float(ops.convert_to_numpy(self.train_images)):
            raise ValueError(
                "The total correlation needs the number of training images, which a stream does "
                "not tell: kvae.TotalCorrelation(…, train_images=60_000)."
            )

    def loss(self, terms: Terms, training: bool = True) -> Any:
        """−ELBO with the weighted total correlation: a float32 scalar, nats per image."""
        self.check_whole(terms)
        log_posterior = log_normal(terms.z, terms.mean, terms.log_variance)
        log_aggregate, log_marginals = self.log_densities(terms)
        parts = (
            log_posterior - log_aggregate,
            log_aggregate - log_marginals,
            log_marginals - terms.prior.log_prob(terms.z, **terms.given),
        )
        for name, part in zip(self.shown, parts, strict=True):
            terms.shown[name] = terms.mean_of(averaged(part, terms.samples))
        more = self.kl_weight(training) - self.warmed_up(training)
        kl = self.warmed_up(training) * terms.mean_of(terms.kl)
        reconstruction = terms.mean_of(terms.reconstruction)
        return reconstruction + kl + more * terms.shown["total_correlation"]

    def log_densities(self, terms: Terms) -> tuple[Any, Any]:
        """Computes log q(z) of each draw, and the sum over latents of log q(z_j).

        Returns:
            Two of (batch · samples,), float32, nats.
        """
        mean, log_variance = terms.outputs["mean"], terms.outputs["log_variance"]
        squares = ops.square(terms.z[:, None] - mean) * ops.exp(-log_variance)
        each = -0.5 * (squares + log_variance + math.log(2 * math.pi))
        shares = ops.log(ops.maximum(self.shares(terms, ops.shape(mean)[0]), NEXT_TO_NOTHING))
        log_aggregate = ops.logsumexp(ops.sum(each, axis=-1) + shares, axis=1)
        log_marginals = ops.logsumexp(each + shares[:, :, None], axis=1)
        return log_aggregate, ops.sum(log_marginals, axis=-1)

    def shares(self, terms: Terms, batch: Any) -> Any:
        """Computes the share of each image of the batch in q(z), at each draw.

        Args:
            terms: The terms of the batch.
            batch: Number of images.

        Returns:
            (batch · samples, batch), float32.
        """
        count = ops.cast(batch, "float32")
        rows = ops.arange(batch, dtype="int32")
        weights = ops.ones((batch,), "float32") if terms.is_plain else terms.weight
        weights = weights / ops.maximum(ops.mean(weights), NEXT_TO_NOTHING)
        all_images = ops.maximum(self.train_images, count)
        if self.estimate == "weighted":
            shares = ops.zeros((batch, 1), "float32") + weights / (all_images * count)
            return repeated(shares, terms.samples)
        others = (count - weights)[:, None]
        own = ops.where(others > 0, weights[:, None] / all_images, 1.0)
        rest = (1.0 - own) * weights / ops.maximum(others, NEXT_TO_NOTHING)
        return repeated(ops.where(rows[:, None] == rows, own, rest), terms.samples)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, with the current values of settings."""
        images = float(ops.convert_to_numpy(self.train_images))
        return {**super().get_config(), "estimate": self.estimate, "train_images": images}
