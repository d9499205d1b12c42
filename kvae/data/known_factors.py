"""Known factors: images and what they were made of, of data sets for which that is known."""

import numpy as np

from kvae.data import shapes
from kvae.data.arrays import SPLITS, Dataset
from kvae.limits import read_rows

__all__ = ["known_factors"]


def known_factors(
    dataset: Dataset, split: str = "test", count: int | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Images of a data set with the factors that each was made of.

    Of "shapes" there are as many as one likes: the first are those of the split, the others are
    drawn as these were, and of no other split. Of data sets of TensorFlow Datasets whose factors
    are known, as dsprites and shapes3d, these are spread evenly over the split.

    Args:
        dataset: What `kvae.data.load` returned.
        split: "train", "validation" or "test".
        count: How many; those of the split where it is not given, or has no more.

    Returns:
        Images, (count, height, width, channels), uint8, of the size that the data set is made in,
        or has; factors, (count, factor), float32; and their names.

    Raises:
        ValueError: If the factors of the data set are not known, or there is no such split.

    Example:
        >>> from kvae import data
        >>> images, factors, names = data.known_factors(data.load("shapes"), count=5)
        >>> images.shape, factors.shape, names[-1]
        ((5, 64, 64, 3), (5, 6), 'hue')
    """
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}. Received: split={split!r}")
    if dataset.factors is not None:
        images = getattr(dataset, split)
        last, some = len(images) - 1, min(len(images), count or len(images))
        chosen = np.linspace(0, last, some).astype("int64")
        rows = dataset.factors[split][chosen].astype("float32")
        return read_rows(images, chosen), rows, dataset.factor_names
    if dataset.origin != "shapes":
        raise ValueError(
            f"The factors of {dataset.name} are not known: they are of the data set shapes, and of "
            "dsprites and shapes3d. For images of your own: kvae.evaluation.factors(vae, images, "
            "factors)."
        )
    rows = shapes.factors(split, count)
    return shapes.draw(rows), rows, shapes.FACTORS
