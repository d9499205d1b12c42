"""Limits: how much memory there is; what cannot fit is refused, and a mapped file stays outside."""

import contextlib
import mmap
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = [
    "available_memory",
    "check_memory",
    "described",
    "fits_memory",
    "is_mapped",
    "pieces",
    "read_rows",
    "release",
]

MOST_OF_MEMORY = 0.6  # the share of what is available that images may take

SCATTERED = 64  # rows of a mapped file that are read before memory lets go of them

MEMINFO = pathlib.Path("/proc/meminfo")
# Of a control group, such as a container's: the limit, what is used, and how much of that is a
# cache of files, which gives way. Version 2, then version 1.
GROUPS = (
    (pathlib.Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (
        pathlib.Path("/sys/fs/cgroup/memory"),
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def available_memory() -> int:
    """The bytes of main memory that a process can still have.

    What the machine has available, or less where a control group, such as a container's, has a
    lower limit; `sys.maxsize` where nothing says how much there is.
    """
    return min([memory_of_the_machine(), *(left_in_group(*group) for group in GROUPS)])


def check_memory(size: int, what: str, cure: str) -> None:
    """Refuses what would need more memory than there is.

    Args:
        size: Bytes that it would need.
        what: What would need them, the subject of the message.
        cure: The way out, a sentence.

    Raises:
        ValueError: If there is less.
    """
    available = available_memory()
    if size > available:
        raise ValueError(
            f"{what} would need {described(size)} of memory, and {described(available)} are "
            f"available. {cure}"
        )


def fits_memory(size: int) -> bool:
    """Whether so many bytes of images can be held in memory, and a model beside them."""
    return size <= MOST_OF_MEMORY * available_memory()


def described(size: int) -> str:
    """A number of bytes for a person: 3.2 GiB."""
    if size < 2**20:
        return f"{size:,} bytes"
    for unit, power in (("MiB", 20), ("GiB", 30), ("TiB", 40)):
        if size < 2 ** (power + 10):
            return f"{size / 2**power:.1f} {unit}"
    return "more than 1,000 TiB"


def pieces(array: Any, size: int = 2**26) -> Iterator[Any]:
    """The rows of an array, some at a time, so that of a mapped file memory holds only those.

    Args:
        array: (count, …), of NumPy.
        size: Bytes of a piece, about.
    """
    rows = max(1, size // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]
        release(array)


def read_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """These rows, as an array of its own; of a mapped file little else stays in memory.

    Linux maps up to 2 MiB around each place that is read, so that after some rows here and there it
    holds the whole file.
    """
    if not is_mapped(array):
        return np.asarray(array[rows])
    found = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for start in range(0, len(rows), SCATTERED):
        some = slice(start, start + SCATTERED)
        found[some] = array[rows[some]]
        release(array)
    return found


def is_mapped(array: Any) -> bool:
    """Whether an array is a part of a file, as NumPy maps it; a copy of one is not."""
    return isinstance(getattr(array, "_mmap", None), mmap.mmap)


def release(array: Any) -> None:
    """Lets go of what memory holds of a mapped file; nothing, where the array is none.

    The system would keep it too, as long as there is room, but counts it as this process's.
    """
    if getattr(array, "mode", None) == "c":  # what was changed of it is in memory alone
        return
    if is_mapped(array) and hasattr(mmap, "MADV_DONTNEED"):
        with contextlib.suppress(OSError, ValueError):
            array._mmap.madvise(mmap.MADV_DONTNEED)


def memory_of_the_machine() -> int:
    """Bytes available, or all that there are where the system does not say that."""
    try:
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return sys.maxsize


def left_in_group(folder: pathlib.Path, limit: str, usage: str, cache: str) -> int:
    """Bytes that a control group leaves; `sys.maxsize` where there is none, or no limit."""
    try:
        most = int((folder / limit).read_text())
        used = int((folder / usage).read_text())
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max(0, most - used + int(counts.get(cache, 0)))
    except (OSError, ValueError):  # "max": no limit
        return sys.maxsize
