"""NumPy's files, `.npy` and `.npz`: what a header promises is checked before it is read."""

import io
import math
import os
import pathlib
import warnings
import zipfile
from typing import IO, Any

import numpy as np

from kvae.data.arrays import CHOICES, Dataset, from_arrays
from kvae.data.guarded import Sparing, check_fits, filled, most_unpacked, opened, shown
from kvae.printable import printable

__all__ = ["NUMPY", "read_numpy_file"]

NUMPY = (".npz", ".npy")
HEADER = 2**14  # bytes; NumPy itself refuses a header of over 10,000
DIRECTORY = 2**20  # bytes, of an archive's list of what is in it
SHORT = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
KNOWN = {f"x_{short}": split for short, split in SHORT.items()}
KNOWN |= {f"y_{short}": f"{split}_labels" for short, split in SHORT.items()}


def read_numpy_file(path: pathlib.Path) -> Dataset:
    """An `.npz` file in Keras's layout or with a single array, or an `.npy` file."""
    if path.suffix.lower() not in NUMPY:
        raise ValueError(f"{shown(path)} is no .npz or .npy file. {CHOICES}")
    with opened(path) as file:
        start = file.read(6)
        file.seek(0)
        if start == np.lib.format.MAGIC_PREFIX:
            size = os.fstat(file.fileno()).st_size
            check_fits(size, size, shown(path))
            arrays = {"x_train": read_npy(file, size, shown(path))}
        else:
            arrays = read_npz(file, path)
    keywords: dict[str, Any] = {KNOWN[name]: array for name, array in arrays.items()}
    return from_arrays(**keywords, name=path.stem, source=shown(path))


def read_npz(file: IO[bytes], path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of an archive by name; a single one is `x_train`, whatever its name."""
    what, size = shown(path), os.fstat(file.fileno()).st_size
    try:
        archive = zipfile.ZipFile(Sparing(file, DIRECTORY))  # type: ignore[arg-type]
    except Exception as error:  # of a damaged directory it can be anything
        raise damaged(what, error) from None
    with archive:
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
        check_fits(sum(member.file_size for member in members), size, what)
        arrays = {}
        for name, member in zip(names, members, strict=True):
            try:
                with archive.open(member) as content:
                    arrays[name] = read_npy(content, member.file_size, what)
            except Refused:
                raise
            except Exception as error:  # of a damaged archive it can be anything
                raise damaged(what, error) from None
        return arrays


def check_member(member: zipfile.ZipInfo, packed: int, what: str) -> None:
    """Refuses what NumPy does not write into archives."""
    if member.flag_bits & 1:
        raise damaged(what, "It is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise damaged(what, "It is packed by another method than deflate")
    if member.file_size > most_unpacked(packed):
        reason = f"It says that {packed:,} bytes unpack to {member.file_size:,}, as none do"
        raise damaged(what, reason)


def read_npy(file: IO[bytes], size: int, what: str) -> np.ndarray:
    """An array in NumPy's format.

    Args:
        file: It starts with the array's header.
        size: Bytes in it.
        what: What messages call it.
    """
    shape, in_columns, dtype, start = header_of(file.read(HEADER), what)
    length = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or not dtype.itemsize or length > size - start:
        reason = f"Its header says {dtype} of shape {shape}; {size - start:,} bytes are there"
        raise damaged(what, reason)
    file.seek(start)
    content = filled(file, length)
    file.read(1)  # at its end an archive compares checksums
    if len(content) < length:
        raise damaged(what, f"{length:,} bytes were expected; {len(content):,} are there")
    try:
        return content.view(dtype).reshape(shape, order="F" if in_columns else "C")
    except (ValueError, TypeError) as error:  # sizes of 0 beside others that no array has
        raise damaged(what, error) from None


def header_of(head: bytes, what: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """An array's shape, whether it is stored by columns, its type, and where its values start."""
    file = io.BytesIO(head)
    try:
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that Python 2 wrote it
            shape, in_columns, dtype = readers[np.lib.format.read_magic(file)](file)
    except Exception as error:  # NumPy evaluates the text of a header, which can raise anything
        raise damaged(what, f"Its header cannot be read: {error}") from None
    if dtype.hasobject:
        raise damaged(what, f"Found: values of the type {dtype}")
    return shape, in_columns, dtype, file.tell()


class Refused(ValueError):
    """What is wrong with a file, said so that a user knows which file it is."""


def damaged(what: str, reason: object) -> Refused:
    """What is said of a file that cannot be read."""
    return Refused(
        f"{what} must be a NumPy file of numeric arrays, but it is damaged, of another kind, or "
        f"holds Python objects. Write it anew with numpy.savez. ({printable(reason)})"
    )
