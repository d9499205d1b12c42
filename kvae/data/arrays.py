"""Arrays in memory, checked once, here, and split in three."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from kvae.printable import printable

__all__ = ["Dataset", "from_arrays", "reduced", "resized"]

CHOICES = (
    "A data set is a TensorFlow Datasets name, the path of an .npz or .npy file or of a folder of "
    "images or IDX files, or 'digits'."
)
SPLITS = ("train", "validation", "test")
FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Images in three splits, with labels and class names where there are any.

    Attributes:
        name: "mnist", "digits", or the name of the file or folder.
        source: Where the images came from, in a phrase for a person.
        train: (count, height, width, channels), uint8, or float32 in [0, 1].
        validation: As `train`.
        test: As `train`.
        train_labels: (count,), int64.
        validation_labels: (count,), int64.
        test_labels: (count,), int64.
        class_names: The name of label 0, of label 1, …; empty where they are not known.
        notice: What a user should know about how the data were obtained; mostly empty.
        origin: What `kvae.data.load` reads again as these data; empty where nothing does.
    """

    name: str
    source: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray | None = None
    validation_labels: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    notice: str = ""
    origin: str = ""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels), sizes in pixels."""
        return self.train.shape[1:]


def from_arrays(
    train: np.ndarray,
    *,
    validation: np.ndarray | None = None,
    test: np.ndarray | None = None,
    train_labels: np.ndarray | None = None,
    validation_labels: np.ndarray | None = None,
    test_labels: np.ndarray | None = None,
    class_names: Sequence[str] = (),
    name: str = "arrays",
    source: str = "arrays in memory",
) -> Dataset:
    """Makes a data set of arrays, checks them, and splits off what is missing.

    Without test images a tenth of `train` is held out for them; without validation images a tenth
    of what remains, and 5,000 at most. Each is at least one image. They are drawn by
    `numpy.random.default_rng(0)`, so that the same images are held out every time.

    Args:
        train: (count, height, width) or (count, height, width, channels). Integers in 0…255, which
            become uint8; floats in [0, 1], which become float32; or bool, which become 0 and 255.
        validation: As `train`, with the same image shape.
        test: As `train`, with the same image shape.
        train_labels: (count,) or (count, 1), integers from 0 on.
        validation_labels: As `train_labels`, for `validation`.
        test_labels: As `train_labels`, for `test`.
        class_names: The name of label 0, of label 1, …; what cannot be shown becomes U+FFFD.
        name: A short name for the data set.
        source: Where the images came from, in a phrase for a person.

    Returns:
        Images in three splits.

    Raises:
        ValueError: If shapes, types, ranges or counts are not as above.

    Example:
        >>> images = from_arrays(np.zeros((100, 28, 28), "uint8"))
        >>> images.train.shape, len(images.validation), len(images.test)
        ((81, 28, 28, 1), 9, 10)
    """
    name, source = printable(name), printable(source, most=4096)
    class_names = tuple(printable(name) for name in class_names)
    images: dict[str, Any] = {"train": train, "validation": validation, "test": test}
    labels: dict[str, Any] = dict(
        zip(SPLITS, (train_labels, validation_labels, test_labels), strict=True)
    )
    for split in SPLITS:
        what = f"{split} images of {source}"
        if images[split] is not None:
            images[split] = checked_images(images[split], what)
        if labels[split] is not None:
            labels[split] = checked_labels(labels[split], images[split], class_names, what)
    missing = [split for split in ("test", "validation") if images[split] is None]
    shapes = {split: images[split].shape[1:] for split in SPLITS if split not in missing}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"All images of {source} must have one shape. Received: {shapes}")
    if len(images["train"]) <= len(missing):
        raise ValueError(
            f"At least {len(missing) + 1} train images of {source} are needed, because "
            f"{' and '.join(missing)} images are split off. Received: {len(images['train'])}"
        )
    for split in missing:
        count = len(images["train"])
        size = min(max(1, count // 10), 5_000 if split == "validation" else count)
        held = np.isin(np.arange(count), np.random.default_rng(0).permutation(count)[:size])
        for arrays in (images, labels):
            if arrays["train"] is not None:
                arrays[split], arrays["train"] = arrays["train"][held], arrays["train"][~held]
    labels = {f"{split}_labels": array for split, array in labels.items()}
    return Dataset(name=name, source=source, class_names=class_names, **images, **labels)


def resized(dataset: Dataset, height: int, width: int) -> Dataset:
    """The same data set with images of another size, by bilinear interpolation (Pillow's).

    When it shrinks, each new pixel takes in all old ones that it covers.

    Args:
        dataset: The data set.
        height: Of the new images, in pixels.
        width: Of the new images, in pixels.
    """
    arrays: dict[str, Any] = {
        split: resized_images(getattr(dataset, split), height, width) for split in SPLITS
    }
    return dataclasses.replace(dataset, **arrays)


def resized_images(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """(count, *, *, channels) to (count, height, width, channels), of the same dtype."""
    from PIL import Image

    if images.shape[1:3] == (height, width):
        return images
    planes = np.moveaxis(images, -1, 1).reshape(-1, *images.shape[1:3])
    small = [
        Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR)
        for plane in planes
    ]
    stacked = np.stack([np.asarray(plane) for plane in small])
    channels = stacked.reshape(len(images), images.shape[-1], height, width)
    images = np.ascontiguousarray(np.moveaxis(channels, 1, -1))
    return images if images.dtype == np.uint8 else images.clip(0, 1)  # rounding can exceed 1


def reduced(dataset: Dataset, per_class: int) -> Dataset:
    """The same data set with fewer training images: the first so many of each class.

    As many images of validation and test are kept as there are training images of one class.

    Args:
        dataset: A data set; without labels all its images count as one class.
        per_class: Training images of each class.
    """
    labels = dataset.train_labels
    if labels is None:
        labels = np.zeros(len(dataset.train), "int64")
    first = [np.flatnonzero(labels == label)[:per_class] for label in np.unique(labels)]
    kept = {"train": np.sort(np.concatenate(first))}
    kept |= {split: np.arange(len(getattr(dataset, split)))[:per_class] for split in SPLITS[1:]}
    arrays = {split: getattr(dataset, split)[rows] for split, rows in kept.items()}
    for split, rows in kept.items():
        labels = getattr(dataset, f"{split}_labels")
        arrays[f"{split}_labels"] = None if labels is None else labels[rows]
    return dataclasses.replace(dataset, **arrays)


def checked_images(images: np.ndarray, what: str) -> np.ndarray:
    """The same images as (count, height, width, channels), uint8, or float32 in [0, 1]."""
    images = np.asarray(images)
    kind, shape = images.dtype.kind, images.shape
    if images.ndim not in (3, 4) or not images.size:
        raise ValueError(
            f"The {what} must have shape (count, height, width) or (count, height, width, "
            f"channels), without a size of 0. Received: shape {shape}"
        )
    if kind not in "biuf":
        raise ValueError(f"The {what} must be uint8, or floats in [0, 1]. Received: {images.dtype}")
    strange = images.size - np.count_nonzero(np.isfinite(images))
    least, most = images.min(), images.max()
    fault = ""
    if images.ndim == 4 and shape[1] in (1, 3) and shape[2] == shape[3] > 4:
        fault = f"have their channels last: numpy.moveaxis(images, 1, -1). Received: shape {shape}"
    elif strange:
        fault = f"be finite. Received: {strange:,} values that are NaN or infinite"
    elif kind == "f" and (least < 0 or most > 1):
        cure = "Divide by 255, or pass uint8" if 0 <= least and most <= 255 else "Rescale them"
        fault = f"be in [0, 1], being floats. {cure}. Received: {least:g} to {most:g}"
    elif kind in "iu" and (least < 0 or most > 255):
        fault = f"be in 0…255, being integers. Rescale them. Received: {least} to {most}"
    elif kind in "iu" and most == 1:
        fault = "be in 0…255, where 1 is nearly black. Pass bool for 0 and 1. Received: 0 and 1"
    if fault:
        raise ValueError(f"The {what} must {fault}")
    images = images.astype("float32" if kind == "f" else "uint8", copy=False)
    images = images * np.uint8(255) if kind == "b" else images
    images = images[..., np.newaxis] if images.ndim == 3 else images
    return np.require(images, requirements=["C", "W"])  # torch warns where it cannot write


def checked_labels(
    labels: np.ndarray, images: np.ndarray | None, class_names: Sequence[str], what: str
) -> np.ndarray:
    """The same labels as (count,), int64."""
    labels, count = np.asarray(labels), 0 if images is None else len(images)
    if labels.ndim == 2 and labels.shape[1] == 1:  # as Keras has them for CIFAR
        labels = labels[:, 0]
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"The labels of the {what} must be integers, one for each of {count:,} images. "
            f"Received: {labels.dtype} of shape {labels.shape}"
        )
    if labels.size and labels.min() < 0:
        raise ValueError(f"The labels of the {what} must be 0 or more. Received: {labels.min()}")
    if class_names and labels.max() >= len(class_names):
        raise ValueError(
            f"The labels of the {what} must be below {len(class_names)}, the number of class "
            f"names. Received: {labels.max()}"
        )
    return labels.astype("int64")
