"""Compares generated images with real ones, in the features of a classifier."""

from typing import Any

import numpy as np

from kvae.data import Dataset
from kvae.evaluation.classifier import Classifier, classifier_for
from kvae.evaluation.distances import (
    NEIGHBOURS,
    frechet_distance,
    kernel_distance,
    precision_recall_density_coverage,
)
from kvae.evaluation.neighbours import memorisation, picked
from kvae.model import VAE

__all__ = ["sample_quality"]


def sample_quality(
    vae: VAE,
    dataset: Dataset,
    count: int = 10_000,
    seed: int = 0,
    classifier: Classifier | None = None,
    split: str = "test",
) -> dict[str, Any]:
    """Compares generated with test images, in the features of kvae's classifier.

    Generated images are expected images, grey values in [0, 1], as from `vae.generate`. They are
    compared with test images as stored. Expected images are smoother than data, especially if the
    model observes binarised pixels; this counts against them here. The floor is the same figures
    for as many training images.

    The Fréchet distance, precision, recall and coverage depend on the number of images, and all
    figures depend on the classifier. Compare them only with the floor, and with figures of the same
    protocol. They are not comparable with Inception figures.

    Args:
        vae: A trained model.
        dataset: A data set with images of the model's shape.
        count: Number of images of each kind, or fewer if there are not enough test or training
            images.
        seed: Random seed of the generated images, of the choice of training images, and of a
            classifier that is trained for this.
        classifier: A classifier. Defaults to that of `classifier_for`.
        split: "test", or "validation" to use those images instead of test images.

    Returns:
        A dict. For the generated images: `classifier_frechet_distance`,
        `classifier_kernel_distance`, `precision`, `recall`, `density`, `coverage` and
        `class_histogram` (the share of each class). For a model of classes, also `asked_class`, the
        share of images in which the classifier finds the requested class; each class is requested
        as often as in training. `floor` has the same figures for training images, and the class
        histogram and share of test images. Further entries are `memorisation` (see the function of
        that name), `images` (the number of each kind), `classifier` (facts about it) and `protocol`
        (in words). Without a classifier, `left_out` says why.

    Raises:
        ValueError: If the images do not have the model's shape.
    """
    if dataset.image_shape != vae.image_shape:
        raise ValueError(
            f"The model takes images of shape {vae.image_shape}. "
            f"Received: images of shape {dataset.image_shape}"
        )
    rng = np.random.default_rng(seed)
    unseen = getattr(dataset, split)
    count = min(count, len(unseen), len(dataset.train))
    real, others = (picked(images, count, rng) for images in (unseen, dataset.train))
    asked = None
    if vae.condition is not None and dataset.train_labels is not None:  # as often as in training
        labelled = dataset.train_labels[dataset.train_labels >= 0]
        asked = np.random.default_rng([seed, 1]).permutation(labelled)
        asked = np.resize(asked, count)
    told: dict[str, Any] = {}
    if asked is not None:
        told["classes"] = vae.known(asked, dataset.class_names)
    generated = vae.generate(count, seed=seed, **told)
    copies = memorisation(generated, dataset, seed=seed, split=split)
    figures = {"images": count, "memorisation": copies}
    if count <= NEIGHBOURS:
        return figures | {
            "left_out": f"It takes {NEIGHBOURS + 1} or more of samples, of {split} images and of "
            f"training images; here are {count}."
        }
    if classifier is None:
        classifier, why = classifier_for(dataset, seed)
        if classifier is None:
            return figures | {"left_out": why}
    features = classifier.features(real)
    found_again, right = {}, {}
    labels = getattr(dataset, f"{split}_labels")
    if asked is not None and labels is not None:
        own = picked(labels, count, np.random.default_rng(seed))  # of the images in `real`
        found_again = {"asked_class": share_found(classifier, generated, asked)}
        right = {"asked_class": share_found(classifier, real, own)}
    return {
        **compared(features, classifier.features(generated)),
        **found_again,
        "class_histogram": histogram(classifier, generated),
        "floor": {
            **compared(features, classifier.features(others)),
            **right,
            "class_histogram": histogram(classifier, real),
        },
        **figures,
        "classifier": classifier.card,
        "protocol": (
            f"{count:,} expected images, seed {seed}, against {count:,} {split} images as stored, "
            f"in {features.shape[1]} features of kvae's classifier ({classifier.trained}); floor: "
            f"{count:,} training images in place of the generated ones"
        ),
    }


def compared(real: np.ndarray, generated: np.ndarray) -> dict[str, float]:
    """All figures of two sets of features, to four digits."""
    figures = {
        "classifier_frechet_distance": frechet_distance(real, generated),
        "classifier_kernel_distance": kernel_distance(real, generated),
        **precision_recall_density_coverage(real, generated),
    }
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def share_found(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of the images that the classifier puts into the class that they are of."""
    return round(float((classifier.predicted(images) == labels).mean()), 4)


def histogram(classifier: Classifier, images: np.ndarray) -> dict[str, float]:
    """The share of the images that the classifier puts into each class."""
    counts = np.bincount(classifier.predicted(images), minlength=len(classifier.class_names))
    shares = (counts / len(images)).round(4).tolist()
    return dict(zip(classifier.class_names, shares, strict=True))
