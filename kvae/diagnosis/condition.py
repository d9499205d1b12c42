"""Check of a conditional model: whether the class says anything, and which were trained."""

import math
from collections.abc import Sequence

import numpy as np

from kvae.diagnosis.finding import Finding, listed, signed

__all__ = ["check_classes"]

LEAST = 0.05  # nats; with less information, the class is of no use


def check_classes(
    right: np.ndarray, wrong: np.ndarray, missing: Sequence[str] = (), numbers: bool = False
) -> Finding:
    """Checks whether the class or the numbers of an image say anything about it.

    Args:
        right: (count,), −ELBO of images with their own class, nats.
        wrong: (count,), −ELBO of the same images with the next class, or with the numbers of
            another image.
        missing: Classes without training images.
        numbers: Whether the condition is numbers, not a class.
    """
    name, what = "classes", "their own numbers" if numbers else "their own class"
    gains = wrong.astype("float64") - right
    gain = float(gains.mean())
    error = float(gains.std() / math.sqrt(len(gains)))
    other = "those of others" if numbers else "another one"
    seen = f"−ELBO is {signed(right.mean())} of images with {what}, {signed(wrong.mean())} with "
    seen += f"{other}."
    if missing:
        plural = "es" * (len(missing) > 1)
        return Finding(
            name,
            "warning",
            f"No training image is of class{plural} {listed(missing)}. {seen}",
            "Add training images of each class: the model has not learned what it never saw.",
        )
    if gain > max(3 * error, LEAST):
        return Finding(name, "ok", seen)
    told = "The numbers tell" if numbers else "The class tells"
    return Finding(
        name,
        "warning",
        f"{told} the model nothing: {seen}",
        "Look whether labels and images are in one order; train longer (--epochs); or a smaller "
        "--latent-dim, which leaves more for them to tell.",
    )
