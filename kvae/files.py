"""Writes files as a whole or not at all."""

import contextlib
import errno
import functools
import os
import pathlib
import platform
import secrets
import shutil
import stat
import tempfile
import time
import warnings
import zlib
from collections.abc import Iterator

__all__ = ["locked", "on_disk", "or_warn", "partial_name", "sweep", "whole"]

MACHINE = f"{zlib.crc32(platform.node().encode()):08x}"  # a folder may be that of several
A_WEEK = 7 * 24 * 3600  # seconds


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a path to write to, and moves the file into place when it is complete.

    If writing fails (a full disk, Ctrl-C, a power cut), the former file stays, and nothing
    half-written. A symbolic link is followed; other hard links keep the former content. A replaced
    file keeps its permissions. Devices and named pipes are written to, never replaced. Half-written
    files of killed processes are removed by the next process that writes to the folder.

    Args:
        path: The file to write. Its folder is made if missing.

    Yields:
        A path with the same suffix.

    Raises:
        OSError: If the file cannot be written; the message names it.

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
        path = pathlib.Path(path)
        if is_regular(path):
            yield from beside(pathlib.Path(os.path.realpath(path)), path.suffix)
        else:
            yield from through(path)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}.") from error


def is_regular(path: pathlib.Path) -> bool:
    """Whether the path is, or would become, a regular file; raises an error for a folder."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return True
    if stat.S_ISDIR(mode):
        raise IsADirectoryError("it is a folder")
    return stat.S_ISREG(mode)


def beside(path: pathlib.Path, suffix: str) -> Iterator[pathlib.Path]:
    """Yields a path beside a regular file, which is then replaced in one step."""
    partial = path.with_name(partial_name(suffix))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        if path.exists():
            if not os.access(path, os.W_OK):
                raise PermissionError("it is read-only")
            partial.touch()
            shutil.copymode(path, partial)
        yield partial
        on_disk(partial)
        partial.replace(path)
        on_disk(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def partial_name(suffix: str = "") -> str:
    """A new name for a file or folder that `sweep` removes if this process dies."""
    return f".partial-{MACHINE}-{os.getpid()}-{secrets.token_hex(4)}{suffix}"


def on_disk(path: pathlib.Path) -> None:
    """Waits until a file, or the names in a folder, would survive a power cut."""
    if path.is_dir() and os.name == "nt":
        return  # where folders cannot be opened
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@functools.cache
def sweep(folder: pathlib.Path) -> None:
    """Removes the half-written files of dead processes from a folder, once."""
    for partial in folder.glob(".partial-*-*-*"):
        with contextlib.suppress(OSError, ValueError):  # another's, or gone
            _, machine, process, _ = partial.name.split("-", 3)
            is_dead = machine == MACHINE and not is_running(int(process))
            if is_dead or time.time() - partial.lstat().st_mtime > A_WEEK:
                is_folder = partial.is_dir() and not partial.is_symlink()
                shutil.rmtree(partial) if is_folder else partial.unlink()


def is_running(process: int) -> bool:
    """Whether a process with this number runs on this machine."""
    if os.name == "nt":
        return True  # where to ask is to kill
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # another user's
    return True


def through(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary path, and then copies its content to a device or pipe."""
    with tempfile.TemporaryDirectory() as folder:
        partial = pathlib.Path(folder) / f"whole{path.suffix}"
        yield partial
        with partial.open("rb") as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Holds a lock between processes. The lock of a dead process is free.

    Args:
        path: Path of the lock file, which is made, and removed afterwards.

    Raises:
        BlockingIOError: If another process holds it.
        OSError: If the file cannot be made.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lock(descriptor)
            # Its former holder may have removed the file between these two lines.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                break
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    try:
        yield
    finally:
        if os.name == "nt":  # where what is open cannot be removed
            os.close(descriptor)
        path.unlink(missing_ok=True)
        if os.name != "nt":
            os.close(descriptor)


def lock(descriptor: int) -> None:
    """Locks an open file, or raises a BlockingIOError."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise BlockingIOError(error.errno, "another process has it") from error
        # A file system without locks: training without a lock is better than no training.


@contextlib.contextmanager
def or_warn() -> Iterator[None]:
    """Turns an OSError into a warning, for pictures, whose loss need not stop training."""
    try:
        yield
    except OSError as error:
        warnings.warn(str(error), stacklevel=3)
