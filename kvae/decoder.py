"""Decoders p(x|z): stock Functional models from latents to the raw parameters of a likelihood."""

import keras
from keras import layers

from kvae import blocks

__all__ = ["build_decoder"]


def build_decoder(
    image_shape: tuple[int, int, int],
    latent_dim: int,
    network: str = "mlp",
    parameters_per_value: int = 1,
    **arguments,
) -> keras.Model:
    """Builds a decoder for images of any size.

    Args:
        image_shape: (height, width, channels).
        latent_dim: The number of latents.
        network: "mlp" (residual dense blocks) or "conv" (residual convolutions).
        parameters_per_value: How many raw parameters the likelihood needs for each value.
        **arguments: Of the network, as for `kvae.encoder.build_encoder`.

    Returns:
        A Functional model: (batch, latent) to (batch, height, width, channels ·
        parameters_per_value), float32, unbounded: for a Bernoulli likelihood they are logits. It
        opens where kvae is not installed.

    Example:
        >>> from kvae.decoder import build_decoder
        >>> decoder = build_decoder((28, 28, 1), 16, width=64, depth=1)
        >>> tuple(decoder.output.shape)
        (None, 28, 28, 1)
    """
    height, width, channels = image_shape
    latents = keras.Input((latent_dim,), name="latents")
    shape = (height, width, channels * parameters_per_value)
    match network:
        case "mlp":
            parameters = dense_parameters(latents, shape, **arguments)
        case "conv":
            parameters = conv_parameters(latents, shape, **arguments)
        case _:
            raise ValueError(f"`network` must be 'mlp' or 'conv'. Received: network={network!r}")
    return keras.Model(latents, parameters, name="decoder")


def dense_parameters(
    z: keras.KerasTensor, shape: tuple[int, int, int], width: int = 512, depth: int = 2
) -> keras.KerasTensor:
    """`depth` residual dense blocks, then one dense layer to all values: to (batch, *shape)."""
    x = layers.Dense(width, name="stem")(z)
    for i in range(depth):
        x = blocks.dense_residual(x, name=f"block_{i + 1}")
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.Activation(blocks.ACTIVATION, name="activation")(x)
    x = layers.Dense(shape[0] * shape[1] * shape[2], dtype="float32", name="values")(x)
    return layers.Reshape(shape, dtype="float32", name="parameters")(x)


def conv_parameters(
    z: keras.KerasTensor,
    shape: tuple[int, int, int],
    channels: int = 32,
    depth: int = 1,
    width: int = 256,
) -> keras.KerasTensor:
    """Doubles the image level by level, `depth` residual blocks at each: to (batch, *shape)."""
    top, bottom, left, right = blocks.padding(shape[:2])
    deepest = blocks.levels(shape[:2]) - 1
    height = (shape[0] + top + bottom) >> deepest + 1
    breadth = (shape[1] + left + right) >> deepest + 1
    filters = blocks.level_channels(channels, deepest)
    x = layers.Dense(width, name="dense_1")(z)
    x = layers.Activation(blocks.ACTIVATION, name="activation_1")(x)
    x = layers.Dense(height * breadth * filters, name="dense_2")(x)
    x = layers.Reshape((height, breadth, filters), name="image")(x)
    for level in range(deepest, -1, -1):
        for i in range(depth):
            x = blocks.conv_residual(x, name=f"level_{level + 1}_block_{i + 1}")
        x = layers.Activation(blocks.ACTIVATION, name=f"up_{level + 1}_activation")(x)
        if level:
            filters = blocks.level_channels(channels, level - 1)
            x = blocks.upsample(x, filters, name=f"up_{level + 1}")
        else:
            x = blocks.upsample(x, shape[2], name="up_1", dtype="float32")
    if top + bottom + left + right:
        x = layers.Cropping2D(((top, bottom), (left, right)), dtype="float32", name="crop")(x)
    return layers.Activation("linear", dtype="float32", name="parameters")(x)
