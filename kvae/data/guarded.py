"""Files of strangers: what is no regular file is not opened, what would not fit is not read."""

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

COPIES = 3  # of images at most, while they are read, checked and split
BLOCK = 2**20  # bytes that are read at once
DEFLATED = 1032  # times smaller than it was: what deflate can do at most
# A bomb is much that was packed into little. Drawn shapes, of all images, pack best: the 2.8 GiB
# of dSprites (Matthey et al., 2017) 116 times.
BOMB_SIZE, BOMB_RATIO = 2**30, 200


def shown(path: str | os.PathLike) -> str:
    """A path, as a message has it."""
    return printable(os.fspath(path), most=4096)


def opened(path: pathlib.Path, most: float = float("inf")) -> BinaryIO:
    """Opens a regular file to read bytes.

    A named pipe would keep whoever opens it until somebody writes to it, and a device need not end.

    Args:
        path: Of the file.
        most: The bytes that it may have.

    Raises:
        ValueError: If it is no regular file, or too large.
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
    """A file that gives little at a time: `zipfile` reads a directory whole, however long it is.

    Args:
        file: To read from.
        most: Bytes; who asks for more is refused.
    """

    def __init__(self, file: IO[bytes], most: float) -> None:
        self.file = file
        self.most = most
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """So many of the next bytes."""
        if size > self.most:
            raise ValueError("The list of what is in it is too long")
        return self.file.read(size)


def filled(file: IO[bytes], size: int) -> np.ndarray:
    """The next bytes of a file, so many, or fewer where it ends before: (size,), uint8.

    Memory is touched only as far as there are bytes to fill it.
    """
    array = np.empty(size, np.uint8)
    found = 0
    while found < size and (block := file.read(min(BLOCK, size - found))):
        array[found : found + len(block)] = np.frombuffer(block, np.uint8)
        found += len(block)
    return array[:found]


def most_unpacked(packed: int) -> int:
    """The bytes that so many deflated bytes can hold at most."""
    return packed * DEFLATED + BLOCK


def check_fits(size: int, packed: int, what: str) -> None:
    """Refuses data that memory does not hold, and archives that were made to fill it.

    Args:
        size: Bytes of the data.
        packed: Bytes of them in the file.
        what: What holds them, the subject of the message.

    Raises:
        ValueError: If it is refused.
    """
    check_no_bomb(size, packed, what)
    check_memory(COPIES * size, what, "Use fewer or smaller images.")


def check_no_bomb(size: int, packed: int, what: str) -> None:
    """Refuses archives that were made to fill a memory or a disk; arguments as of `check_fits`."""
    ratio = size // max(1, packed)
    if size > BOMB_SIZE and ratio > BOMB_RATIO:
        raise ValueError(
            f"{what} would unpack {described(packed)} to {described(size)}, {ratio:,} times as "
            "much, which images hardly do. If you trust it, write it anew without compression."
        )


def fits_copied(size: int) -> bool:
    """Whether memory holds so many bytes of images while they are read, checked and split."""
    return COPIES * size <= limits.available_memory()
