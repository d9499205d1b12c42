"""Store: the images of a split as one array, in memory or in a mapped file."""

import contextlib
import hashlib
import json
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from kvae.data.guarded import opened, shown
from kvae.limits import described
from kvae.printable import printable

__all__ = ["Cache", "default_cache", "key_of", "said_to_be_kept"]

FACTS = "facts.json"
MOST_FACTS = 2**30  # bytes
FORMAT = 1
DTYPES = ("uint8", "float32")

Shape = tuple[int, int, int, int]


def default_cache() -> pathlib.Path:
    """The folder of mapped files: `kvae` in `XDG_CACHE_HOME` or `~/.cache`."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(home) / "kvae"


def key_of(*facts: Any) -> str:
    """A name for files that belong to these facts, which JSON can hold, and to no others."""
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:24]


class Cache:
    """A folder with an array for each split, and the facts that go with them.

    The folder is written under a temporary name, and renamed when it is complete.

    Args:
        folder: The folder that contains such folders.
        name: Name of the data set, for people.
        key: Key of its content; see `key_of`.
    """

    def __init__(self, folder: str | os.PathLike, name: str, key: str) -> None:
        self.folder = pathlib.Path(folder).expanduser()
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:60]
        self.place = self.folder / f"{stem}-{key}"
        self.partial: pathlib.Path | None = None

    def read(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Reads the arrays and the facts; None if there are none, or they are damaged."""
        try:
            with opened(self.place / FACTS, MOST_FACTS) as file:
                facts = json.load(file)
            if facts.pop("format") != FORMAT:
                return None
            arrays = {}
            for split, shape in facts.pop("shapes").items():
                arrays[split] = np.load(self.place / f"{split}.npy", mmap_mode="r")
                if arrays[split].dtype not in DTYPES or list(arrays[split].shape) != shape:
                    return None
            return arrays, facts
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return None

    def said_to_be_read(self) -> str:
        """The remark for the user if the arrays existed already."""
        return f"The decoded images are read from {shown(self.place)}."

    def begin(
        self, shapes: Mapping[str, Shape], dtypes: Mapping[str, str] | None = None
    ) -> dict[str, np.ndarray]:
        """Makes arrays to fill, in mapped files.

        Args:
            shapes: Shapes of the arrays by split.
            dtypes: Dtypes of the values, "uint8" or "float32". Defaults to "uint8".

        Raises:
            OSError: If the folder cannot be written, or the disk has too little room.
        """
        kinds = {split: np.dtype((dtypes or {}).get(split, "uint8")) for split in shapes}
        size = sum(math.prod(shape) * kinds[split].itemsize for split, shape in shapes.items())
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
            if size > free:
                raise OSError(
                    f"{described(size)} of images fit neither in memory nor into "
                    f"{shown(self.folder)}, where {described(free)} are free. Name a larger place "
                    "with --cache-dir, or choose a smaller --image-size."
                )
            self.partial = pathlib.Path(tempfile.mkdtemp(prefix=".partial-", dir=self.folder))
            return {
                split: np.lib.format.open_memmap(
                    self.partial / f"{split}.npy", mode="w+", dtype=kinds[split], shape=shape
                )
                for split, shape in shapes.items()
            }
        except OSError as error:
            self.drop()
            if error.strerror is None:
                raise
            raise type(error)(
                f"{shown(self.folder)} cannot be written: {error.strerror}. Name another place "
                "with --cache-dir."
            ) from None

    def end(self, shapes: Mapping[str, Shape], facts: dict[str, Any]) -> dict[str, np.ndarray]:
        """Renames the filled files; returns the arrays as `read` does.

        Args:
            shapes: Shapes of the arrays, which may be shorter than at first.
            facts: The facts about the arrays, as JSON types.
        """
        if self.partial is None:
            raise RuntimeError("Nothing was begun.")
        for split, shape in shapes.items():
            cut(self.partial / f"{split}.npy", shape)
        text = json.dumps({"format": FORMAT, "shapes": dict(shapes), **facts})
        (self.partial / FACTS).write_text(text)
        if self.place.exists() and self.read() is None:  # damaged
            shutil.rmtree(self.place, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process was first
            os.rename(self.partial, self.place)
            self.partial = None
        self.drop()
        found = self.read()
        if found is None:
            raise OSError(f"{shown(self.place)} cannot be read after it was written.")
        return found[0]

    def drop(self) -> None:
        """Removes files that were begun and are incomplete."""
        if self.partial is not None:
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial = None


def said_to_be_kept(count: int, size: int, cache: Cache) -> str:
    """The remark for the user if this many images, of this size, do not fit in memory."""
    return (
        f"{count:,} images, {described(size)}, are kept in {shown(cache.place)}, since they do not "
        "fit in memory; --cache-dir for another place."
    )


def cut(path: pathlib.Path, shape: Shape) -> None:
    """Shortens an `.npy` file to this shape; its header keeps its length."""
    array = np.load(path, mmap_mode="r")
    if array.shape == tuple(shape):
        return
    start, dtype = array.offset, array.dtype
    del array
    header = {"descr": dtype.str, "fortran_order": False, "shape": tuple(shape)}
    with path.open("r+b") as file:
        version = np.lib.format.read_magic(file)
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header)
        if version != (1, 0) or file.tell() != start:
            raise OSError(f"{printable(path.name)} has a header of another length.")
        file.truncate(start + math.prod(shape) * dtype.itemsize)
