"""Capacity: the KL is held at a number of nats that rises during training."""

from typing import Any

import keras
from keras import ops

from kvae.objectives.objective import Objective, checked
from kvae.objectives.terms import Terms

__all__ = ["Capacity"]


@keras.saving.register_keras_serializable(package="kvae")
class Capacity(Objective):
    r"""β-VAE with a capacity: the KL is held at C nats, which rise from 0.

    $$-\mathbb{E}_{q(z|x)} \log p(x|z) + \gamma \left| D_{KL}(q(z|x) \,\|\, p(z)) - C \right|$$

    This is equation 8 of Burgess et al., with the KL averaged over the batch. `beta` is γ. The loss
    is `reconstruction + beta · |kl − capacity|` of each batch; its mean over batches is slightly
    more than with the mean `kl`. `capacity` is a metric: the current C.

    The KL may reach C without telling images apart: a posterior that is the same for all images and
    far from the prior has these nats too. `kvae doctor` shows this (prior gap).

    Args:
        beta: γ, the weight of the distance. It must be large enough for the KL to follow C. Can be
            assigned to.
        warmup_steps: Number of training steps over which C rises linearly from 0 to `capacity`. At
            test time C is `capacity`. Can be assigned to.
        samples: Number of draws of z per image.
        capacity: Final value of C, in nats per image.

    Raises:
        ValueError: If an argument is invalid.

    References:
        Burgess et al. (2018), "Understanding disentangling in β-VAE", arXiv:1804.03599.

    Example:
        >>> import kvae
        >>> objective = kvae.Capacity(beta=100, capacity=10, warmup_steps=1000)
        >>> vae = kvae.VAE.from_preset("mlp", (8, 8, 1), latent_dim=4, objective=objective)
        >>> vae.objective.capacity
        10.0
    """

    shown = ("capacity",)

    def __init__(
        self,
        beta: float = 1000.0,
        warmup_steps: float = 0,
        samples: int = 1,
        capacity: float = 25.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(beta, warmup_steps, samples, **kwargs)
        self.capacity = checked("capacity", capacity)

    def kl_weight(self, training: bool = True) -> Any:
        """The weight of the distance. It does not warm up; C does."""
        return self.beta

    def loss(self, terms: Terms, training: bool = True) -> Any:
        """Reconstruction plus the weighted distance of the KL from C: a scalar, nats per image."""
        now = self.capacity * self.warmed_up(training) * terms.mean_weight
        terms.shown["capacity"] = now
        distance = ops.abs(terms.mean_of(terms.kl) - now)
        return terms.mean_of(terms.reconstruction) + self.kl_weight(training) * distance

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, with the current values of settings."""
        return {**super().get_config(), "capacity": self.capacity}
