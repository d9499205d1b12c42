"""Check of what a conditional model is told: whether it tells, and of which classes images were."""

import math
from collections.abc import Sequence

import numpy as np

from kvae.diagnosis.finding import Finding, listed, signed

__all__ = ["check_classes"]

LEAST = 0.05  # nats: so little a class may tell


def check_classes(
    right: np.ndarray, wrong: np.ndarray, missing: Sequence[str] = (), numbers: bool = False
) -> Finding:
    """Whether what a conditional model is told of an image says anything of it.

    Args:
        right: (count,), −ELBO of images with their own class, nats.
        wrong: (count,), the same, told the class that comes next, or the numbers of another image.
        missing: The classes of which no image was trained on.
        numbers: Whether the model is told numbers, and no class.
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
