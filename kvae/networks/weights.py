"""A lower bound on the number of weights of a model, before it is built."""

import inspect
import math
from typing import Any

from kvae.networks import blocks
from kvae.networks.build import NETWORKS
from kvae.networks.ladder import Sizes, groups_of

__all__ = ["fewest_weights"]


def fewest_weights(
    network: str, image_shape: tuple[int, int, int], latent_dim: int, **arguments: Any
) -> int:
    """Computes a lower bound on the number of weights of encoder and decoder together.

    It counts the layers that can become arbitrarily large: those between pixels, latents and hidden
    units. Biases, norms and smaller convolutions are left out.

    Args:
        network: A key of `NETWORKS`.
        image_shape: (height, width, channels).
        latent_dim: Number of latents.
        **arguments: Arguments of the network.

    Raises:
        ValueError: If the network has no such argument, or the value is of another kind.
    """
    ladder = network == "ladder"
    function = NETWORKS[network].encoder if ladder else NETWORKS[network].features
    parameters = inspect.signature(function).parameters.items()
    defaults = {
        name: p.default
        for name, p in parameters
        if p.default is not p.empty and name != "context_dim"
    }
    for name, value in arguments.items():
        if name not in defaults:
            names = ", ".join(defaults)
            raise ValueError(f"The network {network!r} has no argument `{name}`; it has {names}.")
        if not alike(value, defaults[name]):
            raise ValueError(
                f"`{name}` of the network {network!r} must be such as {defaults[name]!r}. "
                f"Received: {name}={value!r}"
            )
    known = defaults | arguments
    height, width, _ = image_shape
    pixels = math.prod(image_shape)
    if network == "mlp":
        units, depth = known["width"], known["depth"]
        return 2 * pixels * units + 2 * depth * units**2 + (3 + depth) * units * latent_dim
    if network == "dense":
        return 2 * pixels * known["widths"][0] + 3 * known["widths"][-1] * latent_dim
    if network == "resnet":
        channels = known["channels"]
        halvings, kernels = len(channels) - 1, 9 * sum(count**2 for count in channels)
        last = channels[-1] * (height >> halvings) * (width >> halvings)
        return 2 * known["depth"] * kernels + latent_dim * (2 * channels[-1] + last)
    if ladder:
        return ladder_weights(image_shape, **known)
    if network == "spatial":
        return 36 * known["depth"] * known["convolutions"] * known["channels"] ** 2
    if network == "conv":
        halvings, units, depth = blocks.levels((height, width)), known["width"], known["depth"]
        last, kernels = known["squeeze"] or known["channels"], 9 * known["channels"] ** 2
        first, kernels = units, 2 * depth * known["convolutions"] * kernels
    else:
        halvings, last = len(known["channels"]), known["last_channels"]
        first, units, kernels = known["widths"][0], known["widths"][-1], 0
    flat = last * (height >> halvings) * (width >> halvings)
    return 2 * flat * first + kernels + 3 * units * latent_dim


def ladder_weights(image_shape: tuple[int, int, int], groups: Any, depth: int, **known: Any) -> int:
    """A lower bound for a ladder, from its largest grid and the layers of its first group."""
    sizes = Sizes(depth=depth, **known)
    found = groups_of(image_shape, groups)
    count = 36 * depth * sizes.channels**2
    first, *others = found
    if first.whole:
        count += 4 * depth * sizes.width**2 + 3 * sizes.width * first.size
        step = first.factor // others[0].factor if others else 1
        read = sizes.squeezed(first, step) or (sizes.of(others[0]) if others else 0)
        count += 2 * step**2 * read * sizes.width
    return count


def alike(value: Any, default: Any) -> bool:
    """Whether a value is of the kind of the default; numbers must not be negative."""
    if isinstance(default, tuple):
        several = isinstance(value, (list, tuple)) and len(value) > 0
        return several and all(alike(one, default[0]) for one in value)
    if isinstance(default, (bool, str)):
        return isinstance(value, type(default))
    kinds = (int, float) if isinstance(default, float) else int
    return isinstance(value, kinds) and not isinstance(value, bool) and value >= 0
