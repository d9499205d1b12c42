"""Reads `.npy` and `.npz` files, and checks what a header promises before it is read."""

import contextlib
import functools
import io
import math
import os
import pathlib
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import numpy as np

from kvae.data.arrays import CHOICES, SPLITS, Dataset, from_arrays
from kvae.data.guarded import (
    Sparing,
    check_fits,
    check_no_bomb,
    filled,
    fits_copied,
    most_unpacked,
    opened,
    shown,
)
from kvae.data.large import Stream, stored
from kvae.data.store import Cache, default_cache, key_of
from kvae.data.values import PIECE
from kvae.printable import printable

__all__ = ["NUMPY", "read_numpy_file"]

NUMPY = (".npz", ".npy")
HEADER = 2**14  # bytes; NumPy itself refuses a header of over 10,000
DIRECTORY = 2**20  # bytes, of an archive's list of what is in it
SHORT = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
KNOWN = {f"x_{short}": split for short, split in SHORT.items()}
KNOWN |= {f"y_{short}": f"{split}_labels" for short, split in SHORT.items()}


class Member(NamedTuple):
    """An array in a file: how to open it, and its largest size in bytes with its header."""

    open: Callable[[], IO[bytes]]
    size: int


def read_numpy_file(path: pathlib.Path, cache_dir: str | os.PathLike | None = None) -> Dataset:
    """Reads an `.npz` file in Keras's layout or with a single array, or an `.npy` file.

    Args:
        path: Path of the file.
        cache_dir: Folder of mapped files, if it does not fit in memory. None: `~/.cache/kvae`.
    """
    if path.suffix.lower() not in NUMPY:
        raise ValueError(f"{shown(path)} is no .npz or .npy file. {CHOICES}")
    what = shown(path)
    with opened(path) as file, contextlib.ExitStack() as stack:
        start = file.read(6)
        file.seek(0)
        packed = os.fstat(file.fileno()).st_size
        if start == np.lib.format.MAGIC_PREFIX:
            members = {"train": Member(functools.partial(opened, path), packed)}
        else:
            members = members_of(file, path, stack)
        size = sum(member.size for member in members.values())
        check_no_bomb(size, packed, what)
        arrays: dict[str, Any] = {}
        images = {} if fits_copied(size) else {k: m for k, m in members.items() if k in SPLITS}
        for key, member in members.items():
            if key not in images:
                check_fits(member.size if images else 0, packed, what)
                with reading(what), member.open() as content:
                    arrays[key] = read_npy(content, member.size, what)
        if not images:
            return from_arrays(**arrays, name=path.stem, source=what)
        status = os.fstat(file.fileno())
        key = key_of(os.path.realpath(path), status.st_size, status.st_mtime_ns)
        return stored(
            {split: stream_of(member, what) for split, member in images.items()},
            {split: arrays.get(f"{split}_labels") for split in images},
            Cache(cache_dir or default_cache(), path.stem, key),
            name=printable(path.stem),
            source=what,
        )


def members_of(
    file: IO[bytes], path: pathlib.Path, stack: contextlib.ExitStack
) -> dict[str, Member]:
    """The arrays of an archive by their role; a single one is the training images."""
    what, size = shown(path), os.fstat(file.fileno()).st_size
    try:
        archive = zipfile.ZipFile(Sparing(file, DIRECTORY))  # type: ignore[arg-type]
    except Exception as error:  # a damaged directory may raise any error
        raise damaged(what, error) from None
    stack.enter_context(archive)
    members = archive.infolist()
    names = [member.filename.removesuffix(".npy") for member in members]
    names = ["x_train"] if len(names) == 1 else names
    if "x_train" not in names or not KNOWN.keys() >= set(names):
        raise ValueError(
            f"{what} must hold x_train and, if there are any, {', '.join(list(KNOWN)[1:])}; "
            f"or a single array. Found: {printable(', '.join(names)) or 'none'}"
        )
    for member in members:
        check_member(member, min(size, member.compress_size), what)
    if len({KNOWN[name] for name in names}) < len(names):
        raise damaged(what, f"One of {', '.join(names)} is there twice")
    return {
        KNOWN[name]: Member(functools.partial(archive.open, member), member.file_size)
        for name, member in zip(names, members, strict=True)
    }


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Names the file in errors about damage; a damaged archive may raise any error."""
    try:
        yield
    except Refused:
        raise
    except Exception as error:
        raise damaged(what, error) from None


def stream_of(member: Member, what: str) -> Stream:
    """Returns the images of an array as a stream.

    Raises:
        ValueError: If it cannot be read as a stream.
    """
    with reading(what), member.open() as file:
        shape, in_columns, dtype, start = checked_header(file, member.size, what)
    if in_columns and len(shape) > 1:
        raise Refused(
            f"{what} does not fit in memory, and holds its array by columns, so that it cannot be "
            "read by rows. Write it anew: numpy.save(path, numpy.ascontiguousarray(images))."
        )

    def blocks() -> Iterator[np.ndarray]:
        row = math.prod(shape[1:]) * dtype.itemsize
        rows = max(1, PIECE // row)
        with reading(what), member.open() as file:
            filled(file, start)
            for first in range(0, shape[0], rows):
                count = min(rows, shape[0] - first)
                content = filled(file, count * row)
                if len(content) < count * row:
                    raise damaged(what, "It ends early")
                yield content.view(dtype).reshape(count, *shape[1:])
            file.read(1)  # at its end an archive compares checksums

    return Stream(shape, dtype, blocks)


def check_member(member: zipfile.ZipInfo, packed: int, what: str) -> None:
    """Refuses members of archives that NumPy does not write."""
    if member.flag_bits & 1:
        raise damaged(what, "It is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise damaged(what, "It is packed by another method than deflate")
    if member.file_size > most_unpacked(packed):
        reason = f"It says that {packed:,} bytes unpack to {member.file_size:,}, as none do"
        raise damaged(what, reason)


def read_npy(file: IO[bytes], size: int, what: str) -> np.ndarray:
    """Reads an array in NumPy's format.

    Args:
        file: The file, at the header of the array.
        size: Size of the array with its header, in bytes.
        what: Name of the array in messages.
    """
    shape, in_columns, dtype, start = checked_header(file, size, what)
    length = math.prod(shape) * dtype.itemsize
    file.seek(start)
    content = filled(file, length)
    file.read(1)  # at its end an archive compares checksums
    if len(content) < length:
        raise damaged(what, f"{length:,} bytes were expected; {len(content):,} are there")
    try:
        return content.view(dtype).reshape(shape, order="F" if in_columns else "C")
    except (ValueError, TypeError) as error:  # sizes of 0 with other sizes that no array can have
        raise damaged(what, error) from None


def checked_header(
    file: IO[bytes], size: int, what: str
) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Returns the result of `header_of`, if this many bytes can hold the array."""
    shape, in_columns, dtype, start = header_of(file.read(HEADER), what)
    length = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or not dtype.itemsize or length > size - start:
        reason = f"Its header says {dtype} of shape {shape}; {size - start:,} bytes are there"
        raise damaged(what, reason)
    return shape, in_columns, dtype, start


def header_of(head: bytes, what: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Returns shape, order (by columns or not), dtype, and the offset of the values."""
    file = io.BytesIO(head)
    try:
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files written by Python 2
            shape, in_columns, dtype = readers[np.lib.format.read_magic(file)](file)
    except Exception as error:  # NumPy evaluates the text of a header, which can raise anything
        raise damaged(what, f"Its header cannot be read: {error}") from None
    if dtype.hasobject:
        raise damaged(what, f"Found: values of the type {dtype}")
    return shape, in_columns, dtype, file.tell()


class Refused(ValueError):
    """An error about a file, in a message that names the file."""


def damaged(what: str, reason: object) -> Refused:
    """The error about a file that cannot be read."""
    return Refused(
        f"{what} must be a NumPy file of numeric arrays, but it is damaged, of another kind, or "
        f"holds Python objects. Write it anew with numpy.savez. ({printable(reason)})"
    )
