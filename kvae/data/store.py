"""Store: images in one array each split, in memory or, where they do not fit, in mapped files."""

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
    """Where mapped files go: `XDG_CACHE_HOME`, or `~/.cache`, and in it `kvae`."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(home) / "kvae"


def key_of(*facts: Any) -> str:
    """A name for files that go with these facts, which JSON can hold, and with no others."""
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:24]


class Cache:
    """A folder with an array for each split, and the facts that go with them.

    It is written under another name, and gets its own when it is whole.

    Args:
        folder: The folder in which such folders are.
        name: For a person: the name of the data set.
        key: Of what is in it; see `key_of`.
    """

    def __init__(self, folder: str | os.PathLike, name: str, key: str) -> None:
        self.folder = pathlib.Path(folder).expanduser()
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:60]
        self.place = self.folder / f"{stem}-{key}"
        self.partial: pathlib.Path | None = None

    def read(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """The arrays and the facts; None where there are none, or they are damaged."""
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
        """What to say where the arrays were there already."""
        return f"The decoded images are read from {shown(self.place)}."

    def begin(
        self, shapes: Mapping[str, Shape], dtypes: Mapping[str, str] | None = None
    ) -> dict[str, np.ndarray]:
        """Arrays to fill, in mapped files.

        Args:
            shapes: Of the arrays, by split.
            dtypes: Of their values, "uint8" or "float32"; where there are none, "uint8".

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
        """Gives what was filled its name; the arrays, as `read` gives them.

        Args:
            shapes: Of the arrays, which may be shorter than they were begun.
            facts: What goes with them, as JSON has it.
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
        """Takes away what was begun and is not whole."""
        if self.partial is not None:
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial = None


def said_to_be_kept(count: int, size: int, cache: Cache) -> str:
    """What to say where so many images, of so many bytes, do not fit in memory."""
    return (
        f"{count:,} images, {described(size)}, are kept in {shown(cache.place)}, since they do not "
        "fit in memory; --cache-dir for another place."
    )


def cut(path: pathlib.Path, shape: Shape) -> None:
    """Makes an `.npy` file as short as this shape says; its header stays as long."""
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
