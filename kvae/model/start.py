"""Sets the initial output of an untrained decoder."""

import math
from collections.abc import Iterator

import keras
import numpy as np

from kvae.likelihoods import Likelihood
from kvae.limits import pieces

__all__ = ["start_at_mean"]


def start_at_mean(decoder: keras.Model, likelihood: Likelihood, images: np.ndarray) -> None:
    """Sets the last bias of a decoder so that its output begins at the mean of the images.

    The mean is per value if the layer has a bias for each value (a dense layer), else per channel.

    Args:
        decoder: A model from latents to the likelihood's parameters.
        likelihood: p(x|z).
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].

    Raises:
        ValueError: If the decoder has no bias that fits.
    """
    total = sum(piece.sum(axis=0, dtype="float64") for piece in pieces(images))
    mean = total / len(images) / (1 if images.dtype.kind in "fb" else 255)
    parameters = likelihood.parameters_of(mean[np.newaxis])
    last = [layer for layer in leaves(decoder) if hasattr(layer, "kernel")][-1:]
    bias = last[0].bias if last else None
    size = math.prod(bias.shape) if bias is not None else 0
    if size != parameters.size:
        mean = np.broadcast_to(mean.mean(axis=(0, 1)), (1, 1, 1, mean.shape[-1]))
        parameters = likelihood.parameters_of(mean)
    if bias is None or size % parameters.size:
        raise ValueError("The decoder's last layer has no bias for each value or channel.")
    bias.assign(np.tile(parameters.reshape(-1), size // parameters.size))


def leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model, in order, with nested models replaced by their layers."""
    for layer in model.layers:
        yield from leaves(layer) if isinstance(layer, keras.Model) else [layer]
