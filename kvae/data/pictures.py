"""Reads the pictures of a folder, an archive or a table as a data set."""

import contextlib
import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kvae.data.arrays import SPLITS, Dataset, check_enough, shares
from kvae.data.decoding import brightness_of, decoded, looked_at
from kvae.data.fitting import Fitting, Look, resolved
from kvae.data.guarded import opened, shown
from kvae.data.listing import Picture, listed
from kvae.data.sources import ARCHIVES, MOST_BYTES, TABLES, Source, source_of
from kvae.data.store import Cache, default_cache, key_of, said_to_be_kept
from kvae.data.workers import decoded_all
from kvae.limits import fits_memory, pieces, release
from kvae.printable import printable

__all__ = ["Progress", "look", "read_pictures", "read_pictures_of"]

Progress = Callable[[int, int], None]  # of pictures: how many are done, and how many there are
BRIGHTNESS_OF = 50  # pictures that are looked at to choose a background
MOST_NAMES = 20  # of files that cannot be read, in a message


@dataclasses.dataclass(frozen=True)
class Row:
    """The place of a picture: its split, and its row there."""

    picture: Picture
    split: str
    row: int


def read_pictures_of(
    path: pathlib.Path,
    fitting: Fitting,
    *,
    flat: bool = False,
    skip_bad: bool = False,
    cache_dir: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Reads the pictures of a folder, of an archive, or of a table that lists some.

    Args:
        path: Path of the folder, archive or table.
        fitting: How pictures become images of one shape. Open choices are made from the pictures.
        flat: Whether to ignore folders, so that all pictures are one set without classes.
        skip_bad: Whether to skip files that cannot be read.
        cache_dir: Folder for decoded images. None: only images that do not fit in memory are kept,
            in `~/.cache/kvae`.
        progress: Called from time to time during decoding.
    """
    table = path.name if path.suffix.lower() in TABLES else None
    with contextlib.closing(source_of(path.parent if table else path)) as source:
        pictures, said = listed(source, flat, table)
        reader = Reader(source, pictures, fitting, skip_bad, progress)
        key = key_of(
            os.path.realpath(path),
            dataclasses.astuple(fitting),
            skip_bad,
            [(*dataclasses.astuple(one), *source.stamp(one.name)) for one in pictures],
        )
        name = os.path.basename(os.path.realpath(path))
        if path.is_file():
            endings = (ending for ending in (*ARCHIVES, *TABLES) if name.lower().endswith(ending))
            name = name[: -max(map(len, endings))]
        cache = Cache(cache_dir or default_cache(), name, key)
        found = cache.read()
        if found is None:
            arrays, facts = reader.read(cache, keep=cache_dir is not None)
        else:
            arrays, facts = found
            facts["said"].append(cache.said_to_be_read())
    what = "archive" if path.is_file() and not table else "folder"
    what = "table" if table else what
    return as_dataset(arrays, facts, name, f"{what} {shown(path)}", said)


def as_dataset(
    arrays: dict[str, np.ndarray],
    facts: dict[str, Any],
    name: str,
    source: str,
    said: Sequence[str] = (),
    class_names: Sequence[str] = (),
) -> Dataset:
    """Makes the data set of these arrays and facts.

    Args:
        arrays: Images by split.
        facts: The facts from `Reader.read`.
        name: Name of the data set.
        source: Where the images came from, in words.
        said: Remarks for the user before those in the facts.
        class_names: Names in the order of their numbers. Defaults to the sorted labels.
    """
    found = {one for labels in facts["labels"].values() for one in labels or ()} - {None}
    class_names = class_names or sorted_names(found)
    number: dict[str | None, int] = {one: i for i, one in enumerate(class_names)}
    number[None] = -1
    labels: dict[str, Any] = {
        f"{split}_labels": labels and np.array([number[one] for one in labels], "int64")
        for split, labels in facts["labels"].items()
    }
    images: dict[str, Any] = dict(arrays)
    return Dataset(
        name=printable(name),
        source=source,
        class_names=tuple(map(printable, class_names)),
        notice=" ".join([*said, *facts["said"]]),
        fitting=Fitting(**facts["fitting"]),
        **images,
        **labels,
    )


def sorted_names(names: set[str]) -> list[str]:
    """Sorts the names of classes, as numbers if all are numbers."""
    whole = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=lambda name: (int(name), name) if whole else name)  # type: ignore[return-value,arg-type]


class Reader:
    """Reads pictures into arrays.

    Args:
        source: The source of the pictures.
        pictures: The pictures to read.
        fitting: As for `read_pictures_of`.
        skip_bad: As for `read_pictures_of`.
        progress: As for `read_pictures_of`.
    """

    def __init__(
        self,
        source: Source,
        pictures: list[Picture],
        fitting: Fitting,
        skip_bad: bool,
        progress: Progress | None,
    ) -> None:
        self.source = source
        self.pictures = pictures
        self.fitting = fitting
        self.skip_bad = skip_bad
        self.progress = progress or (lambda done, total: None)
        self.bad: dict[str, str] = {}  # why a picture cannot be read, by its name

    def read(self, cache: Cache, keep: bool) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Reads the arrays and their facts: the fitting, the labels, remarks for the user."""
        looks = self.looks()
        fitting, said = resolved(self.fitting, looks, self.brightness(looks))
        self.check_any()
        rows = self.rows()
        shapes = {split: (len(some), *fitting.image_shape) for split, some in rows.items()}
        size = sum(map(math.prod, shapes.values()))
        mapped = keep or not fits_memory(size)
        if mapped and not keep:
            said.append(said_to_be_kept(sum(map(len, rows.values())), size, cache))
        try:
            if mapped:
                arrays = cache.begin(shapes)
            else:
                arrays = {split: np.empty(shape, "uint8") for split, shape in shapes.items()}
            self.decode(rows, arrays, fitting)
            rows, arrays = self.without_bad(rows, arrays)
            said += self.passed_over()
            if self.fitting.channels is None and fitting.channels == "rgb" and not mapped:
                if all(without_colour(images) for images in arrays.values()):
                    arrays = {split: images[..., :1].copy() for split, images in arrays.items()}
                    fitting = dataclasses.replace(fitting, channels="grey")
                    said.append("All images are grey, and have one channel.")
            labels = {split: labels_of(some, split) for split, some in rows.items()}
            facts = {"fitting": dataclasses.asdict(fitting), "labels": labels, "said": said}
            if mapped:
                arrays = cache.end({split: array.shape for split, array in arrays.items()}, facts)
            return arrays, facts
        finally:
            cache.drop()

    def looks(self) -> list[Look]:
        """The looks of all pictures from their headers; drops pictures that cannot be read."""
        looks, kept = [], []
        for picture in self.pictures:
            try:
                looks.append(self.source.look(picture.name))
                kept.append(picture)
            except (ValueError, OSError) as error:
                self.pass_over(picture.name, error)
        self.pictures = kept
        self.check_any()
        return looks

    def brightness(self, looks: Sequence[Look]) -> float | None:
        """The mean brightness of opaque parts, weighted by area; None if nothing is opaque."""
        some = [one for one, look in zip(self.pictures, looks, strict=True) if look.transparent]
        if not some or self.fitting.background is not None or self.fitting.channels == "rgba":
            return None
        light, area = 0.0, 0.0
        for picture in some[:: max(1, len(some) // BRIGHTNESS_OF)]:
            try:
                brightness, share = brightness_of(self.source.content(picture.name))
            except (ValueError, OSError):  # which `decode` will meet again
                continue
            light, area = light + brightness * share, area + share
        return light / area if area else None

    def rows(self) -> dict[str, list[Row]]:
        """Assigns a row to each picture; missing splits are held out with `shares`."""
        given = {split: [one for one in self.pictures if one.split == split] for split in SPLITS}
        missing = [split for split in ("test", "validation") if not given[split]]
        check_enough(len(given["train"]), missing, self.source.described())
        known = np.array([one.label is not None for one in given["train"]])
        held = shares(len(given["train"]), missing, known if known.sum() > len(missing) else None)
        rows = {
            split: [Row(one, split, i) for i, one in enumerate(given[split])] for split in given
        }
        for split, chosen in held.items():
            some = [given["train"][index] for index in chosen]
            rows[split] = [Row(one, split, i) for i, one in enumerate(some)]
        return rows

    def decode(
        self, rows: dict[str, list[Row]], arrays: dict[str, np.ndarray], fitting: Fitting
    ) -> None:
        """Decodes the pictures into the arrays."""
        flat = [row for some in rows.values() for row in some]
        flat.sort(key=lambda row: row.picture.name)  # as they lie
        total = sum(self.source.size(row.picture.name) for row in flat)
        written = 0
        for done, (number, pixels) in enumerate(
            decoded_all(self.contents(flat), total, fitting), start=1
        ):
            row = flat[number]
            if isinstance(pixels, str):
                self.pass_over(row.picture.name, ValueError(pixels))
            else:
                arrays[row.split][row.row] = pixels
                written += pixels.nbytes
                if written > 2**28:
                    written = 0
                    for array in arrays.values():
                        release(array)
            self.progress(done, len(flat))

    def contents(self, rows: list[Row]) -> Iterator[tuple[int, bytes | str]]:
        """Yields the bytes of each picture's file, or why it cannot be read."""
        for number, row in enumerate(rows):
            try:
                yield number, self.source.content(row.picture.name)
            except (ValueError, OSError) as error:
                yield number, str(error)

    def pass_over(self, name: str, error: Exception) -> None:
        """Skips a picture that cannot be read, or refuses it."""
        if not self.skip_bad:
            if isinstance(error, OSError) or self.source.full(name) in str(error):
                raise error
            raise unreadable(self.source.full(name), str(error), ", or pass --skip-bad")
        self.bad[name] = str(error)

    def check_any(self) -> None:
        """Refuses a source with no readable picture."""
        if not self.pictures:
            name, reason = next(iter(self.bad.items()))
            raise ValueError(
                f"None of the images of {self.source.described()} can be read; the first is "
                f"{printable(name)}. ({reason})"
            )

    def without_bad(
        self, rows: dict[str, list[Row]], arrays: dict[str, np.ndarray]
    ) -> tuple[dict[str, list[Row]], dict[str, np.ndarray]]:
        """Removes the pictures that cannot be read from rows and arrays."""
        left, images = {}, {}
        for split, some in rows.items():
            kept = [row for row in some if row.picture.name not in self.bad]
            array = arrays[split]
            for to, row in enumerate(kept):
                if row.row != to:
                    array[to] = array[row.row]
            if not kept:
                raise ValueError(
                    f"None of the {split} images of {self.source.described()} can be read."
                )
            left[split], images[split] = kept, array[: len(kept)]
        return left, images

    def passed_over(self) -> list[str]:
        """The remarks about pictures that cannot be read."""
        if not self.bad:
            return []
        names = [printable(name) for name in sorted(self.bad)]
        more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
        kind = (
            "1 file that cannot be read is"
            if len(names) == 1
            else (f"{len(names):,} files that cannot be read are")
        )
        return [f"{kind} left out: {', '.join(names[:MOST_NAMES])}{more}."]


def labels_of(rows: list[Row], split: str) -> list[str | None] | None:
    """The class names of the pictures of a split; None if they have no classes.

    Some training images may have a class, and others None.
    """
    labels = [row.picture.label for row in rows]
    without = labels.count(None)
    return None if without and (split != "train" or without == len(labels)) else labels


def without_colour(images: np.ndarray) -> bool:
    """Whether all channels are equal; stops at the first piece with a colour."""
    return all((piece == piece[..., :1]).all() for piece in pieces(images, 2**22))


def unreadable(what: str, reason: str, cure: str = "") -> ValueError:
    """The error about a file that cannot be read."""
    return ValueError(
        f"The image {what} cannot be read: save it anew as PNG or JPEG, or take it away{cure}. "
        f"({reason})"
    )


def read_pictures(paths: Sequence[str | os.PathLike], fitting: Fitting | None = None) -> np.ndarray:
    """Reads picture files as one array.

    Args:
        paths: Paths of the files, in any known format.
        fitting: How pictures become images of one shape, such as the `fitting` of a model. None:
            all must have one size; grey pictures become RGB if others are in colour, and
            transparent ones get a white background.

    Returns:
        (count, height, width, channels), uint8.

    Raises:
        ValueError: If a file cannot be read, or without a fitting the sizes differ.
        OSError: If there is no such file.
    """
    files = [pathlib.Path(path) for path in paths]
    if fitting is None or fitting.image_size is None or fitting.channels is None:
        fitting = shared(files, fitting or Fitting())
    images = np.empty((len(files), *fitting.image_shape), "uint8")
    for i, path in enumerate(files):
        with opened(path, MOST_BYTES) as file:
            try:
                images[i] = decoded(file.read(), fitting)
            except ValueError as error:
                raise unreadable(shown(path), str(error)) from None
    return images


def look(path: str | os.PathLike) -> Look:
    """Reads the header of a picture file: its size, and whether it is grey or transparent.

    Raises:
        ValueError: If it cannot be read.
        OSError: If there is no such file.
    """
    with opened(pathlib.Path(path), MOST_BYTES) as file:
        try:
            return looked_at(file)
        except ValueError as error:
            raise unreadable(shown(path), str(error)) from None


def shared(paths: list[pathlib.Path], fitting: Fitting) -> Fitting:
    """Returns the fitting of pictures of the same size.

    Raises:
        ValueError: If the sizes differ.
    """
    looks = []
    for path in paths:
        looks.append(look(path))
        if fitting.image_size is None and looks[-1].size != looks[0].size:
            sizes = [f"{width}x{height}" for height, width in (looks[0].size, looks[-1].size)]
            raise ValueError(
                f"All images must have one size, or be fitted to one. Found: {sizes[0]} pixels in "
                f"{shown(paths[0])}, {sizes[1]} in {shown(path)}. Give an `image_size`."
            )
    size = fitting.image_size or looks[0].size
    return resolved(dataclasses.replace(fitting, image_size=size), looks)[0]
