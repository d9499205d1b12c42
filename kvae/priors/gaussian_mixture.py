"""GaussianMixture: a learned prior, a mixture of Gaussians that may become clusters."""

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kvae.parts import checked_integer
from kvae.priors.prior import Prior, log_normal, parted

__all__ = ["GaussianMixture"]

START = 0.5  # standard deviation of the untrained means, which separates the components
EDGE = 1e-5  # margin of a component's share, against rounding into the next


@keras.saving.register_keras_serializable(package="kvae")
class GaussianMixture(Prior):
    r"""A learned prior: a mixture of Gaussians with diagonal covariances.

    $$p(z) = \sum_k \pi_k \, N(z; m_k, \operatorname{diag} v_k)$$

    With a context c the prior is p(z|c): the logits of π, the means m and the logs of v are then
    affine in c, so each class has a mixture of its own.

    `from_noise` chooses the component by the angle of the first two numbers of the noise. The angle
    is then stretched from the component's share of the circle to the whole circle, so that the two
    numbers are standard normal again. Hence a temperature below 1 draws nearer to the means, and
    from each component as often as before. Two noises may become the same z; `to_noise` returns one
    of them.

    Args:
        latent_dim: Number of latents, at least 2.
        components: Number of Gaussians.
        context_dim: Size of the context. None: no context.

    Raises:
        ValueError: If there are less than 2 latents, or a size is less than 1.

    References:
        Dilokthanakul et al. (2016), "Deep unsupervised clustering with Gaussian mixture variational
        autoencoders", arXiv:1611.02648. Jiang et al. (2017), "Variational deep embedding",
        arXiv:1611.05148. Here no posterior over components is trained: p(z) sums over them.

    Example:
        >>> import kvae
        >>> prior = kvae.GaussianMixture(4, components=3)
        >>> tuple(prior.sample(2, seed=0).shape)
        (2, 4)
        >>> log_weights, means, log_variances = prior.parameters()
        >>> tuple(means.shape)
        (1, 3, 4)
    """

    invertible = False

    def __init__(
        self,
        latent_dim: int,
        components: int = 10,
        context_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(latent_dim, **kwargs)
        if latent_dim < 2:
            raise ValueError(
                "A mixture draws by an angle in a plane, so `latent_dim` must be at least 2. "
                f"Received: latent_dim={latent_dim}"
            )
        self.components = checked_integer("components", components)
        if context_dim is not None:
            context_dim = checked_integer("context_dim", context_dim)
        self.context_dim = context_dim
        self.heads = heads(self.latent_dim, self.components, context_dim)

    def parameters(self, context: Any = None) -> tuple[Any, Any, Any]:
        """Returns the parameters of the mixture, or of the mixture of each context.

        Args:
            context: (batch, context), float32; None where there is none.

        Returns:
            log π, (batch, components), and the means and log-variances, each (batch, components,
            latent), float32; without a context the batch is 1.
        """
        if self.context_dim is None:
            return self.told(ops.ones((1, 1), "float32"))
        if context is None:
            raise ValueError(f"The prior needs a context, of shape (batch, {self.context_dim}).")
        if not keras.backend.is_keras_tensor(context):
            context = ops.convert_to_tensor(context, dtype="float32")
        return self.told(context)

    def told(self, inputs: Any) -> tuple[Any, Any, Any]:
        """`parameters` for inputs of the heads: (batch, context), or ones, (batch, 1)."""
        shape = (-1, self.components, self.latent_dim)
        logits, means, log_variances = self.heads(inputs)
        return (
            ops.log_softmax(logits, axis=-1),
            ops.reshape(means, shape),
            ops.reshape(log_variances, shape),
        )

    def log_prob(self, z: Any, context: Any = None) -> Any:
        """Log-density of each row of z: (batch, latent) to (batch,), float32, nats."""
        return ops.logsumexp(self.log_joint(z, context), axis=-1)

    def log_joint(self, z: Any, context: Any = None) -> Any:
        """Log p(z, k) of each component k: (batch, latent) to (batch, components), nats."""
        log_weights, means, log_variances = self.parameters(context)
        return log_weights + log_normal(ops.cast(z, "float32")[:, None], means, log_variances)

    def from_noise(self, noise: Any, context: Any = None) -> Any:
        """Maps standard normal noise to latents: (batch, latent) to the same, float32."""
        if not keras.backend.is_keras_tensor(noise):
            noise = ops.convert_to_tensor(noise, dtype="float32")
        log_weights, means, log_variances = (
            self.told(ops.ones_like(noise[:, :1]))  # tied to the noise, in a generator's graph
            if self.context_dim is None
            else self.parameters(context)
        )
        turn, turned = self.polar(noise)
        weights = ops.exp(log_weights)
        component = chosen(weights, turn)
        before, weight = share_of(weights, component)
        noise = turned(ops.clip((turn - before) / weight, 0.0, 1.0))
        mean, log_variance = of_component(means, component), of_component(log_variances, component)
        return mean + ops.exp(0.5 * log_variance) * noise

    def to_noise(self, z: Any, context: Any = None) -> Any:
        """Finds standard normal noise that becomes z: (batch, latent) to the same, float32.

        If components overlap, low-order digits of z choose between them, each as often as it is
        likely. So the noise of draws from the prior is standard normal.
        """
        z = ops.cast(z, "float32")
        log_weights, means, log_variances = self.parameters(context)
        far = ops.convert_to_tensor(np.linspace(997, 1999, self.latent_dim, dtype="float32"))
        digits = ops.sum(z * far, axis=-1)
        joint = self.log_joint(z, context)
        likely = ops.exp(joint - ops.logsumexp(joint, axis=-1, keepdims=True))
        component = chosen(likely, (digits - ops.floor(digits))[:, None])
        mean, log_variance = of_component(means, component), of_component(log_variances, component)
        turn, turned = self.polar((z - mean) * ops.exp(-0.5 * log_variance))
        before, weight = share_of(ops.exp(log_weights), component)
        return turned(before + weight * ops.clip(turn, EDGE, 1 - EDGE))

    def polar(self, noise: Any) -> tuple[Any, Any]:
        """Returns the angle of the first two numbers, (batch, 1), in turns; and a function.

        The function maps other angles to noise whose first two numbers have that angle and their
        former length.
        """
        first, second, *rest = parted(noise, [1, 1, self.latent_dim - 2][: self.latent_dim])
        length = ops.sqrt(ops.square(first) + ops.square(second))
        turn = ops.arctan2(second, first) / (2 * math.pi)

        def turned(turn: Any) -> Any:
            angle = 2 * math.pi * turn
            plane = [length * ops.cos(angle), length * ops.sin(angle)]
            return ops.concatenate([*plane, *rest], axis=-1)

        return turn - ops.floor(turn), turned

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "components": self.components,
            **({} if self.context_dim is None else {"context_dim": self.context_dim}),
        }


def heads(latent_dim: int, components: int, context_dim: int | None) -> keras.Model:
    """Builds the parameters as stock layers: context, or ones, to logits, means, log-variances.

    It is a table with one row for each class, or one row if there is no context.
    """
    inputs = keras.Input((context_dim or 1,), name="context", dtype="float32")
    start = keras.initializers.RandomNormal(stddev=START)
    values = components * latent_dim
    outputs = []
    for name, size in (("logits", components), ("means", values), ("log_variances", values)):
        own = start if name == "means" else "zeros"
        alone = context_dim is None
        head = layers.Dense(
            size,
            use_bias=not alone,
            kernel_initializer=own if alone else "zeros",
            bias_initializer="zeros" if alone else own,
            dtype="float32",
            name=name,
        )
        outputs.append(head(inputs))
    return keras.Model(inputs, outputs, name="mixture")


def chosen(weights: Any, share: Any) -> Any:
    """The component that a share of all chooses: (batch, components), 1 at it and 0 elsewhere.

    Args:
        weights: (batch or 1, components), which sum to 1.
        share: (batch, 1), in [0, 1].
    """
    begun = ops.cast(share >= ops.cumsum(weights, axis=-1) - weights, "int32")
    number = ops.maximum(ops.sum(begun, axis=-1) - 1, 0)
    return ops.one_hot(number, weights.shape[-1], dtype="float32")


def share_of(weights: Any, component: Any) -> tuple[Any, Any]:
    """The weight of all components before one, and its own: (batch, 1) each."""
    before = ops.sum(component * (ops.cumsum(weights, axis=-1) - weights), axis=-1, keepdims=True)
    return before, ops.sum(component * weights, axis=-1, keepdims=True)


def of_component(values: Any, component: Any) -> Any:
    """Picks the values of one component: (batch or 1, components, latent) to (batch, latent)."""
    return ops.sum(component[:, :, None] * values, axis=1)
