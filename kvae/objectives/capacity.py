"""Capacity: the KL is held at so many nats, which rise as training goes on."""

from typing import Any

import keras
from keras import ops

from kvae.objectives.objective import Objective, checked
from kvae.objectives.terms import Terms

__all__ = ["Capacity"]


@keras.saving.register_keras_serializable(package="kvae")
class Capacity(Objective):
    r"""The β-VAE of controlled capacity: the KL follows C, which rises from 0.

    $$-\mathbb{E}_{q(z|x)} \log p(x|z) + \gamma \left| D_{KL}(q(z|x) \,\|\, p(z)) - C \right|$$

    (Burgess et al., equation 8), with the KL averaged over the batch. `beta` is γ. The loss is
    `reconstruction + beta · |kl − C|` of each batch; over several it is somewhat more than by their
    mean `kl`. `capacity` is a metric: C as it was.

    That these nats tell images apart nothing says: a posterior that is away from the prior for all
    images alike has them too, which `kvae doctor` shows (prior gap).

    Args:
        beta: γ, the weight of the distance; large enough that the KL follows. It can be assigned
            to.
        warmup_steps: Over this many training steps C rises linearly from 0 to `capacity`; at test
            time it is there. It can be assigned to.
        samples: Draws of z for each image.
        capacity: C at the end, nats per image.

    Raises:
        ValueError: If an argument is not what it should be.

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
        """The weight of the distance, which does not warm up: C does."""
        return self.beta

    def loss(self, terms: Terms, training: bool = True) -> Any:
        """Reconstruction, and how far the KL is from C: a float32 scalar, nats per image."""
        now = self.capacity * self.warmed_up(training) * terms.mean_weight
        terms.shown["capacity"] = now
        distance = ops.abs(terms.mean_of(terms.kl) - now)
        return terms.mean_of(terms.reconstruction) + self.kl_weight(training) * distance

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; settings as they stand now."""
        return {**super().get_config(), "capacity": self.capacity}
