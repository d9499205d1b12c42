"""Network: a family of networks, an encoder and the decoder that mirrors it."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import keras
from keras import KerasTensor

from kvae.networks import blocks

__all__ = ["Network"]


@dataclasses.dataclass(frozen=True)
class Network:
    """A family of networks: functions that build an encoder and a matching decoder.

    Both functions apply stock Keras layers and take the same further arguments. What they build
    then opens where kvae is not installed.

    Attributes:
        features: A function from images, (batch, height, width, channels), in [0, 1], to the
            features for the heads of the encoder: (batch, any), or (batch, height, width, any) for
            latents on a grid.
        parameters: A function from latents, (batch, latent), and a shape, (height, width, channels
            · parameters_per_value), to (batch, *shape), float32, unbounded. If it has an argument
            `context`, that is passed as (batch, context); otherwise the context is appended to the
            latents.

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

    def groups(self, image_shape: tuple[int, int, int], **arguments: Any) -> tuple[int, ...]:
        """The number of latents in each group, if the arguments define groups; else empty."""
        return ()

    def encoder(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        context_dim: int | None = None,
        **arguments: Any,
    ) -> keras.Model:
        """See `build_encoder`."""
        images = keras.Input(image_shape, name="images")
        features = self.features(images, **arguments)
        inputs, features = with_context(images, features, context_dim)
        return keras.Model(inputs, blocks.gaussian(features, latent_dim), name="encoder")

    def decoder(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        parameters_per_value: int = 1,
        context_dim: int | None = None,
        **arguments: Any,
    ) -> keras.Model:
        """See `build_decoder`."""
        height, width, channels = image_shape
        latents = keras.Input((latent_dim,), name="latents")
        shape = (height, width, channels * parameters_per_value)
        if context_dim and "context" in inspect.signature(self.parameters).parameters:
            context = keras.Input((context_dim,), name="context")
            made = self.parameters(latents, shape, context=context, **arguments)
            return keras.Model([latents, context], made, name="decoder")
        inputs, known_of_it = with_context(latents, latents, context_dim)
        return keras.Model(inputs, self.parameters(known_of_it, shape, **arguments), name="decoder")


def with_context(
    first: keras.KerasTensor, values: keras.KerasTensor, context_dim: int | None
) -> tuple[keras.KerasTensor | list[keras.KerasTensor], keras.KerasTensor]:
    """Appends a context to values, if there is one; returns the inputs and the values."""
    if context_dim is None:
        return first, values
    context = keras.Input((context_dim,), name="context")
    return [first, context], blocks.beside_context(values, context)
