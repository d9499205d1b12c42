"""Memory limits: refuses data that cannot fit, and releases memory of mapped files."""

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

MOST_OF_MEMORY = 0.6  # share of the available memory that images may take

SCATTERED = 64  # rows of a mapped file to read before releasing memory

MEMINFO = pathlib.Path("/proc/meminfo")
# Files of a control group, such as a container's: the limit, the usage, and the part of it that is
# a cache of files and can be freed. Version 2, then version 1.
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
    """The bytes of main memory that this process can still use.

    This is the available memory of the machine, or less if a control group, such as a container's,
    has a lower limit; `sys.maxsize` if it is not known.
    """
    return min([memory_of_the_machine(), *(left_in_group(*group) for group in GROUPS)])


def check_memory(size: int, what: str, cure: str) -> None:
    """Raises a ValueError if something would need more memory than there is.

    Args:
        size: Number of bytes that it would need.
        what: Name of it, the subject of the message.
        cure: The way out, a sentence.

    Raises:
        ValueError: If less memory is available.
    """
    available = available_memory()
    if size > available:
        raise ValueError(
            f"{what} would need {described(size)} of memory, and {described(available)} are "
            f"available. {cure}"
        )


def fits_memory(size: int) -> bool:
    """Whether this many bytes of images fit in memory, with a model beside them."""
    return size <= MOST_OF_MEMORY * available_memory()


def described(size: int) -> str:
    """A number of bytes for people, such as 3.2 GiB."""
    if size < 2**20:
        return f"{size:,} bytes"
    for unit, power in (("MiB", 20), ("GiB", 30), ("TiB", 40)):
        if size < 2 ** (power + 10):
            return f"{size / 2**power:.1f} {unit}"
    return "more than 1,000 TiB"


def pieces(array: Any, size: int = 2**26) -> Iterator[Any]:
    """Yields the rows of an array in pieces, so that memory holds one piece of a mapped file.

    Args:
        array: (count, …), a NumPy array.
        size: Approximate size of a piece, in bytes.
    """
    rows = max(1, size // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]
        release(array)


def read_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Copies these rows, and keeps little else of a mapped file in memory.

    Linux maps up to 2 MiB around each place that is read, so that a few scattered rows would soon
    load the whole file.
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
    """Whether an array is a part of a file that NumPy mapped; a copy of one is not."""
    return isinstance(getattr(array, "_mmap", None), mmap.mmap)


def release(array: Any) -> None:
    """Releases the memory of a mapped file; does nothing for other arrays.

    The system would keep these pages while there is room, but counts them as memory of this
    process.
    """
    if getattr(array, "mode", None) == "c":  # changed pages exist in memory only
        return
    if is_mapped(array) and hasattr(mmap, "MADV_DONTNEED"):
        with contextlib.suppress(OSError, ValueError):
            array._mmap.madvise(mmap.MADV_DONTNEED)


def memory_of_the_machine() -> int:
    """The available bytes, or all bytes if the system does not say how many are available."""
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
    """The bytes that a control group leaves; `sys.maxsize` without a group or a limit."""
    try:
        most = int((folder / limit).read_text())
        used = int((folder / usage).read_text())
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max(0, most - used + int(counts.get(cache, 0)))
    except (OSError, ValueError):  # "max": no limit
        return sys.maxsize
