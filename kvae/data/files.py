"""Files and folders: NumPy's, IDX, and images."""

import gzip
import math
import pathlib
import re
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from kvae.data.arrays import CHOICES, SPLITS, Dataset, from_arrays, one_line

FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
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


def read_numpy_file(path: pathlib.Path) -> Dataset:
    """An `.npz` file in Keras's layout or with a single array, or an `.npy` file."""
    if path.suffix.lower() not in (".npz", ".npy"):
        raise ValueError(f"{path} is no .npz or .npy file. {CHOICES}")
    try:
        with path.open("rb") as file:  # np.load leaves a path open where the file is damaged
            content = np.load(file, allow_pickle=False)
            arrays = {"x_train": content} if isinstance(content, np.ndarray) else dict(content)
    except (
        ValueError,
        EOFError,
        MemoryError,
        RuntimeError,  # NotImplementedError is one: an archive packed or locked in other ways
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(
            f"{path} must be a NumPy file of numeric arrays, but it is damaged, of another kind, "
            f"or holds Python objects. Write it anew with numpy.savez. ({one_line(error)})"
        ) from None
    if len(arrays) == 1:
        arrays = {"x_train": next(iter(arrays.values()))}
    known = {f"x_{short}": split for short, split in FOLDERS.items()}
    known |= {f"y_{short}": f"{split}_labels" for short, split in FOLDERS.items()}
    if "x_train" not in arrays or not arrays.keys() <= known.keys():
        raise ValueError(
            f"{path} must hold x_train and, if there are any, {', '.join(list(known)[1:])}; or a "
            f"single array. Found: {', '.join(arrays) or 'none'}"
        )
    keywords: dict[str, Any] = {known[key]: array for key, array in arrays.items()}
    return from_arrays(**keywords, name=path.stem, source=str(path))


def read_idx_folder(folder: pathlib.Path) -> Dataset:
    """A folder with the files of MNIST, or of a data set that was made like it."""
    arrays: dict[str, Any] = {}
    for path in reversed(visible(folder)):  # so that an unpacked file goes before its .gz
        if match := IDX_NAME.fullmatch(path.name):
            split = "train" if match[1] == "train" else "test"
            labels = match[2] == "labels"
            arrays[f"{split}_labels" if labels else split] = read_idx(path, 1 if labels else 3)
    if "train" not in arrays:
        found = ", ".join(path.name for path in visible(folder))
        raise FileNotFoundError(f"{folder} must have train-images-idx3-ubyte. Found: {found}")
    return from_arrays(**arrays, name=folder.resolve().name, source=f"IDX files in {folder}")


def read_idx(path: pathlib.Path, axes: int) -> np.ndarray:
    """An IDX file of bytes: a magic number, one size for each axis, and the values."""
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is damaged. Download it again. ({one_line(error)})") from None
    expected, magic, start = 0x0800 + axes, int.from_bytes(content[:4], "big"), 4 + 4 * axes
    if magic != expected or len(content) < start:
        raise ValueError(
            f"{path} must be an IDX file of bytes with {axes} axes, and start with the number "
            f"{expected}. Found: {magic}, in {len(content):,} bytes"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", axes, offset=4))
    length = start + math.prod(shape)
    if len(content) != length:
        raise ValueError(
            f"{path} must have {length:,} bytes, for its header says shape {shape}. Found: "
            f"{len(content):,} bytes. Download it again."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_image_folder(folder: pathlib.Path) -> Dataset:
    """A folder of image files, of one such folder a class, or of either in each split."""
    names = {path.name for path in visible(folder) if path.is_dir()}
    split_up = "train" in names and names <= FOLDERS.keys()
    parts = {FOLDERS[name]: folder / name for name in names} if split_up else {"train": folder}
    listings = {split: image_files(parts[split]) for split in SPLITS if split in parts}
    images = read_pictures([path for listing in listings.values() for path, _ in listing])
    labels = [label for listing in listings.values() for _, label in listing]
    class_names = sorted({label for label in labels if label is not None})
    arrays: dict[str, Any] = {}
    for split, listing in listings.items():
        arrays[split], images = images[: len(listing)], images[len(listing) :]
        if listing[0][1] is not None:
            numbers = [class_names.index(label) for _, label in listing if label is not None]
            arrays[f"{split}_labels"] = np.array(numbers)
    name, source = folder.resolve().name, f"folder {folder}"
    return from_arrays(**arrays, class_names=class_names, name=name, source=source)


def image_files(folder: pathlib.Path) -> list[tuple[pathlib.Path, str | None]]:
    """The images of a folder in the order of their names, each with its sub-folder's name."""
    flat: list[tuple[pathlib.Path, str | None]] = [(path, None) for path in pictures(folder)]
    classes = [path for path in visible(folder) if path.is_dir()]
    nested = [(path, one.name) for one in classes for path in pictures(one)]
    if bool(flat) == bool(nested):
        raise ValueError(
            f"The folder {folder} must have images ({', '.join(PICTURES)}) either in it or in one "
            f"sub-folder for each class. Found: {len(flat)} in it, {len(nested)} in sub-folders"
        )
    return [*flat, *nested]


def pictures(folder: pathlib.Path) -> list[pathlib.Path]:
    """The image files in a folder, in the order of their names."""
    return [path for path in visible(folder) if path.suffix.lower() in PICTURES]


def visible(folder: pathlib.Path) -> list[pathlib.Path]:
    """What is in a folder and not hidden, in the order of its names."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def read_pictures(paths: Sequence[pathlib.Path]) -> np.ndarray:
    """Image files as one array; grey ones become RGB where there are others in colour."""
    from PIL import Image, ImageOps

    images: list[np.ndarray] = []
    for path in paths:
        try:
            with Image.open(path) as opened:
                if opened.mode.startswith(("I", "F")):
                    raise ValueError("Over 8 bits a pixel: convert it to 8 bits")
                image = ImageOps.exif_transpose(opened)
                if image.mode == "P":  # by way of RGBA, or Pillow warns of transparency
                    image = image.convert("RGBA")
                image = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"The image {path} cannot be read. ({one_line(error)})") from None
        images.append(np.atleast_3d(np.asarray(image)))
        first, size = ("x".join(map(str, i.shape[1::-1])) for i in (images[0], images[-1]))
        if size != first:
            raise ValueError(
                f"All images must have one size. Found: {first} pixels in {paths[0]}, {size} in "
                f"{path}. Resize copies, for example with ImageMagick: mogrify -resize '{first}!'"
            )
    channels = max(image.shape[2] for image in images)
    return np.stack([np.repeat(image, channels // image.shape[2], axis=2) for image in images])
