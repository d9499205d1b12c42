"""Residual convolutions with batch norm: an encoder, and the decoder that mirrors it."""

from keras import KerasTensor, initializers, layers

from kvae.networks import blocks
from kvae.networks.network import Network

__all__ = ["RESNET"]


def resnet_features(
    x: KerasTensor, channels: tuple[int, ...] = (16, 32, 64), depth: int = 2
) -> KerasTensor:
    """Applies a stem and `depth` residual blocks per level, then averages over places.

    There is a level for each of `channels`; the resolution is halved in between. The result is
    (batch, last channels).
    """
    x = blocks.padded(x, blocks.padding(x.shape[1:3], len(channels) - 1))
    x = blocks.conv_norm(x, channels[0], 3, "stem")
    x = layers.Activation("relu", name="stem_relu")(x)
    for level, count in enumerate(channels):
        for i in range(depth):
            strides = 2 if level and not i else 1
            x = blocks.batch_norm_residual(x, count, f"level_{level + 1}_block_{i + 1}", strides)
    return layers.GlobalAveragePooling2D(name="pool")(x)


def resnet_parameters(
    z: KerasTensor, shape: blocks.Shape, channels: tuple[int, ...] = (16, 32, 64), depth: int = 2
) -> KerasTensor:
    """Applies `depth` residual blocks for each of `channels`, in reverse, with doublings."""
    halvings = len(channels) - 1
    x = blocks.small_image(z, shape, halvings, channels[-1], name="dense")
    for level in range(halvings, -1, -1):
        for i in range(depth):
            x = blocks.batch_norm_residual(x, channels[level], f"level_{level + 1}_block_{i + 1}")
        if level:
            x = blocks.upsample(x, channels[level - 1], name=f"up_{level + 1}")
    x = layers.Conv2D(
        shape[2],
        3,
        padding="same",
        # The outputs of batch norm and ReLU are large. Images are learned much sooner if they begin
        # dark.
        kernel_initializer=initializers.VarianceScaling(scale=0.01),
        dtype="float32",
        name="values",
    )(x)
    return blocks.cropped(x, shape, halvings)


RESNET = Network(resnet_features, resnet_parameters)
