"""Convolutions with max-pooling, batch norm and dropout, and the decoder that mirrors them."""

from keras import KerasTensor, layers

from kvae.networks import blocks
from kvae.networks.network import Network

__all__ = ["POOLED"]


def pooled_features(
    x: KerasTensor,
    channels: tuple[int, ...] = (16, 32),
    last_channels: int = 16,
    widths: tuple[int, ...] = (512, 256),
    dropout: float = 0.2,
) -> KerasTensor:
    """Applies convolution, leaky ReLU, pooling and batch norm per level, then dense layers.

    There is a level for each of `channels`. Dropout follows the last convolution and each dense
    layer, and batch norm comes last. The result is (batch, last width).
    """
    x = blocks.padded(x, blocks.padding(x.shape[1:3], len(channels)))
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


def pooled_parameters(
    z: KerasTensor,
    shape: blocks.Shape,
    channels: tuple[int, ...] = (16, 32),
    last_channels: int = 16,
    widths: tuple[int, ...] = (512, 256),
    dropout: float = 0.2,
) -> KerasTensor:
    """Applies dense layers, then doubles an image of `last_channels` for each of `channels`.

    Leaky ReLUs are in between. Only the encoder uses `dropout`.
    """
    x = z
    for i, width in enumerate(reversed(widths)):
        x = layers.Dense(width, name=f"dense_{i + 1}")(x)
        x = layers.LeakyReLU(name=f"dense_{i + 1}_relu")(x)
    x = blocks.small_image(x, shape, len(channels), last_channels, name="dense_last")
    x = layers.LeakyReLU(name="image_relu")(x)
    for i, count in enumerate(reversed(channels[1:])):
        x = blocks.upsample(x, count, name=f"up_{i + 1}")
        x = layers.LeakyReLU(name=f"up_{i + 1}_relu")(x)
    x = blocks.upsample(x, shape[2], name=f"up_{len(channels)}", dtype="float32")
    return blocks.cropped(x, shape, len(channels))


POOLED = Network(pooled_features, pooled_parameters)
