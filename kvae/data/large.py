"""Large arrays: writes images that do not fit in memory to mapped files, in pieces."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from kvae.data.arrays import (
    SPLITS,
    Dataset,
    as_images,
    check_enough,
    check_shape,
    check_values,
    checked_labels,
    fitting_of,
    known_of,
    shares,
    with_factors,
)
from kvae.data.store import Cache, said_to_be_kept
from kvae.data.values import extremes
from kvae.limits import release

__all__ = ["Stream", "stored"]

WRITTEN = 2**28  # bytes after which memory lets go of what was written


@dataclasses.dataclass(frozen=True)
class Stream:
    """The images of a split as a stream of blocks.

    Attributes:
        shape: (count, height, width) or (count, height, width, channels).
        dtype: Dtype of the values.
        blocks: A function that yields arrays of some rows each, in order from the first.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    blocks: Callable[[], Iterator[np.ndarray]]

    @property
    def size(self) -> int:
        """The size of the stored images in bytes, as 8 bits or float32 per value."""
        return math.prod(self.shape) * (4 if self.dtype.kind == "f" else 1)


def stored(
    streams: Mapping[str, Stream],
    labels: Mapping[str, Any],
    cache: Cache,
    *,
    name: str,
    source: str,
    class_names: tuple[str, ...] = (),
    factors: Mapping[str, Any] | None = None,
    factor_names: tuple[str, ...] = (),
) -> Dataset:
    """Makes a data set of mapped images, from streams or from earlier files.

    Missing splits are held out as by `from_arrays`.

    Args:
        streams: Images by split, "train" and others.
        labels: Labels by split, integers. They may be filled while the streams are read.
        cache: Place of the mapped files.
        name: Name of the data set.
        source: Where the images come from, in words.
        class_names: Names of label 0, label 1, ….
        factors: Known factors by split, one row per image, integers. Like `labels`, they may be
            filled meanwhile.
        factor_names: Names of the factors; empty if there are none.

    Raises:
        ValueError: If shapes, types, ranges or counts are not as for `from_arrays`.
        OSError: If there is no room for the files.
    """
    found = cache.read()
    if found is None:
        try:
            found = write(streams, labels, cache, source, class_names, factors)
        finally:
            cache.drop()
        size = sum(stream.size for stream in streams.values())
        notice = said_to_be_kept(sum(map(len, found[0].values())), size, cache)
    else:
        notice = cache.said_to_be_read()
    arrays, facts = found
    images: dict[str, Any] = dict(arrays)
    kept: dict[str, Any] = {
        f"{split}_labels": None if some is None else np.asarray(some, "int64")
        for split, some in facts["labels"].items()
    }
    dataset = Dataset(
        name=name,
        source=source,
        class_names=class_names,
        notice=notice,
        fitting=fitting_of(images["train"].shape[1:]),
        **images,
        **kept,
    )
    if not factor_names:
        return dataset
    rows = {split: np.asarray(of, "int64") for split, of in facts["factors"].items()}
    return with_factors(dataset, rows, factor_names)


def write(
    streams: Mapping[str, Stream],
    labels: Mapping[str, Any],
    cache: Cache,
    source: str,
    class_names: tuple[str, ...],
    factors: Mapping[str, Any] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Fills the mapped files; returns the arrays and facts, as `Cache.read` does."""
    for split, stream in streams.items():
        check_shape(stream.shape, stream.dtype, f"{split} images of {source}")
    shapes: dict[str, Any] = {split: (*s.shape, 1)[:4] for split, s in streams.items()}
    if len({shape[1:] for shape in shapes.values()}) > 1:
        raise ValueError(f"All images of {source} must have one shape. Received: {shapes}")
    kinds = {split: "float32" if s.dtype.kind == "f" else "uint8" for split, s in streams.items()}
    missing = [split for split in ("test", "validation") if split not in streams]
    count = shapes["train"][0]
    check_enough(count, missing, source)
    known = known_of(labels.get("train"))
    held = shares(count, missing, known if known is not None and len(known) == count else None)
    for split, rows in held.items():
        shapes[split] = (len(rows), *shapes["train"][1:])
        kinds[split] = kinds["train"]
    arrays = cache.begin(shapes, kinds)
    for split, stream in streams.items():
        goes = held if split == "train" else {split: np.arange(stream.shape[0])}
        distribute(stream, {to: (arrays[to], rows) for to, rows in goes.items()}, split, source)
    kept: dict[str, Any] = dict.fromkeys(SPLITS)
    for split in streams:
        if (some := labels.get(split)) is not None:
            what = f"{split} images of {source}"
            kept[split] = checked_labels(some, streams[split].shape[0], class_names, what)
    if kept["train"] is not None:
        kept |= {split: kept["train"][rows] for split, rows in held.items()}
    facts = {"labels": {key: None if v is None else v.tolist() for key, v in kept.items()}}
    if factors:
        facts["factors"] = {split: np.asarray(of).tolist() for split, of in factors.items()}
    return cache.end({split: array.shape for split, array in arrays.items()}, facts), facts


def distribute(
    stream: Stream, goes: Mapping[str, tuple[np.ndarray, np.ndarray]], split: str, source: str
) -> None:
    """Writes the images of a stream to their arrays.

    Args:
        stream: The images.
        goes: Arrays to fill, each with the rows of the stream, in order, that it receives.
        split: The split of the stream.
        source: Where the images come from.
    """
    least, most, start, strange, written = math.inf, -math.inf, 0, 0, 0
    for block in stream.blocks():
        low, high = extremes(block)
        if not math.isfinite(high - low):
            strange += block.size - int(np.count_nonzero(np.isfinite(block)))
        least, most = min(least, low), max(most, high)
        end = start + len(block)
        with np.errstate(invalid="ignore"):  # what is out of range is refused below
            images = as_images(block)
        for array, rows in goes.values():
            first, last = np.searchsorted(rows, [start, end])
            array[first:last] = images[rows[first:last] - start]
        start, written = end, written + images.nbytes
        if written > WRITTEN:
            written = 0
            for array, _ in goes.values():
                release(array)
    what = f"{split} images of {source}"
    if start != stream.shape[0]:
        raise ValueError(f"Of the {what} {start:,} of {stream.shape[0]:,} are there.")
    check_values(stream.dtype.kind, least, most, strange, what)
