"""Files and folders: scikit-learn's digits, IDX, and images."""

import collections
import contextlib
import gzip
import math
import os
import pathlib
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np

from kvae.data.arrays import FOLDERS, SPLITS, Dataset, from_arrays
from kvae.data.guarded import check_fits, filled, most_unpacked, opened, shown
from kvae.printable import printable

# What an image's name ends in, and what Pillow calls the format; it opens no other, whatever the
# name: for some it starts a program.
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}
PICTURES = tuple(FORMATS)
GREY = ("1", "L", "LA")  # what Pillow calls the modes of images without colour
MOST_BYTES = 2**25  # of an image's file; empty chunks of a PNG take a second for each 2 MB
IDX_NAME = re.compile(r"(train|t10k|test)-(images|labels)[.-]idx\d-ubyte(\.gz)?")


def read_digits() -> Dataset:
    """Scikit-learn's digits, whose 17 shades of grey are spread over 0…255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return from_arrays(
        np.rint(digits.images * (255 / 16)).astype("uint8"),
        train_labels=digits.target,
        class_names=[str(digit) for digit in digits.target_names],
        name="digits",
        source="scikit-learn digits (bundled)",
    )


def read_idx_folder(folder: pathlib.Path) -> Dataset:
    """A folder with the files of MNIST, or of a data set that was made like it."""
    arrays: dict[str, Any] = {}
    for path in reversed(visible(folder)):  # so that an unpacked file goes before its .gz
        if match := IDX_NAME.fullmatch(path.name):
            split = "train" if match[1] == "train" else "test"
            labels = match[2] == "labels"
            arrays[f"{split}_labels" if labels else split] = read_idx(path, 1 if labels else 3)
    if "train" not in arrays:
        found = printable(", ".join(path.name for path in visible(folder)))
        raise FileNotFoundError(
            f"{shown(folder)} must have train-images-idx3-ubyte. Found: {found}"
        )
    return from_arrays(**arrays, name=name_of(folder), source=f"IDX files in {shown(folder)}")


def read_idx(path: pathlib.Path, axes: int) -> np.ndarray:
    """An IDX file of bytes: a magic number, one size for each axis, and the values."""
    what = shown(path)
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        is_packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream: Any = gzip.GzipFile(fileobj=file) if is_packed else file
        try:
            shape, start = idx_shape(stream, axes, what)
            length = start + math.prod(shape)
            if length > most_unpacked(size) if is_packed else length != size:
                found = f"at most {most_unpacked(size):,}" if is_packed else f"{size:,}"
                raise wrong_length(what, length, shape, found)
            check_fits(length, size, what)
            content = filled(stream, length - start)
            if start + len(content) < length:
                raise wrong_length(what, length, shape, f"{start + len(content):,}")
            if stream.read(1):  # at the end gzip compares checksums
                raise wrong_length(what, length, shape, "more")
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(
                f"{what} is damaged. Download it again. ({printable(error)})"
            ) from None
    return content.reshape(shape)


def idx_shape(file: IO[bytes], axes: int, what: str) -> tuple[tuple[int, ...], int]:
    """The sizes that an IDX file's header says, and where the values start."""
    expected, start = 0x0800 + axes, 4 + 4 * axes
    header = file.read(start)
    magic = int.from_bytes(header[:4], "big")
    if magic != expected or len(header) < start:
        found = f"{magic}" if len(header) == start else f"{magic}, in {len(header)} bytes"
        raise ValueError(
            f"{what} must be an IDX file of bytes with {axes} axes, and start with the number "
            f"{expected}. Found: {found}"
        )
    return tuple(int(size) for size in np.frombuffer(header, ">u4", axes, offset=4)), start


def wrong_length(what: str, length: int, shape: tuple[int, ...], found: str) -> ValueError:
    """What is said of an IDX file that is shorter or longer than its header says."""
    return ValueError(
        f"{what} must have {length:,} bytes, for its header says shape {shape}. Found: {found} "
        "bytes. Download it again."
    )


def read_image_folder(folder: pathlib.Path) -> Dataset:
    """A folder of image files, of one such folder a class, or of either in each split."""
    names = {path.name for path in folders(folder)}
    split_up = "train" in names and names <= FOLDERS.keys()
    parts = {FOLDERS[name]: folder / name for name in names} if split_up else {"train": folder}
    if split_up and len(parts) < len(names):
        raise ValueError(f"{shown(folder)} must have one of val and validation. Found: both")
    listings = {split: image_files(parts[split]) for split in SPLITS if split in parts}
    images = read_pictures([path for listing in listings.values() for path, _ in listing])
    labels = [label for listing in listings.values() for _, label in listing]
    class_names = sorted({label for label in labels if label is not None})
    number = {name: i for i, name in enumerate(class_names)}
    check_distinct(class_names, folder)
    arrays: dict[str, Any] = {}
    for split, listing in listings.items():
        arrays[split], images = images[: len(listing)], images[len(listing) :]
        if listing[0][1] is not None:
            numbers = [number[label] for _, label in listing if label is not None]
            arrays[f"{split}_labels"] = np.array(numbers)
    source = f"folder {shown(folder)}"
    return from_arrays(**arrays, class_names=class_names, name=name_of(folder), source=source)


def check_distinct(class_names: Sequence[str], folder: pathlib.Path) -> None:
    """Refuses classes whose names differ only in what cannot be shown."""
    ((name, count),) = collections.Counter(map(printable, class_names)).most_common(1) or [("", 0)]
    if count > 1:
        raise ValueError(
            f"The classes in {shown(folder)} must have names that look different. Rename the "
            f"folders that look like {name}."
        )


def name_of(folder: pathlib.Path) -> str:
    """The name of a folder, also of "."."""
    return os.path.basename(os.path.realpath(folder))


def image_files(folder: pathlib.Path) -> list[tuple[pathlib.Path, str | None]]:
    """The images of a folder in the order of their names, each with its sub-folder's name."""
    flat: list[tuple[pathlib.Path, str | None]] = [(path, None) for path in pictures(folder)]
    nested = [(path, one.name) for one in folders(folder) for path in pictures(one)]
    if bool(flat) == bool(nested):
        raise ValueError(
            f"The folder {shown(folder)} must have images ({', '.join(PICTURES)}) either in it or "
            f"in one sub-folder for each class. Found: {len(flat)} in it, {len(nested)} in "
            "sub-folders"
        )
    return [*flat, *nested]


def pictures(folder: pathlib.Path) -> list[pathlib.Path]:
    """The image files in a folder, in the order of their names."""
    listed = [path for path in visible(folder) if path.suffix.lower() in PICTURES]
    return [path for path in listed if not path.is_dir()]


def folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders in a folder, in the order of their names."""
    return [path for path in visible(folder) if path.is_dir()]


def visible(folder: pathlib.Path) -> list[pathlib.Path]:
    """What is in a folder and not hidden, in the order of its names."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise type(error)(f"{shown(folder)} cannot be listed: {error.strerror}.") from None


def read_pictures(paths: Sequence[pathlib.Path]) -> np.ndarray:
    """Image files as one array; grey ones become RGB where there are others in colour."""
    from PIL import Image

    images: list[np.ndarray] = []
    for path in paths:
        with opened(path, MOST_BYTES) as file:
            with decoding(path):
                image = Image.open(file, formats=sorted(set(FORMATS.values())))
            width, height = image.size
            if not images:
                size = len(paths) * width * height * (1 if image.mode in GREY else 3)
                many = f"{len(paths):,} images of {width}x{height} pixels, as in {shown(path)},"
                check_fits(size, size, many)
            elif sorted(image.size) != sorted(images[0].shape[:2]):
                raise other_size(paths[0], images[0].shape, path, (height, width))
            with decoding(path):
                images.append(pixels_of(image))
        if images[-1].shape[:2] != images[0].shape[:2]:
            raise other_size(paths[0], images[0].shape, path, images[-1].shape)
    channels = max(image.shape[2] for image in images)
    return np.stack([np.repeat(image, channels // image.shape[2], axis=2) for image in images])


@contextlib.contextmanager
def decoding(path: pathlib.Path) -> Iterator[None]:
    """Makes one line of what Pillow raises where a file is damaged, which can be anything."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata, which is not needed
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        except Exception as error:
            unknown = isinstance(error, Image.UnidentifiedImageError)
            reason = "It is of no such format" if unknown else printable(error)
            raise ValueError(
                f"The image {shown(path)} cannot be read as PNG, JPEG or BMP: save it anew, or "
                f"take it away. ({reason or type(error).__name__})"
            ) from None


def pixels_of(image: Any) -> np.ndarray:
    """An image of Pillow's as (height, width, channels), uint8; of an animation the first image."""
    from PIL import ImageOps

    if image.mode.startswith(("I", "F")):
        raise ValueError("Over 8 bits a pixel: convert it to 8 bits")
    image = ImageOps.exif_transpose(image)
    if image.mode == "P":  # by way of RGBA, or Pillow warns of transparency
        image = image.convert("RGBA")
    return np.atleast_3d(np.asarray(image.convert("L" if image.mode in GREY else "RGB")))


def other_size(
    first: pathlib.Path, shape: Sequence[int], path: pathlib.Path, other: Sequence[int]
) -> ValueError:
    """What is said of two images whose sizes, (height, width, …), differ."""
    size, its = (f"{width}x{height}" for height, width, *_ in (shape, other))
    return ValueError(
        f"All images must have one size. Found: {size} pixels in {shown(first)}, {its} in "
        f"{shown(path)}. Resize copies, for example with ImageMagick: mogrify -resize '{size}!'"
    )
