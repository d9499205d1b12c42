"""The doctor: examines a trained model, its images and its history for problems."""

import dataclasses
import functools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from kvae.data import Dataset
from kvae.diagnosis import page
from kvae.diagnosis.condition import check_classes
from kvae.diagnosis.finding import NAMES, SEVERITIES, Finding
from kvae.diagnosis.latents import (
    check_capacity,
    check_groups,
    check_kl_over_time,
    check_latents,
    check_prior_gap,
)
from kvae.diagnosis.learning import check_gradients, check_overfitting
from kvae.diagnosis.look import (
    BATCH,
    capacity_of,
    gradients_of,
    looked_at,
    measured,
    sampled,
    size,
    some,
    weights_of,
    white,
)
from kvae.diagnosis.pixels import check_likelihood, check_scale, pixel_facts
from kvae.drawing.plots import Chart
from kvae.evaluation import beyond_chance, prior_gap_at_least
from kvae.model import VAE
from kvae.parts import check_seed, checked_integer
from kvae.priors import StandardNormal

__all__ = ["Diagnosis", "diagnose"]

WIDTH = 100  # of a line of text, in letters
Sampled = tuple[np.ndarray, np.ndarray | None]  # images, and their classes if conditional
FEW = "With a learned prior, counting the latents in use needs 2 validation images."


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The result of `diagnose`: findings, worst first, as text, a page or plain values.

    Attributes:
        what: The model and the images that were examined, in words.
        findings: The finding of each check.
        numbers: Measured values by name, in nats per image unless they are counts or shares.
        drawings: Data of the panels of the page, by name.

    Example:
        >>> import kvae
        >>> data = kvae.data.load("digits")
        >>> vae = kvae.VAE.from_preset("mlp-400", data.image_shape, latent_dim=4)
        >>> diagnosis = kvae.diagnose(vae, data, count=50)
        >>> diagnosis.finding("gradients").remedy
        ''
        >>> page = diagnosis.figure()  # a figure that a notebook shows
    """

    what: str
    findings: list[Finding]
    numbers: dict[str, float]
    drawings: dict[str, Any] = dataclasses.field(repr=False)

    @property
    def verdict(self) -> str:
        """The number of problems and warnings, in words."""
        counts = {
            severity: sum(finding.severity == severity for finding in self.findings)
            for severity in ("problem", "warning")
        }
        words = [f"{n} {severity}{'s' * (n != 1)}" for severity, n in counts.items() if n]
        return ", ".join(words) or "nothing wrong"

    def finding(self, name: str) -> Finding:
        """The finding of this name."""
        return next(finding for finding in self.findings if finding.name == name)

    def text(self) -> str:
        """The page as text. Each finding ends with its remedy."""
        lines = [f"{self.what}: {self.verdict}"]
        for finding in self.findings:
            start = f"{finding.severity:<9}{finding.name:<15}"
            for text, first in ((finding.seen, start), (finding.remedy, " " * len(start) + "→ ")):
                if text:
                    lines += textwrap.wrap(
                        text,
                        WIDTH,
                        initial_indent=first,
                        subsequent_indent=" " * len(first),
                        break_on_hyphens=False,
                    )
        return "\n".join(lines)

    def figure(self) -> Chart:
        """The page as a figure: the findings, and below them the plots that show them."""
        return page.page(*self.parts())

    def _repr_html_(self) -> str:
        """The same page as text and a picture, for a notebook."""
        return page.markup(*self.parts())

    def parts(self) -> tuple[str, page.Rows, page.Panels]:
        """The title of the page, its rows and its panels."""
        rows = [
            (finding.severity, finding.name, finding.seen, finding.remedy)
            for finding in self.findings
        ]
        panels = [
            functools.partial(draw, **self.drawings[name])
            for name, draw in page.PANELS.items()
            if name in self.drawings
        ]
        return f"{self.what}: {self.verdict}", rows, panels

    def as_dict(self) -> dict[str, Any]:
        """The diagnosis as JSON types."""
        return {
            "what": self.what,
            "verdict": self.verdict,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "numbers": self.numbers,
        }


def diagnose(
    vae: VAE,
    dataset: Dataset,
    history: Mapping[str, Sequence[float]] | None = None,
    latents: Mapping[str, Sequence[float]] | None = None,
    *,
    count: int = 2000,
    seed: int = 0,
    what: str = "The model",
) -> Diagnosis:
    """Examines a model for common problems.

    The model does not change: neither its weights, nor its random state, nor its optimizer.

    Args:
        vae: A trained model.
        dataset: The data set on which it was trained, with images of any size.
        history: Columns by name with one value per epoch, as in `fit(...).history`. None: checks
            that need it say so.
        latents: The KL of each latent by epoch, as in the history of `kvae.LatentKL`.
        count: Number of training and of validation images to examine, drawn at random; all if there
            are fewer.
        seed: Random seed of all draws.
        what: Name of the model in the headline.

    Example:
        >>> import kvae
        >>> dataset = kvae.data.load("digits")
        >>> vae = kvae.VAE.from_preset("mlp", dataset.image_shape, latent_dim=4)
        >>> diagnosis = kvae.diagnose(vae, dataset, count=100)  # of a model that saw no image yet
        >>> diagnosis.finding("gradients").severity
        'ok'
    """
    count = checked_integer("count", count)
    check_seed(seed)
    (train, train_classes), (validation, classes) = (
        sampled(dataset, part, count, seed, vae) for part in ("train", "validation")
    )
    history, latents = dict(history or {}), dict(latents or {})
    facts = pixel_facts(validation)
    epochs, kl = kl_over_time(history, latents if vae.prior.closed_form else {})
    found = [
        check_likelihood(facts, vae.likelihood),
        check_kl_over_time(kl, epochs, *weight_of_kl(vae), capacity_of(vae)),
    ]
    drawings: dict[str, Any] = {
        "over_time": {"epochs": epochs, "kl": kl},
        "terms": {"history": history},
    }
    numbers = {f"pixels_{name}": float(value) for name, value in facts.items()}
    val_loss = history.get("val_loss", ())
    broken = not_finite(vae)
    if broken:
        found += [check_gradients({}, broken), check_overfitting(val_loss)]
    else:
        more = examined(vae, (train, train_classes), (validation, classes), val_loss, seed)
        if vae.condition is not None:
            more[0].append(of_classes(vae, dataset, (validation, classes), seed))
        found, numbers, drawings = found + more[0], numbers | more[1], drawings | more[2]
    found.sort(key=rank)
    plural = "s" * (len(validation) != 1)
    looked = f"{what}, {len(train):,} train and {len(validation):,} validation image{plural}"
    return Diagnosis(f"{looked} of {dataset.name}", found, numbers, drawings)


def weight_of_kl(vae: VAE) -> tuple[float, float]:
    """Beta, and the number of steps over which it rises."""
    beta, warmup_steps = map(ops.convert_to_numpy, (vae.beta, vae.warmup_steps))
    return float(beta), float(warmup_steps)


def of_classes(vae: VAE, dataset: Dataset, of_validation: Sampled, seed: int) -> Finding:
    """Checks whether the condition of the model says anything about images."""
    images, classes = of_validation
    count = vae.condition.classes if vae.condition else None
    if classes is None:  # a data set without labels: use the likeliest classes
        classes = vae.classify(images)
    wrong = (classes + 1) % count if count else np.roll(classes, 1, axis=0)
    right, other = (
        looked_at(vae, images, seed, min(BATCH, len(images)), known)["loss"]
        for known in (classes, wrong)
    )
    missing: list[str] = []
    if count and dataset.train_labels is not None:
        known: Any = vae.known(dataset.train_labels, dataset.class_names)
        names = list(vae.card.get("class_names") or [])
        names = names if len(names) == count else [str(number) for number in range(count)]
        missing = [names[number] for number in sorted({*range(count)} - {*np.unique(known)})]
    return check_classes(right, other, missing, numbers=not count)


def not_finite(vae: VAE) -> list[str]:
    """The names of the weights that are not finite."""
    weights = weights_of(vae).items()
    return [name for name, w in weights if not np.isfinite(ops.convert_to_numpy(w)).all()]


def examined(
    vae: VAE,
    of_training: Sampled,
    of_validation: Sampled,
    val_loss: Sequence[float],
    seed: int,
) -> tuple[list[Finding], dict[str, float], dict[str, Any]]:
    """The findings, numbers and drawings from a pass over images and from gradients.

    Args:
        vae: The model.
        of_training: Training images, and their classes if the model is conditional.
        of_validation: The same of validation images.
        val_loss: Validation loss after each epoch.
        seed: Random seed of all draws.
    """
    (train, train_classes), (validation, classes) = of_training, of_validation
    batch = min(BATCH, len(train), len(validation))  # of one size, so compiled once
    of_train, own = (
        looked_at(vae, images, seed, batch, known)
        for images, known in ((train, train_classes), (validation, classes))
    )
    posterior = (ops.convert_to_tensor(own[name]) for name in ("mean", "log_variance"))
    own["kl_per_latent"] = ops.convert_to_numpy(vae.prior.kl_per_latent(*posterior))
    first = None if train_classes is None else train_classes[:BATCH]
    gradients = gradients_of(vae, train[:BATCH], first)
    if not float(ops.convert_to_numpy(vae.step)):
        # A flow begins as the identity, which hides its first layers.
        gradients = {n: g for n, g in gradients.items() if not n.startswith("prior/")}
    numbers = measured(vae, own, seed)
    numbers |= {f"{split}_loss": float(values["loss"].mean())
                for split, values in (("train", of_train), ("validation", own))}  # fmt: skip
    beta, warmup_steps = weight_of_kl(vae)
    kl_per_latent = own["kl_per_latent"].mean(axis=0)
    active = int(numbers["active"]) if "active" in numbers else None
    capacity = capacity_of(vae)
    several = len(vae.groups)
    found = [
        check_latents(kl_per_latent, beta, warmup_steps, active, numbers["kl"], several, capacity)
        if len(validation) > 1 or vae.prior.closed_form
        else Finding("latents", "ok", FEW),
        check_overfitting(val_loss, of_train["loss"], own["loss"]),
        check_gradients(gradients),
    ]
    if len(vae.groups) > 1:
        names = [f"kl_of_group_{i + 1}" for i in range(len(vae.groups))]
        by_group = vae.sums_by_group(kl_per_latent)
        if names[0] in own:
            by_group = np.array([own[name].mean() for name in names])
        numbers |= {name: float(kl) for name, kl in zip(names, by_group, strict=True)}
        found.append(check_groups(by_group, not vae.prior.closed_form))
    elif "information" in numbers:
        found.append(
            check_prior_gap(
                numbers["kl"],
                numbers["information"],
                numbers.get("moment_gap"),
                len(validation),
                vae.latent_dim,
                numbers["spread"],
                beta,
                not isinstance(vae.prior, StandardNormal),
                capacity,
            )
        )
    if capacity is not None:
        found.append(check_capacity(numbers["kl"], capacity, beta))
    if "scale" in own:
        numbers["at_bound"] = float((own["scale"] < 1.1 * vae.likelihood.min_scale).mean())
        found.append(check_scale(numbers["at_bound"], vae.likelihood))
    return found, numbers, pictured(vae, own, validation, gradients, seed)


def pictured(
    vae: VAE,
    own: Mapping[str, np.ndarray],
    validation: np.ndarray,
    gradients: Mapping[str, np.ndarray],
    seed: int,
) -> dict[str, Any]:
    """The data of the panels from one pass over validation images."""
    gap = None
    if len(vae.groups) == 1:
        parts = (own["mean"], own["log_variance"], seed, own.get("context"))
        gap = prior_gap_at_least(vae.prior, *parts)
    noise = ops.convert_to_numpy(vae.prior.noise(len(own["noise"]), seed))
    drawings: dict[str, Any] = {
        "prior": {
            "posterior": np.linalg.norm(own["noise"], axis=1),
            "prior": np.linalg.norm(noise, axis=1),
            "gap": None if gap is None else beyond_chance(gap, *own["mean"].shape),
        },
        "pixels": {
            "images": some(validation.astype("float32") / white(validation), seed),
            "draws": some(own["draws"], seed),
        },
    }
    if len(validation) > 1 or vae.prior.closed_form:
        drawings["latents"] = {"kl": own["kl_per_latent"].mean(axis=0)}
    if "scale" in own:
        bound = vae.likelihood.min_scale
        return drawings | {"scale": {"scale": some(own["scale"], seed), "bound": bound}}
    return drawings | {"gradients": {"sizes": {name: size(g) for name, g in gradients.items()}}}


def rank(finding: Finding) -> tuple[int, int]:
    """The rank of a finding: the worst first, equally bad ones in a fixed order."""
    return -SEVERITIES.index(finding.severity), NAMES.index(finding.name)


def kl_over_time(
    history: Mapping[str, Sequence[float]], latents: Mapping[str, Sequence[float]]
) -> tuple[list[float], list[float]]:
    """The epochs, and the KL after each, of validation images or else of training images."""
    for name in ("val_kl", "kl"):
        if name in history:
            return list(range(1, len(history[name]) + 1)), list(history[name])
    columns = [latents[name] for name in latents if name != "epoch"]
    return list(latents.get("epoch", ())), list(np.sum(columns, axis=0)) if columns else []
