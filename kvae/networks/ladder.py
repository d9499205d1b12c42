"""Ladder: latents in groups, the first for the whole image, each further one for finer parts of it.

The decoder goes from the first group to the last. What the groups above have made, its state, says
how much a latent counts: each is multiplied by a gate that is read from the state. So latents after
the first group are drawn from N(0, I), and are nevertheless spread as the groups above will have
it. The encoder goes from the image up, and reads the posterior of a group from its features and
from the decoder's state. Both are made of smaller models, whose names a model of groups goes by.
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
    """Latents that lie on one grid.

    Attributes:
        height: Of the grid.
        width: Of the grid.
        channels: Latents at each place.
    """

    height: int
    width: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels

    @property
    def size(self) -> int:
        """The number of latents."""
        return self.height * self.width * self.channels


def groups_of(
    image_shape: tuple[int, int, int], groups: Sequence[tuple[int, int]] = GROUPS, **_: Any
) -> list[Group]:
    """The groups for images of this shape.

    Args:
        image_shape: (height, width, channels).
        groups: Of each, from the first: the places along the shorter side, a power of two that does
            not fall, and the latents at each place. Those that are too fine for the images, more
            than half of the shorter side, are left out; the first is then as fine as can be.

    Raises:
        ValueError: If they are no such numbers.
    """
    unit = short_side(image_shape)
    sides = [side for side, _ in groups]
    powers = all(isinstance(side, int) and side > 0 and not side & (side - 1) for side in sides)
    if not sides or not powers or sides != sorted(sides):
        raise ValueError(
            "`groups` must be pairs of a side, a power of two that does not fall, and of channels. "
            f"Received: {groups}"
        )
    rows, columns = (-(-length // unit) for length in image_shape[:2])
    kept = [(side, channels) for side, channels in groups if side * 2 <= unit]
    kept = kept or [(unit // 2, groups[0][1])]
    return [Group(side * rows, side * columns, channels) for side, channels in kept]


def checked_groups(
    image_shape: tuple[int, int, int],
    latent_dim: int,
    context_dim: int | None,
    groups: Sequence[tuple[int, int]],
) -> list[Group]:
    """The groups, or a ValueError where they have not so many latents, or there is a context."""
    if context_dim is not None:
        raise ValueError("The network 'ladder' takes no context.")
    found = groups_of(image_shape, groups)
    count = sum(group.size for group in found)
    if count != latent_dim:
        sizes = " + ".join(str(group.size) for group in found)
        raise ValueError(
            f"The groups have {sizes} = {count} latents. Received: latent_dim={latent_dim}. Leave "
            "it out, or change the groups."
        )
    return found


def short_side(image_shape: tuple[int, int, int]) -> int:
    """The shorter side of an image in pixels, or the next power of two, at least 2."""
    return max(2, 1 << (min(image_shape[:2]) - 1).bit_length())


class Ladder(Network):
    """The family of networks whose latents come in groups.

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

    def latents(self, image_shape: tuple[int, int, int], **arguments: Any) -> int:
        """The number of latents in all groups."""
        return sum(group.size for group in groups_of(image_shape, **arguments))

    def first_group(self, image_shape: tuple[int, int, int], **arguments: Any) -> int:
        """The number of latents in the first group."""
        return groups_of(image_shape, **arguments)[0].size

    def encoder(  # type: ignore[override]
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        context_dim: int | None = None,
        groups: Sequence[tuple[int, int]] = GROUPS,
        channels: int = 32,
        depth: int = 1,
        patch: int = 2,
    ) -> keras.Model:
        """Images, and the decoder's state before each group but the first, to the posteriors.

        Args:
            image_shape: (height, width, channels).
            latent_dim: The number of latents in all groups.
            context_dim: None.
            groups: See `groups_of`.
            channels: Of the largest grid; they double from grid to grid, at most twice.
            depth: Residual blocks at each grid.
            patch: By how much the first convolution divides height and width: 2, 4, 8, …
        """
        found = checked_groups(image_shape, latent_dim, context_dim, groups)
        images = keras.Input(image_shape, name="images")
        features = bottom_up(image_shape, found, channels, depth, patch)(images)
        inputs, means, log_variances = [images], [], []
        for i, (group, feature) in enumerate(zip(found, keras.tree.flatten(features), strict=True)):
            seen = [feature]
            if i:
                width = width_of(image_shape, group, channels, patch)
                state = keras.Input((group.height, group.width, width), name=f"state_{i + 1}")
                inputs.append(state)
                seen = [state, feature]
            shapes = [tuple(one.shape[1:]) for one in seen]
            mean, log_variance = posterior(shapes, group, name=f"posterior_{i + 1}")(seen)
            means.append(mean)
            log_variances.append(log_variance)
        outputs = [joined(means, "mean"), joined(log_variances, "log_variance")]
        return keras.Model(inputs if len(inputs) > 1 else images, outputs, name="encoder")

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
    ) -> keras.Model:
        """Latents to the likelihood's parameters; the arguments are the encoder's."""
        found = checked_groups(image_shape, latent_dim, context_dim, groups)
        latents = keras.Input((latent_dim,), name="latents")
        states: list[KerasTensor] = []
        start = 0
        for i, (group, below) in enumerate(zip(found, [*found[1:], None], strict=True)):
            part = piece(latents, start, group.size, name=f"group_{i + 1}")
            start += group.size
            width = width_of(image_shape, group, channels, patch)
            after = None
            if below is not None:
                after = (below, width_of(image_shape, below, channels, patch))
            step = stage(group, width, depth, after, bool(states), name=f"stage_{i + 1}")
            states = [step([*states, part])]
        shape = (*image_shape[:2], image_shape[2] * parameters_per_value)
        output = top_to_image(found[-1], states[0].shape[-1], shape, channels, depth, patch)
        return keras.Model(latents, output(states[0]), name="decoder")


def width_of(image_shape: tuple[int, int, int], group: Group, channels: int, patch: int) -> int:
    """The channels of features and states on the grid of a group."""
    unit = short_side(image_shape)
    rows = -(-image_shape[0] // unit)
    level = (unit // patch * rows // group.height).bit_length() - 1
    return blocks.level_channels(channels, max(0, level))


def bottom_up(
    image_shape: tuple[int, int, int],
    groups: Sequence[Group],
    channels: int,
    depth: int,
    patch: int,
) -> keras.Model:
    """Images to features, one for each group, on its grid."""
    unit = short_side(image_shape)
    images = keras.Input(image_shape, name="images")
    x = layers.Rescaling(2.0, offset=-1.0, name="centre")(images)
    height, width = (-length % unit for length in image_shape[:2])
    x = blocks.padded(x, (height // 2, height - height // 2, width // 2, width - width // 2))
    found: dict[int, KerasTensor] = {}
    factor, level = min(patch, unit // groups[-1].height * -(-image_shape[0] // unit)), 0
    while True:
        filters = blocks.level_channels(channels, level)
        x = blocks.space_to_depth(x, f"down_{level + 1}_space_to_depth", factor)
        x = blocks.convolution(filters, kernel_of(x), name=f"down_{level + 1}_conv")(x)
        for i in range(depth):
            x = residual(x, f"level_{level + 1}_block_{i + 1}")
        found[x.shape[1]] = x
        if x.shape[1] <= groups[0].height:
            break
        factor, level = 2, level + 1
    return keras.Model(images, [found[group.height] for group in groups], name="bottom_up")


def posterior(shapes: Sequence[tuple[int, ...]], group: Group, name: str) -> keras.Model:
    """Features, after the decoder's state where there is one, to mean and log-variance."""
    inputs = [keras.Input(shape) for shape in shapes]
    x = inputs[0]
    if len(inputs) > 1:
        x = layers.Concatenate(name="beside")(inputs)
        x = blocks.convolution(shapes[-1][-1], 1, name="join")(x)
        x = residual(x, "block")
    # Without it a mean may run away, and the flow and the decoder after it.
    x = layers.RMSNormalization(name="norm")(x)
    x = layers.Activation(blocks.ACTIVATION, name="activation")(x)
    # It begins near the prior, from which a deep ladder learns and elsewhere does not.
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
    width: int,
    depth: int,
    below: tuple[Group, int] | None,
    has_state: bool,
    name: str,
) -> keras.Model:
    """The state before a group, and its latents, to the state before the group below.

    Args:
        group: The group.
        width: Channels of the state.
        depth: Residual blocks after the latents came in.
        below: The next group, and the channels of its state; None after the last.
        has_state: Whether there is a state before it; not before the first.
        name: Of the model.
    """
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
    x = blocks.convolution(width, 1, name="expand")(z)
    if has_state:
        x = layers.Add(name="join")([state, x])
    for i in range(depth):
        x = residual(x, f"block_{i + 1}")
    if below is not None and (below[0].height, below[1]) != (group.height, width):
        x = layers.Activation(blocks.ACTIVATION, name="up_activation")(x)
        factor = below[0].height // group.height
        count = factor * factor * below[1]
        x = blocks.convolution(count, kernel_of(x), name="up_conv")(x)
        x = blocks.depth_to_space(x, "up", factor) if factor > 1 else x
    return keras.Model(inputs, x, name=name)


def top_to_image(
    group: Group,
    width: int,
    shape: blocks.Shape,
    channels: int,
    depth: int,
    patch: int,
) -> keras.Model:
    """The last state to the parameters of the pixels, doubling the grid until it is the image."""
    unit = short_side(shape)
    state = keras.Input((group.height, group.width, width), name="state")
    x = state
    halvings = (unit * -(-shape[0] // unit) // group.height).bit_length() - 1
    within = patch.bit_length() - 1  # halvings that the encoder makes at once
    for level in reversed(range(halvings)):
        x = layers.Activation(blocks.ACTIVATION, name=f"up_{level + 1}_activation")(x)
        if not level:
            x = blocks.upsample(x, shape[2], name="up_1", even=True, dtype="float32")
            break
        filters = blocks.level_channels(channels, max(0, level - within))
        x = blocks.upsample(x, filters, name=f"up_{level + 1}", even=True)
        for i in range(depth if level >= within else 0):
            x = residual(x, f"level_{level + 1}_block_{i + 1}")
    return keras.Model(state, cut(x, shape), name="output")


def cut(x: KerasTensor, shape: blocks.Shape) -> KerasTensor:
    """Images without what was added to their sides."""
    height, width = (have - want for have, want in zip(x.shape[1:3], shape[:2], strict=True))
    if height or width:
        sides = ((height // 2, height - height // 2), (width // 2, width - width // 2))
        x = layers.Cropping2D(sides, dtype="float32", name="crop")(x)
    return layers.Activation("linear", dtype="float32", name="parameters")(x)


def residual(x: KerasTensor, name: str) -> KerasTensor:
    """A residual block whose kernels fit the grid."""
    return blocks.conv_residual(x, name, side=kernel_of(x))


def kernel_of(x: KerasTensor) -> int:
    """The side of a kernel: 3, but 1 where a grid has no more than two places along a side."""
    return 3 if min(x.shape[1:3]) > 2 else 1


def piece(x: KerasTensor, start: int, size: int, name: str) -> KerasTensor:
    """So many of the values of each row, from one on: (batch, any) to (batch, size)."""
    x = layers.Reshape((x.shape[-1], 1), name=f"{name}_column")(x)
    x = layers.Cropping1D((start, x.shape[1] - start - size), name=f"{name}_crop")(x)
    return layers.Reshape((size,), name=name)(x)


def joined(parts: Sequence[KerasTensor], name: str) -> KerasTensor:
    """Rows, each behind the other."""
    if len(parts) == 1:
        return layers.Activation("linear", dtype="float32", name=name)(parts[0])
    return layers.Concatenate(dtype="float32", name=name)(list(parts))


LADDER = Ladder()
