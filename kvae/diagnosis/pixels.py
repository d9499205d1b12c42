"""Checks of the pixels: whether the likelihood fits them, and its scale."""

import math
from collections.abc import Mapping

import numpy as np

from kvae.diagnosis.finding import Finding, rated
from kvae.likelihoods import (
    Bernoulli,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    Likelihood,
)

__all__ = ["check_likelihood", "check_scale", "learns_scale", "pixel_facts"]

GREY = 0.35  # the share of grey values from which binarisation costs more than it simplifies
MOSTLY_GREY = 0.6
TWO_LEVELS = 0.01  # the share of grey values up to which images count as black and white
CONSTANT = 0.01  # the share of constant pixels that makes a density grow without bound
BLACK_OR_WHITE = 0.5  # the share of exact black and white that does so too
AT_BOUND, MANY_AT_BOUND = 0.01, 0.25  # shares of values
DEAR = 0.1  # nats a value


def learns_scale(likelihood: Likelihood) -> bool:
    """Whether the likelihood learns a scale above a bound."""
    learned = isinstance(likelihood, Gaussian) and isinstance(likelihood.scale, str)
    return learned or isinstance(likelihood, DiscretizedLogistic)


def check_scale(at_bound: float, likelihood: Gaussian | DiscretizedLogistic) -> Finding:
    """Checks whether the decoder's scale lies at its lower bound.

    At the bound, the value of a density depends on the bound. A probability of levels cannot exceed
    one, so there the bound costs at most some nats.

    Args:
        at_bound: Share of values whose scale is within a tenth of `min_scale`.
        likelihood: A likelihood that learns its scale.
    """
    name, bound = "decoder scale", likelihood.min_scale
    seen = f"{at_bound:.0%} of values have a scale within a tenth of min_scale, {bound:.2g}"
    if isinstance(likelihood, DiscretizedLogistic):
        cost = -math.log(math.tanh(0.25 / (255 * bound)))
        seen += f"; a value there costs at least {cost:.2f} nats."
        if cost > DEAR and at_bound >= MANY_AT_BOUND:
            return Finding(name, "warning", seen, "A smaller min_scale of DiscretizedLogistic.")
        return Finding(name, "ok", seen)
    severity = rated(at_bound, (AT_BOUND, MANY_AT_BOUND))
    if severity == "ok":
        return Finding(name, "ok", f"{seen}.")
    return Finding(
        name,
        severity,
        f"{seen}: there the density depends on the bound, not on the images.",
        "--likelihood bernoulli for black and white, logistic-mixture for other pixels that "
        "hardly change; or a fixed --scale, or a larger min_scale.",
    )


def pixel_facts(images: np.ndarray) -> dict[str, float]:
    """Computes facts about the values of images.

    Args:
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].

    Returns:
        `grey`, the share of values between 5% and 95% of white; `ends`, the share of exact black
        and white; `levels`, the number of distinct values; `channels`. With more than one image
        also `constant`, the share of pixels that are the same in all images, and `noise`, the share
        of the variance of dynamically binarised pixels that comes from the draw.
    """
    levels = np.unique(images).size
    values = images.astype("float32") / (1 if images.dtype.kind == "f" else 255)
    drawn = float((values * (1 - values)).mean())
    facts = {
        "grey": float(((values > 0.05) & (values < 0.95)).mean()),
        "ends": float(((values == 0) | (values == 1)).mean()),
        "levels": int(levels),
        "channels": images.shape[-1],
    }
    if len(images) < 2:
        return facts
    spread = values.std(axis=0)
    return facts | {
        "constant": float((spread < 1 / 512).mean()),
        "noise": drawn / max(1e-12, drawn + float(np.square(spread).mean())),
    }


def check_likelihood(facts: Mapping[str, float], likelihood: Likelihood) -> Finding:
    """Checks whether the likelihood fits such pixels. One of your own is assumed to.

    Args:
        facts: The result of `pixel_facts`.
        likelihood: p(x|z).
    """
    name, grey, ends = "likelihood", facts["grey"], facts["ends"]
    two_levels = grey <= TWO_LEVELS
    colour = " in colour" if facts["channels"] >= 3 else ""
    pixels = (
        f"{facts['levels']} levels{colour}, {grey:.0%} of values grey and {ends:.0%} exactly black "
        "or white"
    )
    if isinstance(likelihood, Bernoulli) and likelihood.binarize == "none" and not two_levels:
        return Finding(
            name,
            "problem",
            f"Grey values as targets of a Bernoulli have no likelihood: the images have {pixels}.",
            "--likelihood continuous-bernoulli, or --binarize dynamic.",
        )
    if isinstance(likelihood, Bernoulli) and grey >= GREY:
        lost = ""
        if likelihood.binarize == "dynamic" and "noise" in facts:
            lost = f"; {facts['noise']:.0%} of the variance after binarising is noise"
        return Finding(
            name,
            rated(grey, (GREY, MOSTLY_GREY)),
            f"The likelihood binarises the images, but they have {pixels}{lost}.",
            "--likelihood logistic-mixture.",
        )
    density = isinstance(likelihood, (Gaussian, ContinuousBernoulli))
    if two_levels and (density or isinstance(likelihood, DiscretizedLogistic)):
        return Finding(
            name,
            "problem" if density else "warning",
            f"The likelihood is for grey values, but the images have {pixels}.",
            "--likelihood bernoulli.",
        )
    constant = facts.get("constant", 0.0)
    unbounded = constant >= CONSTANT or ends >= BLACK_OR_WHITE
    if isinstance(likelihood, Gaussian) and learns_scale(likelihood) and unbounded:
        better = "bernoulli" if grey < GREY else "logistic-mixture"
        return Finding(
            name,
            "warning",
            f"A learned scale can make the density of such pixels arbitrarily large: "
            f"{constant:.0%} never change; {pixels}.",
            f"--likelihood {better}, or a fixed --scale.",
        )
    return Finding(name, "ok", f"The images have {pixels}.")
