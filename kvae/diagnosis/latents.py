"""Checks of the latents: collapse, their KL over time, and their distance from the prior."""

import math
from collections.abc import Sequence

import numpy as np

from kvae.diagnosis.finding import Finding, rated
from kvae.drawing.charts import IN_USE
from kvae.evaluation import beyond_chance

__all__ = [
    "check_capacity",
    "check_groups",
    "check_kl_over_time",
    "check_latents",
    "check_prior_gap",
]

COLLAPSED = 0.5  # nats in all: less than one bit of each image passes through z
STILL_MOVING = 0.06  # the change of the KL in the last fifth of training, as a share of it
FALLEN = 0.25  # of its peak
TOO_LITTLE = 0.02  # of the KL, in the first of several groups
GAP = (0.1, 0.3)  # of the prior, as shares of the KL
OFF = (0.15, 0.5)  # of a KL from the capacity at which it is held, as shares of that


def check_latents(
    kl_per_latent: np.ndarray,
    beta: float = 1.0,
    warmup_steps: float = 0,
    active: int | None = None,
    total: float | None = None,
    groups: int = 1,
    capacity: float | None = None,
) -> Finding:
    """Checks whether the latents contain information about the images.

    A few unused latents are normal: training switches off latents that a model does not need.

    Args:
        kl_per_latent: (latent,), nats, averaged over images.
        beta: Weight of the KL term.
        warmup_steps: Number of warm-up steps of that weight.
        active: Number of latents whose posterior means vary between images; see `evaluation`.
        total: The KL of all latents, in nats. Defaults to the sum over latents.
        groups: Number of groups of latents. With several, the remedy does not suggest another
            number of latents.
        capacity: Nats at which the objective holds the KL; None for other objectives.

    References:
        Bowman et al. (2016), "Generating sentences from a continuous space", arXiv:1511.06349
        (collapse, and warm-up against it).
    """
    kl = np.asarray(kl_per_latent)
    used, count = int((kl >= IN_USE).sum()), len(kl)
    total = float(kl.sum()) if total is None else total
    seen = f"{used} of {count} latents in use (over {IN_USE:g} nats)"
    if active is not None:
        seen += f", {active} active (means with a variance over 0.01)"
    seen += f"; KL {total:.2f} nats per image in all."
    if used and total >= COLLAPSED:
        spare = count - used
        note = f"--latent-dim {used} would be enough." if spare > count / 2 and groups == 1 else ""
        return Finding("latents", "ok", seen, note)
    seen = f"The posterior has collapsed to the prior: {seen}"
    return Finding("latents", "problem", seen, against_collapse(beta, warmup_steps, capacity))


def check_groups(kl: np.ndarray, learned: bool = False, temperature: float = 0.7) -> Finding:
    """Checks whether each group of latents has information, and the first one enough.

    Args:
        kl: (groups,), nats, averaged over images, from the first group.
        learned: Whether the prior of the first group is learned.
        temperature: Temperature in the remedy, for the groups after the first.

    References:
        Child (2021), "Very deep VAEs generalize autoregressive models and can outperform them on
        images", arXiv:2011.10650 (what each layer of a hierarchy holds).
    """
    name, kl = "groups", np.asarray(kl, "float64")
    total = float(kl.sum())
    seen = f"KL by group, from the first: {', '.join(f'{value:.1f}' for value in kl)} nats."
    dead = [str(i + 1) for i, value in enumerate(kl) if value < COLLAPSED]
    if dead:
        which = f"group{'s' * (len(dead) > 1)} {', '.join(dead)}"
        severity = "problem" if len(dead) == len(kl) else "warning"
        return Finding(
            name,
            severity,
            f"Nothing is in {which}: {seen}",
            "Train longer, or with --free-bits 0.01.",
        )
    if kl[0] < TOO_LITTLE * total and kl[-1] > total / 2:
        warmth = ",".join(["1", *[f"{temperature:g}"] * (len(kl) - 1)])
        return Finding(
            name,
            "warning",
            f"Most information is in the fine groups, and little in the first, which encodes the "
            f"whole image: {seen} New images may be sharp but incoherent.",
            ("" if learned else "A learned prior for the first group (--prior real-nvp), or ")
            + f"kvae generate --temperature {warmth}.",
        )
    return Finding(name, "ok", seen)


def check_capacity(kl: float, capacity: float, beta: float) -> Finding:
    """Checks whether the KL is at the capacity of the objective.

    Args:
        kl: Mean KL of validation images, in nats.
        capacity: Final capacity, in nats.
        beta: Weight γ of the distance from the capacity.

    References:
        Burgess et al. (2018), "Understanding disentangling in β-VAE", arXiv:1804.03599.
    """
    apart = abs(kl - capacity)
    seen = f"The KL is {kl:.2f} nats, and is to be held at {capacity:g}."
    severity = rated(apart / max(capacity, COLLAPSED), OFF) if apart > COLLAPSED else "ok"
    if severity == "ok":
        return Finding("capacity", "ok", seen)
    cure = f"Raise --beta, which holds it: it is {beta:g}. Or train longer: --epochs."
    if kl < capacity:
        cure += f" Or take what there is to tell: --capacity {max(1, round(kl))}."
    return Finding("capacity", severity, seen, cure)


def against_collapse(beta: float, warmup_steps: float, capacity: float | None = None) -> str:
    """The remedy against collapse, by its most likely cause."""
    if capacity is not None:
        if capacity < 2 * COLLAPSED:
            return f"Raise --capacity: the KL is held at {capacity:g} nats."
        return "Train longer (--epochs), or hold the KL more firmly: a higher --beta."
    if beta > 1:
        return f"Lower --beta: 1 gives the bound, and it is {beta:g}."
    if not warmup_steps:
        return "Let the KL weight warm up: a preset with a schedule, such as --preset mlp, does."
    return "Train longer (--epochs), with --free-bits 0.1, or a lower --learning-rate or --beta."


def check_kl_over_time(
    kl: Sequence[float],
    epochs: Sequence[float] | None = None,
    beta: float = 1.0,
    warmup_steps: float = 0,
    capacity: float | None = None,
) -> Finding:
    """Checks whether the KL fell to nothing, or was still rising when training ended.

    Args:
        kl: KL of validation images, in nats per image.
        epochs: Epochs of these values, counted from 1. Defaults to every epoch.
        beta: Weight of the KL term.
        warmup_steps: Number of warm-up steps of that weight.
        capacity: Nats at which the objective holds the KL; None for other objectives.
    """
    name, values = "KL over time", np.asarray(kl, "float64")
    when = np.arange(1, len(values) + 1) if epochs is None else np.asarray(epochs)
    values, when = values[np.isfinite(values)], when[np.isfinite(values)]
    if not len(values):
        return Finding(name, "ok", "There is no history to look at.")
    last, peak = float(values[-1]), int(values.argmax())
    before = max(0, len(values) - 1 - max(1, len(values) // 5))
    rise = last - float(values[before])
    falls = last < FALLEN * values[peak] and -rise > STILL_MOVING * last
    if last < COLLAPSED or falls:
        return Finding(
            name,
            "problem" if last < COLLAPSED else "warning",
            f"The KL was {values[peak]:.2f} nats at most, at epoch {when[peak]:g}, and ended at "
            f"{last:.2f}.",
            against_collapse(beta, warmup_steps, capacity),
        )
    if rise > STILL_MOVING * last:
        return Finding(
            name,
            "warning",
            f"The KL was still rising when training ended: by {rise:.2f} nats, "
            f"{rise / last:.0%}, since epoch {when[before]:g}.",
            f"Train longer: --epochs {2 * when[-1]:g}.",
        )
    if len(values) < 2:
        return Finding(name, "ok", f"The KL was {last:.2f} nats after the only epoch.")
    return Finding(name, "ok", f"The KL ended at {last:.2f} nats and was stable.")


def check_prior_gap(
    kl: float,
    information: float,
    least_gap: float | None,
    images: int,
    latents: int,
    spread: float = 1.0,
    beta: float = 1.0,
    learned: bool = False,
    capacity: float | None = None,
) -> Finding:
    r"""Checks how far the aggregate posterior is from the prior.

    $$D_{KL}(q(z) \,\|\, p(z)) = \mathbb{E}_x D_{KL}(q(z|x) \,\|\, p(z)) - I(x; z)$$

    New images start from the prior, reconstructions from the aggregate posterior. The gap is what
    the bound would gain if the prior were that posterior. An estimate of the mutual information
    from N images is at most log N, so the difference may be far too large; `least_gap` is too
    small. The severity depends on `least_gap`, as a share of the KL.

    Args:
        kl: Mean KL, in nats.
        information: Estimate of I(x; z), in nats.
        least_gap: Lower bound on the gap by the moments of the aggregate posterior, in nats. None
            if there are too few images for one.
        images: Number of images behind the estimates.
        latents: Number of latents.
        spread: Root mean square of the noise that becomes the latents of images; it is 1 for the
            prior.
        beta: Weight of the KL term.
        learned: Whether the prior is learned.
        capacity: Nats at which the objective holds the KL; None for other objectives.

    References:
        Hoffman and Johnson (2016), "ELBO surgery: yet another way to carve up the variational
        evidence lower bound", NIPS workshop on approximate inference (the decomposition).
    """
    most = max(0.0, kl - information)
    plural = "s" * (images != 1)
    by_terms = (
        f"{most:.2f}, by KL {kl:.2f} − I(x; z) {information:.2f}; with {images:,} image{plural} "
        f"I is measured up to {math.log(images):.1f}."
    )
    if least_gap is None:
        return Finding(
            "prior gap",
            "ok",
            f"KL(q(z) ‖ p(z)) is at most {by_terms} A lower bound needs more than "
            f"{2 * latents:,} validation images.",
        )
    least = beyond_chance(least_gap, images, latents)
    seen = f"KL(q(z) ‖ p(z)) is between {least:.2f} nats, by the moments of q(z), and {by_terms}"
    severity = rated(least / max(kl, COLLAPSED), GAP) if least > 1 else "ok"
    if severity == "ok":
        return Finding("prior gap", "ok", seen)
    cure = f"Raise --beta: 1 gives the bound, and it is {beta:g}"
    if beta >= 1:
        cure = "A smaller --latent-dim, or "
        cure += "a --beta above 1" if capacity is None else "a lower --capacity"
        if not learned:
            cure = f"--prior real-nvp, which learns the distribution of the latents. {cure}"
    meanwhile = "--like an image"
    if abs(spread - 1) >= 0.05:
        meanwhile = f"--temperature {spread:.1f}, or {meanwhile}"
    return Finding(
        "prior gap",
        severity,
        f"The prior differs from the latents of images: {seen}",
        f"{cure}; for this model, kvae generate {meanwhile}.",
    )
