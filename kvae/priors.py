"""Priors p(z): density, draws, and divergence from the posterior; in nats per image."""

import math

import keras
import numpy as np
from keras import layers, ops

from kvae import blocks

__all__ = ["PRIORS", "Prior", "RealNVP", "StandardNormal", "get"]


class Prior(keras.layers.Layer):
    """What latents are drawn from: a change of variables from standard normal noise.

    A prior of your own overrides `log_prob`, `to_noise` and `from_noise`, and is registered with
    `keras.saving.register_keras_serializable`. For `VAE.generator` its `from_noise` applies Keras
    layers and `keras.ops`, and no weights of its own.

    Args:
        latent_dim: The number of latents.

    Attributes:
        closed_form: Whether the divergence of a Gaussian from it has a formula, latent by latent;
            `kl` and `kl_per_latent` are then overridden too.
    """

    closed_form = False

    def __init__(self, latent_dim: int, **kwargs):
        super().__init__(**kwargs)
        self.latent_dim = latent_dim
        self.built = True

    def log_prob(self, z):
        """Log-density of each row of z: (batch, latent) to (batch,), float32, nats."""
        raise NotImplementedError(f"{type(self).__name__} must have a `log_prob`.")

    def to_noise(self, z):
        """The standard normal noise that becomes z: (batch, latent) to the same, float32."""
        raise NotImplementedError(f"{type(self).__name__} must have a `to_noise`.")

    def from_noise(self, noise):
        """What standard normal noise becomes: (batch, latent) to the same, float32."""
        raise NotImplementedError(f"{type(self).__name__} must have a `from_noise`.")

    def sample(self, count: int, seed=None):
        """Draws `count` latents: (count, latent), float32."""
        return self.from_noise(self.noise(count, seed))

    def noise(self, count: int, seed=None):
        """Draws what `from_noise` takes: (count, latent), float32."""
        return keras.random.normal((count, self.latent_dim), seed=seed, dtype="float32")

    def log_ratio(self, mean, log_variance, z):
        r"""What a draw of z costs: $\log q(z|x) - \log p(z)$.

        The gradient goes through z alone. What it leaves out is zero on average, and noise: where
        posterior and prior agree, this gradient is exactly zero, whatever z was drawn.

        Args:
            mean: (batch, latent), float32.
            log_variance: (batch, latent), float32, the natural log of a variance.
            z: (batch, latent), a reparameterised draw from N(mean, exp(log_variance)).

        Returns:
            (batch,), float32, nats, summed over latents.

        References:
            Roeder, Wu and Duvenaud (2017), "Sticking the landing", arXiv:1703.09194.
        """
        mean, log_variance, z = (ops.cast(x, "float32") for x in (mean, log_variance, z))
        mean, log_variance = ops.stop_gradient(mean), ops.stop_gradient(log_variance)
        squares = ops.square(z - mean) * ops.exp(-log_variance)
        log_posterior = -0.5 * ops.sum(squares + log_variance + math.log(2 * math.pi), axis=-1)
        return log_posterior - self.log_prob(z)

    def kl(self, mean, log_variance, z):
        """Divergence of N(mean, exp(log_variance)) from the prior, estimated from one draw.

        Args:
            mean: (batch, latent), float32.
            log_variance: (batch, latent), float32, the natural log of a variance.
            z: (batch, latent), a reparameterised draw from N(mean, exp(log_variance)).

        Returns:
            (batch,), float32, nats, summed over latents: `log_ratio`, which may be negative for a
            draw, and on average never is.
        """
        return self.log_ratio(mean, log_variance, z)

    def kl_per_latent(self, mean, log_variance):
        r"""What each latent by itself says of these images.

        $$D_{KL}(q(z_j|x) \,\|\, N(m_j, v_j))$$

        with the mean and variance of $z_j$ over all images given. A prior that ties latents
        together has no share for each; this is what the best Gaussian for each would charge, at
        least the information that $z_j$ holds. It does not sum up to `kl`, and needs more than one
        image.

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

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {**super().get_config(), "latent_dim": self.latent_dim}


@keras.saving.register_keras_serializable(package="kvae")
class StandardNormal(Prior):
    r"""The standard normal prior, N(0, I).

    $$D_{KL}(q(z|x) \,\|\, p(z)) =
    -\tfrac12 \sum_j 1 + \log\sigma_j^2 - \mu_j^2 - \sigma_j^2$$

    Args:
        latent_dim: The number of latents.

    References:
        Kingma and Welling (2014), "Auto-encoding variational Bayes", arXiv:1312.6114, appendix B.

    Example:
        >>> import numpy as np
        >>> from kvae.priors import StandardNormal
        >>> zeros = np.zeros((1, 3), "float32")
        >>> print(float(StandardNormal(3).kl(zeros + 2, zeros, zeros)[0]))  # 3 latents at mean 2
        6.0
    """

    closed_form = True

    def log_prob(self, z):
        """Log-density of each row of z: (batch, latent) to (batch,), float32, nats."""
        z = ops.cast(z, "float32")
        return -0.5 * ops.sum(ops.square(z) + math.log(2 * math.pi), axis=-1)

    def to_noise(self, z):
        """The latents themselves."""
        return z

    def from_noise(self, noise):
        """The noise itself."""
        return noise

    def kl(self, mean, log_variance, z):
        """Divergence of N(mean, exp(log_variance)) from the prior, in closed form.

        Args:
            mean: (batch, latent), float32.
            log_variance: (batch, latent), float32, the natural log of a variance.
            z: (batch, latent), a draw; not needed here, for priors without a closed form it is.

        Returns:
            (batch,), float32, nats, summed over latents.
        """
        return ops.sum(self.kl_per_latent(mean, log_variance), axis=-1)

    def kl_per_latent(self, mean, log_variance):
        """The divergence of each latent by itself: (batch, latent), float32, nats."""
        return 0.5 * (ops.square(mean) + ops.expm1(log_variance) - log_variance)


@keras.saving.register_keras_serializable(package="kvae")
class RealNVP(Prior):
    r"""A learned prior: a flow of affine couplings between latents and standard normal noise.

    A coupling with the mask b keeps half of the latents, and by them moves and scales the others:

    $$y = z \odot e^{s} + t, \quad (s, t) = (1 - b) \odot f(b \odot z), \quad
    \log p(z) = \log N(y; 0, I) + \sum_j s_j$$

    for one coupling; for several the sums add up. f is a small network of stock Keras layers, s is
    bounded, and both begin at zero: before training the prior is N(0, I). It is the inverse that
    makes latents of noise, exact and as quick.

    Args:
        latent_dim: The number of latents, at least 2.
        couplings: How many; each but the last of an odd number is followed by one with the mask
            turned over.
        width: Units of each hidden layer of f.
        depth: Hidden layers of f.
        bound: Of |s|.

    Raises:
        ValueError: If there are less than 2 latents, or a size is less than 1.

    References:
        Dinh, Sohl-Dickstein and Bengio (2017), "Density estimation using Real NVP",
        arXiv:1605.08803, equation 9. Chen et al. (2017), "Variational lossy autoencoder",
        arXiv:1611.02731 (a flow as the prior of a VAE).

    Example:
        >>> import numpy as np
        >>> from kvae.priors import RealNVP
        >>> prior = RealNVP(4, couplings=2)
        >>> print(round(float(prior.log_prob(np.zeros((1, 4), "float32"))[0]), 4))  # as N(0, I)
        -3.6758
    """

    def __init__(
        self,
        latent_dim: int,
        couplings: int = 8,
        width: int = 64,
        depth: int = 2,
        bound: float = 2.0,
        **kwargs,
    ):
        super().__init__(latent_dim, **kwargs)
        if latent_dim < 2:
            raise ValueError(
                "A flow couples latents, so `latent_dim` must be at least 2; for one, choose the "
                f"prior standard-normal. Received: latent_dim={latent_dim}"
            )
        for name, value in (("couplings", couplings), ("width", width), ("depth", depth)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        self.width = width
        self.depth = depth
        self.bound = bound
        self.couplings = [
            conditioner(mask, width, depth, bound, name=f"coupling_{i + 1}")
            for i, mask in enumerate(masks(latent_dim, couplings))
        ]

    def log_prob(self, z):
        """Log-density of each row of z: (batch, latent) to (batch,), float32, nats."""
        noise, log_volume = self.whitened(z)
        normal = -0.5 * ops.sum(ops.square(noise) + math.log(2 * math.pi), axis=-1)
        return normal + log_volume

    def to_noise(self, z):
        """The standard normal noise that becomes z: (batch, latent) to the same, float32."""
        return self.whitened(z)[0]

    def whitened(self, z):
        """`to_noise`, and the log of the volume that it gives to a unit of z: (batch,), nats."""
        noise = ops.cast(z, "float32")
        log_volume = 0.0
        for coupling in self.couplings:
            log_scale, shift = coupling(noise)
            noise = noise * ops.exp(log_scale) + shift
            log_volume = log_volume + ops.sum(log_scale, axis=-1)
        return noise, log_volume

    def from_noise(self, noise):
        """What standard normal noise becomes: (batch, latent) to the same, float32."""
        z = noise
        if not keras.backend.is_keras_tensor(noise):
            z = ops.convert_to_tensor(noise, dtype="float32")
        for coupling in reversed(self.couplings):
            log_scale, shift = coupling(z)
            z = (z - shift) * ops.exp(-log_scale)
        return z

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "couplings": len(self.couplings),
            "width": self.width,
            "depth": self.depth,
            "bound": self.bound,
        }


def masks(latent_dim: int, couplings: int) -> list[np.ndarray]:
    """Which latents each coupling keeps: random halves, each followed by the other half.

    A file does not hold them, so they must come out alike for ever: NumPy has frozen `RandomState`.
    """
    found = []
    for i in range(couplings):
        mask = np.random.RandomState(i // 2).permutation(latent_dim) < latent_dim // 2
        found.append((mask if i % 2 == 0 else ~mask).astype("float32"))
    return found


def conditioner(mask: np.ndarray, width: int, depth: int, bound: float, name: str) -> keras.Model:
    """The network of one coupling, of stock layers: (batch, latent) to log-scale and shift."""
    z = keras.Input(mask.shape, name="latents", dtype="float32")
    x = layers.Rescaling(mask.tolist(), dtype="float32", name="kept")(z)
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
    return keras.Model(z, heads, name=name)


PRIORS: dict[str, type[Prior]] = {"standard-normal": StandardNormal, "real-nvp": RealNVP}


def get(name: str, latent_dim: int, **arguments) -> Prior:
    """A prior by its key in `PRIORS`.

    Raises:
        ValueError: If there is none of this name.
    """
    if name not in PRIORS:
        raise ValueError(f"There is no prior {name!r}; there are {', '.join(map(repr, PRIORS))}.")
    return PRIORS[name](latent_dim, **arguments)
