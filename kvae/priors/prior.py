"""Prior: the base class of all p(z): density, draws and KL, in nats."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kvae.parts import Part, checked_integer

__all__ = ["Prior", "log_normal", "parted"]


class Prior(Part):
    """Base class of priors p(z), which map standard normal noise to latents.

    A prior of your own overrides `log_prob`, `to_noise` and `from_noise`, and is registered with
    `keras.saving.register_keras_serializable`. To work with `VAE.generator`, its `from_noise`
    applies Keras layers and `keras.ops`, and has no weights outside of layers.

    The argument `context` is the condition of a prior p(z|context), (batch, context), float32, or
    None.

    Args:
        latent_dim: The number of latents.

    Attributes:
        context_dim: Size of the context. None: the prior takes none.
        closed_form: Whether the KL of a Gaussian from the prior has a formula for each latent. Such
            a prior also overrides `kl` and `kl_per_latent`.
        invertible: Whether the map from noise to latents is invertible and continuous. If not,
            interpolations and objectives do not work in the noise.

    Example:
        >>> import keras, numpy as np
        >>> import kvae
        >>> @keras.saving.register_keras_serializable("mine")
        ... class Wide(kvae.Prior):  # N(0, 4 I)
        ...     def log_prob(self, z, context=None):
        ...         log_volume = self.latent_dim * np.log(2)
        ...         return kvae.StandardNormal(self.latent_dim).log_prob(z / 2) - log_volume
        ...
        ...     def to_noise(self, z, context=None):
        ...         return z / 2
        ...
        ...     def from_noise(self, noise, context=None):
        ...         return 2 * noise
        >>> vae = kvae.VAE.from_preset("mlp", (8, 8, 1), latent_dim=4, prior=Wide(4))
        >>> vae.generate(3, seed=0).shape
        (3, 8, 8, 1)
    """

    closed_form = False
    invertible = True
    context_dim: int | None = None

    def __init__(self, latent_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.latent_dim = checked_integer("latent_dim", latent_dim)

    def log_prob(self, z: Any, context: Any = None) -> Any:
        """Log-density of each row of z: (batch, latent) to (batch,), float32, nats."""
        raise NotImplementedError(f"{type(self).__name__} must have a `log_prob`.")

    def to_noise(self, z: Any, context: Any = None) -> Any:
        """Maps latents back to standard normal noise: (batch, latent) to the same, float32."""
        raise NotImplementedError(f"{type(self).__name__} must have a `to_noise`.")

    def from_noise(self, noise: Any, context: Any = None) -> Any:
        """Maps standard normal noise to latents: (batch, latent) to the same, float32."""
        raise NotImplementedError(f"{type(self).__name__} must have a `from_noise`.")

    def sample(self, count: int, seed: Any = None, context: Any = None) -> Any:
        """Draws `count` latents: (count, latent), float32."""
        return self.from_noise(self.noise(count, seed), **given(context))

    def noise(self, count: int, seed: Any = None) -> Any:
        """Draws standard normal noise for `from_noise`: (count, latent), float32."""
        return keras.random.normal((count, self.latent_dim), seed=seed, dtype="float32")

    def log_ratio(self, mean: Any, log_variance: Any, z: Any, context: Any = None) -> Any:
        r"""Computes the log-ratio of a draw of z: $\log q(z|x) - \log p(z)$.

        The gradient goes through z alone. The part that is left out is zero on average and only
        adds noise: if posterior and prior agree, this gradient is exactly zero, for every draw of
        z.

        Args:
            mean: (batch, latent), float32.
            log_variance: (batch, latent), float32, the natural log of a variance.
            z: (batch, latent), a reparameterised draw from N(mean, exp(log_variance)).
            context: (batch, context), float32, or None.

        Returns:
            (batch,), float32, nats, summed over latents.

        References:
            Roeder, Wu and Duvenaud (2017), "Sticking the landing", arXiv:1703.09194.
        """
        mean, log_variance, z = (ops.cast(x, "float32") for x in (mean, log_variance, z))
        mean, log_variance = ops.stop_gradient(mean), ops.stop_gradient(log_variance)
        return log_normal(z, mean, log_variance) - self.log_prob(z, **given(context))

    def kl(self, mean: Any, log_variance: Any, z: Any, context: Any = None) -> Any:
        """Estimates the KL of N(mean, exp(log_variance)) from the prior, from one draw.

        Args:
            mean: (batch, latent), float32.
            log_variance: (batch, latent), float32, the natural log of a variance.
            z: (batch, latent), a reparameterised draw from N(mean, exp(log_variance)).
            context: (batch, context), float32, or None.

        Returns:
            (batch,), float32, nats, summed over latents. It is `log_ratio`, which may be negative
            for a draw, but not on average.
        """
        return self.log_ratio(mean, log_variance, z, **given(context))

    def kl_by_group(
        self, mean: Any, log_variance: Any, z: Any, groups: Sequence[int], context: Any = None
    ) -> list[Any]:
        """Computes `kl` for each group of latents.

        Args:
            mean: (batch, latent), float32.
            log_variance: (batch, latent), float32, the natural log of a variance.
            z: (batch, latent), a reparameterised draw from N(mean, exp(log_variance)).
            groups: Number of latents in each group.
            context: (batch, context), float32, or None.

        Returns:
            A list of (batch,), float32, nats, whose sum is `kl`.

        Raises:
            ValueError: If latents of several groups depend on each other in the prior.
        """
        if len(groups) == 1:
            return [self.kl(mean, log_variance, z, **given(context))]
        if not self.closed_form:
            raise ValueError(
                f"A {type(self).__name__} ties the latents of {len(groups)} groups together, so "
                "that there is no KL of each. Give each a prior of its own: kvae.Blockwise."
            )
        each = self.kl_per_latent(mean, log_variance)
        return [ops.sum(part, axis=-1) for part in parted(each, groups)]

    def kl_per_latent(self, mean: Any, log_variance: Any) -> Any:
        r"""Computes the KL of each latent for these images.

        $$D_{KL}(q(z_j|x) \,\|\, N(m_j, v_j))$$

        where the mean and variance of $z_j$ are those over all images given. If latents depend on
        each other in the prior, as in a flow, no latent has a share of the KL. This is the KL from
        the best Gaussian for each latent instead; on average over images it is at least the
        information that $z_j$ holds. It does not add up to `kl`, and needs more than one image.

        Args:
            mean: (batch, latent), float32.
            log_variance: (batch, latent), float32, the natural log of a variance.

        Returns:
            (batch, latent), float32, nats.
        """
        centre = ops.mean(mean, axis=0)
        spread = ops.mean(ops.square(mean - centre) + ops.exp(log_variance), axis=0)
        log_ratio = log_variance - ops.log(spread)
        return 0.5 * (ops.square(mean - centre) / spread + ops.expm1(log_ratio) - log_ratio)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "latent_dim": self.latent_dim}


def log_normal(z: Any, mean: Any, log_variance: Any) -> Any:
    """Log-density of each row of z under N(mean, exp(log_variance)): (batch,), float32, nats."""
    squares = ops.square(z - mean) * ops.exp(-log_variance)
    return -0.5 * ops.sum(squares + log_variance + math.log(2 * math.pi), axis=-1)


def parted(tensor: Any, sizes: Sequence[int]) -> list[Any]:
    """Splits latents into parts of these sizes: (batch, latent) to a list of (batch, size)."""
    if len(sizes) == 1:
        return [tensor]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    # Not `ops.split`: on PyTorch, torch.export does not know its shapes.
    return [tensor[:, end - size : end] for size, end in zip(sizes, ends, strict=True)]


def given(context: Any) -> dict[str, Any]:
    """The argument `context` as keywords; empty if None, since some priors do not take it."""
    return {} if context is None else {"context": context}
