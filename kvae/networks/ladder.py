"""Ladder: latents in groups, the first for the whole image, the others for finer parts.

The decoder goes from the first group to the last. Its state, the result of the groups so far,
controls how much the next latents matter: each is multiplied by a gate that is computed from the
state. So latents after the first group have the prior N(0, I), but their effect depends on the
groups before. The encoder goes from the image up, and computes the posterior of a group from its
features and from the state of the decoder. Both consist of smaller models, which a model with
latents in groups finds by their names.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras import KerasTensor, initializers, layers

from kvae.networks import blocks
from kvae.networks.network import Network

__all__ = ["LADDER", "Group", "Ladder", "groups_of"]

GROUPS = ((1, 32), (2, 16), (4, 8), (8, 4))


@dataclasses.dataclass(frozen=True)
class Group:
    """A group of latents on one grid.

    Attributes:
        height: Height of the grid.
        width: Width of the grid.
        channels: Number of latents at each place.
        factor: Factor by which the grid divides the image, rounded up.
    """

    height: int
    width: int
    channels: int
    factor: int

    @property
    def whole(self) -> bool:
        """Whether the grid has one place along its shorter side."""
        return min(self.height, self.width) == 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels

    @property
    def size(self) -> int:
        """The number of latents."""
        return self.height * self.width * self.channels


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes of both halves of a ladder.

    Attributes:
        channels: Number of channels of the largest grid; they double from halving to halving, at
            most twice.
        depth: Number of residual blocks at each grid.
        patch: Factor by which the first convolution divides height and width: 2, 4, 8, ….
        width: Number of units of a group for the whole image, whose layers are dense.
        squeeze: Number of channels of the grid that those dense layers read or make. 0: all.
    """

    channels: int = 32
    depth: int = 1
    patch: int = 2
    width: int = 256
    squeeze: int = 16

    def __post_init__(self) -> None:
        """Checks the numbers."""
        blocks.check_patch(self.patch)

    def at(self, factor: int) -> int:
        """The channels on a grid that divides the image by a factor."""
        return blocks.level_channels(self.channels, max(0, (factor // self.patch).bit_length() - 1))

    def of(self, group: Group) -> int:
        """The channels of features and states on the grid of a group."""
        return self.width if group.whole else self.at(group.factor)

    def squeezed(self, group: Group, factor: int) -> int:
        """The channels between a group and a grid that is `factor` times as fine; 0: all."""
        return self.squeeze if group.whole and factor > 2 else 0


def groups_of(
    image_shape: tuple[int, int, int], groups: Sequence[tuple[int, int]] = GROUPS, **_: Any
) -> list[Group]:
    """Computes the groups for images of this shape.

    Args:
        image_shape: (height, width, channels).
        groups: For each group, from the first: the places along the shorter side, a power of two
            that does not decrease, and the latents at each place. A side that is not a power of
            two, such as 28, is halved like the next one, 32, and rounded up: of 8 places it has 7.
            Groups that are too fine for the images, with more places than half of the shorter side,
            are left out; if all are, the first is made as fine as possible.

    Raises:
        ValueError: If these are not such numbers.
    """
    unit = short_side(image_shape)
    sides = [side for side, _ in groups]
    powers = all(isinstance(side, int) and side > 0 and not side & (side - 1) for side in sides)
    if not sides or not powers or sides != sorted(sides):
        raise ValueError(
            "`groups` must be pairs of a side, a power of two that does not fall, and of channels. "
            f"Received: {groups}"
        )
    kept = [(side, channels) for side, channels in groups if side * 2 <= unit]
    kept = kept or [(unit // 2, groups[0][1])]
    found = [(unit // side, channels) for side, channels in kept]
    return [Group(*grid_of(image_shape, factor), channels, factor) for factor, channels in found]


def checked_groups(
    image_shape: tuple[int, int, int], latent_dim: int, groups: Sequence[tuple[int, int]]
) -> list[Group]:
    """Returns the groups, or raises a ValueError if their latents do not add up."""
    found = groups_of(image_shape, groups)
    count = sum(group.size for group in found)
    if count != latent_dim:
        sizes = " + ".join(str(group.size) for group in found)
        raise ValueError(
            f"The groups have {sizes} = {count} latents. Received: latent_dim={latent_dim}. Leave "
            "it out, or change the groups."
        )
    return found


def grid_of(image_shape: tuple[int, int, int], factor: int) -> tuple[int, int]:
    """(height, width) of an image, divided by a factor and rounded up."""
    return -(-image_shape[0] // factor), -(-image_shape[1] // factor)


def short_side(image_shape: tuple[int, int, int]) -> int:
    """The shorter side of an image in pixels, or the next power of two; at least 2."""
    return max(2, 1 << (min(image_shape[:2]) - 1).bit_length())


class Ladder(Network):
    """The family of networks with latents in groups.

    Example:
        >>> import kvae
        >>> vae = kvae.VAE(
        ...     kvae.build_encoder((28, 28, 1), 60, "ladder", groups=((1, 12), (2, 8), (4, 1))),
        ...     kvae.build_decoder((28, 28, 1), 60, "ladder", groups=((1, 12), (2, 8), (4, 1))),
        ... )
        >>> vae.groups
        (12, 32, 16)
    """

    def __init__(self) -> None:
        super().__init__(bottom_up, top_to_image)

    def groups(self, image_shape: tuple[int, int, int], **arguments: Any) -> tuple[int, ...]:
        """The number of latents in each group."""
        return tuple(group.size for group in groups_of(image_shape, **arguments))

    def encoder(  # type: ignore[override]
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        context_dim: int | None = None,
        groups: Sequence[tuple[int, int]] = GROUPS,
        channels: int = 32,
        depth: int = 1,
        patch: int = 2,
        width: int = 256,
        squeeze: int = 16,
    ) -> keras.Model:
        """Builds the encoder: images, and the decoder's states, to the posteriors.

        Args:
            image_shape: (height, width, channels).
            latent_dim: Number of latents in all groups.
            context_dim: Size of a context, which the features of the first group see. None: no
                context.
            groups: See `groups_of`.
            channels: See `Sizes`, also for the following.
            depth: Number of residual blocks at each grid.
            patch: Factor by which the first convolution divides height and width.
            width: Number of units of a group for the whole image.
            squeeze: Number of channels that its dense layers read.
        """
        sizes = Sizes(channels, depth, patch, width, squeeze)
        found = checked_groups(image_shape, latent_dim, groups)
        inputs = [keras.Input(image_shape, name="images")]
        if context_dim is not None:
            inputs.append(keras.Input((context_dim,), name="context"))
        features = bottom_up(image_shape, found, sizes, context_dim)(
            inputs if context_dim else inputs[0]
        )
        steady = blocks.levels(image_shape[:2]) >= blocks.NORMED
        means, log_variances = [], []
        for i, (group, feature) in enumerate(zip(found, keras.tree.flatten(features), strict=True)):
            seen = [feature]
            if i:
                state = keras.Input(feature.shape[1:], name=f"state_{i + 1}")
                inputs.append(state)
                seen = [state, feature]
            shapes = [tuple(one.shape[1:]) for one in seen]
            name = f"posterior_{i + 1}"
            mean, log_variance = posterior(shapes, group, steady, name=name)(seen)
            means.append(mean)
            log_variances.append(log_variance)
        outputs = [joined(means, "mean"), joined(log_variances, "log_variance")]
        return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs, name="encoder")

    def decoder(  # type: ignore[override]
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        parameters_per_value: int = 1,
        context_dim: int | None = None,
        groups: Sequence[tuple[int, int]] = GROUPS,
        channels: int = 32,
        depth: int = 1,
        patch: int = 2,
        width: int = 256,
        squeeze: int = 16,
    ) -> keras.Model:
        """Builds the decoder, from latents to parameters; arguments as for the encoder.

        The stage of the first group sees the context, and passes its information on.
        """
        sizes = Sizes(channels, depth, patch, width, squeeze)
        found = checked_groups(image_shape, latent_dim, groups)
        latents = keras.Input((latent_dim,), name="latents")
        given = []
        if context_dim is not None:
            given = [keras.Input((context_dim,), name="context")]
        inputs = [latents, *given]
        states: list[KerasTensor] = []
        start = 0
        for i, (group, below) in enumerate(zip(found, [*found[1:], None], strict=True)):
            part = piece(latents, start, group.size, name=f"group_{i + 1}")
            start += group.size
            step = stage(group, below, bool(states), sizes, f"stage_{i + 1}", context_dim)
            states = [step([*states, part, *given])]
            given, context_dim = [], None
        shape = (*image_shape[:2], image_shape[2] * parameters_per_value)
        output = top_to_image(found[-1], shape, sizes)
        return keras.Model(inputs if inputs[1:] else latents, output(states[0]), name="decoder")


def bottom_up(
    image_shape: tuple[int, int, int],
    groups: Sequence[Group],
    sizes: Sizes,
    context_dim: int | None = None,
) -> keras.Model:
    """Builds the model from images to features, one for each group, on its grid.

    The image is halved down to the grid of the last group; each further step leads to the next
    group's grid. The features of the first group, which come last, see the context.
    """
    images = keras.Input(image_shape, name="images")
    inputs = [images]
    x = layers.Rescaling(2.0, offset=-1.0, name="centre")(images)
    on = {group.factor: group for group in groups}
    first, last = min(sizes.patch, groups[-1].factor), groups[-1].factor
    halved = [first << i for i in range((last // first).bit_length())]
    found: dict[int, KerasTensor] = {}
    before = 1
    for level, factor in enumerate([*halved, *sorted(on.keys() - {last})], start=1):
        name, step, group = f"down_{level}", factor // before, on.get(factor)
        if level > 1:
            x = layers.Activation(blocks.ACTIVATION, name=f"{name}_activation")(x)
            if group and (squeezed := sizes.squeezed(group, step)):
                x = blocks.convolution(squeezed, 1, name=f"{name}_squeeze")(x)
                x = layers.Activation(blocks.ACTIVATION, name=f"{name}_squeeze_activation")(x)
        x = filled(x, step, name=f"{name}_pad")
        x = blocks.space_to_depth(x, f"{name}_space_to_depth", step)
        filters = sizes.of(group) if group else sizes.at(factor)
        x = blocks.convolution(filters, kernel_of(x), name=f"{name}_conv")(x)
        if context_dim is not None and factor == max(on):
            inputs.append(keras.Input((context_dim,), name="context"))
            x = blocks.beside_context(x, inputs[-1])
            x = blocks.convolution(filters, 1, name="join_context")(x)
        for i in range(sizes.depth):
            x = residual(x, f"level_{level}_block_{i + 1}")
        found[factor] = x
        before = factor
    features = [found[group.factor] for group in groups]
    return keras.Model(inputs if inputs[1:] else images, features, name="bottom_up")


def posterior(
    shapes: Sequence[tuple[int, ...]], group: Group, steady: bool, name: str
) -> keras.Model:
    """Builds the model from the decoder's state, if any, and features to a posterior.

    Args:
        shapes: Shapes of the state, if there is one, and of the features.
        group: The group.
        steady: Whether to normalise features; without it, a mean of very large images may run away.
        name: Name of the model.
    """
    inputs = [keras.Input(shape) for shape in shapes]
    x = inputs[0]
    if len(inputs) > 1:
        x = layers.Concatenate(name="beside")(inputs)
        x = blocks.convolution(shapes[-1][-1], 1, name="join")(x)
        x = residual(x, "block")
    if steady:
        x = layers.RMSNormalization(name="norm")(x)
    x = layers.Activation(blocks.ACTIVATION, name="activation")(x)
    # It begins near the prior. A deep ladder does not learn from other starts.
    begins = initializers.VarianceScaling(scale=0.1)
    outputs = []
    for head in ("mean", "raw_log_variance"):
        y = blocks.convolution(
            group.channels, 1, kernel_initializer=begins, dtype="float32", name=f"{head}_conv"
        )(x)
        outputs.append(layers.Flatten(dtype="float32", name=head)(y))
    mean, log_variance = outputs
    return keras.Model(
        inputs, [mean, blocks.bounded(log_variance, 10.0, "log_variance")], name=name
    )


def stage(
    group: Group,
    below: Group | None,
    has_state: bool,
    sizes: Sizes,
    name: str,
    context_dim: int | None = None,
) -> keras.Model:
    """Builds the model from a state and the latents of a group to the next state.

    Args:
        group: The group.
        below: The next group. None: this is the last.
        has_state: Whether there is a state before the group; the first group has none.
        sizes: Sizes of both halves.
        name: Name of the model.
        context_dim: Size of a context that is appended to the latents. None: no context.
    """
    width = sizes.of(group)
    latents = keras.Input((group.size,), name="latents")
    inputs = [latents]
    z = layers.Reshape(group.shape, name="latents_on_grid")(latents)
    if has_state:
        state = keras.Input((group.height, group.width, width), name="state")
        inputs = [state, latents]
        gate = layers.Activation(blocks.ACTIVATION, name="gate_activation")(state)
        gate = blocks.convolution(
            group.channels, 1, kernel_initializer="zeros", dtype="float32", name="gate_conv"
        )(gate)
        gate = blocks.bounded(gate, 3.0, name="log_gate")
        gate = layers.Activation("exponential", dtype="float32", name="gate")(gate)
        z = layers.Multiply(dtype="float32", name="gated")([z, gate])
    if context_dim is not None:
        context = keras.Input((context_dim,), name="context")
        inputs = [*inputs, context]
        z = blocks.beside_context(z, context)
    x = blocks.convolution(width, 1, name="expand")(z)
    if has_state:
        x = layers.Add(name="join")([state, x])
    for i in range(sizes.depth):
        x = residual(x, f"block_{i + 1}")
    if below is not None and below.factor < group.factor:
        x = layers.Activation(blocks.ACTIVATION, name="up_activation")(x)
        factor = group.factor // below.factor
        squeezed = sizes.squeezed(group, factor)
        count = factor * factor * (squeezed or sizes.of(below))
        x = blocks.convolution(count, kernel_of(x), name="up_conv")(x)
        x = blocks.depth_to_space(x, "up", factor)
        x = cut(x, (below.height, below.width), name="up_cut")
        if squeezed:
            x = layers.Activation(blocks.ACTIVATION, name="up_squeeze_activation")(x)
            x = blocks.convolution(sizes.of(below), 1, name="up_expand")(x)
    return keras.Model(inputs, x, name=name)


def top_to_image(group: Group, shape: blocks.Shape, sizes: Sizes) -> keras.Model:
    """Builds the model from the last state to the parameters of the pixels, with doublings."""
    state = keras.Input((group.height, group.width, sizes.of(group)), name="state")
    x = state
    for level in reversed(range(group.factor.bit_length() - 1)):
        x = layers.Activation(blocks.ACTIVATION, name=f"up_{level + 1}_activation")(x)
        if not level:
            x = blocks.upsample(x, shape[2], name="up_1", even=True, dtype="float32")
            break
        factor = 2**level
        x = blocks.upsample(x, sizes.at(factor), name=f"up_{level + 1}", even=True)
        x = cut(x, grid_of(shape, factor), name=f"up_{level + 1}_cut")
        # The encoder makes the first halvings at once, and the layers that mirror them have no
        # blocks.
        for i in range(sizes.depth if factor >= sizes.patch else 0):
            x = residual(x, f"level_{level + 1}_block_{i + 1}")
    x = cut(x, shape[:2], name="crop", dtype="float32")
    x = layers.Activation("linear", dtype="float32", name="parameters")(x)
    return keras.Model(state, x, name="output")


def filled(x: KerasTensor, factor: int, name: str) -> KerasTensor:
    """Pads grids so that a factor divides height and width."""
    sides = added(*(-length % factor for length in x.shape[1:3]))
    return layers.ZeroPadding2D(sides, name=name)(x) if any(map(any, sides)) else x


def cut(x: KerasTensor, size: tuple[int, int], name: str, **rest: Any) -> KerasTensor:
    """Crops grids to (height, width)."""
    sides = added(*(have - want for have, want in zip(x.shape[1:3], size, strict=True)))
    return layers.Cropping2D(sides, name=name, **rest)(x) if any(map(any, sides)) else x


def added(rows: int, columns: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The padding of rows at the bottom and columns at the right, as Keras takes it.

    The padding is not split between both sides, so that the grids of encoder and decoder lie on the
    same pixels.
    """
    return (0, rows), (0, columns)


def residual(x: KerasTensor, name: str) -> KerasTensor:
    """Applies a residual block whose kernels fit the grid."""
    return blocks.conv_residual(x, name, side=kernel_of(x))


def kernel_of(x: KerasTensor) -> int:
    """The side of a kernel: 3, or 1 if a side of the grid has at most two places."""
    return 3 if min(x.shape[1:3]) > 2 else 1


def piece(x: KerasTensor, start: int, size: int, name: str) -> KerasTensor:
    """Takes `size` values of each row from `start` on: (batch, any) to (batch, size)."""
    x = layers.Reshape((x.shape[-1], 1), name=f"{name}_column")(x)
    x = layers.Cropping1D((start, x.shape[1] - start - size), name=f"{name}_crop")(x)
    return layers.Reshape((size,), name=name)(x)


def joined(parts: Sequence[KerasTensor], name: str) -> KerasTensor:
    """Concatenates rows."""
    if len(parts) == 1:
        return layers.Activation("linear", dtype="float32", name=name)(parts[0])
    return layers.Concatenate(dtype="float32", name=name)(list(parts))


LADDER = Ladder()
