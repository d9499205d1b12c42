"""Blocks: functions that apply stock Keras layers, so that models open without kvae."""

import math
from typing import Any

import numpy as np
from keras import KerasTensor, initializers, layers, ops

__all__ = [
    "Shape",
    "batch_norm_residual",
    "beside_context",
    "bounded",
    "check_patch",
    "conv_norm",
    "conv_residual",
    "convolution",
    "cropped",
    "dense_residual",
    "depth_to_space",
    "downsample",
    "factors",
    "from_grid",
    "gaussian",
    "grid",
    "level_channels",
    "levels",
    "on_grid",
    "padded",
    "padding",
    "small_image",
    "space_to_depth",
    "upsample",
    "values",
]

ACTIVATION = "silu"
NORMED = 5  # from this many halvings on (more than 128 pixels), features are normalised

Shape = tuple[int, int, int]


def dense_residual(x: KerasTensor, name: str, skip: KerasTensor | None = None) -> KerasTensor:
    """`x + dense(silu(norm(x)))` at constant width: (batch, width) to (batch, width).

    Args:
        x: (batch, width).
        name: Name of the block, the prefix of its layers' names.
        skip: (batch, any), a tensor of which a dense layer is added before the activation.

    References:
        Zhang and Sennrich (2019), "Root mean square layer normalization", arXiv:1910.07467.
    """
    y = layers.RMSNormalization(name=f"{name}_norm")(x)
    if skip is not None:
        y = layers.Add(name=f"{name}_join")(
            [y, layers.Dense(x.shape[-1], name=f"{name}_skip")(skip)]
        )
    y = layers.Activation(ACTIVATION, name=f"{name}_activation")(y)
    y = layers.Dense(x.shape[-1], name=f"{name}_dense")(y)
    return layers.Add(name=f"{name}_add")([x, y])


def conv_residual(x: KerasTensor, name: str, convolutions: int = 2, side: int = 3) -> KerasTensor:
    """`x + conv(silu(… conv(silu(x))))`: at one shape, (batch, height, width, channels).

    Args:
        x: (batch, height, width, channels).
        name: Name of the block, the prefix of its layers' names.
        convolutions: Number of convolutions.
        side: Side of their kernels.
    """
    y = x
    for i in range(1, convolutions + 1):
        y = layers.Activation(ACTIVATION, name=f"{name}_activation_{i}")(y)
        # The branch begins small, so that a deep stack begins near the identity; but not at zero,
        # because its first layer would then get no gradient in the first step.
        last = {"kernel_initializer": initializers.VarianceScaling(scale=0.1)}
        y = convolution(
            x.shape[-1], side, name=f"{name}_conv_{i}", **(last if i == convolutions else {})
        )(y)
    return layers.Add(name=f"{name}_add")([x, y])


def batch_norm_residual(x: KerasTensor, channels: int, name: str, strides: int = 1) -> KerasTensor:
    """Applies two 3×3 convolutions with batch norm and a shortcut convolution, then a ReLU.

    References:
        He et al. (2016), "Deep residual learning for image recognition", arXiv:1512.03385.
    """
    y = conv_norm(x, channels, 3, f"{name}_1", strides)
    y = layers.Activation("relu", name=f"{name}_1_relu")(y)
    y = conv_norm(y, channels, 3, f"{name}_2")
    shortcut = conv_norm(x, channels, 1, f"{name}_shortcut", strides)
    y = layers.Add(name=f"{name}_add")([y, shortcut])
    return layers.Activation("relu", name=f"{name}_relu")(y)


def conv_norm(x: KerasTensor, channels: int, size: int, name: str, strides: int = 1) -> KerasTensor:
    """Applies a convolution without bias, then batch norm."""
    x = layers.Conv2D(channels, size, strides, padding="same", use_bias=False, name=f"{name}_conv")(
        x
    )
    # Keras's default momentum, 0.99, averages hundreds of updates. In a short training, the figures
    # of the test images would lag behind.
    return layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)


def convolution(channels: int, side: int, **rest: Any) -> layers.Layer:
    """Makes a convolution that keeps the grid, with a kernel of `side`.

    With a side of 1 it is a dense layer at each place. This is the same arithmetic, which XLA does
    five times as fast on a CPU (64 grids of 32×32, 32 to 144 channels, with gradients).
    """
    if side == 1:
        return layers.Dense(channels, **rest)
    return layers.Conv2D(channels, side, padding="same", **rest)


def downsample(x: KerasTensor, channels: int, name: str, factor: int = 2) -> KerasTensor:
    """Divides height and width by `factor`: space to depth, then a 3×3 convolution."""
    x = space_to_depth(x, f"{name}_space_to_depth", factor)
    return layers.Conv2D(channels, 3, padding="same", name=f"{name}_conv")(x)


def upsample(
    x: KerasTensor, channels: int, name: str, factor: int = 2, even: bool = False, **conv: Any
) -> KerasTensor:
    """Multiplies height and width by `factor`: a 3×3 convolution, then depth to space.

    It convolves at the low resolution, so it is cheaper than a transposed convolution, or than a
    convolution after up-sampling.

    Args:
        x: (batch, height, width, any).
        channels: Number of channels of the result.
        name: Name of the block.
        factor: Factor of the resolution.
        even: Whether all pixels made from one pixel begin equal. Otherwise the grid of the low
            resolution is visible until training has evened it out.
        **conv: Arguments of the convolution.

    References:
        Aitken et al. (2017), "Checkerboard artifact free sub-pixel convolution", arXiv:1707.02937.
    """
    count = factor * factor
    layer = convolution(count * channels, 3, name=f"{name}_conv", **conv)
    x = layer(x)
    if even:
        kernel = ops.convert_to_numpy(layer.kernel)
        layer.kernel.assign(np.tile(kernel[..., :channels], (1, 1, 1, count)))
    return depth_to_space(x, f"{name}_depth_to_space", factor)


def space_to_depth(x: KerasTensor, name: str, factor: int = 2) -> KerasTensor:
    """(batch, f·height, f·width, channels) to (batch, height, width, f·f·channels)."""
    _, height, width, channels = x.shape
    low = height // factor, width // factor
    x = layers.Reshape((low[0], factor, low[1], factor, channels), name=f"{name}_split")(x)
    x = layers.Permute((1, 3, 2, 4, 5), name=f"{name}_permute")(x)
    return layers.Reshape((*low, factor * factor * channels), name=f"{name}_merge")(x)


def depth_to_space(x: KerasTensor, name: str, factor: int = 2) -> KerasTensor:
    """(batch, height, width, f·f·channels) to (batch, f·height, f·width, channels)."""
    _, height, width, channels = x.shape
    channels //= factor * factor
    x = layers.Reshape((height, width, factor, factor, channels), name=f"{name}_split")(x)
    x = layers.Permute((1, 3, 2, 4, 5), name=f"{name}_permute")(x)
    return layers.Reshape((factor * height, factor * width, channels), name=f"{name}_merge")(x)


def gaussian(x: KerasTensor, latent_dim: int) -> list[KerasTensor]:
    """Applies two heads, mean and log-variance of a diagonal Gaussian: each (batch, latent).

    Both are float32. Features on a grid, (batch, height, width, channels), give latents on that
    grid.
    """
    if len(x.shape) == 4:
        mean = from_grid(x, latent_dim, name="mean")
        log_variance = from_grid(x, latent_dim, name="raw_log_variance")
    else:
        mean = layers.Dense(latent_dim, dtype="float32", name="mean")(x)
        log_variance = layers.Dense(latent_dim, dtype="float32", name="raw_log_variance")(x)
    return [mean, bounded(log_variance, 10.0, name="log_variance")]


def grid(size: tuple[int, int]) -> tuple[int, int]:
    """Returns (height, width) of an image after halving its shorter side to 8 pixels."""
    top, bottom, left, right = padding(size)
    halvings = levels(size)
    return (size[0] + top + bottom) >> halvings, (size[1] + left + right) >> halvings


def from_grid(x: KerasTensor, latent_dim: int, name: str) -> KerasTensor:
    """Applies a dense layer at each place: (batch, height, width, channels) to (batch, latent).

    All places have the same number of latents; if they do not divide evenly, the last ones have
    fewer. The result is float32.
    """
    _, height, width, _ = x.shape
    each = math.ceil(latent_dim / (height * width))
    extra = each * height * width - latent_dim
    x = convolution(each, 1, dtype="float32", name=f"{name}_conv")(x)
    if not extra:
        return layers.Flatten(dtype="float32", name=name)(x)
    x = layers.Reshape((each * height * width, 1), dtype="float32", name=f"{name}_flat")(x)
    x = layers.Cropping1D((0, extra), dtype="float32", name=f"{name}_crop")(x)
    return layers.Reshape((latent_dim,), dtype="float32", name=name)(x)


def on_grid(z: KerasTensor, size: tuple[int, int], name: str) -> KerasTensor:
    """Places latents on a grid: (batch, latent) to (batch, height, width, channels)."""
    height, width = size
    each = math.ceil(z.shape[-1] / (height * width))
    extra = each * height * width - z.shape[-1]
    if extra:
        z = layers.Reshape((z.shape[-1], 1), name=f"{name}_column")(z)
        z = layers.ZeroPadding1D((0, extra), name=f"{name}_pad")(z)
    return layers.Reshape((height, width, each), name=name)(z)


def beside_context(values: KerasTensor, context: KerasTensor) -> KerasTensor:
    """Appends a context to values; on a grid, the same at each place.

    Args:
        values: (batch, any), or (batch, height, width, any).
        context: (batch, context).
    """
    if len(values.shape) == 4:
        height, width = values.shape[1:3]
        size = context.shape[-1]
        context = layers.RepeatVector(height * width, name="context_repeated")(context)
        context = layers.Reshape((height, width, size), name="context_on_grid")(context)
    return layers.Concatenate(name="with_context")([values, context])


def bounded(x: KerasTensor, bound: float, name: str) -> KerasTensor:
    """`bound · tanh(x / bound)`: x where it is small, never beyond ±bound."""
    x = layers.Rescaling(1 / bound, dtype="float32", name=f"{name}_scale")(x)
    x = layers.Activation("tanh", dtype="float32", name=f"{name}_tanh")(x)
    return layers.Rescaling(bound, dtype="float32", name=name)(x)


def levels(size: tuple[int, int]) -> int:
    """The number of halvings until the shorter side has 8 pixels, at least one."""
    return max(1, math.ceil(math.log2(min(size) / 8)))


def factors(size: tuple[int, int], patch: int = 2) -> list[int]:
    """The factor of each level: first `patch`, then 2; their product is 2 ** levels.

    Raises:
        ValueError: If `patch` is not 2, 4, 8, …
    """
    check_patch(patch)
    all_levels = levels(size)
    first = min(patch.bit_length() - 1, all_levels)
    return [2**first] + [2] * (all_levels - first)


def check_patch(patch: int) -> None:
    """Raises a ValueError if a first convolution cannot divide height and width by this."""
    if patch < 2 or patch & (patch - 1):
        raise ValueError(f"`patch` must be a power of two, at least 2. Received: {patch}")


def level_channels(channels: int, level: int) -> int:
    """The channels of a level; they double from level to level, at most twice."""
    return channels * 2 ** min(level, 2)


def padding(size: tuple[int, int], halvings: int | None = None) -> tuple[int, int, int, int]:
    """Pixels to add at top, bottom, left and right, so that (height, width) halves evenly.

    Args:
        size: (height, width).
        halvings: Number of halvings. Defaults to `levels(size)`.
    """
    multiple = 2 ** (levels(size) if halvings is None else halvings)
    height, width = (-length % multiple for length in size)
    return height // 2, height - height // 2, width // 2, width - width // 2


def padded(x: KerasTensor, padding: tuple[int, int, int, int]) -> KerasTensor:
    """Adds black pixels at top, bottom, left and right."""
    top, bottom, left, right = padding
    if not any(padding):
        return x
    return layers.ZeroPadding2D(((top, bottom), (left, right)), name="pad")(x)


def values(x: KerasTensor, shape: Shape) -> KerasTensor:
    """Applies one dense layer to all values: (batch, width) to (batch, *shape), float32."""
    x = layers.Dense(shape[0] * shape[1] * shape[2], dtype="float32", name="values")(x)
    return layers.Reshape(shape, dtype="float32", name="parameters")(x)


def small_image(
    x: KerasTensor, shape: Shape, halvings: int, channels: int, name: str
) -> KerasTensor:
    """Applies a dense layer to an image that, after doublings, is at least of `shape`."""
    top, bottom, left, right = padding(shape[:2], halvings)
    height = (shape[0] + top + bottom) >> halvings
    width = (shape[1] + left + right) >> halvings
    x = layers.Dense(height * width * channels, name=name)(x)
    return layers.Reshape((height, width, channels), name="image")(x)


def cropped(x: KerasTensor, shape: Shape, halvings: int) -> KerasTensor:
    """Crops the padding that made images halve evenly."""
    top, bottom, left, right = padding(shape[:2], halvings)
    if top + bottom + left + right:
        x = layers.Cropping2D(((top, bottom), (left, right)), dtype="float32", name="crop")(x)
    return layers.Activation("linear", dtype="float32", name="parameters")(x)
