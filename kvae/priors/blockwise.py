"""Blockwise: a prior for latents in independent groups, with one prior for each group."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from kvae.priors.prior import Prior, given, parted

__all__ = ["Blockwise"]


@keras.saving.register_keras_serializable(package="kvae")
class Blockwise(Prior):
    r"""A prior for latents in independent groups, with one prior for each group.

    $$p(z) = \prod_l p_l(z_l)$$

    For example, a ladder has a flow for its first group and N(0, I) for the others; its decoder
    makes them depend on the groups before.

    Args:
        priors: The priors of the groups, in order.

    Raises:
        ValueError: If these are not priors, or one is used twice.

    Example:
        >>> import kvae
        >>> prior = kvae.Blockwise([kvae.RealNVP(8), kvae.StandardNormal(64)])
        >>> prior.latent_dim, tuple(prior.sample(2, seed=0).shape)
        (72, (2, 72))
    """

    def __init__(self, priors: Sequence[Prior], **kwargs: Any) -> None:
        priors = list(priors) if isinstance(priors, (list, tuple)) else []
        if not priors or not all(isinstance(prior, Prior) for prior in priors):
            raise ValueError("`priors` must be a list of objects derived from kvae.Prior.")
        if len({id(prior) for prior in priors}) < len(priors):
            raise ValueError("`priors` must be another object for each group.")
        super().__init__(sum(prior.latent_dim for prior in priors), **kwargs)
        self.priors = priors
        self.closed_form = all(prior.closed_form for prior in priors)
        self.invertible = all(prior.invertible for prior in priors)
        dims = {prior.context_dim for prior in priors if prior.context_dim is not None}
        if len(dims) > 1:
            raise ValueError(f"`priors` must have one `context_dim`. Received: {sorted(dims)}")
        self.context_dim = min(dims, default=None)

    def log_prob(self, z: Any, context: Any = None) -> Any:
        """Log-density of each row of z: (batch, latent) to (batch,), float32, nats."""
        return sum(self.of_each("log_prob", z, context=context))

    def to_noise(self, z: Any, context: Any = None) -> Any:
        """Maps latents back to standard normal noise: (batch, latent) to the same, float32."""
        z = ops.cast(z, "float32")
        return ops.concatenate(self.of_each("to_noise", z, context=context), axis=-1)

    def from_noise(self, noise: Any, context: Any = None) -> Any:
        """Maps standard normal noise to latents: (batch, latent) to the same, float32."""
        if not keras.backend.is_keras_tensor(noise):
            noise = ops.convert_to_tensor(noise, dtype="float32")
        return ops.concatenate(self.of_each("from_noise", noise, context=context), axis=-1)

    def log_ratio(self, mean: Any, log_variance: Any, z: Any, context: Any = None) -> Any:
        """See `Prior.log_ratio`; summed over groups."""
        return sum(self.of_each("log_ratio", mean, log_variance, z, context=context))

    def kl(self, mean: Any, log_variance: Any, z: Any, context: Any = None) -> Any:
        """See `Prior.kl`; summed over groups, in closed form for priors that have one."""
        return sum(self.of_each("kl", mean, log_variance, z, context=context))

    def kl_by_group(
        self, mean: Any, log_variance: Any, z: Any, groups: Sequence[int], context: Any = None
    ) -> list[Any]:
        """See `Prior.kl_by_group`; one block may contain several groups."""
        of_block: list[list[int]] = []
        left = list(groups)
        for prior in self.priors:
            sizes: list[int] = []
            while left and sum(sizes) < prior.latent_dim:
                sizes.append(left.pop(0))
            of_block.append(sizes)
        if left or [sum(sizes) for sizes in of_block] != [p.latent_dim for p in self.priors]:
            return super().kl_by_group(mean, log_variance, z, groups, context)
        found = []
        sizes = [prior.latent_dim for prior in self.priors]
        parts = zip(*(parted(tensor, sizes) for tensor in (mean, log_variance, z)), strict=True)
        for prior, (m, v, draws), own in zip(self.priors, parts, of_block, strict=True):
            found += prior.kl_by_group(m, v, draws, own, **given(context))
        return found

    def kl_per_latent(self, mean: Any, log_variance: Any) -> Any:
        """See `Prior.kl_per_latent`; each group uses its own prior."""
        return ops.concatenate(self.of_each("kl_per_latent", mean, log_variance), axis=-1)

    def of_each(self, name: str, *tensors: Any, context: Any = None) -> list[Any]:
        """Calls the method of this name for each group's part of the tensors."""
        sizes = [prior.latent_dim for prior in self.priors]
        parts = [parted(tensor, sizes) for tensor in tensors]
        methods: list[Callable] = [getattr(prior, name) for prior in self.priors]
        return [
            method(*part, **given(context)) for method, *part in zip(methods, *parts, strict=True)
        ]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        del config["latent_dim"]
        return {**config, "priors": [keras.saving.serialize_keras_object(p) for p in self.priors]}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "Blockwise":
        """Builds the priors that `get_config` described, and the prior of all groups."""
        priors = [
            keras.saving.deserialize_keras_object(prior, custom_objects=custom_objects)
            if isinstance(prior, dict)
            else prior
            for prior in config["priors"]
        ]
        return cls(**{**config, "priors": priors})
