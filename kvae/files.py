"""Files: each is written whole or not at all."""

import contextlib
import pathlib
from collections.abc import Iterator

__all__ = ["whole"]


@contextlib.contextmanager
def whole(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a path beside `path` to write to, and moves it into place once all is written.

    If writing fails (a full disk, Ctrl-C), what was there before stays, and nothing half-written.

    Args:
        path: The file to write. Its folder is made where it is missing.

    Yields:
        A path in the same folder, with the same suffix.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
