"""Data sets of arrays: checks images and labels, and splits them in three."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kvae.data.fitting import CHANNELS, Fitting
from kvae.data.values import extremes, range_cure
from kvae.limits import check_memory, pieces
from kvae.printable import printable

__all__ = ["Dataset", "from_arrays", "reduced", "resized"]

CHOICES = (
    "A data set is a folder or an archive of images, an .npz or .npy file, a table of images (.csv "
    "or .jsonl), a folder of IDX files, a TensorFlow Datasets name, 'digits' or 'shapes'."
)
SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A data set: images in three splits, with labels and class names if there are any.

    Attributes:
        name: "mnist", "digits", or the name of the file or folder.
        source: Where the images came from, in words.
        train: (count, height, width, channels), uint8, or float32 in [0, 1].
        validation: Like `train`.
        test: Like `train`.
        train_labels: (count,), int64; −1 if the class is not known.
        validation_labels: (count,), int64.
        test_labels: (count,), int64.
        class_names: Names of label 0, label 1, …; empty if they are not known.
        notice: What a user should know about how the data were obtained; usually empty.
        origin: The argument with which `kvae.data.load` reads these data again; empty if there is
            none.
        fitting: How pictures were fitted to become these images.
        factors: Known factors of the images by split, (count, factor), int64, if there are any.
        factor_names: Names of these factors.
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
    fitting: Fitting | None = None
    factors: Mapping[str, np.ndarray] | None = None
    factor_names: tuple[str, ...] = ()

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
    """Makes a data set from arrays, checks them, and splits off missing splits.

    Without test images, a tenth of `train` is held out for them. Without validation images, a tenth
    of the rest is held out, at most 5,000. Each split has at least one image. The images are drawn
    with `numpy.random.default_rng(0)`, so that the same images are held out every time.

    Args:
        train: (count, height, width) or (count, height, width, channels). Integers in 0…255, which
            become uint8; floats in [0, 1], which become float32; or bool, which become 0 and 255.
        validation: Like `train`, with the same image shape.
        test: Like `train`, with the same image shape.
        train_labels: (count,) or (count, 1), integers from 0 on; −1 if the class is not known. Only
            images with a known class are held out.
        validation_labels: Like `train_labels`, for `validation`; all must be known.
        test_labels: Like `validation_labels`, for `test`.
        class_names: Names of label 0, label 1, …. Unprintable characters become U+FFFD.
        name: A short name for the data set.
        source: Where the images came from, in words.

    Returns:
        A `Dataset` with images in three splits.

    Raises:
        ValueError: If shapes, types, ranges or counts differ from the above.

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
            count = 0 if images[split] is None else len(images[split])
            labels[split] = checked_labels(labels[split], count, class_names, what)
    missing = [split for split in ("test", "validation") if images[split] is None]
    shapes = {split: images[split].shape[1:] for split in SPLITS if split not in missing}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"All images of {source} must have one shape. Received: {shapes}")
    check_enough(len(images["train"]), missing, source)
    if missing and isinstance(images["train"], np.memmap):
        cure = "Pass validation and test images too, or give the file to kvae.data.load."
        check_memory(images["train"].nbytes, f"A copy of the train images of {source}", cure)
    held = shares(len(images["train"]), missing, known_of(labels["train"]))
    for arrays in (images, labels) if missing else ():
        if (whole := arrays["train"]) is not None:
            arrays |= {split: whole[rows] for split, rows in held.items()}
    labels = {f"{split}_labels": array for split, array in labels.items()}
    fitting = fitting_of(images["train"].shape[1:])
    return Dataset(
        name=name, source=source, class_names=class_names, fitting=fitting, **images, **labels
    )


def fitting_of(image_shape: tuple[int, int, int]) -> Fitting:
    """Returns the fitting of images of this shape."""
    height, width, channels = image_shape
    kinds = {number: kind for kind, number in CHANNELS.items()}
    return Fitting(image_size=(height, width), channels=kinds.get(channels))


def check_enough(count: int, missing: Sequence[str], source: str) -> None:
    """Refuses so few training images that none would be left after holding others out."""
    if count <= len(missing):
        raise ValueError(
            f"At least {len(missing) + 1} train images of {source} are needed, because "
            f"{' and '.join(missing)} images are split off. Received: {count}"
        )


def known_of(labels: np.ndarray | None) -> np.ndarray | None:
    """Whether the class of each image is known; None without labels, or without integers."""
    numbers = np.asarray(labels)
    return numbers.reshape(-1) >= 0 if numbers.dtype.kind in "iu" else None


def shares(
    count: int, missing: Sequence[str], known: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Chooses which training images are held out for missing splits, and which stay.

    Args:
        count: Number of images.
        missing: Names of the missing splits.
        known: (count,), whether the class of each image is known; others are not held out. None:
            all are.

    Returns:
        The rows of each missing split and of "train", in order.
    """
    left, rows = np.arange(count), {}
    known = np.ones(count, bool) if known is None else known
    for split in missing:
        may = np.flatnonzero(known[left])
        most = 5_000 if split == "validation" else len(left)
        size = min(max(1, len(may) // 10), most)
        held = np.zeros(len(left), bool)
        held[may[np.random.default_rng(0).permutation(len(may))[:size]]] = True
        rows[split], left = left[held], left[~held]
    return {**rows, "train": left}


def resized(dataset: Dataset, height: int, width: int) -> Dataset:
    """Resizes the images of a data set, by bilinear interpolation (Pillow's).

    When shrinking, each new pixel averages all old pixels that it covers.

    Args:
        dataset: The data set.
        height: Height of the new images, in pixels.
        width: Width of the new images, in pixels.
    """
    arrays: dict[str, Any] = {
        split: resized_images(getattr(dataset, split), height, width) for split in SPLITS
    }
    return dataclasses.replace(dataset, **arrays)


def resized_images(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes (count, *, *, channels) to (count, height, width, channels), of the same dtype."""
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
    """Reduces the training images of a data set to the first few of each class.

    Validation and test keep as many images as there are training images of one class.

    Args:
        dataset: A data set. Without labels, all images count as one class.
        per_class: Number of training images per class.
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
    if dataset.factors is not None:
        arrays["factors"] = {split: dataset.factors[split][rows] for split, rows in kept.items()}
    return dataclasses.replace(dataset, **arrays)


def with_factors(
    dataset: Dataset, factors: Mapping[str, np.ndarray], names: Sequence[str]
) -> Dataset:
    """Adds the known factors of the images to a data set.

    Args:
        dataset: Images without labels. Splits that are not in `factors` were held out.
        factors: Factors by split, (count, factor), in the order in which the images were given.
        names: Names of the factors.
    """
    missing = [split for split in ("test", "validation") if split not in factors]
    held = shares(len(factors["train"]), missing)
    parts = {**factors, **{split: factors["train"][rows] for split, rows in held.items()}}
    return dataclasses.replace(dataset, factors=parts, factor_names=tuple(map(printable, names)))


def checked_images(images: np.ndarray, what: str) -> np.ndarray:
    """Returns images as (count, height, width, channels), uint8, or float32 in [0, 1]."""
    images = images if isinstance(images, np.memmap) else np.asarray(images)
    check_shape(images.shape, images.dtype, what)
    least, most = extremes(images)
    strange = 0
    if not math.isfinite(most - least):
        strange = sum(piece.size - np.count_nonzero(np.isfinite(piece)) for piece in pieces(images))
    check_values(images.dtype.kind, least, most, strange, what)
    images = as_images(images)
    if isinstance(images, np.memmap):  # only batches of it are copied
        return images
    return np.require(images, requirements=["C", "W"])  # torch warns where it cannot write


def check_shape(shape: tuple[int, ...], dtype: np.dtype, what: str) -> None:
    """Refuses arrays that cannot be images, by their shape and dtype."""
    if len(shape) not in (3, 4) or not math.prod(shape):
        raise ValueError(
            f"The {what} must have shape (count, height, width) or (count, height, width, "
            f"channels), without a size of 0. Received: shape {shape}"
        )
    if dtype.kind not in "biuf":
        raise ValueError(f"The {what} must be uint8, or floats in [0, 1]. Received: {dtype}")
    if len(shape) == 4 and is_channels_first(shape):
        raise ValueError(
            f"The {what} must have their channels last: numpy.moveaxis(images, 1, -1). Received: "
            f"shape {shape}"
        )


def check_values(kind: str, least: float, most: float, strange: int, what: str) -> None:
    """Refuses values that are not those of images.

    Args:
        kind: Kind of the numbers, as in `numpy.dtype.kind`.
        least: Smallest value.
        most: Largest value.
        strange: Number of values that are NaN or infinite.
        what: Name of the values, the subject of the message.
    """
    fault = ""
    if strange:
        fault = f"be finite. Received: {strange:,} values that are NaN or infinite"
    elif least < 0 or most > (1 if kind == "f" else 255):
        limits = "[0, 1], being floats" if kind == "f" else "0…255, being integers"
        fault = f"be in {limits}. Received: {least:g} to {most:g}. {range_cure(kind, least, most)}"
    elif kind in "iu" and most == 1:
        fault = "be in 0…255, where 1 is nearly black. Pass bool for 0 and 1. Received: 0 and 1"
    if fault:
        raise ValueError(f"The {what} must {fault}")


def as_images(array: np.ndarray) -> np.ndarray:
    """Converts checked arrays to (count, height, width, channels), uint8 or float32."""
    images = array.astype("float32" if array.dtype.kind == "f" else "uint8", copy=False)
    images = images * np.uint8(255) if array.dtype.kind == "b" else images
    return images[..., np.newaxis] if images.ndim == 3 else images


def is_channels_first(shape: Sequence[int]) -> bool:
    """Whether images have their channels before height and width.

    This is so if the second axis is 1, 3 or 4, and the last is larger than a number of channels.
    """
    return shape[1] in CHANNELS.values() and shape[3] > max(CHANNELS.values())


def checked_labels(
    labels: np.ndarray, count: int, class_names: Sequence[str], what: str
) -> np.ndarray:
    """Returns labels as (count,), int64."""
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:  # as Keras has them for CIFAR
        labels = labels[:, 0]
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"The labels of the {what} must be integers, one for each of {count:,} images. "
            f"Received: {labels.dtype} of shape {labels.shape}"
        )
    for_training = what.startswith("train ")
    least = -1 if for_training else 0
    if labels.size and labels.min() < least:
        raise ValueError(
            f"The labels of the {what} must be 0 or more"
            + (", or −1 where they are not known" if for_training else "")
            + f". Received: {labels.min()}"
        )
    if labels.size and (labels >= 0).sum() < min(3, len(labels)):
        raise ValueError(
            f"The labels of the {what} must be known of 3 images or more, of which some are held "
            f"out. Received: {len(labels):,} labels, known of {(labels >= 0).sum()}"
        )
    if class_names and labels.max() >= len(class_names):
        raise ValueError(
            f"The labels of the {what} must be below {len(class_names)}, the number of class "
            f"names. Received: {labels.max()}"
        )
    return labels.astype("int64")
