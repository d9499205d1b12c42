"""Factors: scores of a model's latents against the known factors of images."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from kvae.evaluation import factor_scores as scores
from kvae.markup import folded, section, table
from kvae.model import VAE
from kvae.parts import check_seed, checked_integer

__all__ = ["TITLES", "Factors", "factor_matrix", "factors", "factors_of_codes"]

TITLES = {
    "mig": "MIG",
    "sap": "SAP",
    "disentanglement": "DCI disentanglement",
    "completeness": "DCI completeness",
    "informativeness": "DCI informativeness",
    "modularity": "modularity",
    "explicitness": "explicitness",
    "beta_vae": "β-VAE score",
    "factor_vae": "FactorVAE score",
}
CLASSES = 10  # bins of a numeric factor
MOST_VALUES = 50  # largest number of values of a factor that is not binned
FEWEST = 100  # images


@dataclasses.dataclass(frozen=True, eq=False)
class Factors:
    """The result of `factors`.

    Attributes:
        figures: Scores by name (a key of `TITLES`), each with its `mean` and `deviation` over
            seeds.
        matrix: (latent, factor), the share of the entropy of each factor that each latent alone
            explains, from 0 to 1. From all images, in bins as for MIG.
        names: Names of the factors.
        protocol: How it was measured, in words.

    Example:
        >>> import numpy as np
        >>> from kvae import evaluation
        >>> both = np.random.default_rng(0).integers(4, size=(2000, 2))
        >>> found = evaluation.factors_of_codes(both + 0.0, both, ["shape", "colour"])
        >>> found.figures["factor_vae"]["mean"], found.matrix.shape
        (1.0, (2, 2))
    """

    figures: dict[str, dict[str, float]]
    matrix: np.ndarray
    names: tuple[str, ...]
    protocol: str

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON types."""
        return {
            **self.figures,
            "matrix": self.matrix.round(4).tolist(),
            "names": list(self.names),
            "protocol": self.protocol,
        }

    def _repr_html_(self) -> str:
        """Tables for a notebook: the scores, and the share of each factor in each latent."""
        figures = [
            (title, f"{self.figures[name]['mean']:.2f}", f"± {self.figures[name]['deviation']:.2f}")
            for name, title in TITLES.items()
        ]
        shares = [
            (f"latent {k + 1}", *(f"{share:.0%}" for share in row))
            for k, row in enumerate(self.matrix)
        ]
        told = table(shares, ("", *self.names), numbers=True)
        title = "Share of each factor's entropy that a latent tells"
        scores = table(figures, numbers=True)
        return section("Latents and factors", scores, folded(title, told), notes=[self.protocol])


def factors(
    vae: VAE,
    images: np.ndarray,
    factors: np.ndarray,
    names: Sequence[str] = (),
    *,
    categories: Sequence[str | int] | None = None,
    seeds: int = 3,
    seed: int = 0,
) -> Factors:
    """Computes disentanglement scores of a model: its posterior means against known factors.

    The scores are MIG, SAP, DCI, modularity, explicitness, and those of β-VAE and FactorVAE; see
    `kvae.evaluation.factor_scores` for each. For each seed, the images are split at random into two
    halves, one for training and one for testing.

    Compare only models that were measured alike. Published figures depend on the number of images
    and of latents, on the bins of a latent (20 here), on how numeric factors are binned (see
    below), and on the classifiers (see each score).

    Args:
        vae: A trained model.
        images: (count, height, width, channels), at least 100 images that fit the model.
        factors: (count, factor), numbers. A factor with other than whole numbers, or with more than
            50 values, is cut into 10 bins of equal width. SAP uses it unbinned.
        names: Names of the factors. Defaults to their numbers.
        categories: Names or numbers of the factors that are categories without an order, for SAP.
            None: factors of whole numbers with at most 20 values.
        seeds: Number of seeds.
        seed: The first seed.

    Raises:
        ValueError: If an argument is invalid.

    References:
        Locatello et al. (2019), "Challenging common assumptions in the unsupervised learning of
        disentangled representations", arXiv:1811.12359.
    """
    rows = checked(factors, len(images))
    return factors_of_codes(
        vae.encode(images)[0], rows, names, categories=categories, seeds=seeds, seed=seed
    )


def factors_of_codes(
    codes: np.ndarray,
    factors: np.ndarray,
    names: Sequence[str] = (),
    *,
    categories: Sequence[str | int] | None = None,
    seeds: int = 3,
    seed: int = 0,
) -> Factors:
    """Computes the scores of latents, (count, latent), of any model."""
    codes = np.asarray(codes, "float64")
    if codes.ndim != 2 or not np.isfinite(codes).all():
        raise ValueError(f"`codes` must be finite, (count, latent). Received: shape {codes.shape}")
    rows = checked(factors, len(codes))
    seeds = checked_integer("seeds", seeds)
    check_seed(seed)
    names = tuple(map(str, names)) or tuple(str(k) for k in range(rows.shape[1]))
    if len(names) != rows.shape[1]:
        raise ValueError(f"There are {rows.shape[1]} factors. Received: names={list(names)!r}")
    without_order = of_categories(rows, names, categories)
    classes = classes_of(rows)
    found = [scored(codes, rows, classes, without_order, seed + i) for i in range(seeds)]
    figures = {
        name: {
            "mean": round(float(np.mean([one[name] for one in found])), 4),
            "deviation": round(float(np.std([one[name] for one in found], ddof=seeds > 1)), 4),
        }
        for name in TITLES
    }
    matrix = shares(codes, classes)
    halves = f"{len(codes):,} images in halves by chance, {seeds} seeds from {seed}"
    cut = [name for name, values in zip(names, rows.T, strict=True) if is_cut(values)]
    parts = f"; {', '.join(cut)} in {CLASSES} parts" if cut else ""
    protocol = f"{', '.join(names)}{parts}; {halves}; latents in {scores.BINS} bins"
    return Factors(figures, matrix, names, f"{protocol}; ± one deviation over seeds")


def factor_matrix(vae: VAE, images: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Computes the share of each factor's entropy that each latent alone explains.

    Args:
        vae: A trained model.
        images: As for `factors`.
        factors: As for `factors`.

    Returns:
        (latent, factor), float64 in [0, 1].
    """
    rows = checked(factors, len(images))
    return shares(vae.encode(images)[0].astype("float64"), classes_of(rows))


def shares(codes: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Mutual information as a share of each factor's entropy: (latent, factor)."""
    return scores.mutual_informations(codes, classes) / scores.entropies(classes)


def classes_of(rows: np.ndarray) -> np.ndarray:
    """Converts factors to integers from 0 on, with numeric ones binned: (count, factor)."""
    return np.stack([as_classes(values) for values in rows.T], axis=1)


def scored(
    codes: np.ndarray, rows: np.ndarray, classes: np.ndarray, categories: np.ndarray, seed: int
) -> dict[str, float]:
    """The scores of one seed, by name."""
    order = np.random.default_rng(seed).permutation(len(codes))
    one, other = order[: len(codes) // 2], order[len(codes) // 2 :]
    both = (codes[one], classes[one], codes[other], classes[other])
    informations = scores.mutual_informations(*both[:2])
    importance, right = scores.importances(*both, seed)
    return {
        "mig": scores.mutual_information_gap(informations, classes[one]),
        "sap": scores.separated_predictability(
            codes[one], rows[one], categories, codes[other], rows[other]
        ),
        "disentanglement": scores.disentanglement(importance),
        "completeness": scores.completeness(importance),
        "informativeness": float(right.mean()),
        "modularity": scores.modularity(informations),
        "explicitness": scores.explicitness(*both),
        "beta_vae": scores.beta_vae_score(*both, seed),
        "factor_vae": scores.factor_vae_score(*both, seed),
    }


def checked(factors: Any, count: int) -> np.ndarray:
    """The factors as (count, factor), float64, or a ValueError."""
    rows = np.asarray(factors, "float64")
    rows = rows[:, np.newaxis] if rows.ndim == 1 else rows
    if rows.ndim != 2 or len(rows) != count or not rows.size or not np.isfinite(rows).all():
        raise ValueError(
            f"`factors` must be finite, (count, factor), a row for each of {count:,} images. "
            f"Received: shape {rows.shape}"
        )
    if count < FEWEST:
        raise ValueError(f"Scores of factors need at least {FEWEST} images. Received: {count}")
    if rows.shape[1] < 2:
        raise ValueError("Scores of factors need at least 2 factors to tell apart. Received: 1")
    for k, values in enumerate(rows.T):
        if values.min() == values.max():
            raise ValueError(
                f"All images have one value of factor {k}, {values[0]:g}: leave it out"
            )
    return rows


def is_whole(values: np.ndarray, most: int) -> bool:
    """Whether a factor is whole numbers, and has no more values than that."""
    return bool((values == np.rint(values)).all()) and len(np.unique(values)) <= most


def is_cut(values: np.ndarray) -> bool:
    """Whether a factor is cut into parts."""
    return not is_whole(values, MOST_VALUES)


def as_classes(values: np.ndarray) -> np.ndarray:
    """A factor as integers from 0 on."""
    if not is_cut(values):
        return np.unique(values, return_inverse=True)[1]
    share = (values - values.min()) / (values.max() - values.min())
    parts = np.minimum((CLASSES * share).astype(int), CLASSES - 1)
    return np.unique(parts, return_inverse=True)[1]


def of_categories(
    rows: np.ndarray, names: tuple[str, ...], categories: Sequence[str | int] | None
) -> np.ndarray:
    """Which factors are categories without an order: (factor,), bool."""
    if categories is None:
        return np.array([is_whole(values, 20) for values in rows.T])
    found = np.zeros(len(names), bool)
    for one in categories:
        place = names.index(one) if isinstance(one, str) and one in names else one
        if not isinstance(place, (int, np.integer)) or not 0 <= place < len(names):
            raise ValueError(f"There is no factor {one!r}; there are {', '.join(names)}.")
        found[place] = True
    return found
