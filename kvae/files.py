"""Files: each is written whole or not at all."""

import contextlib
import pathlib
import warnings
from collections.abc import Iterator

__all__ = ["or_warn", "whole"]


@contextlib.contextmanager
def whole(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a path beside `path` to write to, and moves it into place once all is written.

    If writing fails (a full disk, Ctrl-C), what was there before stays, and nothing half-written.

    Args:
        path: The file to write. Its folder is made where it is missing.

    Yields:
        A path in the same folder, with the same suffix.

    Raises:
        OSError: If it cannot be written; the message names the file.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".partial-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def or_warn() -> Iterator[None]:
    """Makes a warning of an OSError: for pictures, whose loss is no reason to stop training."""
    try:
        yield
    except OSError as error:
        warnings.warn(str(error), stacklevel=3)
