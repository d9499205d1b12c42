"""Listing: finds the split and the class of each picture of a source."""

import collections
import csv
import dataclasses
import io
import json
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from kvae.data.sources import Source
from kvae.printable import printable

__all__ = ["Picture", "listed", "split_of"]

SPELLINGS = {
    "train": "train|training|trn",
    "validation": "val|valid|validation|validate|dev",
    "test": "test|testing|tst",
}
OF_A_SPLIT = r"(?:[ _.-]?(?:set|data|images|imgs|split|\d+))?"
FILE = ("file", "file_name", "filename", "image", "image_path", "path")
LABEL = ("label", "class", "category", "target")
SPLIT = ("split", "set", "subset", "partition")
MOST_TABLE = 2**28  # bytes
UNKNOWN = r"(?:un|not[ _-])label?led"  # a folder of images for training whose class is not known


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture: its name in the source, its split, and the name of its class, if any."""

    name: str
    split: str
    label: str | None


def split_of(name: str) -> str | None:
    """The split that the name of a folder means: "train", "validation", "test", or None.

    Example:
        >>> [split_of(name) for name in ("Train", "valid", "test_set", "cats")]
        ['train', 'validation', 'test', None]
    """
    for split, words in SPELLINGS.items():
        if re.fullmatch(f"(?:{words}){OF_A_SPLIT}", name.strip().lower()):
            return split
    return None


def listed(
    source: Source, flat: bool = False, table: str | None = None
) -> tuple[list[Picture], list[str]]:
    """Lists the pictures of a source with split and class; also what to tell the user.

    It uses a table that lists the pictures, if there is one, and otherwise their folders.

    Args:
        source: The pictures.
        flat: Whether to ignore folders and tables, so that all are one set without classes.
        table: The table that the user named, if any.

    Raises:
        ValueError: If there are no pictures, or it is unclear which are for training.
    """
    said: list[str] = []
    if flat:
        pictures = [Picture(name, "train", None) for name in source.names]
    elif tables := tables_of(source, table):
        pictures, said = by_tables(source, tables)
    elif table:
        raise ValueError(
            f"{source.full(table)} must be a table with a column {FILE[0]}, the paths of images "
            "beside it."
        )
    else:
        pictures = by_folders(source)
    if not pictures:
        raise ValueError(
            f"{source.described()} must have images in it, or in folders in it. Found: 0"
            f"{foreign(source)}"
        )
    check_distinct({one.label for one in pictures if one.label is not None}, source)
    if source.foreign:
        said.append(f"Passed over{foreign(source)}.")
    return pictures, said


def foreign(source: Source) -> str:
    """The pictures that are not read, in words."""
    if not source.foreign:
        return ""
    kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(source.foreign.items()))
    return f", {kinds}, which kvae does not read: convert them to PNG or JPEG"


def by_folders(source: Source) -> list[Picture]:
    """Lists pictures by their folders."""
    tops = sorted({name.split("/")[0] for name in source.names if "/" in name})
    splits = {top: split for top in tops if (split := split_of(top))}
    if splits:
        return by_split_folders(source, tops, splits)
    inner = split_in_classes(source, tops)
    if inner is not None:
        return inner
    return in_classes(source, source.names, 0, "train")


def by_split_folders(source: Source, tops: list[str], splits: dict[str, str]) -> list[Picture]:
    """Lists pictures in folders of splits; if some folders are splits, all must be."""
    others = [top for top in tops if top not in splits]
    others += ["images beside them"] if any("/" not in name for name in source.names) else []
    found = printable(", ".join(splits))
    if others:
        raise ask(
            source, f"folders of splits ({found}) and others ({printable(', '.join(others))})"
        )
    if "train" not in splits.values():
        raise ask(source, f"folders of splits ({found}), and none for training")
    check_once(source, splits)
    pictures: list[Picture] = []
    for split in SPELLINGS:
        for top in (top for top, one in splits.items() if one == split):
            names = [name for name in source.names if name.startswith(f"{top}/")]
            pictures += in_classes(source, names, 1, split)
    return pictures


def split_in_classes(source: Source, tops: list[str]) -> list[Picture] | None:
    """Lists pictures of classes with folders of splits; None if no class has such folders."""
    parts = [name.split("/") for name in source.names]
    second = [split_of(one[1]) if len(one) > 2 else None for one in parts]
    if not any(second):
        return None
    if not all(second) or "train" not in second:
        names = sorted(
            {"/".join(one[:2]) for one, split in zip(parts, second, strict=True) if split}
        )
        raise ask(
            source, f"some folders of splits in those of classes ({printable(', '.join(names))})"
        )
    for top in tops:
        check_once(source, {one[1]: split_of(one[1]) or "" for one in parts if one[0] == top})
    pictures = [
        Picture(name, split or "", one[0])
        for name, one, split in zip(source.names, parts, second, strict=True)
    ]
    return sorted(pictures, key=lambda one: list(SPELLINGS).index(one.split))


def check_once(source: Source, splits: dict[str, str]) -> None:
    """Refuses two folders of the same split."""
    ((split, count),) = collections.Counter(splits.values()).most_common(1)
    if count > 1:
        names = sorted(name for name, one in splits.items() if one == split)
        raise ValueError(
            f"{source.described()} must have one folder of {split} images. Found: "
            f"{printable(', '.join(names))}"
        )


def ask(source: Source, found: str) -> ValueError:
    """The error if it is unclear which images are for training."""
    return ValueError(
        f"{source.described()} has {found}: it cannot be told which images are for training. Name "
        "the folders train, validation and test, with all images in them; or pass --flat "
        "(flat=True) to take all as one set."
    )


def in_classes(source: Source, names: Sequence[str], depth: int, split: str) -> list[Picture]:
    """Lists pictures of a split by class: their folder at this depth, if all have one."""
    parts = [name.split("/")[depth:] for name in names]
    flat = sum(len(one) == 1 for one in parts)
    if 0 < flat < len(parts):
        raise ValueError(
            f"{source.described()} must have its {split} images either in one folder, or each in "
            f"the folder of its class; or pass --flat (flat=True), and folders have no say. Found: "
            f"{flat:,} in it, {len(parts) - flat:,} in sub-folders"
        )
    labels = [None if flat or of_none(one[0], split) else one[0] for one in parts]
    return [Picture(name, split, label) for name, label in zip(names, labels, strict=True)]


def of_none(folder: str, split: str) -> bool:
    """Whether a folder means that its training images have an unknown class."""
    return split == "train" and re.fullmatch(UNKNOWN, folder.lower()) is not None


def check_distinct(labels: Iterable[str], source: Source) -> None:
    """Refuses classes whose names differ only in unprintable characters."""
    ((name, count),) = collections.Counter(map(printable, labels)).most_common(1) or [("", 0)]
    if count > 1:
        raise ValueError(
            f"The classes in {source.described()} must have names that look different. Rename the "
            f"folders that look like {name}."
        )


# Tables


def tables_of(source: Source, table: str | None) -> dict[str, list[dict[str, Any]]]:
    """Reads the rows of each table that lists pictures, by its name; or of the named one."""
    found = {name: rows_of(source, name) for name in ([table] if table else source.tables)}
    return {name: rows for name, rows in found.items() if rows and column(rows, FILE)}


def rows_of(source: Source, name: str) -> list[dict[str, Any]]:
    """Reads the rows of a table; none if it is not a table."""
    with source.open(name, MOST_TABLE) as file:
        text = file.read().decode("utf-8-sig", "replace")
    if name.lower().endswith(".csv"):
        try:
            return list(csv.DictReader(io.StringIO(text, newline="")))
        except csv.Error:
            return []
    rows = []
    for line in filter(str.strip, text.split("\n")):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return []
        if not isinstance(row, dict):
            return []
        rows.append(row)
    return rows


def column(rows: list[dict[str, Any]], names: Sequence[str]) -> str | None:
    """The column of a table with one of these names, in any case."""
    known = {str(key).strip().lower(): key for key in rows[0]}
    return next((known[name] for name in names if name in known), None)


def by_tables(
    source: Source, tables: dict[str, list[dict[str, Any]]]
) -> tuple[list[Picture], list[str]]:
    """Lists the pictures of tables: one table, or one for each split."""
    splits = {name: split_of(os.path.splitext(name)[0]) for name in tables}
    if len(tables) > 1:
        if None in splits.values() or "train" not in splits.values():
            raise ValueError(
                f"{source.described()} must have one table of images, or one for each split, such "
                f"as train.csv and test.csv. Name the one to take with --dataset. Found: "
                f"{printable(', '.join(tables))}"
            )
        check_once(source, {name: split or "" for name, split in splits.items()})
    pictures: list[Picture] = []
    for name, rows in tables.items():
        own = splits[name] if len(tables) > 1 else None
        pictures += rows_as_pictures(source, name, rows, own)
    check_labels(source, pictures)
    order = list(SPELLINGS)
    pictures.sort(key=lambda one: order.index(one.split))
    rest = len(set(source.names) - {one.name for one in pictures})
    images = (
        "1 image that no table lists is"
        if rest == 1
        else (f"{rest:,} images that no table lists are")
    )
    said = [f"{images} left out."] if rest else []
    return pictures, said


def rows_as_pictures(
    source: Source, table: str, rows: list[dict[str, Any]], own: str | None
) -> list[Picture]:
    """Lists the pictures that the rows of a table name."""
    file, label, split = (column(rows, names) for names in (FILE, LABEL, SPLIT))
    known = set(source.names)
    pictures = []
    for number, row in enumerate(rows, start=1):
        name = os.path.normpath(str(row.get(file or "") or "")).replace(os.sep, "/")
        if name not in known:
            raise ValueError(
                f"Row {number:,} of {source.full(table)} names an image that is not there: "
                f"{printable(name)}"
            )
        part = own or ("train" if split is None else split_of(str(row.get(split) or "")))
        if part is None:
            raise ValueError(
                f"Row {number:,} of {source.full(table)} must be of train, validation or test. "
                f"Found: {printable(row.get(split or ''))}"
            )
        value = row.get(label) if label is not None else None
        text = "" if value is None else str(value).strip()
        pictures.append(Picture(name, part, text or None))
    return pictures


def check_labels(source: Source, pictures: list[Picture]) -> None:
    """Refuses splits where only some pictures have a label, and pictures listed twice.

    Some training pictures may have no label: their class is unknown.
    """
    for split in ("validation", "test"):
        labels = [one.label for one in pictures if one.split == split]
        without = labels.count(None)
        if 0 < without < len(labels):
            raise ValueError(
                f"The table of {source.described()} must have a label for each of its {split} "
                f"images, or for none. Found: {without:,} of {len(labels):,} without"
            )
    ((name, count),) = collections.Counter(one.name for one in pictures).most_common(1) or [("", 0)]
    if count > 1:
        raise ValueError(
            f"The table of {source.described()} must list an image once. Found: {count} times "
            f"{printable(name)}"
        )
