"""Neighbours: the images nearest to others, and whether any were memorised."""

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
        release(images)
        if squares.shape[1] > count:
            best = np.argpartition(squares, count - 1, axis=1)[:, :count]
            indices = np.take_along_axis(indices, best, axis=1)
            squares = np.take_along_axis(squares, best, axis=1)
    # Anew from differences: of a copy, the products leave no digit of the distance.
    distances = np.stack(
        [np.linalg.norm(rows - flat(read_rows(images, column)), axis=1) for column in indices.T],
        axis=1,
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
    both = [flat(samples).reshape(shape), flat(read_rows(images, indices.ravel())).reshape(shape)]
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


def picked(images: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """So many of the images, or all, at random, in their order."""
    return read_rows(images, np.sort(rng.permutation(len(images))[:count]))
