"""Encoders q(z|x): stock Functional models from images to mean and log-variance of latents."""

import keras
from keras import layers

from kvae import blocks

__all__ = ["build_encoder"]


def build_encoder(
    image_shape: tuple[int, int, int], latent_dim: int, network: str = "mlp", **arguments
) -> keras.Model:
    """Builds an encoder for images of any size.

    Args:
        image_shape: (height, width, channels).
        latent_dim: The number of latents.
        network: "mlp" (residual dense blocks) or "conv" (residual convolutions).
        **arguments: Of the network: `width` (512) and `depth` (2) for "mlp"; `channels` (32),
            `depth` (1) and `width` (256) for "conv".

    Returns:
        A Functional model: (batch, height, width, channels), float in [0, 1], to `[mean,
        log_variance]`, each (batch, latent), float32. It opens where kvae is not installed.

    Example:
        >>> from kvae.encoder import build_encoder
        >>> encoder = build_encoder((28, 28, 1), 16, width=64, depth=1)
        >>> [tuple(output.shape) for output in encoder.outputs]
        [(None, 16), (None, 16)]
    """
    images = keras.Input(image_shape, name="images")
    x = layers.Rescaling(2.0, offset=-1.0, name="centre")(images)
    match network:
        case "mlp":
            x = dense_features(x, **arguments)
        case "conv":
            x = conv_features(x, **arguments)
        case _:
            raise ValueError(f"`network` must be 'mlp' or 'conv'. Received: network={network!r}")
    return keras.Model(images, blocks.gaussian(x, latent_dim), name="encoder")


def dense_features(x: keras.KerasTensor, width: int = 512, depth: int = 2) -> keras.KerasTensor:
    """Flattens images and applies `depth` residual dense blocks: to (batch, width)."""
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(width, name="stem")(x)
    for i in range(depth):
        x = blocks.dense_residual(x, name=f"block_{i + 1}")
    x = layers.LayerNormalization(name="norm")(x)
    return layers.Activation(blocks.ACTIVATION, name="activation")(x)


def conv_features(
    x: keras.KerasTensor, channels: int = 32, depth: int = 1, width: int = 256
) -> keras.KerasTensor:
    """Halves the image level by level, `depth` residual blocks at each: to (batch, width)."""
    top, bottom, left, right = blocks.padding(x.shape[1:3])
    if top + bottom + left + right:
        x = layers.ZeroPadding2D(((top, bottom), (left, right)), name="pad")(x)
    for level in range(blocks.levels(x.shape[1:3])):
        x = blocks.downsample(x, blocks.level_channels(channels, level), name=f"down_{level + 1}")
        for i in range(depth):
            x = blocks.conv_residual(x, name=f"level_{level + 1}_block_{i + 1}")
    x = layers.Activation(blocks.ACTIVATION, name="activation_1")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(width, name="dense")(x)
    return layers.Activation(blocks.ACTIVATION, name="activation_2")(x)
