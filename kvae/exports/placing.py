"""Moves a finished export to its place without losing anything there."""

import contextlib
import mmap
import os
import pathlib
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator

from kvae.exports.formats import Format
from kvae.files import on_disk, partial_name, sweep, whole

__all__ = ["check_place", "place", "staged"]

MARK = b"exported_by"  # in the metadata of every export
PATTERN = "*?["  # TensorFlow reads the path of a SavedModel as a pattern
# All files of a SavedModel that kvae writes.
OWN = re.compile(
    r"saved_model\.pb|fingerprint\.pb|variables(/variables\.(index|data-\d+-of-\d+))?|assets"
    r"|assets\.extra(/kvae\.json)?"
)


@contextlib.contextmanager
def staged() -> Iterator[pathlib.Path]:
    """Makes a temporary working folder, which is removed afterwards.

    If this process is killed, its worker or the next export removes the folder.
    """
    there = pathlib.Path(tempfile.gettempdir()).absolute()
    sweep(there)
    folder = there / partial_name()
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_place(kind: Format, target: pathlib.Path) -> None:
    """Checks that an export of a format may be written to this place.

    A file or folder that exists there must be an export of kvae, or empty: nothing else is
    replaced.

    Raises:
        ValueError: If the name does not fit the format, or something else is in this place.
        OSError: If the place cannot be written.
    """
    if kind.suffix and target.suffix != kind.suffix:
        raise ValueError(f"A file of the format {kind.name} ends in {kind.suffix}: {target}")
    if target.name in ("", ".."):
        raise ValueError(f"The folder to write must have a name of its own: {target}")
    if not kind.suffix and any(one in str(target.absolute()) for one in PATTERN):
        raise ValueError(
            f"TensorFlow cannot read a folder with any of {PATTERN} in its path: {target}"
        )
    beside = [target.with_suffix(suffix) for suffix in kind.beside]
    try:
        for one in (target, *beside):
            if one.is_symlink() and (beside or not kind.suffix):
                raise ValueError(f"{one} is a link: name what it leads to.")
            if one.is_dir() if kind.suffix else os.path.lexists(one) and not one.is_dir():
                raise ValueError(f"{one} exists, and is no {'file' if kind.suffix else 'folder'}.")
        if not is_replaceable(target):
            raise ValueError(
                f"{target} exists, and is no export of kvae's: remove it, or choose another name."
            )
        for one in beside:
            if one.exists() and (not target.exists() or not target.stat().st_size):
                raise ValueError(
                    f"{one} exists, and {target.name} does not: remove it, or choose another name."
                )
        check_writable(target)
    except OSError as error:
        raise OSError(f"{target} cannot be written: {error.strerror or error}.") from error


def is_replaceable(path: pathlib.Path) -> bool:
    """Whether this path can be replaced without losing anything that is not kvae's."""
    if path.is_dir():
        inside = [one.relative_to(path).as_posix() for one in path.rglob("*")]
        ours = "assets.extra/kvae.json" in inside and all(map(OWN.fullmatch, inside))
        return not inside or ours
    if not path.is_file() or not path.stat().st_size:
        return True  # does not exist, or a device or pipe, which is written through
    with path.open("rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(MARK) >= 0


def check_writable(target: pathlib.Path) -> None:
    """Raises an OSError unless a file or folder of this name could be made or replaced."""
    if os.path.exists(target):
        if not os.access(target, os.W_OK):
            raise PermissionError("it is read-only")
        if not (target.is_file() or target.is_dir()):
            return
    folder = pathlib.Path(os.path.realpath(target)).parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"the folder {folder} is read-only")


def place(kind: Format, made: pathlib.Path, target: pathlib.Path) -> None:
    """Moves an export to its place; replaces a former export there.

    Args:
        kind: The format.
        made: Folder that contains the export under its final name, and its further files.
        target: Path of the export.

    Raises:
        ValueError: If something else has appeared there meanwhile.
        OSError: If it cannot be written; the former export then stays.
    """
    check_place(kind, target)
    if kind.suffix and not kind.beside:
        with whole(target) as partial:
            shutil.copyfile(made / target.name, partial)
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent)
        replace_all(made, target)
    except OSError as error:
        raise OSError(f"{target} cannot be written: {error.strerror or error}.") from error


def replace_all(made: pathlib.Path, target: pathlib.Path) -> None:
    """Replaces a folder, or files that belong together: all or none of them.

    Two names cannot change in one step, and neither can a non-empty folder. So the former export is
    renamed first and removed at the end. If this process is killed in between, the former export is
    beside its place, with `.former` in its name, and there is never half an export in the place
    itself.
    """
    folder = target.with_name(partial_name())
    names = sorted((one.name for one in made.iterdir()), key=lambda name: name != target.name)
    former: list[tuple[pathlib.Path, pathlib.Path]] = []
    placed: list[pathlib.Path] = []
    try:
        shutil.copytree(made, folder)
        for one in folder.rglob("*"):
            on_disk(one)
        for there in map(target.with_name, names):
            if there.exists():
                shutil.copymode(there, folder / there.name)
                aside = there.with_name(f"{there.name}.former-{secrets.token_hex(4)}")
                there.rename(aside)
                former.append((aside, there))
        for there in map(target.with_name, reversed(names)):
            (folder / there.name).rename(there)
            placed.append(there)
        on_disk(target.parent)
    except BaseException:
        for there in placed:
            there.rename(folder / there.name)
        for aside, there in former:
            aside.rename(there)
        raise
    else:
        with contextlib.suppress(OSError):  # otherwise it stays beside its place
            for aside, there in former:
                aside.rename(folder / there.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
