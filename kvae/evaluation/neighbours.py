"""Nearest neighbours of images, and signs of memorisation."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from kvae.data import Dataset
from kvae.limits import read_rows, release

__all__ = [
    "beside_neighbours",
    "blocks",
    "checked",
    "flat",
    "memorisation",
    "nearest_neighbours",
    "picked",
    "squared_distances",
]

BLOCK = 4_000_000  # distances held at a time: 32 MB


def nearest_neighbours(
    samples: np.ndarray, images: np.ndarray, count: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the images nearest to each sample, by the Euclidean distance of all values.

    Args:
        samples: (samples, …): images, integers in 0…255 or floats in [0, 1]; or features.
        images: (images, …), of the same kind.
        count: Number of neighbours, or all images if there are fewer.

    Returns:
        Indices into `images` and distances, each (samples, count), the nearest first. The distance
        of images is the root of the sum of squared differences of values in [0, 1].

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
        release(images)
        if squares.shape[1] > count:
            best = np.argpartition(squares, count - 1, axis=1)[:, :count]
            indices = np.take_along_axis(indices, best, axis=1)
            squares = np.take_along_axis(squares, best, axis=1)
    # Computed again from differences: for a copy, the products lose all digits of the distance.
    distances = np.stack(
        [np.linalg.norm(rows - flat(read_rows(images, column)), axis=1) for column in indices.T],
        axis=1,
    )
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(indices, order, 1), np.take_along_axis(distances, order, 1)


def beside_neighbours(
    samples: np.ndarray, images: np.ndarray, count: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Arranges each sample before its nearest images, as the cells of a picture.

    Args:
        samples: (samples, height, width, channels), integers in 0…255 or floats in [0, 1].
        images: (images, height, width, channels), of the same kind; usually the training images.
        count: Number of neighbours.

    Returns:
        (samples · (1 + count), height, width, channels), float32 in [0, 1], for
        `kvae.plots.grid(cells, columns=1 + count)`; and the distances, (samples, count).
    """
    indices, distances = nearest_neighbours(samples, images, count)
    shape = (len(samples), -1, *images.shape[1:])
    both = [flat(samples).reshape(shape), flat(read_rows(images, indices.ravel())).reshape(shape)]
    return np.concatenate(both, axis=1).reshape(-1, *images.shape[1:]), distances


def memorisation(
    samples: np.ndarray,
    dataset: Dataset,
    count: int = 1_000,
    seed: int = 0,
    split: str = "test",
) -> dict[str, Any]:
    """Measures whether samples are closer to training images than unseen images are.

    There are two signs, because each alone can mislead. The first is the ratio of median distances
    to the nearest training image, of samples and of test images. It is near 0 for copies, and about
    1 for samples that are as new as test images. Smooth images are closer to all others, so their
    ratio may be below 1 without any copying. The second sign is how often the nearest image to a
    sample, among training and test images, is a training image. It is always so for copies;
    otherwise the share is about that of training images among both. If samples are all alike, as
    from an untrained model, they share one nearest image, and this says nothing. Only a low ratio
    together with a share well above chance suggests copying.

    Args:
        samples: (count, height, width, channels), integers in 0…255 or floats in [0, 1].
        dataset: The data set with the training images that may be memorised, and with unseen test
            images.
        count: Largest number of samples and of test images.
        seed: Random seed of the choice of test images.
        split: "test", or "validation" to use those images instead.

    Returns:
        `samples` and `unseen_images`, their numbers; `median_distance` and
        `median_distance_of_unseen`, between values in [0, 1]; `ratio`, None if every unseen image
        has a copy among the training images; `nearest_is_training` and
        `nearest_is_training_by_chance`, shares.

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
    """Slices of rows such that a block of this width fits in memory."""
    step = max(1, BLOCK // width)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The squared distance of each row to each of the others: (count, other count)."""
    squares = np.square(first).sum(axis=1)[:, np.newaxis] + np.square(second).sum(axis=1)
    squares -= 2 * first @ second.T
    return squares.clip(0, out=squares)


def flat(rows: np.ndarray) -> np.ndarray:
    """Flattens (count, …) to (count, values), float32; integers are divided by 255."""
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


def picked(images: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Picks this many images at random, or all, in their order."""
    return read_rows(images, np.sort(rng.permutation(len(images))[:count]))
