"""Checks: plain numbers to findings, each with the option that helps; no model is needed."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from kvae.charts import IN_USE
from kvae.likelihoods import (
    Bernoulli,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    Likelihood,
)

__all__ = [
    "NAMES",
    "SEVERITIES",
    "Finding",
    "beyond_chance",
    "check_gradients",
    "check_kl_over_time",
    "check_latents",
    "check_likelihood",
    "check_overfitting",
    "check_prior_gap",
    "check_scale",
    "learns_scale",
    "pixel_facts",
]

SEVERITIES = ("ok", "warning", "problem")
NAMES = (
    "latents",
    "KL over time",
    "prior gap",
    "decoder scale",
    "likelihood",
    "overfitting",
    "gradients",
)
COLLAPSED = 0.5  # nats in all: less than one bit of each image passes through z
GREY = 0.35  # the share of grey values from which binarisation costs more than it simplifies
MOSTLY_GREY = 0.6
TWO_LEVELS = 0.01  # the share of grey values up to which images count as black and white
CONSTANT = 0.01  # the share of constant pixels that makes a density grow without bound
BLACK_OR_WHITE = 0.5  # the share of exact black and white that does so too
AT_BOUND, MANY_AT_BOUND = 0.01, 0.25  # shares of values
DEAR = 0.1  # nats a value
STILL_MOVING = 0.06  # the change of the KL in the last fifth of training, as a share of it
FALLEN = 0.25  # of its peak
LOST = (0.05, 0.25)  # shares of what validation had gained, lost again: warning, problem
NEARLY = 0.02  # the share of what validation gained that does not count
APART = (0.25, 0.5)  # train and validation, in standard deviations over images
GAP = (0.1, 0.3)  # of the prior, as shares of the KL
DEAD = 0.5  # the share of a layer's units


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a check saw.

    Attributes:
        name: Of the check, in two or three words.
        severity: "ok", "warning" or "problem".
        seen: What was seen, with its number; a sentence.
        remedy: The option or argument that helps; mostly empty where all is well.
    """

    name: str
    severity: str
    seen: str
    remedy: str = ""


def check_latents(
    kl_per_latent: np.ndarray,
    beta: float = 1.0,
    warmup_steps: float = 0,
    active: int | None = None,
    total: float | None = None,
) -> Finding:
    """Whether the latents say anything of the images.

    A few that say nothing are normal: the prior switches off those that a model does not need.

    Args:
        kl_per_latent: (latent,), nats, averaged over images.
        beta: The weight of the KL term.
        warmup_steps: Of that weight.
        active: How many posterior means vary between images; see `evaluation`.
        total: The KL of all latents, nats; the sum over latents where it is not given.

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
        note = f"--latent-dim {used} would be enough." if spare > count / 2 else ""
        return Finding("latents", "ok", seen, note)
    seen = f"The posterior has collapsed to the prior: {seen}"
    return Finding("latents", "problem", seen, against_collapse(beta, warmup_steps))


def against_collapse(beta: float, warmup_steps: float) -> str:
    """What keeps latents alive, by the likeliest cause."""
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
) -> Finding:
    """Whether the KL fell to nothing, or was still rising when training ended.

    Args:
        kl: Nats per image, of validation images.
        epochs: When, counted from 1; after every epoch where it is not given.
        beta: The weight of the KL term.
        warmup_steps: Of that weight.
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
            against_collapse(beta, warmup_steps),
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
        return Finding(name, "ok", f"The KL was {last:.2f} nats after the one epoch there was.")
    return Finding(name, "ok", f"The KL ended at {last:.2f} nats and had settled.")


def check_prior_gap(
    kl: float,
    information: float,
    least_gap: float,
    images: int,
    latents: int,
    spread: float = 1.0,
    beta: float = 1.0,
    learned: bool = False,
) -> Finding:
    r"""How far the latents of images, taken together, are from the prior.

    $$D_{KL}(q(z) \,\|\, p(z)) = \mathbb{E}_x D_{KL}(q(z|x) \,\|\, p(z)) - I(x; z)$$

    What is generated starts from the prior, what is reconstructed from the aggregate posterior; the
    gap is what the bound would gain if the prior were that posterior. An estimate of the mutual
    information from N images is log N at the most, so the difference may be far too large;
    `least_gap` is too small. The verdict is on the latter, as a share of the KL.

    Args:
        kl: Mean KL, nats.
        information: The estimate of I(x; z), nats.
        least_gap: A lower bound on the gap by the moments of the aggregate posterior, nats.
        images: How many images the estimates are from.
        latents: How many latents there are.
        spread: The root mean square of the noise that latents of images are made of; of the prior
            it is 1.
        beta: The weight of the KL term.
        learned: Whether the prior is.

    References:
        Hoffman and Johnson (2016), "ELBO surgery: yet another way to carve up the variational
        evidence lower bound", NIPS workshop on approximate inference (the decomposition).
    """
    least, most = beyond_chance(least_gap, images, latents), max(0.0, kl - information)
    seen = (
        f"KL(q(z) ‖ p(z)) is between {least:.2f} nats, by the moments of q(z), and {most:.2f}, by "
        f"KL {kl:.2f} − I(x; z) {information:.2f}; {images:,} images can show an I of "
        f"{math.log(images):.1f} at most."
    )
    severity = rated(least / max(kl, COLLAPSED), GAP) if least > 1 else "ok"
    if severity == "ok":
        return Finding("prior gap", "ok", seen)
    cure = f"Raise --beta: 1 gives the bound, and it is {beta:g}"
    if beta >= 1:
        cure = "A smaller --latent-dim, or a --beta above 1"
        if not learned:
            cure = f"--prior real-nvp, which learns where latents lie. {cure}"
    meanwhile = "--like an image"
    if abs(spread - 1) >= 0.05:
        meanwhile = f"--temperature {spread:.1f}, or {meanwhile}"
    return Finding(
        "prior gap",
        severity,
        f"New images start where few images lie: {seen}",
        f"{cure}; until then kvae generate {meanwhile}.",
    )


def beyond_chance(gap: float, images: int, latents: int) -> float:
    """A gap by moments, less what so many draws from the prior itself would show."""
    return max(0.0, gap - latents * (latents + 3) / (4 * images))


def learns_scale(likelihood: Likelihood) -> bool:
    """Whether the likelihood learns a scale above a bound."""
    learned = isinstance(likelihood, Gaussian) and isinstance(likelihood.scale, str)
    return learned or isinstance(likelihood, DiscretizedLogistic)


def check_scale(at_bound: float, likelihood: Gaussian | DiscretizedLogistic) -> Finding:
    """Whether the decoder's scale lies at its lower bound.

    At the bound a density is set by the bound. A probability of levels is not: it cannot exceed
    one, and the bound costs it some nats at most.

    Args:
        at_bound: The share of values whose scale is within a tenth of `min_scale`.
        likelihood: One that learns its scale.
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
        f"{seen}: there the bound, and not the images, sets the density.",
        "--likelihood bernoulli for black and white, discretized-logistic for other pixels that "
        "hardly change; or a fixed --scale, or a larger min_scale.",
    )


def pixel_facts(images: np.ndarray) -> dict[str, float]:
    """What kind of values images have.

    Args:
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].

    Returns:
        `grey`, the share of values between 5% and 95% of white; `ends`, that of exact black and
        white; `levels`, how many distinct ones there are; `constant`, the share of pixels that are
        alike in all images; `channels`; `noise`, the share of the variance of dynamically binarised
        pixels that the draw itself makes.
    """
    levels = np.unique(images).size
    values = images.astype("float32") / (1 if images.dtype.kind == "f" else 255)
    drawn = float((values * (1 - values)).mean())
    spread = values.std(axis=0)
    return {
        "grey": float(((values > 0.05) & (values < 0.95)).mean()),
        "ends": float(((values == 0) | (values == 1)).mean()),
        "levels": int(levels),
        "constant": float((spread < 1 / 512).mean()) if len(images) > 1 else 0.0,
        "channels": images.shape[-1],
        "noise": drawn / max(1e-12, drawn + float(np.square(spread).mean())),
    }


def check_likelihood(facts: Mapping[str, float], likelihood: Likelihood) -> Finding:
    """Whether the likelihood is one for such pixels; one of your own is taken to be.

    Args:
        facts: Of `pixel_facts`.
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
        lost = f"; {facts['noise']:.0%} of the variance that is then seen is noise"
        return Finding(
            name,
            rated(grey, (GREY, MOSTLY_GREY)),
            f"The images are made black and white, but have {pixels}"
            f"{lost if likelihood.binarize == 'dynamic' else ''}.",
            "--likelihood discretized-logistic.",
        )
    density = isinstance(likelihood, (Gaussian, ContinuousBernoulli))
    if two_levels and (density or isinstance(likelihood, DiscretizedLogistic)):
        return Finding(
            name,
            "problem" if density else "warning",
            f"The likelihood is one of grey values, but the images have {pixels}.",
            "--likelihood bernoulli.",
        )
    unbounded = facts["constant"] >= CONSTANT or ends >= BLACK_OR_WHITE
    if isinstance(likelihood, Gaussian) and learns_scale(likelihood) and unbounded:
        better = "bernoulli" if grey < GREY else "discretized-logistic"
        return Finding(
            name,
            "warning",
            f"A learned scale can make the density of such pixels as large as it likes: "
            f"{facts['constant']:.0%} never change; {pixels}.",
            f"--likelihood {better}, or a fixed --scale.",
        )
    return Finding(name, "ok", f"The images have {pixels}.")


def check_overfitting(
    validation_loss: Sequence[float] = (),
    train: np.ndarray | None = None,
    validation: np.ndarray | None = None,
) -> Finding:
    """Whether the model knows its training images by heart.

    Two signs: the loss of validation images rose again from its best, by a share of what it had
    gained since the first epoch; and train images are scored better than validation images, by
    more than chance (three standard errors), in standard deviations over images. Neither depends on
    the unit, or on the constants of a density.

    Args:
        validation_loss: By epoch.
        train: (count,), −ELBO of training images, nats.
        validation: (count,), −ELBO of validation images, nats, by the same protocol.
    """
    signs, severities, cures = [], ["ok"], []
    if train is not None and validation is not None:
        gap = float(validation.mean() - train.mean())
        error = math.sqrt(sum(part.var() / len(part) for part in (train, validation)))
        signs.append(
            f"−ELBO is {signed(train.mean())} for {len(train):,} train and "
            f"{signed(validation.mean())} for {len(validation):,} validation images: a gap of "
            f"{signed(gap)} ± {error:.2f} nats"
        )
        apart = gap / max(float(validation.std()), 1e-12)
        severities.append(rated(apart, APART) if gap > 3 * error else "ok")
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
    """Whether every weight learns.

    Args:
        gradients: Of one batch, by the name of the variable.
        broken: The names of variables that are not finite.
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


def rated(value: float, limits: tuple[float, float]) -> str:
    """A severity: "warning" from the first limit on, "problem" from the second."""
    return SEVERITIES[sum(value >= limit for limit in limits)]


def signed(number: float) -> str:
    """Two decimals, with the minus of a formula."""
    return f"{number:.2f}".replace("-", "−")


def listed(names: Sequence[str], most: int = 3) -> str:
    """Names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def capitalised(text: str) -> str:
    """The text with a capital first letter, the rest as it was."""
    return text[:1].upper() + text[1:]
