"""Reports: all figures of a model on a data set, with their protocol."""

import dataclasses
import hashlib
import importlib.metadata
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.data import Dataset, fitted, known_factors
from kvae.evaluation.factors import factors as score_factors
from kvae.evaluation.latents import (
    active_units,
    beyond_chance,
    information_within,
    linear_probe_accuracy,
    neighbour_accuracy,
    prior_gap_at_least,
)
from kvae.evaluation.samples import sample_quality
from kvae.evaluation.text import lines_of, protocol_row, rows_of
from kvae.likelihoods import bits_per_dimension
from kvae.limits import read_rows
from kvae.markup import section, table
from kvae.model import VAE
from kvae.model.bounds import (
    Posterior,
    Terms,
    device,
    digest,
    importance_weighted,
    posterior,
    posteriors,
    terms,
)
from kvae.parts import check_seed
from kvae.version import __version__

__all__ = ["Evaluation", "bound_figures", "evaluate"]

CURVE = (1, 10, 100, 1000, 5000)
NEIGHBOURS = 5
DRAWS_TO_CLASSIFY = 10
FACTOR_IMAGES = 5_000
FEW = 10_000  # training images whose latents of a conditional model represent them


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        figures: Figures by part: `bound`, `nll`, `latents`, `representation`, `samples`, `factors`.
            The last three are left out if what they need is missing. Numbers are in nats per image
            unless stated otherwise.
        protocol: How the figures were measured: what a reader needs to measure them again.
        per_image: `elbo`, `reconstruction`, `kl` and `nll` (with the most draws), each (count,).

    Example:
        >>> import kvae
        >>> data = kvae.data.load("digits")
        >>> vae = kvae.VAE.from_preset("mlp-400", data.image_shape)
        >>> evaluation = kvae.evaluate(vae, data, images=50, importance_samples=10, samples=0)
        >>> evaluation.protocol["unit"], evaluation.per_image["nll"].shape
        ('nats per image', (50,))
    """

    figures: dict[str, Any]
    protocol: dict[str, Any]
    per_image: dict[str, np.ndarray]

    def as_dict(self) -> dict[str, Any]:
        """Figures and protocol, as JSON types."""
        return {**self.figures, "protocol": self.protocol}

    def __str__(self) -> str:
        """A table, and the protocol in one line."""
        return "\n".join(lines_of([*rows_of(self.figures), protocol_row(self.protocol)]))

    def _repr_html_(self) -> str:
        """The table for a notebook."""
        rows = [*rows_of(self.figures), protocol_row(self.protocol)]
        figures = [(title, value) for title, value in rows if not title.endswith(":")]
        notes = [" ".join(row) for row in rows if row not in figures]
        return section(
            f"{self.protocol['data']} {self.protocol['split']}", table(figures), notes=notes
        )


def evaluate(
    vae: VAE,
    dataset: Dataset,
    split: str = "test",
    *,
    images: int | None = None,
    importance_samples: int = 100,
    samples: int = 10_000,
    factors: bool = False,
    seed: int = 0,
    verbose: bool = False,
) -> Evaluation:
    """Evaluates a trained model: bound, likelihood, latents, their use, and new images.

    The random numbers of the bound and the likelihood, for pixels and z, come from `seed` through
    NumPy. So a model has the same figures on every backend, up to rounding.

    Args:
        vae: The model.
        dataset: A data set from `kvae.data.load` or `kvae.data.from_arrays`. Images of another size
            are resized to the model's.
        split: "train", "validation" or "test".
        images: Evaluate only the first N images of the split. None: all.
        importance_samples: Largest number of draws of z per image in the estimate of −log p(x).
        samples: Number of generated images to compare with test images, see `sample_quality`. 0: no
            comparison.
        factors: Whether to compute disentanglement scores, if the factors of the images are known
            (shapes). They use `images` images, by default 5,000 of one split.
        seed: Random seed of all draws.
        verbose: Whether to show progress.

    Raises:
        ValueError: If an argument is invalid.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"`split` must be train, validation or test. Received: split={split!r}")
    for name, value, least in (
        ("images", 1 if images is None else images, 1),
        ("importance_samples", importance_samples, 1),
        ("samples", samples, 0),
    ):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(
                f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}"
            )
    check_seed(seed)
    shape_of_data = dataset.image_shape
    dataset = resized_to(dataset, vae)
    chosen = getattr(dataset, split)[:images]
    labels = getattr(dataset, f"{split}_labels")
    labels = None if labels is None else labels[:images]
    told = vae.known(labels, dataset.class_names)
    classes = vae.filled(told, chosen)
    of = posterior(vae, chosen, seed, classes)
    bound, per_image = of_terms(vae, terms(vae, of))
    curve = [*(k for k in CURVE if k < importance_samples), importance_samples]
    nll = importance_weighted(vae, of, curve, verbose)
    figures = {
        "bound": bound,
        "nll": {str(k): mean_and_error(values) for k, values in nll.items()},
        "latents": latent_figures(vae, of, bound["kl"], seed),
    }
    known = dataset.train_labels
    train = dataset.train
    if known is not None and known.min() < 0:
        labelled = np.flatnonzero(known >= 0)
        train, known = read_rows(train, labelled), known[labelled]
    others = split != "train"
    if vae.condition is not None and vae.condition.classes:
        right = slice(None) if told is None else np.asarray(told) >= 0
        figures["classification"] = classification(vae, chosen[right], classes[right], seed)
    classed = vae.condition is None or vae.condition.classes
    if (
        others
        and classed
        and labels is not None
        and known is not None
        and len(np.unique(known)) > 1
    ):
        if vae.condition is not None:
            # It is not told the class, which these figures are to find, and so encodes an image
            # once for each class.
            few = np.sort(np.random.default_rng(seed).permutation(len(train))[:FEW])
            train, known = read_rows(train, few), known[few]
        means = [vae.encode(part)[0] for part in (train, chosen)]
        figures["representation"] = representation(means[0], known, means[1], labels)
    if samples and others:
        figures["samples"] = sample_quality(vae, dataset, samples, seed, split=split)
    if factors:
        figures["factors"] = factor_figures(vae, dataset, split, images or FACTOR_IMAGES, seed)
    protocol = {
        "data": dataset.name,
        "split": split,
        **described(vae, chosen, seed, of.observed_hash),
        "importance_samples": importance_samples,
    }
    if shape_of_data != vae.image_shape:
        protocol["resized_from"] = list(shape_of_data)
    return Evaluation(figures, protocol, {**per_image, "nll": nll[importance_samples]})


def resized_to(dataset: Dataset, vae: VAE) -> Dataset:
    """Fits the images of a data set to the model, as its training images were."""
    return dataclasses.replace(
        dataset,
        train=fitted(dataset.train, vae.image_shape, vae.fitting),
        validation=fitted(dataset.validation, vae.image_shape, vae.fitting),
        test=fitted(dataset.test, vae.image_shape, vae.fitting),
    )


def bound_figures(
    vae: VAE, images: np.ndarray, seed: int = 0, classes: np.ndarray | None = None
) -> dict[str, Any]:
    """Computes the bound, its two terms and their protocol, as a model's card keeps them.

    Args:
        vae: The model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        seed: Random seed of the pixels and of z, with one draw of each per image.
        classes: For a conditional model, the class of each image, or its numbers.
    """
    observed, found = hashlib.sha256(), []
    for of in posteriors(vae, images, seed, classes):
        found.append(terms(vae, of, part_of=len(images)))
        observed.update(of.observed.data)
    whole = Terms(
        np.concatenate([part.reconstruction for part in found]),
        np.concatenate([part.kl for part in found]),
    )
    figures, _ = of_terms(vae, whole)
    return {**figures, "protocol": described(vae, images, seed, observed.hexdigest())}


def of_terms(vae: VAE, parts: Terms) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The figures of the bound, and the values per image behind them."""
    per_image = {"elbo": parts.elbo, "reconstruction": parts.reconstruction, "kl": parts.kl}
    found = {name: mean_and_error(values) for name, values in per_image.items()}
    figures: dict[str, Any] = {name: value["mean"] for name, value in found.items()}
    figures["standard_error"] = {name: value["standard_error"] for name, value in found.items()}
    if vae.likelihood.measure == "probability":
        bits = bits_per_dimension(-figures["elbo"], vae.image_shape)
        figures["bits_per_dimension"] = round(bits, 4)
    return figures, per_image


def mean_and_error(values: np.ndarray) -> dict[str, float | None]:
    """The mean over images, and its standard error; None for one image."""
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else None
    return {
        "mean": round(float(np.mean(values)), 4),
        "standard_error": None if error is None else round(float(error), 4),
    }


def latent_figures(vae: VAE, of: Posterior, kl: float, seed: int) -> dict[str, Any]:
    """Computes the information in the latents, and their distance from the prior.

    Figures that need more images are None. So are figures that need a Gaussian q(z|x), if latents
    come in groups.

    Args:
        vae: The model.
        of: The result of `posterior`.
        kl: Mean KL, in nats.
        seed: Random seed of the draws of z.
    """
    posterior = ops.convert_to_tensor(of.mean), ops.convert_to_tensor(of.log_variance)
    several = len(of.mean) > 1
    each = None
    if several or vae.prior.closed_form:
        each = ops.convert_to_numpy(vae.prior.kl_per_latent(*posterior)).mean(axis=0)
    one = len(vae.groups) == 1
    least = None
    if one:
        least = prior_gap_at_least(vae.prior, of.mean, of.log_variance, seed, of.rows)
    parts = (of.mean, of.log_variance, seed, of.rows)
    information, most = information_within(*parts) if one else (None, None)
    whose = "the prior" if vae.prior.closed_form else "a Gaussian fitted to each"
    if not one and not vae.prior.closed_form:
        whose = "the prior, or where that is learned a Gaussian fitted to each"
    return {
        "latents": vae.latent_dim,
        "active": int(active_units(of.mean).sum()) if several else None,
        "kl_per_latent": None if each is None else [round(float(value), 4) for value in each],
        "mutual_information": None if information is None else round(information, 4),
        "mutual_information_at_most": round(most or math.log(len(of.mean)), 4),
        "kl_per_group": None
        if each is None or len(vae.groups) == 1
        else [round(float(value), 4) for value in vae.sums_by_group(each)],
        "kl_per_latent_of": whose,
        "prior_gap_at_most": None if information is None else round(kl - information, 4),
        "prior_gap_at_least": None
        if least is None
        else round(beyond_chance(least, *of.mean.shape), 4),
    }


def representation(
    mean: np.ndarray, labels: np.ndarray, test_mean: np.ndarray, test_labels: np.ndarray
) -> dict[str, Any]:
    """Computes how well classifiers on the latent means of training images classify others.

    The means are those of `VAE.encode`, without sampling.
    """
    found = {
        "nearest_neighbours": neighbour_accuracy(
            mean, labels, test_mean, test_labels, neighbours=NEIGHBOURS
        ),
        "linear_probe": linear_probe_accuracy(mean, labels, test_mean, test_labels),
    }
    return {
        **{name: round(share, 4) for name, share in found.items()},
        "standard_error": {
            name: round(math.sqrt(share * (1 - share) / len(test_labels)), 4)
            if len(test_labels) > 1
            else None
            for name, share in found.items()
        },
        "neighbours": min(NEIGHBOURS, len(mean)),
        "training_images": len(mean),
    }


def classification(vae: VAE, images: np.ndarray, labels: Any, seed: int) -> dict[str, Any]:
    """Computes how often the likeliest class of a conditional model is the right one."""
    found = vae.classify(images, DRAWS_TO_CLASSIFY, seed)
    share = float((found == np.asarray(labels)).mean())
    error = math.sqrt(share * (1 - share) / len(images)) if len(images) > 1 else None
    return {
        "most_likely": round(share, 4),
        "standard_error": None if error is None else round(error, 4),
        "draws_of_z": DRAWS_TO_CLASSIFY,
    }


def factor_figures(vae: VAE, dataset: Dataset, split: str, count: int, seed: int) -> dict:
    """Computes disentanglement scores, on images with known factors."""
    images, rows, names = known_factors(dataset, split, count)
    images = fitted(images, vae.image_shape, vae.fitting)
    return score_factors(vae, images, rows, names, seed=seed).as_dict()


def described(vae: VAE, images: np.ndarray, seed: int, observed_hash: str) -> dict[str, Any]:
    """The conditions on which figures of these images depend, besides the model."""
    return {
        "images": len(images),
        "image_shape": list(vae.image_shape),
        "data_hash": digest(images),
        "observation": vae.likelihood.protocol,
        **({} if vae.condition is None else {"given": given(vae)}),
        "observed_hash": observed_hash,
        "measure": vae.likelihood.measure,
        "unit": "nats per image",
        "draws_of_z": 1,
        "seed": seed,
        "backend": keras.backend.backend(),
        "device": device(),
        "precision": precision(vae.decoder),
        "versions": {
            "kvae": __version__,
            "keras": keras.__version__,
            keras.backend.backend(): backend_version(),
            "numpy": np.__version__,
        },
    }


def given(vae: VAE) -> str:
    """The condition of a conditional model, in words."""
    classes = vae.condition and vae.condition.classes
    return "given the class" if classes else "given the numbers of each image"


def precision(model: keras.Model) -> str:
    """The dtype policies of the layers; a file does not keep that of a Functional model."""
    return "/".join(sorted({layer.dtype_policy.name for layer in model.layers if layer.weights}))


def backend_version() -> str:
    """The installed version of the backend."""
    try:
        return importlib.metadata.version(keras.backend.backend())
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
