"""Rounding of weights, and its cost in nats."""

from typing import Any

import numpy as np
from keras import ops

from kvae.model import VAE

__all__ = ["as_int8", "cost_in_nats", "is_rounded", "rounded"]

LEAST = 256  # smallest number of values for which rounding pays
DRAWS = 10  # draws of z per image
SEED = 0


def is_rounded(values: np.ndarray, weights: str) -> bool:
    """Whether a weight is stored as `weights`; int8 vectors would need a scale per value."""
    large = values.dtype == np.float32 and values.size >= LEAST
    return large and not (weights == "int8" and values.ndim < 2)


def as_int8(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Rounds a weight to int8, with one scale for each index along an axis, float32.

    Args:
        values: float32.
        axis: Axis of the outputs of the layer: 0 or the last.
    """
    others = tuple(one for one in range(values.ndim) if one != axis)
    scales = np.abs(values).max(axis=others, keepdims=True) / 127
    scales = np.maximum(scales, np.finfo("float32").tiny).astype("float32")
    return np.rint(values / scales).astype(np.int8), scales.reshape(-1)


def rounded(values: np.ndarray, weights: str) -> np.ndarray:
    """Rounds a Keras weight to `weights`, and converts it back to float32.

    Args:
        values: float32, with the outputs of the layer along the last axis.
        weights: "float16" or "int8".
    """
    if not is_rounded(values, weights):
        return values
    if weights == "float16":
        return values.astype(np.float16).astype("float32")
    codes, scales = as_int8(values, values.ndim - 1)
    return codes * scales


def cost_in_nats(vae: VAE, layers: Any, weights: str, images: np.ndarray, classes: Any) -> float:
    """The cost of rounded weights: the difference in −ELBO, nats per image.

    Both use the same images and the same noise. The model does not change.

    Args:
        vae: The model.
        layers: Layers of the model whose weights are rounded.
        weights: "float16" or "int8".
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        classes: For a conditional model, the class of each image.
    """
    variables = [variable for layer in layers for variable in layer.weights]
    before = [np.array(ops.convert_to_numpy(variable)) for variable in variables]
    scores = vae.score(images, DRAWS, SEED, classes=classes)
    try:
        for variable, values in zip(variables, before, strict=True):
            variable.assign(rounded(values, weights))
        after = vae.score(images, DRAWS, SEED, classes=classes)
    finally:
        for variable, values in zip(variables, before, strict=True):
            variable.assign(values)
    return float(np.mean(scores.elbo - after.elbo))
