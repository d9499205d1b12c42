"""Encoders q(z|x): stock Functional models from images to mean and log-variance of latents."""

from collections.abc import Callable

import keras
from keras import KerasTensor, layers

from kvae import blocks

__all__ = ["build_encoder"]


def build_encoder(
    image_shape: tuple[int, int, int], latent_dim: int, network: str = "mlp", **arguments
) -> keras.Model:
    """Builds an encoder for images of any size.

    Args:
        image_shape: (height, width, channels).
        latent_dim: The number of latents.
        network: "mlp" (residual dense blocks), "conv" (residual convolutions), "dense" (plain dense
            layers), "pooled" (convolutions with max-pooling) or "resnet" (with batch norm).
        **arguments: Of the network; see the functions of this module.

    Returns:
        A Functional model: (batch, height, width, channels), float in [0, 1], to `[mean,
        log_variance]`, each (batch, latent), float32. It opens where kvae is not installed.

    Raises:
        ValueError: If there is no such network.

    Example:
        >>> from kvae.encoder import build_encoder
        >>> encoder = build_encoder((28, 28, 1), 16, width=64, depth=1)
        >>> [tuple(output.shape) for output in encoder.outputs]
        [(None, 16), (None, 16)]
    """
    if network not in FEATURES:
        raise ValueError(f"`network` must be one of {', '.join(FEATURES)}. Received: {network!r}")
    images = keras.Input(image_shape, name="images")
    features = FEATURES[network](images, **arguments)
    return keras.Model(images, blocks.gaussian(features, latent_dim), name="encoder")


def mlp_features(x: KerasTensor, width: int = 512, depth: int = 2) -> KerasTensor:
    """Flattens images and applies `depth` residual dense blocks: to (batch, width)."""
    x = layers.Rescaling(2.0, offset=-1.0, name="centre")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(width, name="stem")(x)
    for i in range(depth):
        x = blocks.dense_residual(x, name=f"block_{i + 1}")
    x = layers.RMSNormalization(name="norm")(x)
    return layers.Activation(blocks.ACTIVATION, name="activation")(x)


def conv_features(
    x: KerasTensor,
    channels: int = 32,
    depth: int = 1,
    width: int = 256,
    full: bool = False,
    patch: int = 2,
    convolutions: int = 2,
    squeeze: int = 0,
) -> KerasTensor:
    """Halves the image level by level, `depth` residual blocks at each: to (batch, width).

    Args:
        x: (batch, height, width, channels), in [0, 1].
        channels: Of the first level; they double from level to level, at most twice.
        depth: Residual blocks of a level.
        width: Of the dense layer at the end.
        full: Whether to begin with blocks at the resolution of the image: far more arithmetic.
        patch: By how much the first level divides height and width: 2, 4, 8, …; where it is 4,
            there is no level at half the resolution, and far less arithmetic. At most what brings
            the shorter side to 8 pixels or less.
        convolutions: Of a residual block.
        squeeze: Channels to which a 1×1 convolution leads before the dense layer; 0: there is none.
    """
    x = layers.Rescaling(2.0, offset=-1.0, name="centre")(x)
    x = padded(x, blocks.padding(x.shape[1:3]))
    if full:
        x = layers.Conv2D(channels, 3, padding="same", name="stem")(x)
        for i in range(depth):
            x = blocks.conv_residual(x, f"full_block_{i + 1}", convolutions)
    factors = blocks.factors(x.shape[1:3], patch)
    for level, factor in enumerate(factors):
        filters = blocks.level_channels(channels, level + full)
        x = blocks.downsample(x, filters, name=f"down_{level + 1}", factor=factor)
        for i in range(depth):
            x = blocks.conv_residual(x, f"level_{level + 1}_block_{i + 1}", convolutions)
    x = layers.Activation(blocks.ACTIVATION, name="activation_1")(x)
    if squeeze:
        x = layers.Conv2D(squeeze, 1, name="squeeze")(x)
        x = layers.Activation(blocks.ACTIVATION, name="squeeze_activation")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(width, name="dense")(x)
    return layers.Activation(blocks.ACTIVATION, name="activation_2")(x)


def dense_features(
    x: KerasTensor, widths: tuple[int, ...] = (400,), activation: str = "relu"
) -> KerasTensor:
    """Flattens images and applies a dense layer of each width: to (batch, last width)."""
    x = layers.Flatten(name="flatten")(x)
    for i, width in enumerate(widths):
        x = layers.Dense(width, activation=activation, name=f"dense_{i + 1}")(x)
    return x


def pooled_features(
    x: KerasTensor,
    channels: tuple[int, ...] = (16, 32),
    last_channels: int = 16,
    widths: tuple[int, ...] = (512, 256),
    dropout: float = 0.2,
) -> KerasTensor:
    """Convolution, leaky ReLU, pooling and batch norm for each of `channels`, then dense layers.

    Dropout follows the last convolution and each dense layer; batch norm ends it: to (batch, last
    width).
    """
    x = padded(x, blocks.padding(x.shape[1:3], len(channels)))
    for i, count in enumerate(channels):
        x = layers.Conv2D(count, 3, padding="same", name=f"conv_{i + 1}")(x)
        x = layers.LeakyReLU(name=f"conv_{i + 1}_relu")(x)
        x = layers.MaxPooling2D(name=f"pool_{i + 1}")(x)
        x = layers.BatchNormalization(name=f"norm_{i + 1}")(x)
    x = layers.Conv2D(last_channels, 3, padding="same", name="conv_last")(x)
    x = layers.LeakyReLU(name="conv_last_relu")(x)
    x = layers.Dropout(dropout, name="conv_last_dropout")(layers.Flatten(name="flatten")(x))
    for i, width in enumerate(widths):
        x = layers.Dense(width, name=f"dense_{i + 1}")(x)
        x = layers.LeakyReLU(name=f"dense_{i + 1}_relu")(x)
        x = layers.Dropout(dropout, name=f"dense_{i + 1}_dropout")(x)
    return layers.BatchNormalization(name="norm_last")(x)


def resnet_features(
    x: KerasTensor, channels: tuple[int, ...] = (16, 32, 64), depth: int = 2
) -> KerasTensor:
    """A stem, `depth` residual blocks for each of `channels`, halving in between, then the mean.

    To (batch, last channels).
    """
    x = padded(x, blocks.padding(x.shape[1:3], len(channels) - 1))
    x = blocks.conv_norm(x, channels[0], 3, "stem")
    x = layers.Activation("relu", name="stem_relu")(x)
    for level, count in enumerate(channels):
        for i in range(depth):
            strides = 2 if level and not i else 1
            x = blocks.batch_norm_residual(x, count, f"level_{level + 1}_block_{i + 1}", strides)
    return layers.GlobalAveragePooling2D(name="pool")(x)


def padded(x: KerasTensor, padding: tuple[int, int, int, int]) -> KerasTensor:
    """Images with black pixels added at top, bottom, left and right."""
    top, bottom, left, right = padding
    if not any(padding):
        return x
    return layers.ZeroPadding2D(((top, bottom), (left, right)), name="pad")(x)


FEATURES: dict[str, Callable[..., KerasTensor]] = {
    "mlp": mlp_features,
    "conv": conv_features,
    "dense": dense_features,
    "pooled": pooled_features,
    "resnet": resnet_features,
}
