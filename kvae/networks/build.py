"""Builds encoders q(z|x) and decoders p(x|z) as stock Functional models."""

from typing import Any

import keras

from kvae.networks.convolutional import CONV
from kvae.networks.dense import DENSE
from kvae.networks.ladder import LADDER
from kvae.networks.mlp import MLP
from kvae.networks.network import Network
from kvae.networks.pooled import POOLED
from kvae.networks.resnet import RESNET
from kvae.networks.spatial import SPATIAL

__all__ = ["NETWORKS", "build_decoder", "build_encoder"]

NETWORKS: dict[str, Network] = {
    "mlp": MLP,
    "conv": CONV,
    "spatial": SPATIAL,
    "dense": DENSE,
    "pooled": POOLED,
    "resnet": RESNET,
    "ladder": LADDER,
}


def build_encoder(
    image_shape: tuple[int, int, int],
    latent_dim: int,
    network: str | Network = "mlp",
    context_dim: int | None = None,
    **arguments: Any,
) -> keras.Model:
    """Builds an encoder for images of any size.

    Args:
        image_shape: (height, width, channels).
        latent_dim: Number of latents.
        network: "mlp" (residual dense blocks), "conv" (residual convolutions), "spatial" (the same,
            with latents on a grid), "dense" (plain dense layers), "pooled" (convolutions with
            max-pooling), "resnet" (with batch norm), "ladder" (latents in groups; see
            `kvae.networks.ladder`), or a `Network` of your own.
        context_dim: Size of a second input, `context`, (batch, context_dim), which the heads see
            beside the features. None: there is no such input.
        **arguments: Arguments of the network; see its file in `kvae.networks`.

    Returns:
        A Functional model that maps images, (batch, height, width, channels), float in [0, 1], to
        `[mean, log_variance]`, each (batch, latent), float32. It opens where kvae is not installed.
        The encoder of a ladder also takes the states of the decoder.

    Raises:
        ValueError: If there is no such network.

    Example:
        >>> import kvae
        >>> encoder = kvae.build_encoder((28, 28, 1), 16, width=64, depth=1)
        >>> [tuple(output.shape) for output in encoder.outputs]
        [(None, 16), (None, 16)]
    """
    return known(network).encoder(image_shape, latent_dim, context_dim, **arguments)


def build_decoder(
    image_shape: tuple[int, int, int],
    latent_dim: int,
    network: str | Network = "mlp",
    parameters_per_value: int = 1,
    context_dim: int | None = None,
    **arguments: Any,
) -> keras.Model:
    """Builds a decoder for images of any size.

    Args:
        image_shape: (height, width, channels).
        latent_dim: Number of latents.
        network: As for `build_encoder`; the decoder mirrors that encoder.
        parameters_per_value: Number of raw parameters per value that the likelihood needs.
        context_dim: Size of a second input, `context`, (batch, context_dim), which the network sees
            beside the latents. None: there is no such input.
        **arguments: Arguments of the network, the same as for `build_encoder`.

    Returns:
        A Functional model that maps latents, (batch, latent), to (batch, height, width, channels ·
        parameters_per_value), float32, unbounded. For a Bernoulli likelihood these are logits. The
        model opens where kvae is not installed.

    Raises:
        ValueError: If there is no such network.

    Example:
        >>> import kvae
        >>> decoder = kvae.build_decoder((28, 28, 1), 16, width=64, depth=1)
        >>> tuple(decoder.output.shape)
        (None, 28, 28, 1)
    """
    return known(network).decoder(
        image_shape, latent_dim, parameters_per_value, context_dim, **arguments
    )


def known(network: str | Network) -> Network:
    """Returns the network of this name, or the network that is given."""
    if isinstance(network, Network):
        return network
    if network not in NETWORKS:
        raise ValueError(
            f"`network` must be one of {', '.join(NETWORKS)}, or a kvae.Network. "
            f"Received: {network!r}"
        )
    return NETWORKS[network]
