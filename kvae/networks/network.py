"""Network: a family of networks, an encoder and the decoder that mirrors it."""

import dataclasses
from collections.abc import Callable

from keras import KerasTensor

__all__ = ["Network"]


@dataclasses.dataclass(frozen=True)
class Network:
    """A family of networks: how images become features, and latents the parameters of pixels.

    Both are functions that apply stock Keras layers and take the same further arguments; what they
    build then opens where kvae is not installed.

    Attributes:
        features: (batch, height, width, channels), in [0, 1], to what the heads of the encoder
            read: (batch, any), or (batch, height, width, any), for latents on a grid.
        parameters: (batch, latent) and a shape (height, width, channels ·
            parameters_per_value) to (batch, *shape), float32, unbounded.

    Example:
        >>> import keras, kvae
        >>> def features(images, units=8):
        ...     return keras.layers.Dense(units, "relu")(keras.layers.Flatten()(images))
        >>> def parameters(latents, shape, units=8):
        ...     values = keras.layers.Dense(shape[0] * shape[1] * shape[2])(latents)
        ...     return keras.layers.Reshape(shape, dtype="float32")(values)
        >>> network = kvae.Network(features, parameters)
        >>> vae = kvae.VAE(
        ...     kvae.build_encoder((8, 8, 1), 4, network, units=16),
        ...     kvae.build_decoder((8, 8, 1), 4, network, units=16),
        ... )
        >>> vae.latent_dim
        4
    """

    features: Callable[..., KerasTensor]
    parameters: Callable[..., KerasTensor]
