"""Reads IDX, the format of MNIST's files, and scikit-learn's digits."""

import gzip
import math
import os
import pathlib
import re
import zlib
from typing import IO, Any

import numpy as np

from kvae.data.arrays import Dataset, from_arrays
from kvae.data.guarded import check_fits, filled, most_unpacked, opened, shown
from kvae.printable import printable

__all__ = ["is_idx_folder", "read_digits", "read_idx_folder"]

IDX_NAME = re.compile(r"(train|t10k|test)-(images|labels)[.-]idx\d-ubyte(\.gz)?")


def read_digits() -> Dataset:
    """Reads scikit-learn's digits, whose 17 shades of grey are spread over 0…255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return from_arrays(
        np.rint(digits.images * (255 / 16)).astype("uint8"),
        train_labels=digits.target,
        class_names=[str(digit) for digit in digits.target_names],
        name="digits",
        source="scikit-learn digits (bundled)",
    )


def is_idx_folder(folder: pathlib.Path) -> bool:
    """Whether a folder contains IDX files."""
    return any(IDX_NAME.fullmatch(path.name) for path in visible(folder))


def visible(folder: pathlib.Path) -> list[pathlib.Path]:
    """The visible files of a folder, in the order of their names."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise type(error)(f"{shown(folder)} cannot be listed: {error.strerror}.") from None


def read_idx_folder(folder: pathlib.Path) -> Dataset:
    """Reads a folder with the files of MNIST, or of a data set in its format."""
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
    return from_arrays(
        **arrays,
        name=os.path.basename(os.path.realpath(folder)),
        source=f"IDX files in {shown(folder)}",
    )


def read_idx(path: pathlib.Path, axes: int) -> np.ndarray:
    """Reads an IDX file of bytes: a magic number, one size for each axis, and the values."""
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
    """Reads the sizes in the header of an IDX file, and where the values start."""
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
    """The error about an IDX file that is shorter or longer than its header says."""
    return ValueError(
        f"{what} must have {length:,} bytes, for its header says shape {shape}. Found: {found} "
        "bytes. Download it again."
    )
