"""Rounding: what smaller weights become, and what that costs the model in nats."""

from typing import Any

import numpy as np
from keras import ops

from kvae.model import VAE

__all__ = ["as_int8", "cost_in_nats", "is_rounded", "rounded"]

LEAST = 256  # values of a weight that is worth rounding
DRAWS = 10  # of z for each image
SEED = 0


def is_rounded(values: np.ndarray, weights: str) -> bool:
    """Whether a weight is stored as `weights`: a vector in int8 would have a scale a value."""
    large = values.dtype == np.float32 and values.size >= LEAST
    return large and not (weights == "int8" and values.ndim < 2)


def as_int8(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """A weight as int8, and a scale for each place along an axis, (places,), float32.

    Args:
        values: float32.
        axis: That of what a layer gives: 0 or the last.
    """
    others = tuple(one for one in range(values.ndim) if one != axis)
    scales = np.abs(values).max(axis=others, keepdims=True) / 127
    scales = np.maximum(scales, np.finfo("float32").tiny).astype("float32")
    return np.rint(values / scales).astype(np.int8), scales.reshape(-1)


def rounded(values: np.ndarray, weights: str) -> np.ndarray:
    """A weight of Keras as it is used once it was stored as `weights`, float32.

    Args:
        values: float32; along the last axis is what a layer gives.
        weights: "float16" or "int8".
    """
    if not is_rounded(values, weights):
        return values
    if weights == "float16":
        return values.astype(np.float16).astype("float32")
    codes, scales = as_int8(values, values.ndim - 1)
    return codes * scales


def cost_in_nats(vae: VAE, layers: Any, weights: str, images: np.ndarray, classes: Any) -> float:
    """What rounded weights cost: −ELBO with them less that without, nats per image.

    With the same images and the same noise. The model stays as it was.

    Args:
        vae: The model.
        layers: Of the model: those whose weights are rounded.
        weights: "float16" or "int8".
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        classes: Of a conditional model, of each image.
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
