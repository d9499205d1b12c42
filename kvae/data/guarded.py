"""Guards for untrusted files: opens regular files only, and reads only what fits."""

import os
import pathlib
import stat
from typing import IO, BinaryIO

import numpy as np

from kvae import limits
from kvae.limits import check_memory, described
from kvae.printable import printable

__all__ = [
    "Sparing",
    "check_fits",
    "check_no_bomb",
    "filled",
    "fits_copied",
    "most_unpacked",
    "opened",
    "shown",
]

COPIES = 3  # largest number of copies of images while they are read and split
BLOCK = 2**20  # bytes that are read at once
DEFLATED = 1032  # largest ratio of deflate
# A bomb is a lot of data packed into little. Among all images, drawn shapes pack best: the 2.8 GiB
# of dSprites (Matthey et al., 2017) 116 times.
BOMB_SIZE, BOMB_RATIO = 2**30, 200


def shown(path: str | os.PathLike) -> str:
    """A path as it is shown in messages."""
    return printable(os.fspath(path), most=4096)


def opened(path: pathlib.Path, most: float = float("inf")) -> BinaryIO:
    """Opens a regular file to read bytes.

    A named pipe would block until somebody writes to it, and a device may never end.

    Args:
        path: Path of the file.
        most: Largest size in bytes.

    Raises:
        ValueError: If it is not a regular file, or too large.
        OSError: If it cannot be opened.
    """
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= most:
            return path.open("rb")
    except OSError as error:
        reason = error.strerror or error
        raise type(error)(f"{shown(path)} cannot be read: {printable(reason)}.") from None
    if stat.S_ISREG(status.st_mode):
        raise ValueError(
            f"{shown(path)} must have at most {described(int(most))}. Found: "
            f"{described(status.st_size)}"
        )
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(status.st_mode), "a device")
    raise ValueError(f"{shown(path)} must be a regular file, and is {kind}. Copy the data to one.")


class Sparing:
    """A file that limits reads: `zipfile` reads a whole directory, however long it is.

    Args:
        file: The file to read from.
        most: Largest number of bytes; longer reads are refused.
    """

    def __init__(self, file: IO[bytes], most: float) -> None:
        self.file = file
        self.most = most
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """Reads this many of the next bytes."""
        if size > self.most:
            raise ValueError("The list of what is in it is too long")
        return self.file.read(size)


def filled(file: IO[bytes], size: int) -> np.ndarray:
    """Reads up to this many of the next bytes of a file: (size,), uint8.

    Memory is only used for bytes that exist.
    """
    array = np.empty(size, np.uint8)
    found = 0
    while found < size and (block := file.read(min(BLOCK, size - found))):
        array[found : found + len(block)] = np.frombuffer(block, np.uint8)
        found += len(block)
    return array[:found]


def most_unpacked(packed: int) -> int:
    """The largest size to which this many deflated bytes can unpack."""
    return packed * DEFLATED + BLOCK


def check_fits(size: int, packed: int, what: str) -> None:
    """Refuses data that do not fit in memory, and archives that were made to fill it.

    Args:
        size: Size of the data in bytes.
        packed: Their size in the file, in bytes.
        what: Name of the file, the subject of the message.

    Raises:
        ValueError: If the data are refused.
    """
    check_no_bomb(size, packed, what)
    check_memory(COPIES * size, what, "Use fewer or smaller images.")


def check_no_bomb(size: int, packed: int, what: str) -> None:
    """Refuses archives made to fill memory or disk; arguments as for `check_fits`."""
    ratio = size // max(1, packed)
    if size > BOMB_SIZE and ratio > BOMB_RATIO:
        raise ValueError(
            f"{what} would unpack {described(packed)} to {described(size)}, {ratio:,} times as "
            "much, which images hardly do. If you trust it, write it anew without compression."
        )


def fits_copied(size: int) -> bool:
    """Whether this many bytes of images fit in memory while they are read and split."""
    return COPIES * size <= limits.available_memory()
