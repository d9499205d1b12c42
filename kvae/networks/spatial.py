"""Fully convolutional networks: each latent on a grid describes its part of the image."""

from keras import KerasTensor, layers

from kvae.networks import blocks
from kvae.networks.network import Network

__all__ = ["SPATIAL"]


def spatial_features(
    x: KerasTensor,
    channels: int = 32,
    depth: int = 1,
    convolutions: int = 1,
    patch: int = 4,
) -> KerasTensor:
    """Halves the image until the shorter side has 8 pixels: to (batch, height, width, channels).

    No layer sees the whole image at once. So there are few weights, and they are shared by all
    places.

    Args:
        x: (batch, height, width, channels), in [0, 1].
        channels: Number of channels of the first level; they double from level to level, at most
            twice.
        depth: Number of residual blocks per level.
        convolutions: Number of convolutions per residual block.
        patch: Factor by which the first level divides height and width: 2, 4, 8, ….
    """
    image = x.shape[1:3]
    x = layers.Rescaling(2.0, offset=-1.0, name="centre")(x)
    x = blocks.padded(x, blocks.padding(x.shape[1:3]))
    for level, factor in enumerate(blocks.factors(x.shape[1:3], patch)):
        filters = blocks.level_channels(channels, level)
        x = blocks.downsample(x, filters, name=f"down_{level + 1}", factor=factor)
        for i in range(depth):
            x = blocks.conv_residual(x, f"level_{level + 1}_block_{i + 1}", convolutions)
    # In very large pictures, gradients agree in so many places that the mean runs away, and the
    # flow and the decoder after it. Smaller pictures are learned better without a norm: on emoji
    # and shapes of 64×64 it costs 1 % and 7 % of the nats.
    if blocks.levels(image) >= blocks.NORMED:
        x = layers.RMSNormalization(name="norm")(x)
    return layers.Activation(blocks.ACTIVATION, name="activation")(x)


def spatial_parameters(
    z: KerasTensor,
    shape: blocks.Shape,
    channels: int = 32,
    depth: int = 1,
    convolutions: int = 1,
    patch: int = 4,
    context: KerasTensor | None = None,
) -> KerasTensor:
    """Doubles the grid of latents level by level: to (batch, *shape).

    The arguments are those of the encoder, but the last level always multiplies by 2, since larger
    patches are visible in pictures. `context`, (batch, context), is the same at each place of the
    grid.
    """
    halvings = blocks.levels(shape[:2])
    first = blocks.factors(shape[:2], patch)
    x = blocks.on_grid(z, blocks.grid(shape[:2]), name="latents_on_grid")
    if context is not None:
        x = blocks.beside_context(x, context)
    width = blocks.level_channels(channels, len(first) - 1)
    x = layers.Conv2D(width, 3, padding="same", name="expand")(x)
    for level in reversed(range(halvings)):
        for i in range(depth):
            x = blocks.conv_residual(x, f"level_{level + 1}_block_{i + 1}", convolutions)
        x = layers.Activation(blocks.ACTIVATION, name=f"up_{level + 1}_activation")(x)
        if level:
            above = level - 1 - (halvings - len(first))  # of the encoder's levels
            filters = blocks.level_channels(channels, max(0, above))
            x = blocks.upsample(x, filters, name=f"up_{level + 1}", even=True)
        else:
            x = blocks.upsample(x, shape[2], name="up_1", even=True, dtype="float32")
    return blocks.cropped(x, shape, halvings)


SPATIAL = Network(spatial_features, spatial_parameters)
