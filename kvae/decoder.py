"""Decoders p(x|z): stock Functional models from latents to the raw parameters of a likelihood."""

from collections.abc import Callable

import keras
from keras import KerasTensor, initializers, layers

from kvae import blocks

__all__ = ["build_decoder"]

Shape = tuple[int, int, int]


def build_decoder(
    image_shape: Shape,
    latent_dim: int,
    network: str = "mlp",
    parameters_per_value: int = 1,
    **arguments,
) -> keras.Model:
    """Builds a decoder for images of any size.

    Args:
        image_shape: (height, width, channels).
        latent_dim: The number of latents.
        network: One of the networks of `kvae.encoder.build_encoder`, here the other way round.
        parameters_per_value: How many raw parameters the likelihood needs for each value.
        **arguments: Of the network; the same as for `kvae.encoder.build_encoder`.

    Returns:
        A Functional model: (batch, latent) to (batch, height, width, channels ·
        parameters_per_value), float32, unbounded: for a Bernoulli likelihood they are logits. It
        opens where kvae is not installed.

    Raises:
        ValueError: If there is no such network.

    Example:
        >>> from kvae.decoder import build_decoder
        >>> decoder = build_decoder((28, 28, 1), 16, width=64, depth=1)
        >>> tuple(decoder.output.shape)
        (None, 28, 28, 1)
    """
    if network not in PARAMETERS:
        raise ValueError(f"`network` must be one of {', '.join(PARAMETERS)}. Received: {network!r}")
    height, width, channels = image_shape
    latents = keras.Input((latent_dim,), name="latents")
    shape = (height, width, channels * parameters_per_value)
    parameters = PARAMETERS[network](latents, shape, **arguments)
    return keras.Model(latents, parameters, name="decoder")


def mlp_parameters(z: KerasTensor, shape: Shape, width: int = 512, depth: int = 2) -> KerasTensor:
    """`depth` residual dense blocks, then one dense layer to all values: to (batch, *shape).

    Each block sees z too.

    References:
        Dieng et al. (2019), "Avoiding latent variable collapse with generative skip models",
        arXiv:1807.04863.
    """
    x = layers.Dense(width, name="stem")(z)
    for i in range(depth):
        x = blocks.dense_residual(x, name=f"block_{i + 1}", skip=z)
    x = layers.RMSNormalization(name="norm")(x)
    x = layers.Activation(blocks.ACTIVATION, name="activation")(x)
    return values(x, shape)


def conv_parameters(
    z: KerasTensor,
    shape: Shape,
    channels: int = 32,
    depth: int = 1,
    width: int = 256,
    full: bool = False,
    patch: int = 2,
    convolutions: int = 2,
    squeeze: int = 0,
) -> KerasTensor:
    """Doubles the image level by level, `depth` residual blocks at each: to (batch, *shape).

    The arguments are those of the encoder's `conv_features`, here the other way round: the dense
    layer comes first, a 1×1 convolution leads from `squeeze` channels to those of the last level,
    and where it is `full` it ends with blocks at the resolution of the image.
    """
    factors = blocks.factors(shape[:2], patch)
    filters = blocks.level_channels(channels, len(factors) - 1 + full)
    x = layers.Dense(width, name="dense_1")(z)
    x = layers.Activation(blocks.ACTIVATION, name="activation_1")(x)
    x = small_image(x, shape, blocks.levels(shape[:2]), squeeze or filters, name="dense_2")
    if squeeze:
        x = layers.Activation(blocks.ACTIVATION, name="expand_activation")(x)
        x = layers.Conv2D(filters, 1, name="expand")(x)
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
    return cropped(x, shape, blocks.levels(shape[:2]))


def dense_parameters(
    z: KerasTensor, shape: Shape, widths: tuple[int, ...] = (400,), activation: str = "relu"
) -> KerasTensor:
    """A dense layer of each width, the last one first, then one to all values."""
    x = z
    for i, width in enumerate(reversed(widths)):
        x = layers.Dense(width, activation=activation, name=f"dense_{i + 1}")(x)
    return values(x, shape)


def pooled_parameters(
    z: KerasTensor,
    shape: Shape,
    channels: tuple[int, ...] = (16, 32),
    last_channels: int = 16,
    widths: tuple[int, ...] = (512, 256),
    dropout: float = 0.2,
) -> KerasTensor:
    """Dense layers, then an image of `last_channels` that is doubled for each of `channels`.

    Leaky ReLU in between. `dropout` is the encoder's alone.
    """
    x = z
    for i, width in enumerate(reversed(widths)):
        x = layers.Dense(width, name=f"dense_{i + 1}")(x)
        x = layers.LeakyReLU(name=f"dense_{i + 1}_relu")(x)
    x = small_image(x, shape, len(channels), last_channels, name="dense_last")
    x = layers.LeakyReLU(name="image_relu")(x)
    for i, count in enumerate(reversed(channels[1:])):
        x = blocks.upsample(x, count, name=f"up_{i + 1}")
        x = layers.LeakyReLU(name=f"up_{i + 1}_relu")(x)
    x = blocks.upsample(x, shape[2], name=f"up_{len(channels)}", dtype="float32")
    return cropped(x, shape, len(channels))


def resnet_parameters(
    z: KerasTensor, shape: Shape, channels: tuple[int, ...] = (16, 32, 64), depth: int = 2
) -> KerasTensor:
    """`depth` residual blocks for each of `channels`, the last first, doubling in between."""
    halvings = len(channels) - 1
    x = small_image(z, shape, halvings, channels[-1], name="dense")
    for level in range(halvings, -1, -1):
        for i in range(depth):
            x = blocks.batch_norm_residual(x, channels[level], f"level_{level + 1}_block_{i + 1}")
        if level:
            x = blocks.upsample(x, channels[level - 1], name=f"up_{level + 1}")
    x = layers.Conv2D(
        shape[2],
        3,
        padding="same",
        # What batch norm and ReLU make is large: images that begin dark are learned much sooner.
        kernel_initializer=initializers.VarianceScaling(scale=0.01),
        dtype="float32",
        name="values",
    )(x)
    return cropped(x, shape, halvings)


def values(x: KerasTensor, shape: Shape) -> KerasTensor:
    """One dense layer to all values: (batch, width) to (batch, *shape), float32."""
    x = layers.Dense(shape[0] * shape[1] * shape[2], dtype="float32", name="values")(x)
    return layers.Reshape(shape, dtype="float32", name="parameters")(x)


def small_image(
    x: KerasTensor, shape: Shape, halvings: int, channels: int, name: str
) -> KerasTensor:
    """A dense layer to an image that becomes `shape`, or a little more, when doubled so often."""
    top, bottom, left, right = blocks.padding(shape[:2], halvings)
    height = (shape[0] + top + bottom) >> halvings
    width = (shape[1] + left + right) >> halvings
    x = layers.Dense(height * width * channels, name=name)(x)
    return layers.Reshape((height, width, channels), name="image")(x)


def cropped(x: KerasTensor, shape: Shape, halvings: int) -> KerasTensor:
    """Images without what was too much for their size to be halved evenly."""
    top, bottom, left, right = blocks.padding(shape[:2], halvings)
    if top + bottom + left + right:
        x = layers.Cropping2D(((top, bottom), (left, right)), dtype="float32", name="crop")(x)
    return layers.Activation("linear", dtype="float32", name="parameters")(x)


PARAMETERS: dict[str, Callable[..., KerasTensor]] = {
    "mlp": mlp_parameters,
    "conv": conv_parameters,
    "dense": dense_parameters,
    "pooled": pooled_parameters,
    "resnet": resnet_parameters,
}
