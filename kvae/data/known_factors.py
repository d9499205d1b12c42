"""Known factors: images with their factors, of data sets for which these are known."""

import numpy as np

from kvae.data import shapes
from kvae.data.arrays import SPLITS, Dataset
from kvae.limits import read_rows

__all__ = ["known_factors"]


def known_factors(
    dataset: Dataset, split: str = "test", count: int | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Returns images of a data set with their known factors.

    For "shapes", any number is available: the first images are those of the split, and the others
    are drawn in the same way and belong to no other split. For data sets of TensorFlow Datasets
    with known factors, such as dsprites and shapes3d, the images are spread evenly over the split.

    Args:
        dataset: A data set from `kvae.data.load`.
        split: "train", "validation" or "test".
        count: Number of images. Defaults to all images of the split.

    Returns:
        Images, (count, height, width, channels), uint8, in the original size of the data set;
        factors, (count, factor), float32; and the names of the factors.

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
