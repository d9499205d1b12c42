"""Checks of training: overfitting, and weights that do not learn."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from kvae.diagnosis.finding import SEVERITIES, Finding, capitalised, listed, rated, signed

__all__ = ["check_gradients", "check_overfitting"]

LOST = (0.05, 0.25)  # shares of what validation had gained, lost again: warning, problem
NEARLY = 0.02  # the share of what validation gained that does not count
APART = (0.25, 0.5)  # train and validation, in standard deviations over images
DEAD = 0.5  # the share of a layer's units


def check_overfitting(
    validation_loss: Sequence[float] = (),
    train: np.ndarray | None = None,
    validation: np.ndarray | None = None,
) -> Finding:
    """Checks whether the model overfits its training images.

    There are two signs. First, the validation loss rose again from its minimum, measured as a share
    of its gain since the first epoch. Second, training images have better scores than validation
    images, by more than chance (three standard errors), measured in standard deviations over
    images. Neither depends on the unit, or on the constants of a density.

    Args:
        validation_loss: Validation loss by epoch.
        train: (count,), −ELBO of training images, nats.
        validation: (count,), −ELBO of validation images, nats, with the same protocol.
    """
    signs, severities, cures = [], ["ok"], []
    if train is not None and validation is not None:
        gap = float(validation.mean() - train.mean())
        sign = (
            f"−ELBO is {signed(train.mean())} for {len(train):,} train and "
            f"{signed(validation.mean())} for {len(validation):,} validation "
            f"image{'s' * (len(validation) != 1)}: a gap of {signed(gap)}"
        )
        if min(len(train), len(validation)) > 1:
            error = math.sqrt(sum(part.var() / len(part) for part in (train, validation)))
            signs.append(f"{sign} ± {error:.2f} nats")
            apart = gap / max(float(validation.std()), 1e-12)
            severities.append(rated(apart, APART) if gap > 3 * error else "ok")
        else:
            signs.append(f"{sign} nats; its error needs 2 images of each")
    loss = np.asarray(validation_loss, "float64")
    if len(loss) and np.isfinite(loss).all():
        best, lowest = int(loss.argmin()) + 1, loss.min()
        gained, lost = loss[0] - lowest, loss[-1] - lowest
        text = f"validation loss was best at epoch {best} of {len(loss)}"
        if best < len(loss):
            text += f" and has risen by {lost:.2f} since"
            severities.append(rated(lost / max(gained, 1e-12), LOST))
        signs.append(text)
        enough = int(np.argmax(loss <= lowest + NEARLY * gained)) + 1
        if enough < len(loss):
            cures.append(f"--epochs {enough} is nearly as good")
    else:
        signs.append("there is no history to look at")
    severity = max(severities, key=SEVERITIES.index)
    seen = capitalised("; ".join(signs)) + "."
    if severity == "ok":
        return Finding("overfitting", "ok", seen)
    cures.append("more images, a smaller --preset or --latent-dim")
    return Finding("overfitting", severity, seen, capitalised("; ".join(cures)) + ".")


def check_gradients(gradients: Mapping[str, np.ndarray], broken: Sequence[str] = ()) -> Finding:
    """Checks whether every weight learns.

    Args:
        gradients: Gradients of one batch, by the name of the variable.
        broken: Names of variables that are not finite.
    """
    broken = [*broken, *(name for name, g in gradients.items() if not np.isfinite(g).all())]
    if broken:
        return Finding(
            "gradients",
            "problem",
            f"Not finite: {listed(broken)}.",
            "A lower --learning-rate, or --precision float32.",
        )
    dead = [name for name, gradient in gradients.items() if not gradient.any()]
    if dead:
        return Finding(
            "gradients",
            "problem",
            f"No gradient reaches {len(dead)} of {len(gradients)} variables: {listed(dead)}.",
            "A lower --learning-rate, where units died; or join these layers to the output.",
        )
    shares = {
        name: float((g == 0).mean())
        for name, g in gradients.items()
        if g.ndim == 1 and not name.startswith("prior/")  # a coupling moves half of its latents
    }
    silent = [name for name, share in shares.items() if share > DEAD]
    most = max(shares.values(), default=0.0)
    if silent:
        return Finding(
            "gradients",
            "warning",
            f"Up to {most:.0%} of the units have no gradient in {listed(silent)}.",
            "A lower --learning-rate; in a network of your own, gelu in place of relu.",
        )
    return Finding(
        "gradients",
        "ok",
        f"A gradient reaches all {len(gradients)} variables; at most {most:.0%} of a layer's units "
        "have none.",
    )
