"""ELBO: the negative evidence lower bound, with KL weight, warm-up and free bits."""

from typing import Any

import keras
from keras import ops

from kvae.objectives.objective import Objective, checked
from kvae.objectives.terms import Terms
from kvae.parts import checked_integer

__all__ = ["ELBO"]


@keras.saving.register_keras_serializable(package="kvae")
class ELBO(Objective):
    r"""The negative evidence lower bound, the default objective.

    $$-\mathbb{E}_{q(z|x)} \log p(x|z) + \beta \, D_{KL}(q(z|x) \,\|\, p(z))$$

    with one draw of z per image, or the mean over `samples` draws. At β = 1 it is a bound on −log
    p(x). The loss is `reconstruction + beta · kl` at every step, unless `free_bits` or `fine_beta`
    is set.

    Args:
        beta: Weight of the KL term. Can be assigned to.
        warmup_steps: Number of training steps over which that weight rises linearly to `beta`. Can
            be assigned to.
        free_bits: Nats of KL per latent that cost nothing in training: if the KL of a latent,
            averaged over the batch, is smaller than this, it counts as this. If the prior makes
            latents depend on each other (a flow), the rule applies to all latents together, with
            `free_bits` times their number; if latents come in groups, to each group. Not at test
            time.
        samples: Number of draws of z per image. More draws give the same bound with less noise.
        fine_beta: If latents come in groups, factor on the KL weight of all groups after the first,
            at the start of training. With a factor above 1, the first groups learn all they can
            before the finer ones do. It falls to 1, one group after the other. Not at test time.
        fine_steps: Number of training steps over which the factor of the last group falls to 1;
            proportionately fewer for the groups before it. 0: it is 1 from the start.
        mean_of_draws: With 2 or more, z is the mean of this many draws from the posterior, while
            the KL term stays that of one draw. The loss is then not a bound. Use it to compare with
            published figures that were computed this way.

    Raises:
        ValueError: If an argument is invalid.

    References:
        Kingma and Welling (2014), "Auto-encoding variational Bayes", arXiv:1312.6114. Higgins et
        al. (2017), "beta-VAE", ICLR. Kingma et al. (2016), "Improving variational inference with
        inverse autoregressive flow", arXiv:1606.04934 (free bits).

    Example:
        >>> import kvae
        >>> objective = kvae.ELBO(beta=4.0, warmup_steps=1000)
        >>> vae = kvae.VAE.from_preset("mlp", (8, 8, 1), latent_dim=4, objective=objective)
        >>> vae.beta = 2.0
        >>> print(float(objective.beta))
        2.0
    """

    def __init__(
        self,
        beta: float = 1.0,
        warmup_steps: float = 0,
        free_bits: float = 0.0,
        samples: int = 1,
        mean_of_draws: int = 1,
        fine_beta: float = 1.0,
        fine_steps: float = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(beta, warmup_steps, samples, **kwargs)
        self.free_bits = checked("free_bits", free_bits)
        self.mean_of_draws = checked_integer("mean_of_draws", mean_of_draws)
        self.fine_beta = checked("fine_beta", fine_beta)
        self.fine_steps = checked("fine_steps", fine_steps)

    @property
    def weighs_groups(self) -> bool:
        """Whether the KL of the finer groups has another weight at first."""
        return self.fine_beta != 1 and self.fine_steps > 0

    def check(self, prior: Any) -> None:
        """Raises a ValueError if `mean_of_draws` is used with a prior without a closed-form KL."""
        if self.mean_of_draws > 1 and not prior.closed_form:
            raise ValueError(
                "`mean_of_draws` needs a prior whose KL has a closed form, such as standard-normal."
            )

    def loss(self, terms: Terms, training: bool = True) -> Any:
        """−ELBO of one batch: a float32 scalar, nats per image."""
        if training and len(terms.groups) > 1 and (self.weighs_groups or self.free_bits):
            kl = self.of_groups(terms)
        else:
            kl = terms.mean_of(terms.kl)
            if self.free_bits and training:
                kl = self.beyond_free_bits(kl, terms)
        return terms.mean_of(terms.reconstruction) + self.kl_weight(training) * kl

    def of_groups(self, terms: Terms) -> Any:
        """The mean KL with the weights of groups: a scalar."""
        total = 0.0
        last = len(terms.groups) - 1
        for i, (kl, size) in enumerate(zip(terms.kl_by_group, terms.groups, strict=True)):
            done = self.step / max(1.0, self.fine_steps * i / last)
            weight = 1.0 + (self.fine_beta - 1.0) * ops.maximum(0.0, 1.0 - done) if i else 1.0
            kl = terms.mean_of(kl)
            if self.free_bits:
                kl = ops.maximum(kl, self.free_bits * size * terms.mean_weight)
            total = total + weight * kl
        return total

    def beyond_free_bits(self, kl: Any, terms: Terms) -> Any:
        """The mean KL with free bits: a scalar."""
        mean, log_variance = terms.outputs["mean"], terms.outputs["log_variance"]
        free = self.free_bits * terms.mean_weight
        if not terms.prior.closed_form:
            return ops.maximum(kl, free * mean.shape[-1])
        each = terms.mean_of(terms.prior.kl_per_latent(mean, log_variance))
        return ops.sum(ops.maximum(each, free))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, with the current values of settings."""
        names = ("free_bits", "mean_of_draws", "fine_beta", "fine_steps")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
