"""Plain dense layers: an encoder, and the decoder that mirrors it."""

from keras import KerasTensor, layers

from kvae.networks import blocks
from kvae.networks.network import Network

__all__ = ["DENSE"]


def dense_features(
    x: KerasTensor, widths: tuple[int, ...] = (400,), activation: str = "relu"
) -> KerasTensor:
    """Flattens images and applies a dense layer of each width: to (batch, last width)."""
    x = layers.Flatten(name="flatten")(x)
    for i, width in enumerate(widths):
        x = layers.Dense(width, activation=activation, name=f"dense_{i + 1}")(x)
    return x


def dense_parameters(
    z: KerasTensor, shape: blocks.Shape, widths: tuple[int, ...] = (400,), activation: str = "relu"
) -> KerasTensor:
    """Applies a dense layer of each width, in reverse order, then one to all values."""
    x = z
    for i, width in enumerate(reversed(widths)):
        x = layers.Dense(width, activation=activation, name=f"dense_{i + 1}")(x)
    return blocks.values(x, shape)


DENSE = Network(dense_features, dense_parameters)
