"""Samples: how near generated images come to real ones, and whether any were memorised.

Every figure compares two sets of rows, features of a classifier or pixels, and is plain NumPy.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from kvae.data import Dataset
from kvae.evaluation.classifier import Classifier, classifier_for
from kvae.model import VAE

__all__ = [
    "beside_neighbours",
    "frechet_distance",
    "kernel_distance",
    "memorisation",
    "nearest_neighbours",
    "precision_recall_density_coverage",
    "sample_quality",
]

BLOCK = 4_000_000  # distances held at a time: 32 MB
NEIGHBOURS = 5


def sample_quality(
    vae: VAE,
    dataset: Dataset,
    count: int = 10_000,
    seed: int = 0,
    classifier: Classifier | None = None,
    split: str = "test",
) -> dict[str, Any]:
    """Figures of generated images in the features of kvae's classifier, beside a floor.

    Generated images are expected images, grey values in [0, 1], as `vae.generate` gives them; they
    are compared with test images as these are stored. Expected images are smoother than data, all
    the more so where the model observes pixels that are drawn black or white; that counts against
    them here. The floor is the same figures of as many training images in their place.

    The Fréchet distance, precision, recall and coverage depend on the number of images, and all
    figures on the classifier: compare them only with the floor, and with figures of the same
    protocol. They are no Inception figures, and cannot be compared with those.

    Args:
        vae: A trained model.
        dataset: With images of the model's shape.
        count: Images of each kind, at most; fewer where there are not so many test or training
            images.
        seed: Of the generated images, of the training images that are picked, and of a classifier
            that is trained on the spot.
        classifier: Another than `classifier_for` gives.
        split: "test", or "validation", whose images then stand where test images are spoken of.

    Returns:
        `classifier_frechet_distance`, `classifier_kernel_distance`, `precision`, `recall`,
        `density`, `coverage` and `class_histogram` (the share of each class) of the generated
        images; `floor`, the same of training images, and the class histogram of test images;
        `memorisation`, see there; `images` of each kind; `classifier`, what is known of it;
        `protocol`, in words. Where there is no classifier, `left_out` says why.

    Raises:
        ValueError: If the images have not the model's shape.
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
    generated = vae.generate(count, seed=seed)
    copies = memorisation(generated, dataset, seed=seed, split=split)
    figures = {"images": count, "memorisation": copies}
    if count <= NEIGHBOURS:
        return figures | {"left_out": f"Fewer than {NEIGHBOURS + 1} {split} or training images."}
    if classifier is None:
        classifier, why = classifier_for(dataset, seed)
        if classifier is None:
            return figures | {"left_out": why}
    features = classifier.features(real)
    return {
        **compared(features, classifier.features(generated)),
        "class_histogram": histogram(classifier, generated),
        "floor": {
            **compared(features, classifier.features(others)),
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


def histogram(classifier: Classifier, images: np.ndarray) -> dict[str, float]:
    """The share of the images that the classifier puts into each class."""
    counts = np.bincount(classifier.predicted(images), minlength=len(classifier.class_names))
    shares = (counts / len(images)).round(4).tolist()
    return dict(zip(classifier.class_names, shares, strict=True))


def picked(images: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """So many of the images, or all, at random, in their order."""
    return images[np.sort(rng.permutation(len(images))[:count])]


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    r"""The Fréchet distance of two Gaussians that have the means and covariances of two sets.

    $$d^2 = |m_r - m_g|^2 + \mathrm{tr}\big(C_r + C_g - 2 (C_r C_g)^{1/2}\big)$$

    It is biased upwards, the more the fewer the images: compare it only at the same numbers.

    Args:
        real: (count, features), at least 2 rows.
        generated: (another count, features), at least 2 rows.

    Returns:
        d², at least 0; in squared units of the features.

    References:
        Dowson and Landau (1982), "The Fréchet distance between multivariate normal distributions".
        Heusel et al. (2017), "GANs trained by a two time-scale update rule converge to a local Nash
        equilibrium", arXiv:1706.08500 (in the features of a classifier, another than ours).
    """
    real, generated = checked(real, generated, least=2)
    roots = [root(np.cov(rows, rowvar=False)) for rows in (real, generated)]
    shift = real.mean(axis=0) - generated.mean(axis=0)
    # The trace of the root of the product, in a form that keeps all digits where ranks are low.
    common = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()
    spread = sum(np.square(one).sum() for one in roots)
    return max(0.0, float(shift @ shift + spread - 2 * common))


def root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance, (features, features)."""
    values, vectors = np.linalg.eigh(np.atleast_2d(covariance))
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def kernel_distance(real: np.ndarray, generated: np.ndarray) -> float:
    r"""The squared maximum mean discrepancy of two sets, under a cubic kernel, without bias.

    $$\mathrm{MMD}^2 = \overline{k(x, x')} + \overline{k(y, y')} - 2\, \overline{k(x, y)}, \quad
    k(x, y) = (x \cdot y / \text{features} + 1)^3$$

    Means are over all pairs of different rows; in the source, over those of random subsets. The
    expectation does not depend on the number of images; it is 0 for sets of one distribution, so
    that an estimate may lie a little below.

    Args:
        real: (count, features), at least 2 rows.
        generated: (another count, features), at least 2 rows.

    References:
        Bińkowski et al. (2018), "Demystifying MMD GANs", arXiv:1801.01401 (in the features of
        another classifier than ours).
    """
    real, generated = checked(real, generated, least=2)
    both = kernel_sum(real, generated) / (len(real) * len(generated))
    own = [
        (kernel_sum(rows, rows) - kernel(np.square(rows).mean(axis=1)).sum())
        / (len(rows) * (len(rows) - 1))
        for rows in (real, generated)
    ]
    return float(sum(own) - 2 * both)


def kernel_sum(first: np.ndarray, second: np.ndarray) -> float:
    """The sum of the kernel over all pairs of rows."""
    width = first.shape[1]
    return sum(
        float(kernel(first[part] @ second.T / width).sum())
        for part in blocks(len(first), len(second))
    )


def kernel(mean_product: np.ndarray) -> np.ndarray:
    """The cubic kernel of mean products of features."""
    return (mean_product + 1) ** 3


def precision_recall_density_coverage(
    real: np.ndarray, generated: np.ndarray, neighbours: int = NEIGHBOURS
) -> dict[str, float]:
    r"""How much of each set lies where the other does, by balls around rows.

    A ball around a row reaches to its k-th nearest neighbour in its own set. With real rows x_i, n
    of them, generated rows y_j, m of them, and B their balls:

    $$\text{precision} = \frac1m \sum_j 1[y_j \in \cup_i B(x_i)], \quad
    \text{recall} = \frac1n \sum_i 1[x_i \in \cup_j B(y_j)]$$
    $$\text{density} = \frac1{km} \sum_{ij} 1[y_j \in B(x_i)], \quad
    \text{coverage} = \frac1n \sum_i 1[\exists j: y_j \in B(x_i)]$$

    Two large sets of one distribution have a density near 1 and a coverage near 1 − 2⁻ᵏ.

    Args:
        real: (count, features), more than `neighbours` rows.
        generated: (another count, features), more than `neighbours` rows.
        neighbours: k.

    Returns:
        `precision`, `recall` and `coverage`, from 0 to 1, and `density`, which may exceed 1.

    References:
        Kynkäänniemi et al. (2019), "Improved precision and recall metric for assessing generative
        models", arXiv:1904.06991. Naeem et al. (2020), "Reliable fidelity and diversity metrics for
        generative models", arXiv:2002.09797 (density and coverage).
    """
    real, generated = checked(real, generated, least=neighbours + 1)
    reach_of_real, reach_of_generated = (reach(rows, neighbours) for rows in (real, generated))
    precise, inside = np.zeros(len(generated), bool), 0
    recalled, covered = [], []
    for part in blocks(len(real), len(generated)):
        squares = squared_distances(real[part], generated)
        within = squares <= reach_of_real[part, np.newaxis]
        inside += int(np.count_nonzero(within))
        precise |= within.any(axis=0)
        covered.append(within.any(axis=1))
        recalled.append((squares <= reach_of_generated).any(axis=1))
    return {
        "precision": float(precise.mean()),
        "recall": float(np.concatenate(recalled).mean()),
        "density": inside / (neighbours * len(generated)),
        "coverage": float(np.concatenate(covered).mean()),
    }


def reach(rows: np.ndarray, neighbours: int) -> np.ndarray:
    """(count,), the squared distance of each row to its k-th nearest of the others."""
    found = []
    for part in blocks(len(rows), len(rows)):
        squares = squared_distances(rows[part], rows)
        squares[np.arange(len(squares)), np.arange(part.start, part.stop)] = np.inf
        found.append(np.partition(squares, neighbours - 1, axis=1)[:, neighbours - 1])
    return np.concatenate(found)


def nearest_neighbours(
    samples: np.ndarray, images: np.ndarray, count: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """The images that are nearest to each sample, in the Euclidean distance of all values.

    Args:
        samples: (samples, …): images, integers in 0…255 or floats in [0, 1]; or features.
        images: (images, …), the same for the images.
        count: How many neighbours; all images where there are fewer.

    Returns:
        Indices into `images` and distances, each (samples, count), the nearest first. Distances
        of images are the root of the sum of squares of differences of values in [0, 1].

    Example:
        >>> indices, distances = nearest_neighbours(np.eye(2), np.eye(2), 1)
        >>> indices.tolist(), distances.tolist()
        ([[0], [1]], [[0.0], [0.0]])
    """
    rows = flat(samples)
    count = min(count, len(images))
    indices = np.zeros((len(rows), 0), int)
    squares = np.zeros((len(rows), 0), "float32")
    for part in blocks(len(images), max(rows.shape)):
        found = np.arange(part.start, part.stop)[np.newaxis].repeat(len(rows), axis=0)
        indices = np.concatenate([indices, found], axis=1)
        squares = np.concatenate([squares, squared_distances(rows, flat(images[part]))], axis=1)
        if squares.shape[1] > count:
            best = np.argpartition(squares, count - 1, axis=1)[:, :count]
            indices = np.take_along_axis(indices, best, axis=1)
            squares = np.take_along_axis(squares, best, axis=1)
    # Anew from differences: of a copy, the products leave no digit of the distance.
    distances = np.stack(
        [np.linalg.norm(rows - flat(images[column]), axis=1) for column in indices.T], axis=1
    )
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(indices, order, 1), np.take_along_axis(distances, order, 1)


def beside_neighbours(
    samples: np.ndarray, images: np.ndarray, count: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Each sample before the images that are nearest to it: the cells of a picture.

    Args:
        samples: (samples, height, width, channels), integers in 0…255 or floats in [0, 1].
        images: (images, height, width, channels), the same; as a rule the training images.
        count: How many neighbours.

    Returns:
        (samples · (1 + count), height, width, channels), float32 in [0, 1], for
        `kvae.plots.grid(cells, columns=1 + count)`; and the distances, (samples, count).
    """
    indices, distances = nearest_neighbours(samples, images, count)
    shape = (len(samples), -1, *images.shape[1:])
    both = [flat(samples).reshape(shape), flat(images[indices.ravel()]).reshape(shape)]
    return np.concatenate(both, axis=1).reshape(-1, *images.shape[1:]), distances


def memorisation(
    samples: np.ndarray,
    dataset: Dataset,
    count: int = 1_000,
    seed: int = 0,
    split: str = "test",
) -> dict[str, Any]:
    """Whether samples lie nearer to training images than images do that were not trained on.

    Two signs, since each alone can mislead. The ratio is that of median distances to the nearest
    training image, of samples and of test images: near 0 for copies, about 1 for what is as new as
    test images; smooth images lie nearer to all others, and may have a ratio below 1 though nothing
    was copied. The other is how often the image that is nearest to a sample, of training and test
    images together, is a training image: always for copies, and otherwise about as often as chance
    has it, which is the share of training images among both. Where samples are all alike, as of an
    untrained model, they share one nearest image, and this says nothing. Only a low ratio together
    with a share well above chance speaks of copies.

    Args:
        samples: (count, height, width, channels), integers in 0…255 or floats in [0, 1].
        dataset: Whose training images may have been memorised, and whose test images were not seen.
        count: Samples and test images, at most.
        seed: Of the test images that are picked.
        split: "test", or "validation", whose images then stand in their place.

    Returns:
        `samples` and `unseen_images`, how many; `median_distance` and `median_distance_of_unseen`,
        between values in [0, 1]; `ratio`, None where every unseen image has a copy in training;
        `nearest_is_training` and `nearest_is_training_by_chance`, shares.

    References:
        Meehan, Chaudhuri and Dasgupta (2020), "A non-parametric test to detect data-copying in
        generative models", arXiv:2004.05675 (the idea of the second sign).
    """
    samples = samples[:count]
    unseen = getattr(dataset, split)
    tests = picked(unseen, count, np.random.default_rng(seed))
    to_training, of_test, to_test = (
        nearest_neighbours(rows, images, 1)[1][:, 0]
        for rows, images in (
            (samples, dataset.train),
            (tests, dataset.train),
            (samples, unseen),
        )
    )
    median, median_of_test = float(np.median(to_training)), float(np.median(of_test))
    chance = len(dataset.train) / (len(dataset.train) + len(unseen))
    return {
        "samples": len(samples),
        "unseen_images": len(tests),
        "median_distance": round(median, 4),
        "median_distance_of_unseen": round(median_of_test, 4),
        "ratio": round(median / median_of_test, 4) if median_of_test else None,
        "nearest_is_training": round(float((to_training < to_test).mean()), 4),
        "nearest_is_training_by_chance": round(chance, 4),
    }


def blocks(count: int, width: int) -> Iterator[slice]:
    """Slices of so many rows that a block of them, of such a width, fits in memory."""
    step = max(1, BLOCK // width)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(count, other count), the squared distance of each row of one to each of the other."""
    squares = np.square(first).sum(axis=1)[:, np.newaxis] + np.square(second).sum(axis=1)
    squares -= 2 * first @ second.T
    return squares.clip(0, out=squares)


def flat(rows: np.ndarray) -> np.ndarray:
    """(count, …) as (count, values), float32; integers are divided by 255."""
    rows = np.asarray(rows)
    unit = rows.astype("float32") / np.float32(255 if rows.dtype.kind in "iu" else 1)
    return unit.reshape(len(rows), -1)


def checked(real: np.ndarray, generated: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as float64, or a ValueError."""
    real, generated = np.asarray(real, "float64"), np.asarray(generated, "float64")
    if (
        not real.ndim == generated.ndim == 2
        or real.shape[1] != generated.shape[1]
        or min(len(real), len(generated)) < least
    ):
        raise ValueError(
            f"`real` and `generated` must have shape (count, features), with {least} rows or more "
            f"and as many features each. Received: shapes {real.shape} and {generated.shape}"
        )
    return real, generated
