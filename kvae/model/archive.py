"""Archive: checks a model's file before Keras reads it, so that no file can do harm.

A file from a stranger may be made to use up memory or time. Therefore sizes are checked first:
those declared by the archive, those of the configuration's tree, and those declared by HDF5. Then
Keras may build the model, which must not have more weights than the file.
"""

import contextlib
import errno
import io
import json
import math
import pathlib
import threading
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import h5py
import keras

from kvae.data.guarded import Sparing, shown
from kvae.limits import available_memory, described

__all__ = ["Archive", "no_more_weights_than"]

METADATA, CONFIG, WEIGHTS = "metadata.json", "config.json", "model.weights.h5"
MOST_BYTES = {METADATA: 2**20, CONFIG: 2**24}
MOST_OF_DIRECTORY = 2**20  # bytes that the archive's list of members may have
PACKED = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
ENCRYPTED = 0x1  # a flag of a member
SMALL = 2**28  # smaller members may be packed at any ratio
TIGHTEST = 20  # largest ratio of other members; weights hardly compress
DEEPEST = 100  # levels of the configuration; those of kvae have up to 16
MOST_OBJECTS = 5_000  # layers and other objects in it; the largest preset has 1,500
MOST_DATASETS = 50_000
TURN = threading.RLock()  # held by the thread that loads a model


class Archive:
    """The file of a model, or the folder that `save(..., zipped=False)` writes.

    Args:
        path: A regular file or a folder.

    Raises:
        ValueError: If Keras did not write it.
        OSError: If it cannot be read.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.archive: zipfile.ZipFile | None = None
        self.held = contextlib.ExitStack()
        self.config: dict[str, Any] = {}

    def __enter__(self) -> "Archive":
        """Opens the archive and reads the configuration."""
        try:
            with self.named_errors():
                if not self.path.is_dir():
                    file = self.held.enter_context(self.path.open("rb"))
                    reader = Sparing(file, MOST_OF_DIRECTORY)
                    self.archive = zipfile.ZipFile(reader)  # type: ignore[arg-type]
                    reader.most = math.inf  # members are checked below
                self.config = checked_config(self.read(CONFIG))
        except BaseException:
            self.held.close()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        """Closes the archive."""
        self.held.close()

    @contextlib.contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turns any error of a damaged archive into one line."""
        try:
            yield
        except Refused as error:
            raise ValueError(f"{shown(self.path)} cannot be loaded: {error}.") from None
        except OSError as error:
            if error.strerror and error.errno != errno.EINVAL:  # from a seek to an invalid place
                raise OSError(f"{shown(self.path)} cannot be read: {error.strerror}.") from error
            raise ValueError(f"{shown(self.path)} is not a .keras file, or is damaged.") from None
        except Exception:  # a damaged archive may raise any error
            raise ValueError(f"{shown(self.path)} is not a .keras file, or is damaged.") from None

    def read(self, name: str) -> bytes:
        """Reads a whole member of bounded size."""
        if self.size(name) > MOST_BYTES[name]:
            raise Refused(f"its {name} has {described(self.size(name))}")
        if self.archive is None:
            return (self.path / name).read_bytes()
        return self.archive.read(self.member(name))

    def size(self, name: str) -> int:
        """The unpacked size of a member in bytes."""
        if self.archive is None:
            path = self.path / name
            if not path.is_file():
                raise Refused(f"it has no {name}")
            return path.stat().st_size
        return self.member(name).file_size

    def member(self, name: str) -> zipfile.ZipInfo:
        """Returns a member of the archive, which must be packed as Keras packs it."""
        assert self.archive is not None
        found = [member for member in self.archive.infolist() if member.filename == name]
        if len(found) != 1:
            raise Refused(f"it has {len(found) or 'no'} {name}")
        (member,) = found
        if member.flag_bits & ENCRYPTED:
            raise Refused("it is encrypted")
        if member.compress_type not in PACKED:
            raise Refused(f"its {name} is packed in a way that Keras does not use")
        if member.file_size > max(SMALL, TIGHTEST * member.compress_size):
            raise Refused(
                f"its {name} would unpack from {described(member.compress_size)} to "
                f"{described(member.file_size)}"
            )
        return member

    def weights(self) -> tuple[int, int]:
        """Checks the weights; returns the number of their values and of arrays.

        Raises:
            ValueError: If the weights are damaged, do not fit in memory, or refer to other files.
            OSError: If the weights cannot be read.
        """
        with self.named_errors():
            self.check_members()
            size = self.size(WEIGHTS)
            if 2 * size > available_memory():
                raise Refused(
                    f"its weights have {described(size)}, and {described(available_memory())} of "
                    "memory are available"
                )
            if self.archive is None:
                return declared(self.path / WEIGHTS)
            return declared(io.BytesIO(self.archive.read(self.member(WEIGHTS))))

    def check_members(self) -> None:
        """Raises an error if the archive has members that Keras does not write for kvae."""
        self.read(METADATA)
        if self.archive is not None:
            names = {member.filename for member in self.archive.infolist()}
            if strange := names - {METADATA, CONFIG, WEIGHTS}:
                raise Refused(f"it has {len(strange)} members that a model of kvae has not")


class Refused(Exception):
    """The reason why a file is not opened, as a part of a sentence."""


def checked_config(content: bytes) -> dict[str, Any]:
    """Returns the configuration, if its tree has a bounded depth and size."""
    config = json.loads(content)
    if not isinstance(config, dict):
        raise Refused(f"its {CONFIG} holds no configuration")
    objects, level = 0, [config]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for part in level:
            objects += isinstance(part, dict) and "class_name" in part
            inner = part.values() if isinstance(part, dict) else part
            below += [one for one in inner if isinstance(one, (dict, list))]
        level = below
    if level:
        raise Refused(f"its configuration has more than {DEEPEST} levels")
    if objects > MOST_OBJECTS:
        raise Refused(f"its configuration has {objects:,} objects, and may have {MOST_OBJECTS:,}")
    return config


def declared(file: pathlib.Path | BinaryIO) -> tuple[int, int]:
    """The numbers of values and arrays that an HDF5 file declares, all stored plainly."""
    values = arrays = 0
    with h5py.File(file, "r") as store:
        groups = [(store, 0)]
        while groups:
            group, depth = groups.pop()
            if depth > DEEPEST:
                raise Refused(f"its weights are in more than {DEEPEST} levels")
            for name in group:
                arrays += 1
                if arrays > MOST_DATASETS:
                    raise Refused(f"its weights are more than {MOST_DATASETS:,} arrays")
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise Refused("its weights refer to other files or places")
                found = group[name]
                if isinstance(found, h5py.Group):
                    groups.append((found, depth + 1))
                else:
                    values += checked_dataset(found)
    return values, arrays


def checked_dataset(dataset: Any) -> int:
    """The number of values of an array that is stored completely and plainly."""
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiub":
        raise Refused("its weights are not all numbers")
    plist = dataset.id.get_create_plist()
    if dataset.external or dataset.is_virtual:
        raise Refused("its weights refer to other files or places")
    size = math.prod(dataset.shape or (1,)) * dataset.dtype.itemsize
    if plist.get_nfilters() or dataset.id.get_storage_size() < size:
        raise Refused("its weights are larger than the file")
    return math.prod(dataset.shape or (1,))


@contextlib.contextmanager
def no_more_weights_than(values: int, arrays: int) -> Iterator[None]:
    """Limits the number of weights that this thread's layers can make.

    Before a configuration is built, nobody knows how large its layers become. Keras makes weights
    through a single method.

    Args:
        values: Largest number of values in all weights together.
        arrays: Largest number of weights.

    Raises:
        ValueError: If a layer would have more.
    """
    owner, left = threading.get_ident(), {"values": values, "arrays": arrays}
    with TURN:
        own = keras.layers.Layer.add_weight

        def add_weight(layer: Any, shape: Any = None, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() == owner:
                left["values"] -= math.prod(shape or (1,))
                left["arrays"] -= 1
                if min(left.values()) < 0:
                    raise ValueError(
                        f"The layer {layer.name!r} would have more weights than the file."
                    )
            return own(layer, shape, *args, **kwargs)

        keras.layers.Layer.add_weight = add_weight
        try:
            yield
        finally:
            keras.layers.Layer.add_weight = own
