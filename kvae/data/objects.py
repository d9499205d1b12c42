"""Reads data sets of other libraries: sequences of images in memory, or with labels."""

import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np

from kvae.data.arrays import SPLITS, Dataset, from_arrays
from kvae.data.decoding import SEE_THROUGH, is_grey, looked_at
from kvae.data.fitting import Fitting, Look
from kvae.data.guarded import opened
from kvae.data.listing import Picture, split_of
from kvae.data.pictures import Progress, Reader, as_dataset
from kvae.data.sources import MOST_BYTES, Source
from kvae.data.store import Cache, default_cache, key_of
from kvae.printable import printable

__all__ = ["is_a_data_set", "read_objects"]

IMAGE = ("image", "img", "pixel_values", "images")  # names of a column of images
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # Pillow's, by the number of channels
LABEL = ("label", "labels", "class", "fine_label", "target")


def is_a_data_set(given: Any) -> bool:
    """Whether this is a sequence or an array of images, or a mapping of splits to them."""
    if isinstance(given, Mapping):
        return True
    return hasattr(given, "__len__") and hasattr(given, "__getitem__") and not is_path(given)


def is_path(given: Any) -> bool:
    """Whether this is the name of a data set, or a path."""
    return isinstance(given, (str, bytes)) or hasattr(given, "__fspath__")


def is_array(given: Any) -> bool:
    """Whether it is an array or a tensor; Hugging Face data sets have a shape, but no dtype."""
    return hasattr(given, "shape") and hasattr(given, "dtype")


def read_objects(given: Any, fitting: Fitting, progress: Progress | None = None) -> Dataset:
    """Reads the images of a sequence, or of one sequence for each split.

    Args:
        given: A sequence of images (Pillow images or arrays), of (image, label), or of dicts with
            "image" and "label", such as data sets of Hugging Face and torchvision; or a mapping of
            sequences by "train", "validation" and "test". Or arrays.
        fitting: How the images become images of one shape.
        progress: Called from time to time.

    Raises:
        ValueError: If there are no images, or they are of different kinds.
    """
    parts = dict(given) if isinstance(given, Mapping) else {"train": given}
    splits = {name: split_of(str(name)) for name in parts}
    if "train" not in splits.values() or len(set(splits.values())) < len(splits):
        raise ValueError(
            "A mapping of data sets must have train, and at most one of validation and of test. "
            f"Received: {printable(', '.join(map(str, parts)))}"
        )
    by_split: dict[str, Any] = {str(splits[name]): part for name, part in parts.items()}
    kind = type(next(iter(parts.values())))
    source = f"{kind.__module__.split('.')[0]} {kind.__name__} in memory"
    if all(is_array(part) for part in parts.values()):
        arrays: dict[str, Any] = {
            split: part if isinstance(part, np.memmap) else np.asarray(part)
            for split, part in by_split.items()
        }
        return from_arrays(**arrays)
    items = Items({split: by_split[split] for split in SPLITS if split in by_split})
    pictures = [Picture(name, name.split("/")[0], items.label(name)) for name in items.names]
    names = items.class_names()
    if not pictures:
        raise ValueError("A data set must have images. Received: one of length 0")
    reader = Reader(items, pictures, fitting, False, progress)
    # If they do not fit in memory, the files are of no use to another run.
    images, facts = reader.read(Cache(default_cache(), "objects", key_of(id(given))), keep=False)
    found = {label for labels in facts["labels"].values() for label in labels or ()} - {None}
    if names and all(label.isdigit() and int(label) < len(names) for label in found):
        named = {
            split: labels and [None if one is None else names[int(one)] for one in labels]
            for split, labels in facts["labels"].items()
        }
        return as_dataset(images, {**facts, "labels": named}, "objects", source, [], names)
    return as_dataset(images, facts, "objects", source)


class Items(Source):
    """The items of sequences, by "split/number".

    Args:
        sequences: Sequences by split.
    """

    def __init__(self, sequences: Mapping[str, Sequence]) -> None:
        self.sequences = sequences
        self.path = None  # type: ignore[assignment]
        self.names = [name for split in sequences for name in self.of(split)]
        self.tables: list[str] = []
        self.foreign = {}  # type: ignore[assignment]
        self.looks: dict[str, Look] = {}

    def of(self, split: str) -> list[str]:
        """The names of the items of a split."""
        return [f"{split}/{i}" for i in range(len(self.sequences[split]))]

    def described(self) -> str:
        """See `Source`."""
        return "the data set"

    def full(self, name: str) -> str:
        """See `Source`."""
        return name

    def size(self, name: str) -> int:
        """See `Source`: 0, so that one process looks at them."""
        return 0

    def stamp(self, name: str) -> tuple:
        """See `Source`."""
        return ()

    def open(self, name: str, most: int = 0) -> IO[bytes]:
        """See `Source`; here there are no files."""
        raise NotImplementedError

    def item(self, name: str) -> Any:
        """An item of its sequence."""
        split, _, number = name.partition("/")
        return self.sequences[split][int(number)]

    def label(self, name: str) -> str | None:
        """The label of an item, as text; also stores the look of its image."""
        item = self.item(name)
        self.looks[name] = look_of(image_of(item, name))
        label: Any = None
        if isinstance(item, Mapping):
            label = next((item[key] for key in LABEL if key in item), None)
        elif isinstance(item, (tuple, list)) and len(item) > 1:
            label = item[1]
        label = label.item() if hasattr(label, "item") and np.ndim(label) == 0 else label
        return str(label) if isinstance(label, (int, str)) and label != -1 else None

    def class_names(self) -> list[str]:
        """The names of the classes, if the data set knows them."""
        first: Any = self.sequences["train"]
        while not hasattr(first, "classes") and hasattr(first, "dataset"):
            first = first.dataset  # of which it is a part, as PyTorch's Subset is
        features = getattr(first, "features", None)
        if isinstance(features, Mapping):
            found = next((features[key] for key in LABEL if key in features), None)
            return list(getattr(found, "names", None) or [])
        classes = getattr(first, "classes", None)
        return [str(name) for name in classes] if isinstance(classes, (list, tuple)) else []

    def content(self, name: str) -> Any:
        """See `Source`."""
        return image_of(self.item(name), name)

    def look(self, name: str) -> Look:
        """See `Source`."""
        return self.looks[name]


def image_of(item: Any, name: str) -> Any:
    """The image of an item: the bytes of a file, or an image of Pillow's."""
    if isinstance(item, Mapping):
        item = next((item[key] for key in IMAGE if key in item), None)
    elif isinstance(item, (tuple, list)) and item:
        item = item[0]
    if isinstance(item, Mapping):  # an image that Hugging Face's library did not decode
        if isinstance(item.get("bytes"), bytes):
            item = item["bytes"]
        elif isinstance(item.get("path"), str):
            with opened(pathlib.Path(item["path"]), MOST_BYTES) as file:
                item = file.read()
    return item if isinstance(item, bytes) else as_picture(item, name)


def look_of(content: Any) -> Look:
    """The look of an image."""
    if isinstance(content, bytes):
        return looked_at(io.BytesIO(content))
    transparent = content.mode in SEE_THROUGH or "transparency" in content.info
    return Look(content.size[::-1], is_grey(content.mode), transparent)


def as_picture(image: Any, name: str) -> Any:
    """Converts an array, a tensor or a Pillow image to a Pillow image."""
    from PIL import Image

    if isinstance(image, Image.Image):
        return image
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[0] in MODES and array.shape[2] > 4:
        array = np.moveaxis(array, 0, -1)  # as torchvision makes tensors
    array = array[..., np.newaxis] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in MODES or not array.size:
        raise ValueError(
            f"Item {name} must be an image, a tuple of an image and a label, or a dict with "
            f"'image'. Received: {type(image).__name__} of shape {array.shape}"
        )
    if array.dtype.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(f"Item {name} must be uint8, or floats in [0, 1].")
        array = np.rint(255 * array)
    elif array.dtype.kind == "b":
        array = 255 * array.astype("uint8")
    array = np.ascontiguousarray(array.astype("uint8"))
    return Image.frombytes(MODES[array.shape[2]], array.shape[1::-1], array.tobytes())
