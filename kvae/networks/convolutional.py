"""Residual convolutions at halved resolutions: an encoder, and the decoder that mirrors it."""

from keras import KerasTensor, layers

from kvae.networks import blocks
from kvae.networks.network import Network

__all__ = ["CONV"]


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
    """Halves the image level by level, with `depth` residual blocks each: to (batch, width).

    Args:
        x: (batch, height, width, channels), in [0, 1].
        channels: Number of channels of the first level; they double from level to level, at most
            twice.
        depth: Number of residual blocks per level.
        width: Width of the dense layer at the end.
        full: Whether to begin with blocks at the resolution of the image, which is much more work.
        patch: Factor by which the first level divides height and width: 2, 4, 8, …. With 4 there is
            no level at half the resolution, which is much less work. At most the factor that brings
            the shorter side to 8 pixels or less.
        convolutions: Number of convolutions per residual block.
        squeeze: Number of channels after a 1×1 convolution before the dense layer. 0: no such
            convolution.
    """
    x = layers.Rescaling(2.0, offset=-1.0, name="centre")(x)
    x = blocks.padded(x, blocks.padding(x.shape[1:3]))
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
        x = blocks.convolution(squeeze, 1, name="squeeze")(x)
        x = layers.Activation(blocks.ACTIVATION, name="squeeze_activation")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(width, name="dense")(x)
    return layers.Activation(blocks.ACTIVATION, name="activation_2")(x)


def conv_parameters(
    z: KerasTensor,
    shape: blocks.Shape,
    channels: int = 32,
    depth: int = 1,
    width: int = 256,
    full: bool = False,
    patch: int = 2,
    convolutions: int = 2,
    squeeze: int = 0,
) -> KerasTensor:
    """Doubles the image level by level, with `depth` residual blocks each: to (batch, *shape).

    The arguments are those of `conv_features`, in reverse: the dense layer comes first, a 1×1
    convolution leads from `squeeze` channels to those of the last level, and with `full` the last
    blocks are at the resolution of the image.
    """
    factors = blocks.factors(shape[:2], patch)
    filters = blocks.level_channels(channels, len(factors) - 1 + full)
    x = layers.Dense(width, name="dense_1")(z)
    x = layers.Activation(blocks.ACTIVATION, name="activation_1")(x)
    x = blocks.small_image(x, shape, blocks.levels(shape[:2]), squeeze or filters, name="dense_2")
    if squeeze:
        x = layers.Activation(blocks.ACTIVATION, name="expand_activation")(x)
        x = blocks.convolution(filters, 1, name="expand")(x)
    for level, factor in reversed(list(enumerate(factors))):
        for i in range(depth):
            x = blocks.conv_residual(x, f"level_{level + 1}_block_{i + 1}", convolutions)
        x = layers.Activation(blocks.ACTIVATION, name=f"up_{level + 1}_activation")(x)
        if level or full:
            filters = blocks.level_channels(channels, level - 1 + full)
            x = blocks.upsample(x, filters, name=f"up_{level + 1}", factor=factor)
        else:
            x = blocks.upsample(x, shape[2], name="up_1", factor=factor, dtype="float32")
    if full:
        for i in range(depth):
            x = blocks.conv_residual(x, f"full_block_{i + 1}", convolutions)
        x = layers.Activation(blocks.ACTIVATION, name="values_activation")(x)
        x = layers.Conv2D(shape[2], 3, padding="same", dtype="float32", name="values")(x)
    return blocks.cropped(x, shape, blocks.levels(shape[:2]))


CONV = Network(conv_features, conv_parameters)
