"""Resizes images in memory to another shape."""

import dataclasses
import math
from typing import Any

import numpy as np

from kvae.data.arrays import SPLITS, Dataset
from kvae.data.fitting import CHANNELS, Fitting, fitted_pixels, shown_size
from kvae.limits import check_memory, pieces

__all__ = ["fitted", "refitted"]

KINDS = {1: "grey", 3: "colour (RGB)", 4: "colour with transparency (RGBA)"}


def fitted(
    images: np.ndarray, image_shape: tuple[int, int, int], fitting: Fitting | None = None
) -> np.ndarray:
    """Converts images to the shape that a model takes.

    Images of another size are resized with antialiasing. If the aspect ratio differs, they are
    cropped, or as the fitting says. Grey images become RGB for a colour model, and RGB images with
    equal channels become grey for a grey model; neither loses anything.

    Args:
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        image_shape: (height, width, channels) of the model.
        fitting: How images were fitted when the model was trained.

    Returns:
        (count, *image_shape), of the same dtype.

    Raises:
        ValueError: If the number of channels differs in another way.
    """
    height, width, channels = image_shape
    fitting = dataclasses.replace(fitting or Fitting(), image_size=(height, width), channels=None)
    if images.shape[-1] == 3 and channels == 1 and (images == images[..., :1]).all():
        images = images[..., :1]
    if (images.shape[-1], channels) in ((1, 3), (4, 3), (1, 4), (3, 4)):
        images = with_channels(images, channels, fitting)
    if images.shape[-1] != channels:
        came, expected = (KINDS.get(n, f"{n} channels") for n in (images.shape[-1], channels))
        raise ValueError(f"The model takes images of {expected}. Received: images of {came}")
    return of_size(images, fitting)


def refitted(dataset: Dataset, fitting: Fitting) -> Dataset:
    """Applies a fitting to a data set in memory; open choices stay as they are.

    Raises:
        ValueError: If its channels cannot be converted.
    """
    shape = dataset.image_shape
    channels = CHANNELS.get(fitting.channels or "", shape[2])
    own = dataset.fitting or Fitting(image_size=shape[:2])
    wanted = fitting.image_size or shape[:2]
    done = dataclasses.replace(
        fitting,
        image_size=wanted,
        channels=fitting.channels or own.channels,
        background=own.background or fitting.background,
    )
    if (*wanted, channels) == shape:
        fit = own.fit if fitting.fit == "crop" else fitting.fit
        return dataclasses.replace(dataset, fitting=dataclasses.replace(done, fit=fit))
    arrays: dict[str, Any] = {
        split: as_wanted(getattr(dataset, split), channels, done) for split in SPLITS
    }
    notice = dataset.notice
    if wanted != shape[:2]:
        deed = {"crop": "cropped", "pad": "padded", "stretch": "stretched"}[fitting.fit]
        deed = deed if shape[0] * wanted[1] != shape[1] * wanted[0] else "resized"
        said = f"Images of {shown_size(shape[:2])} pixels are {deed} to {shown_size(wanted)}."
        notice = f"{notice} {said}".strip()
    return dataclasses.replace(dataset, notice=notice, fitting=done, **arrays)


def as_wanted(images: np.ndarray, channels: int, fitting: Fitting) -> np.ndarray:
    """Converts images to the fitting's size and this number of channels, in pieces."""
    shape = (len(images), *(fitting.image_size or ()), channels)
    size = math.prod(shape) * images.dtype.itemsize
    check_memory(size, f"{len(images):,} images of {shown_size(shape[1:3])}", "Make them smaller.")
    results = np.empty(shape, images.dtype)
    start = 0
    for piece in pieces(images):
        end = start + len(piece)
        results[start:end] = of_size(with_channels(piece, channels, fitting), fitting)
        start = end
    return results


def of_size(images: np.ndarray, fitting: Fitting) -> np.ndarray:
    """Resizes (count, *, *, channels) to the fitting's size, of the same dtype."""
    if images.shape[1:3] == fitting.image_size:
        return images
    results = np.empty((len(images), *(fitting.image_size or ()), images.shape[3]), images.dtype)
    for i, image in enumerate(images):
        results[i] = fitted_pixels(image, fitting)
    return results


def with_channels(images: np.ndarray, channels: int, fitting: Fitting) -> np.ndarray:
    """Converts (count, height, width, *) to this number of channels, of the same dtype.

    Raises:
        ValueError: If the images are not grey, RGB or RGBA.
    """
    own = images.shape[3]
    if own == channels:
        return images
    if own not in CHANNELS.values():
        raise ValueError(
            f"Images of {own} channels cannot become {KINDS.get(channels, channels)}: they must be "
            "grey, RGB or RGBA."
        )
    full = 255 if images.dtype == np.uint8 else 1
    if own == 4:
        under = np.array(fitting.colour(), "float32") / 255 * full
        share = images[..., 3:].astype("float32") / full
        images = as_dtype(images[..., :3] * share + under * (1 - share), images.dtype)
    if images.shape[3] == 3 and channels == 1:
        weights = np.array([0.299, 0.587, 0.114], "float32")
        return as_dtype((images * weights).sum(axis=3, keepdims=True), images.dtype)
    if images.shape[3] == 1 and channels > 1:
        images = images.repeat(3, axis=3)
    if channels == 4:
        images = np.concatenate([images, np.full_like(images[..., :1], full)], axis=3)
    return images


def as_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Converts values to a dtype, rounded for 8 bits."""
    return np.rint(values).astype(dtype) if dtype == np.uint8 else values.astype(dtype)
