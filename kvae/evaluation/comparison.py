"""Comparison: the difference of two models, or the reason why it has no meaning."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvae.evaluation.report import Evaluation
from kvae.markup import section, table

__all__ = ["Comparison", "compare"]

RESAMPLES = 2000
MUST_AGREE = ("measure", "images", "observed_hash", "given", "seed")
MEASURES = ("probability", "density")  # of which figures can be compared
TITLES = {"negative_elbo": "−ELBO", "nll": "−log p(x)"}


class Comparison(dict[str, Any]):
    """The result of `compare`: a dict, which a notebook shows as a table.

    Example:
        >>> Comparison(comparable=False, why="one is of 10 images, the other of 20")["comparable"]
        False
    """

    def _repr_html_(self) -> str:
        """A table with a row for each figure, or the reason why there is none."""
        if not self["comparable"]:
            return section("Not comparable", self["why"])
        rows, notes = [], ["first − second, nats per image; 95 % intervals, images paired"]
        for name, title in TITLES.items():
            if found := self[name]:
                low, high = (
                    "" if found[end] is None else f"{found[end]:+.3f}" for end in ("low", "high")
                )
                rows.append((title, f"{found['difference']:+.3f}", low, high))
            else:
                notes.append(f"{title} not comparable: the numbers of draws differ")
        head = ("", "difference", "from", "to")
        return section("First − second", table(rows, head, numbers=True), notes=notes)


def compare(first: Evaluation, second: Evaluation, seed: int = 0) -> dict[str, Any]:
    """Compares two models image by image, on the same draws.

    Args:
        first: The `Evaluation` of one model.
        second: The `Evaluation` of the other model.
        seed: Random seed of the bootstrap.

    Returns:
        A `Comparison` with `comparable`. If that is true, it has `negative_elbo` and `nll`, each
        with `difference` (first − second, nats per image) and with `low` and `high`, its 95 %
        interval from 2,000 bootstrap samples of the images (None for one image). `nll` is None if
        the numbers of draws differ. If the models are not comparable, `why` has the reason.

    References:
        Efron (1979), "Bootstrap methods: another look at the jackknife".
    """
    protocols = (first.protocol, second.protocol)
    differ = [name for name in MUST_AGREE if len({one.get(name) for one in protocols}) > 1]
    if differ or first.protocol["measure"] not in MEASURES:
        why = why_not(first.protocol, second.protocol, differ)
        return Comparison(comparable=False, why=why)
    bounds, estimates = (first.per_image[name] - second.per_image[name] for name in ("elbo", "nll"))
    same = first.protocol["importance_samples"] == second.protocol["importance_samples"]
    return Comparison(
        comparable=True,
        negative_elbo=paired_difference(-bounds, seed),
        nll=paired_difference(estimates, seed) if same else None,
    )


def paired_difference(differences: np.ndarray, seed: int) -> dict[str, float | None]:
    """The mean of differences, with a bootstrap interval; a single difference has none."""
    generator = np.random.default_rng(seed)
    count = len(differences)
    if count < 2:
        return {"difference": round(float(differences.mean()), 4), "low": None, "high": None}
    means = [differences[generator.integers(0, count, count)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975))
    parts = {"difference": differences.mean(), "low": low, "high": high}
    return {name: round(float(value), 4) for name, value in parts.items()}


def why_not(first: dict, second: dict, differ: Sequence[str]) -> str:
    """Why two protocols are not comparable, in words."""
    reasons = {
        "measure": "one is of a {measure}, the other of a {other[measure]}",
        "images": "one is of {images:,} images, the other of {other[images]:,}",
        "observed_hash": "the pixels that were scored differ ({data} {split}, {observation}, seed "
        "{seed}; {other[data]} {other[split]}, {other[observation]}, seed {other[seed]})",
        "given": "one is of p(x|class) or the like, the other is not",
        "seed": "the draws of z differ (seed {seed}; seed {other[seed]})",
    }
    if differ:
        return reasons[differ[0]].format(**first, other=second)
    if first["measure"] == "neither":
        return "soft targets are no likelihood of any data"
    return "the likelihood does not say what it measures"
