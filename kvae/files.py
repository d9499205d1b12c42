"""Files: each is written whole or not at all."""

import contextlib
import os
import pathlib
import shutil
import stat
import tempfile
import warnings
from collections.abc import Iterator

__all__ = ["or_warn", "whole"]


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a path to write to, and moves what was written into place once all is there.

    If writing fails (a full disk, Ctrl-C), the former file stays, and nothing half-written. A link
    is followed, and a file that is written anew keeps its permissions. What is no regular file (a
    device, a named pipe) is written to, never replaced.

    Args:
        path: The file to write. Its folder is made where it is missing.

    Yields:
        A path with the same suffix.

    Raises:
        OSError: If it cannot be written; the message names the file.

    Example:
        >>> import pathlib, tempfile
        >>> from kvae.files import whole
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "a.txt"
        ...     with whole(path) as partial:
        ...         written = partial.write_text("all of it")
        ...     path.read_text()
        'all of it'
    """
    try:
        place = pathlib.Path(os.path.realpath(path))
        if is_regular(place):
            yield from beside(place)
        else:
            yield from through(place)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}.") from error


def is_regular(path: pathlib.Path) -> bool:
    """Whether the path is, or would become, a regular file; a folder is an error."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return True
    if stat.S_ISDIR(mode):
        raise IsADirectoryError("it is a folder")
    return stat.S_ISREG(mode)


def beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Writes beside a regular file, which is then replaced in one step."""
    partial = path.with_name(f".partial-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            if not os.access(path, os.W_OK):
                raise PermissionError("it is read-only")
            partial.touch()
            shutil.copymode(path, partial)
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def through(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Writes elsewhere, and then sends all of it to what is no regular file."""
    with tempfile.TemporaryDirectory() as folder:
        partial = pathlib.Path(folder) / f"whole{path.suffix}"
        yield partial
        with partial.open("rb") as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)


@contextlib.contextmanager
def or_warn() -> Iterator[None]:
    """Makes a warning of an OSError: for pictures, whose loss is no reason to stop training."""
    try:
        yield
    except OSError as error:
        warnings.warn(str(error), stacklevel=3)
