"""RealNVP: a learned prior, a flow of affine couplings."""

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kvae.networks import blocks
from kvae.parts import checked_integer
from kvae.priors.prior import Prior

__all__ = ["RealNVP"]


@keras.saving.register_keras_serializable(package="kvae")
class RealNVP(Prior):
    r"""A learned prior: a flow of affine couplings between latents and standard normal noise.

    A coupling with the mask b keeps half of the latents, and uses them to shift and scale the
    others:

    $$y = z \odot e^{s} + t, \quad (s, t) = (1 - b) \odot f(b \odot z), \quad
    \log p(z) = \log N(y; 0, I) + \sum_j s_j$$

    This is for one coupling; for several, the sums add up. f is a small network of stock Keras
    layers. s is bounded, and both s and t begin at zero: before training the prior is N(0, I). The
    inverse maps noise to latents; it is exact and as fast. With a context c the prior is p(z|c),
    and f sees c too.

    Args:
        latent_dim: Number of latents, at least 2.
        couplings: Number of couplings. They come in pairs, the second with the inverted mask of the
            first; the last of an odd number stands alone.
        width: Number of units in each hidden layer of f.
        depth: Number of hidden layers of f.
        bound: Upper bound of |s|.
        context_dim: Size of the context. None: no context.

    Raises:
        ValueError: If there are less than 2 latents, or a size is less than 1.

    References:
        Dinh, Sohl-Dickstein and Bengio (2017), "Density estimation using Real NVP",
        arXiv:1605.08803, equation 9. Chen et al. (2017), "Variational lossy autoencoder",
        arXiv:1611.02731 (a flow as the prior of a VAE).

    Example:
        >>> import keras, numpy as np
        >>> from kvae.priors import RealNVP
        >>> prior = RealNVP(4, couplings=2)
        >>> nats = prior.log_prob(np.zeros((1, 4), "float32"))
        >>> print(f"{keras.ops.convert_to_numpy(nats)[0]:.4f}")  # before training, of N(0, I)
        -3.6758
    """

    def __init__(
        self,
        latent_dim: int,
        couplings: int = 8,
        width: int = 64,
        depth: int = 2,
        bound: float = 2.0,
        context_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(latent_dim, **kwargs)
        if latent_dim < 2:
            raise ValueError(
                "A flow couples latents, so `latent_dim` must be at least 2; for one, choose the "
                f"prior standard-normal. Received: latent_dim={latent_dim}"
            )
        couplings = checked_integer("couplings", couplings)
        self.width = checked_integer("width", width)
        self.depth = checked_integer("depth", depth)
        self.bound = bound
        if context_dim is not None:
            context_dim = checked_integer("context_dim", context_dim)
        self.context_dim = context_dim
        self.couplings = [
            conditioner(mask, width, depth, bound, context_dim, name=f"coupling_{i + 1}")
            for i, mask in enumerate(masks(latent_dim, couplings))
        ]

    def log_prob(self, z: Any, context: Any = None) -> Any:
        """Log-density of each row of z: (batch, latent) to (batch,), float32, nats."""
        noise, log_volume = self.whitened(z, context)
        normal = -0.5 * ops.sum(ops.square(noise) + math.log(2 * math.pi), axis=-1)
        return normal + log_volume

    def to_noise(self, z: Any, context: Any = None) -> Any:
        """Maps latents back to standard normal noise: (batch, latent) to the same, float32."""
        return self.whitened(z, context)[0]

    def whitened(self, z: Any, context: Any = None) -> tuple[Any, Any]:
        """Returns the noise, and the log-determinant of the map from z to it: (batch,), nats."""
        seen = self.seen(context)
        noise = ops.cast(z, "float32")
        log_volume = 0.0
        for coupling in self.couplings:
            log_scale, shift = coupling([noise, *seen] if seen else noise)
            noise = noise * ops.exp(log_scale) + shift
            log_volume = log_volume + ops.sum(log_scale, axis=-1)
        return noise, log_volume

    def from_noise(self, noise: Any, context: Any = None) -> Any:
        """Maps standard normal noise to latents: (batch, latent) to the same, float32."""
        seen = self.seen(context)
        z = noise
        if not keras.backend.is_keras_tensor(noise):
            z = ops.convert_to_tensor(noise, dtype="float32")
        for coupling in reversed(self.couplings):
            log_scale, shift = coupling([z, *seen] if seen else z)
            z = (z - shift) * ops.exp(-log_scale)
        return z

    def seen(self, context: Any) -> list[Any]:
        """The inputs of the couplings beside the latents: the context, if they take one."""
        if self.context_dim is None:
            return []
        if context is None:
            raise ValueError(f"The prior needs a context, of shape (batch, {self.context_dim}).")
        if keras.backend.is_keras_tensor(context):
            return [context]
        return [ops.convert_to_tensor(context, dtype="float32")]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "couplings": len(self.couplings),
            "width": self.width,
            "depth": self.depth,
            "bound": self.bound,
            **({} if self.context_dim is None else {"context_dim": self.context_dim}),
        }


def masks(latent_dim: int, couplings: int) -> list[np.ndarray]:
    """Makes the masks of the couplings: random halves, each followed by the other half.

    Files do not contain the masks, so they must never change. NumPy has frozen `RandomState`.
    """
    found = []
    for i in range(couplings):
        mask = np.random.RandomState(i // 2).permutation(latent_dim) < latent_dim // 2
        found.append((mask if i % 2 == 0 else ~mask).astype("float32"))
    return found


def conditioner(
    mask: np.ndarray, width: int, depth: int, bound: float, context_dim: int | None, name: str
) -> keras.Model:
    """Builds the network of a coupling of stock layers: (batch, latent) to log-scale and shift."""
    z = keras.Input(mask.shape, name="latents", dtype="float32")
    inputs = z
    x = layers.Rescaling(mask.tolist(), dtype="float32", name="kept")(z)
    if context_dim is not None:
        context = keras.Input((context_dim,), name="context", dtype="float32")
        inputs = [z, context]
        x = layers.Concatenate(dtype="float32", name="with_context")([x, context])
    for i in range(depth):
        x = layers.Dense(width, blocks.ACTIVATION, dtype="float32", name=f"dense_{i + 1}")(x)
    heads = []
    for head in ("log_scale", "shift"):
        y = layers.Dense(
            len(mask), kernel_initializer="zeros", dtype="float32", name=f"raw_{head}"
        )(x)
        if head == "log_scale":
            y = blocks.bounded(y, bound, name="bounded")
        heads.append(layers.Rescaling((1 - mask).tolist(), dtype="float32", name=head)(y))
    return keras.Model(inputs, heads, name=name)
