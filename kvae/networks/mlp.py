"""Residual dense blocks: an encoder, and the decoder that mirrors it."""

from keras import KerasTensor, layers

from kvae.networks import blocks
from kvae.networks.network import Network

__all__ = ["MLP"]


def mlp_features(x: KerasTensor, width: int = 512, depth: int = 2) -> KerasTensor:
    """Flattens images and applies `depth` residual dense blocks: to (batch, width)."""
    x = layers.Rescaling(2.0, offset=-1.0, name="centre")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(width, name="stem")(x)
    for i in range(depth):
        x = blocks.dense_residual(x, name=f"block_{i + 1}")
    x = layers.RMSNormalization(name="norm")(x)
    return layers.Activation(blocks.ACTIVATION, name="activation")(x)


def mlp_parameters(
    z: KerasTensor, shape: blocks.Shape, width: int = 512, depth: int = 2
) -> KerasTensor:
    """Applies `depth` residual dense blocks and a dense layer to all values: (batch, *shape).

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
    return blocks.values(x, shape)


MLP = Network(mlp_features, mlp_parameters)
