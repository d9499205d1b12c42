"""Sources: folders and archives of pictures, each picture with its name in there."""

import abc
import bz2
import collections
import gzip
import io
import lzma
import os
import pathlib
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from typing import IO, Any

from kvae.data.decoding import PICTURES, looked_at
from kvae.data.fitting import Look
from kvae.data.guarded import BOMB_RATIO, BOMB_SIZE, Sparing, opened, shown
from kvae.limits import described
from kvae.printable import printable

__all__ = ["ARCHIVES", "MOST_BYTES", "TABLES", "Source", "Spool", "source_of"]

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVES = (".zip", *TARS)
TABLES = (".csv", ".jsonl")
MOST_BYTES = 2**25  # of an image's file; empty chunks of a PNG take a second for each 2 MB
DIRECTORY = 2**26  # bytes, of an archive's list of what is in it
UNPACKED = 2**20  # bytes that are unpacked at once
# Files that systems put beside pictures.
LITTER = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
# Formats of pictures that Pillow does not read by itself.
FOREIGN = {
    *(".heic", ".heif", ".jxl", ".svg", ".psd", ".xcf", ".eps", ".pdf", ".ico", ".jp2"),
    *(".ppm", ".pgm", ".tga", ".exr", ".hdr", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw"),
}


class Source(abc.ABC):
    """A source of pictures by name; `contextlib.closing` closes its files.

    Attributes:
        path: Path of the folder or archive.
        names: Names of the pictures, with "/" between folders, in order.
        tables: Names of files at the top that may list pictures: `.csv` and `.jsonl`.
        foreign: Number of files of each kind of picture that is not read.
    """

    def __init__(self, path: pathlib.Path, names: list[str]) -> None:
        self.path = path
        kept = sorted(name for name in names if not is_litter(name))
        suffixes = [(name, os.path.splitext(name)[1].lower()) for name in kept]
        self.names = [name for name, suffix in suffixes if suffix in PICTURES]
        self.tables = [name for name, suffix in suffixes if suffix in TABLES and "/" not in name]
        self.foreign = collections.Counter(suffix for _, suffix in suffixes if suffix in FOREIGN)

    def close(self) -> None:  # noqa: B027 (there may be nothing)
        """Closes open files."""

    def described(self) -> str:
        """The name of the source in messages."""
        return shown(self.path)

    def full(self, name: str) -> str:
        """The name of a picture in messages."""
        return shown(self.path / name)

    @abc.abstractmethod
    def open(self, name: str, most: int = MOST_BYTES) -> IO[bytes]:
        """Opens a file of the source for reading.

        Args:
            name: Name of the file.
            most: Largest size in bytes.

        Raises:
            ValueError: If it is not a regular file, or too large.
            OSError: If it cannot be opened.
        """

    @abc.abstractmethod
    def size(self, name: str) -> int:
        """The size of a file of the source in bytes."""

    @abc.abstractmethod
    def stamp(self, name: str) -> tuple:
        """A stamp that changes when the file does: its size and its time of writing."""

    def look(self, name: str) -> Look:
        """Reads the header of a picture.

        Raises:
            ValueError: If it is damaged, or as for `open`.
            OSError: If it cannot be read.
        """
        with self.open(name) as file:
            return looked_at(file)

    def content(self, name: str) -> Any:
        """Reads the bytes of a picture's file; for sources in memory, returns the picture.

        Raises:
            ValueError: As for `open`, or if the archive is damaged there.
            OSError: If it cannot be read.
        """
        with self.open(name) as file:
            try:
                content = file.read()
            except OSError:
                raise
            except Exception as error:  # a damaged archive may raise any error
                raise ValueError(
                    f"{self.full(name)} is damaged. ({printable(error) or type(error).__name__})"
                ) from None
        return content


def is_litter(name: str) -> bool:
    """Whether a file is hidden, or a system file."""
    return any(part.startswith(".") or part.lower() in LITTER for part in name.split("/"))


class Folder(Source):
    """A folder with its subfolders. Links are followed, but not in a circle."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__(path, list(walked(path)))

    def open(self, name: str, most: int = MOST_BYTES) -> IO[bytes]:
        """See `Source`."""
        return opened(self.path / name, most)

    def size(self, name: str) -> int:
        """See `Source`."""
        return self.stamp(name)[0]

    def stamp(self, name: str) -> tuple:
        """See `Source`."""
        try:
            status = os.stat(self.path / name)
        except OSError:  # a link that leads nowhere
            return 0, 0
        return status.st_size, status.st_mtime_ns


def walked(root: pathlib.Path) -> Iterator[str]:
    """The names of all files in a folder, relative to it."""

    def refuse(error: OSError) -> None:
        raise type(error)(f"{shown(error.filename)} cannot be listed: {error.strerror}.") from None

    above: dict[str, frozenset] = {}
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        status = os.stat(folder)
        own = (status.st_dev, status.st_ino)
        ancestors = above.get(os.path.dirname(folder), frozenset())
        if own in ancestors:
            folders.clear()
            continue
        above[folder] = ancestors | {own}
        folders[:] = [name for name in folders if not is_litter(name)]
        place = os.path.relpath(folder, root)
        for name in files:
            yield name if place == "." else f"{place.replace(os.sep, '/')}/{name}"


class Archive(Source):
    """An archive, read in place: none of its files is written anywhere.

    If all files lie in one folder, as in an archive of a folder, that folder is ignored.
    """

    def __init__(self, path: pathlib.Path, members: dict[str, Any]) -> None:
        known = [
            name
            for name in members
            if name.lower().endswith((*PICTURES, *TABLES)) and not is_litter(name.strip("/"))
        ]
        top = shared_folder(known)
        self.members = {
            name[len(top) :].lstrip("/"): member
            for name, member in members.items()
            if name.startswith(top)
        }
        status = os.stat(path)
        self.own_stamp = (status.st_size, status.st_mtime_ns)
        super().__init__(path, list(self.members))

    def stamp(self, name: str) -> tuple:
        """See `Source`."""
        return self.own_stamp


def shared_folder(names: list[str]) -> str:
    """The one folder that contains all names, with a "/"; "" if there is none."""
    folders = {name.partition("/")[0] if "/" in name else "" for name in names}
    if len(folders) != 1 or folders == {""}:
        return ""
    (folder,) = folders
    return f"{folder}/"


class Zip(Archive):
    """A `.zip` file."""

    def __init__(self, path: pathlib.Path) -> None:
        file = opened(path)
        try:
            try:
                self.archive = zipfile.ZipFile(Sparing(file, DIRECTORY))  # type: ignore[arg-type]
            except Exception as error:  # a damaged directory may raise any error
                raise damaged(path, error) from None
            members = {one.filename: one for one in self.archive.infolist() if not one.is_dir()}
            super().__init__(path, members)
        except BaseException:
            file.close()
            raise
        self.file = file

    def close(self) -> None:
        """See `Source`."""
        self.archive.close()
        self.file.close()

    def size(self, name: str) -> int:
        """See `Source`."""
        return self.members[name].file_size

    def open(self, name: str, most: int = MOST_BYTES) -> IO[bytes]:
        """See `Source`."""
        member = self.members[name]
        check_size(self.full(name), member.file_size, most)
        if member.flag_bits & 1:
            raise ValueError(f"{self.full(name)} is encrypted.")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{self.full(name)} is packed by another method than deflate.")
        try:
            return self.archive.open(member)
        except Exception as error:
            raise damaged(self.path, error) from None


class Tar(Archive):
    """A `.tar` file, compressed or not.

    A compressed one is unpacked to a temporary file first; otherwise each picture would have to be
    reached through all before it.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.file: IO[bytes] = unpacked(path)
        try:
            try:
                self.archive = tarfile.open(fileobj=self.file, mode="r:")
                check_whole(self.archive, self.file)
                members = {one.name: one for one in self.archive if one.isreg()}
            except Exception as error:
                raise damaged(path, error) from None
            super().__init__(path, {name.removeprefix("./"): one for name, one in members.items()})
        except BaseException:
            self.file.close()
            raise

    def close(self) -> None:
        """See `Source`."""
        self.archive.close()
        self.file.close()

    def size(self, name: str) -> int:
        """See `Source`."""
        return self.members[name].size

    def open(self, name: str, most: int = MOST_BYTES) -> IO[bytes]:
        """See `Source`."""
        check_size(self.full(name), self.members[name].size, most)
        file = self.archive.extractfile(self.members[name])
        if file is None:
            raise ValueError(f"{self.full(name)} is no regular file.")
        return file


class Spool(Source):
    """Pictures from a stream, whose bytes are kept in a temporary file.

    Args:
        what: Name of the source in messages.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.names = []
        self.tables = []
        self.foreign = collections.Counter()
        self.places: dict[str, tuple[int, int]] = {}  # where the bytes begin, and how many
        self.file = tempfile.TemporaryFile()

    def add(self, name: str, content: bytes) -> None:
        """Adds a picture."""
        self.places[name] = (self.file.tell(), len(content))
        self.names.append(name)
        self.file.write(content)

    def close(self) -> None:
        """See `Source`."""
        self.file.close()

    def described(self) -> str:
        """See `Source`."""
        return self.what

    def full(self, name: str) -> str:
        """See `Source`."""
        return f"{name} of {self.what}"

    def size(self, name: str) -> int:
        """See `Source`."""
        return self.places[name][1]

    def stamp(self, name: str) -> tuple:
        """See `Source`."""
        return self.places[name]

    def open(self, name: str, most: int = MOST_BYTES) -> IO[bytes]:
        """See `Source`."""
        start, size = self.places[name]
        check_size(self.full(name), size, most)
        self.file.seek(start)
        return io.BytesIO(self.file.read(size))


def check_whole(archive: tarfile.TarFile, file: IO[bytes]) -> None:
    """Refuses an archive that ends early: a whole one ends with an empty block."""
    ends = [one.offset_data + (one.size if one.isreg() else 0) for one in archive]
    file.seek(-(-max(ends, default=0) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
    if len(file.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
        raise ValueError("it ends early")


def unpacked(path: pathlib.Path) -> IO[bytes]:
    """Opens a `.tar` file, or the content of a compressed one in a temporary file."""
    file = opened(path)
    start = file.read(6)
    file.seek(0)
    size = os.fstat(file.fileno()).st_size
    streams: dict[bytes, Any] = {
        b"\x1f\x8b": gzip.open,
        b"BZh": bz2.open,
        b"\xfd7zXZ\x00": lzma.open,
    }
    openers = [opener for magic, opener in streams.items() if start.startswith(magic)]
    if not openers:
        return file
    with file:
        most = max(BOMB_SIZE, size * BOMB_RATIO)
        whole = tempfile.TemporaryFile()
        try:
            free = shutil.disk_usage(tempfile.gettempdir()).free
            with openers[0](file) as stream:
                found = 0
                while block := stream.read(UNPACKED):
                    found += len(block)
                    if found > min(most, free):
                        raise ValueError(f"it unpacks to more than {described(min(most, free))}")
                    whole.write(block)
        except BaseException as error:
            whole.close()
            if isinstance(error, Exception):
                raise damaged(path, error) from None
            raise
        whole.seek(0)
        return whole


def check_size(what: str, size: int, most: int) -> None:
    """Refuses a file in an archive that is too large."""
    if size > most:
        raise ValueError(f"{what} must have at most {described(most)}. Found: {described(size)}")


def damaged(path: pathlib.Path, error: Exception) -> ValueError:
    """The error about an archive that cannot be read."""
    return ValueError(
        f"{shown(path)} cannot be read as an archive of images. Pack it anew, or unpack it to a "
        f"folder. ({printable(error) or type(error).__name__})"
    )


def source_of(path: pathlib.Path) -> Source:
    """The pictures of a folder or of an archive.

    Raises:
        ValueError: If it is an archive that is damaged.
        OSError: If it cannot be read.
    """
    if path.is_dir():
        return Folder(path)
    return Zip(path) if path.suffix.lower() == ".zip" else Tar(path)
