"""Reports: all figures of a model on a data set, the protocol they share, and comparisons."""

import dataclasses
import importlib.metadata
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.checks import beyond_chance
from kvae.data import Dataset, fitted
from kvae.evaluation.bounds import (
    Posterior,
    device,
    digest,
    importance_weighted,
    posterior,
    terms,
)
from kvae.evaluation.latents import (
    active_units,
    linear_probe_accuracy,
    moment_gap,
    mutual_information,
    neighbour_accuracy,
)
from kvae.evaluation.samples import sample_quality
from kvae.likelihoods import bits_per_dimension
from kvae.model import VAE
from kvae.priors import StandardNormal
from kvae.version import __version__

__all__ = ["Evaluation", "bound_figures", "compare", "evaluate"]

CURVE = (1, 10, 100, 1000, 5000)
RESAMPLES = 2000
MUST_AGREE = ("measure", "images", "observed_hash", "seed")
MEASURES = ("probability", "density")  # of which figures can be compared
NEIGHBOURS = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        figures: By part: `bound`, `nll`, `latents`, `representation`, `samples`; the last two only
            where there is what they need. Numbers, in nats per image where nothing else is said.
        protocol: How they were obtained: what a reader needs to obtain them again.
        per_image: `elbo`, `reconstruction`, `kl` and `nll` (at the most draws), each (count,).
    """

    figures: dict[str, Any]
    protocol: dict[str, Any]
    per_image: dict[str, np.ndarray]

    def as_dict(self) -> dict[str, Any]:
        """Figures and protocol, as JSON has them."""
        return {**self.figures, "protocol": self.protocol}

    def __str__(self) -> str:
        """A table, and the protocol in a line."""
        return "\n".join([*rows_of(self.figures), protocol_line(self.protocol)])


def evaluate(
    vae: VAE,
    dataset: Dataset,
    split: str = "test",
    *,
    images: int | None = None,
    importance_samples: int = 100,
    samples: int = 10_000,
    seed: int = 0,
    verbose: bool = False,
) -> Evaluation:
    """Measures a trained model: bound, likelihood, latents, what they are good for, and samples.

    What is drawn for the bound and the likelihood, pixels and z, comes from `seed` through NumPy:
    the same model has the same figures on every backend, up to rounding.

    Args:
        vae: The model.
        dataset: What `kvae.data.load` or `kvae.data.from_arrays` returned; images of another size
            are resized to the model's.
        split: "train", "validation" or "test".
        images: So many, the first of the split; all where none is given.
        importance_samples: The most draws of z for an image in the estimate of −log p(x).
        samples: So many generated images are compared with test images, see `sample_quality`; 0
            leaves that out.
        seed: Of all that is drawn.
        verbose: Whether to show progress.

    Raises:
        ValueError: If an argument is not what it should be.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"`split` must be train, validation or test. Received: split={split!r}")
    for name, value, least in (
        ("images", 1 if images is None else images, 1),
        ("importance_samples", importance_samples, 1),
        ("samples", samples, 0),
    ):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}. Received: {name}={value}")
    shape_of_data = dataset.image_shape
    dataset = resized_to(dataset, vae.image_shape)
    chosen = getattr(dataset, split)[:images]
    of = posterior(vae, chosen, seed)
    bound, per_image = bound_and_terms(vae, of)
    curve = [*(k for k in CURVE if k < importance_samples), importance_samples]
    nll = importance_weighted(vae, of, curve, verbose)
    figures = {
        "bound": bound,
        "nll": {str(k): mean_and_error(values) for k, values in nll.items()},
        "latents": latent_figures(vae, of, seed),
    }
    labels = getattr(dataset, f"{split}_labels")
    known = dataset.train_labels
    others = split != "train"
    if others and labels is not None and known is not None and len(np.unique(known)) > 1:
        means = (vae.encode(part)[0] for part in (dataset.train, chosen))
        figures["representation"] = representation(next(means), known, next(means), labels[:images])
    if samples and others:
        figures["samples"] = sample_quality(vae, dataset, samples, seed, split=split)
    protocol = {
        "data": dataset.name,
        "split": split,
        **described(vae, chosen, of),
        "importance_samples": importance_samples,
    }
    if shape_of_data != vae.image_shape:
        protocol["resized_from"] = list(shape_of_data)
    return Evaluation(figures, protocol, {**per_image, "nll": nll[importance_samples]})


def resized_to(dataset: Dataset, image_shape: tuple[int, int, int]) -> Dataset:
    """The data set with images of the model's size."""
    return dataclasses.replace(
        dataset,
        train=fitted(dataset.train, image_shape),
        validation=fitted(dataset.validation, image_shape),
        test=fitted(dataset.test, image_shape),
    )


def bound_figures(vae: VAE, images: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """The bound, its two terms, and how they were measured: what a model's card keeps.

    Args:
        vae: The model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        seed: Of the pixels and of z, one draw of each for an image.
    """
    of = posterior(vae, images, seed)
    return {**bound_and_terms(vae, of)[0], "protocol": described(vae, images, of)}


def bound_and_terms(vae: VAE, of: Posterior) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The figures of the bound, and what they are the means of."""
    parts = terms(vae, of)
    per_image = {"elbo": parts.elbo, "reconstruction": parts.reconstruction, "kl": parts.kl}
    found = {name: mean_and_error(values) for name, values in per_image.items()}
    figures: dict[str, Any] = {name: value["mean"] for name, value in found.items()}
    figures["standard_error"] = {name: value["standard_error"] for name, value in found.items()}
    if vae.likelihood.measure == "probability":
        bits = bits_per_dimension(-figures["elbo"], vae.image_shape)
        figures["bits_per_dimension"] = round(bits, 4)
    return figures, per_image


def mean_and_error(values: np.ndarray) -> dict[str, float | None]:
    """The mean over images, and its standard error; of one image there is none."""
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else None
    return {
        "mean": round(float(np.mean(values)), 4),
        "standard_error": None if error is None else round(float(error), 4),
    }


def latent_figures(vae: VAE, of: Posterior, seed: int) -> dict[str, Any]:
    """What the latents hold, and how far their aggregate is from the prior."""
    kl = ops.convert_to_numpy(vae.prior.kl_per_latent(of.mean, of.log_variance)).mean(axis=0)
    information = mutual_information(of.mean, of.log_variance, seed)
    figures: dict[str, Any] = {
        "latents": vae.latent_dim,
        "active": int(active_units(of.mean).sum()),
        "kl_per_latent": [round(float(value), 4) for value in kl],
        "mutual_information": round(information, 4),
        "mutual_information_at_most": round(math.log(len(of.mean)), 4),
        "prior_gap_at_most": round(float(kl.sum()) - information, 4),
    }
    if isinstance(vae.prior, StandardNormal):
        gap = moment_gap(of.mean, of.log_variance)
        figures["prior_gap_at_least"] = round(beyond_chance(gap, *of.mean.shape), 4)
    return figures


def representation(
    mean: np.ndarray, labels: np.ndarray, test_mean: np.ndarray, test_labels: np.ndarray
) -> dict[str, Any]:
    """What classifiers on the latent means of training images make of those of other images.

    The means are those that `VAE.encode` gives: nothing is drawn.
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
            for name, share in found.items()
        },
        "neighbours": NEIGHBOURS,
        "training_images": len(mean),
    }


def described(vae: VAE, images: np.ndarray, of: Posterior) -> dict[str, Any]:
    """What figures of these images depend on, besides the model."""
    return {
        "images": len(images),
        "image_shape": list(vae.image_shape),
        "data_hash": digest(images),
        "observation": vae.likelihood.protocol,
        "observed_hash": of.observed_hash,
        "measure": vae.likelihood.measure,
        "unit": "nats per image",
        "draws_of_z": 1,
        "seed": of.seed,
        "backend": keras.backend.backend(),
        "device": device(),
        "precision": "/".join(
            sorted({x.dtype_policy.name for x in vae.decoder.layers if x.weights})
        ),
        "versions": {
            "kvae": __version__,
            "keras": keras.__version__,
            keras.backend.backend(): backend_version(),
            "numpy": np.__version__,
        },
    }


def precision(model: keras.Model) -> str:
    """The dtype policies of its layers: a file does not keep that of a Functional model."""
    return "/".join(sorted({layer.dtype_policy.name for layer in model.layers if layer.weights}))


def backend_version() -> str:
    """The version of the backend, as it was installed."""
    try:
        return importlib.metadata.version(keras.backend.backend())
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def compare(first: Evaluation, second: Evaluation, seed: int = 0) -> dict[str, Any]:
    """The difference of two models, image by image on the same draws, where that has a meaning.

    Args:
        first: What `evaluate` found of one.
        second: What it found of the other.
        seed: Of the bootstrap.

    Returns:
        `comparable`; if so `negative_elbo` and `nll`, each with `difference` (first − second, nats
        per image), and `low` and `high`, a 95 % interval of it from 2,000 bootstrap samples of the
        images; if not, `why`. Where the numbers of draws differ `nll` is None.

    References:
        Efron (1979), "Bootstrap methods: another look at the jackknife".
    """
    differ = [name for name in MUST_AGREE if first.protocol[name] != second.protocol[name]]
    if differ or first.protocol["measure"] not in MEASURES:
        return {"comparable": False, "why": why_not(first.protocol, second.protocol, differ)}
    bounds, estimates = (first.per_image[name] - second.per_image[name] for name in ("elbo", "nll"))
    same = first.protocol["importance_samples"] == second.protocol["importance_samples"]
    return {
        "comparable": True,
        "negative_elbo": paired_difference(-bounds, seed),
        "nll": paired_difference(estimates, seed) if same else None,
    }


def paired_difference(differences: np.ndarray, seed: int) -> dict[str, float]:
    """The mean of differences, with a bootstrap interval."""
    generator = np.random.default_rng(seed)
    count = len(differences)
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
        "seed": "the draws of z differ (seed {seed}; seed {other[seed]})",
    }
    if differ:
        return reasons[differ[0]].format(**first, other=second)
    if first["measure"] == "neither":
        return "soft targets are no likelihood of any data"
    return "the likelihood does not say what it measures"


def rows_of(figures: dict[str, Any]) -> list[str]:
    """The figures as lines of a table."""
    bound, errors = figures["bound"], figures["bound"]["standard_error"]
    lines = [
        row("−ELBO", f"{with_error(-bound['elbo'], errors['elbo'])} nats per image"),
        row("  reconstruction", with_error(bound["reconstruction"], errors["reconstruction"])),
        row("  KL", with_error(bound["kl"], errors["kl"])),
    ]
    if "bits_per_dimension" in bound:
        lines.append(row("  bits per dimension", f"{bound['bits_per_dimension']:.4f}"))
    for i, (k, value) in enumerate(figures["nll"].items()):
        text = f"{with_error(value['mean'], value['standard_error'])}   k = {int(k):,}"
        lines.append(row("−log p(x), at most" if i == 0 else "", text))
    latents = figures["latents"]
    gap = f"at most {latents['prior_gap_at_most']:.2f} nats"
    if "prior_gap_at_least" in latents:
        gap = f"{latents['prior_gap_at_least']:.2f} to {latents['prior_gap_at_most']:.2f} nats"
    kl = latents["kl_per_latent"]
    lines += [
        row("active latents", f"{latents['active']} of {latents['latents']}"),
        row("KL of a latent", f"{min(kl):.2f} to {max(kl):.2f} nats"),
        row(
            "information",
            f"{latents['mutual_information']:.2f} nats of x in z "
            f"(so many images show at most {latents['mutual_information_at_most']:.2f})",
        ),
        row("gap to the prior", gap),
    ]
    if "representation" in figures:
        found = figures["representation"]
        lines += [
            row(
                title,
                f"{100 * found[name]:.2f} ± {100 * found['standard_error'][name]:.2f} % right",
            )
            for name, title in (
                ("nearest_neighbours", f"{found['neighbours']} neighbours"),
                ("linear_probe", "linear probe"),
            )
        ]
    return [*lines, *sample_rows(figures.get("samples", {}))]


def sample_rows(samples: dict[str, Any]) -> list[str]:
    """The figures of samples as lines of a table, each beside that of training images."""
    lines = []
    if "floor" in samples:
        floor = samples["floor"]
        names = (
            (("classifier_frechet_distance",), "Fréchet distance"),
            (("classifier_kernel_distance",), "kernel distance"),
            (("precision", "recall"), "precision, recall"),
            (("density", "coverage"), "density, coverage"),
        )
        for keys, title in names:
            found, least = (
                ", ".join(f"{part[key]:.4g}" for key in keys) for part in (samples, floor)
            )
            lines.append(row(title, f"{found}   (training images in their place: {least})"))
        shares = samples["class_histogram"].items()
        lines.append(row("classes", ", ".join(f"{n} {100 * share:.0f} %" for n, share in shares)))
    if "left_out" in samples:
        lines.append(row("sample quality", f"left out. {samples['left_out']}"))
    copies = samples.get("memorisation", {})
    if copies.get("ratio") is not None:
        lines.append(
            row(
                "copies",
                f"samples are {copies['ratio']:.2f} × as far from training images as test images "
                f"are; {copies['nearest_is_training']:.0%} are nearest to one, "
                f"{copies['nearest_is_training_by_chance']:.0%} by chance",
            )
        )
    if "protocol" in samples:
        lines.append(f"Samples: {samples['protocol']}")
    return lines


def with_error(value: float, error: float | None) -> str:
    """A figure and its standard error, if there is one."""
    return f"{value:.2f}" if error is None else f"{value:.2f} ± {error:.2f}"


def row(title: str, value: str) -> str:
    """One line of a table."""
    return f"{title:<20} {value}"


def protocol_line(protocol: dict[str, Any]) -> str:
    """The protocol in a line."""
    resized = ""
    if "resized_from" in protocol:
        resized = f" resized from {'×'.join(map(str, protocol['resized_from']))}"
    parts = [
        f"{protocol['data']} {protocol['split']}, {protocol['images']:,} images{resized} "
        f"(sha256 {protocol['data_hash'][:8]})",
        f"{protocol['observation']} (sha256 {protocol['observed_hash'][:8]})",
        "one draw of z for the bound",
        f"seed {protocol['seed']}",
        f"{protocol['backend']}, {protocol['device']}, {protocol['precision']}",
        f"kvae {protocol['versions']['kvae']}, keras {protocol['versions']['keras']}",
        "± one standard error over images",
    ]
    return f"Protocol: {'; '.join(parts)}"
