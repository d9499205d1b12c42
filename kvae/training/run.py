"""Runs: the files of a training run, where they go, and how a former run is kept."""

import contextlib
import csv
import math
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import keras

from kvae.drawing import charts, plots
from kvae.files import locked, or_warn, whole
from kvae.training.checkpoint import Checkpoint

__all__ = ["Run"]

LONGEST_NAME = 255  # bytes


class Run:
    """The files of one training run.

    `NAME.keras` is the model. The folder `NAME` beside it has `history.csv`, `latents.csv`,
    `curves.png`, `samples/`, `samples.gif`, `reconstructions/` and `checkpoint.npz`. Until the
    model is saved for the first time, all files are in a hidden folder, so that a former run of the
    same name stays in place. Then the former run is moved aside, to the first free name of
    `NAME-1`, `NAME-2`, …, which is in `former`.

    As a context manager, it keeps other processes from using this name.

    Args:
        out: The `.keras` file to write.
        optimizer: Whether the file contains the optimizer's state.
        writes: Whether to write anything. Of several processes, only the first writes.

    Attributes:
        folder: Where files are written now.

    Raises:
        ValueError: If `out` does not end in `.keras`.
        OSError: On entering the context, if the place cannot be written, or another process trains
            under this name.
    """

    def __init__(self, out: str | os.PathLike, optimizer: bool = True, writes: bool = True) -> None:
        self.model = pathlib.Path(out)
        if self.model.suffix != ".keras":
            raise ValueError(f"The model's file must end in .keras. Received: {out}")
        self.optimizer = optimizer
        self.writes = writes
        self.place = self.model.with_name(self.model.stem)
        self.hidden = self.model.with_name(f".{self.model.stem}.new")
        self.folder = self.hidden
        self.former: pathlib.Path | None = None
        self.saved = 0
        self.held = contextlib.ExitStack()

    def __enter__(self) -> "Run":
        """Checks that the place is free, and locks it."""
        for path, right in ((self.place, is_a_runs_folder), (self.model, pathlib.Path.is_file)):
            if path.exists() and not right(path):
                raise ValueError(
                    f"{path} is in the way, and nothing that training left: {self.model.name} and "
                    f"the folder {self.place.name} are what a run writes. Choose another name for "
                    f"the model, such as {self.model.stem}-vae.keras."
                )
        with self.named_errors():
            made = not self.model.parent.exists()
            self.model.parent.mkdir(parents=True, exist_ok=True)
            if made:
                self.held.callback(remove_if_empty, self.model.parent)
            try:
                self.held.enter_context(locked(self.model.with_name(f".{self.model.stem}.lock")))
            except BlockingIOError:
                raise OSError("another process is training it") from None
        return self

    def __exit__(self, *_: Any) -> None:
        """Unlocks the place."""
        self.held.close()

    @contextlib.contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turns an OSError into one with a one-line message."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise OSError(
                f"{self.model} cannot be written: {reason}. Choose another place."
            ) from error

    @property
    def samples(self) -> pathlib.Path | None:
        """The folder of the sample grids, if any are written."""
        return self.folder / "samples" if self.writes else None

    @property
    def reconstructions(self) -> pathlib.Path | None:
        """The folder of the reconstruction grids, if any are written."""
        return self.folder / "reconstructions" if self.writes else None

    @property
    def checkpoint(self) -> pathlib.Path:
        """The file of the checkpoint, from which a run can continue."""
        return self.folder / "checkpoint.npz"

    def is_under_way(self) -> bool:
        """Whether a new run was stopped here before its model was saved."""
        return (self.hidden / self.checkpoint.name).is_file()

    def stopped(self) -> Checkpoint | None:
        """The checkpoint of the run that was stopped here last; None if there is none."""
        for folder in (self.hidden, self.place):
            if (folder / self.checkpoint.name).is_file():
                self.folder = folder
                return Checkpoint.read(self.checkpoint)
        return None

    def facts(self) -> dict[str, Any] | None:
        """Facts about the run that was stopped or has ended here, or None.

        They are `recipe`, and `card` with the name of the data and the command of the run.
        """
        former = self.stopped()
        return None if former is None else former.facts

    def begin(self, needs: int, anew: bool = True) -> None:
        """Makes the folder, or raises an error at once if it cannot.

        Args:
            needs: Size of the model's file, in bytes.
            anew: Whether this is a new run, not a resumed one.
        """
        if not self.writes:
            return
        with self.named_errors():
            free = shutil.disk_usage(self.model.parent).free
            if free < 3 * needs:
                raise OSError(
                    f"{free / 1e6:.0f} MB are free on its disk, and the model, its state and its "
                    f"pictures need about {3 * needs / 1e6:.0f} MB"
                )
            if anew:
                shutil.rmtree(self.hidden, ignore_errors=True)
            self.folder.mkdir(exist_ok=True)

    def take_place(self) -> None:
        """Moves a former run aside, and this run to its place."""
        if self.folder == self.place:
            return
        remove_if_empty(self.place)
        if self.model.exists() or self.place.exists():
            self.former = free_name(self.place)
            move(self.place, self.model, to=self.former)
        self.hidden.rename(self.place)
        self.folder = self.place

    def undo(self) -> None:
        """Undoes `begin`, for a run that leaves nothing."""
        if self.writes and self.folder == self.hidden and not self.checkpoint.exists():
            shutil.rmtree(self.hidden)

    def save(
        self,
        vae: keras.Model,
        history: keras.callbacks.History,
        latents: dict[str, list],
        finished: int,
    ) -> None:
        """Writes the model, with its updated card, and the histories.

        Args:
            vae: The model.
            history: History of the losses.
            latents: History of `LatentKL`.
            finished: Number of good epochs; later rows are left out.

        Raises:
            OSError: If writing fails; the message says what is kept.
        """
        per_epoch = math.ceil(vae.card["images"]["train"] / vae.card["recipe"]["batch_size"])
        columns = {
            "epoch": [epoch + 1 for epoch in history.epoch],
            "updates": [per_epoch * (epoch + 1) for epoch in history.epoch],
            **history.history,
        }
        columns = {name: values[:finished] for name, values in columns.items()}
        good = sum(epoch <= finished for epoch in latents.get("epoch", []))
        latents = {name: values[:good] for name, values in latents.items()}
        last = {name: round(float(columns[name][-1]), 3) for name in history.history}
        vae.card |= {"epochs": finished, "last_epoch": last}
        if not self.writes:
            self.saved = finished
            return
        try:
            in_place = self.folder == self.place
            first = self.folder / "model.keras"
            # The model is written last: once it is complete, no other file is checked.
            with whole(self.model if in_place else first) as partial:
                (vae if self.optimizer else vae.uncompiled()).save(partial)
                write_columns(columns, self.folder / "history.csv")
                write_columns(latents, self.folder / "latents.csv")
                with or_warn():
                    plots.save_picture(charts.curves(columns, latents), self.folder / "curves.png")
            if not in_place:
                self.take_place()
                (self.folder / first.name).rename(self.model)
            self.saved = finished
        except (OSError, RuntimeError) as error:  # h5py raises either
            raise OSError(f"{' '.join(str(error).split())} {self.outcome(self.saved)}") from error

    def animate(self, finished: int) -> None:
        """Makes a GIF of the sample grids of good epochs, from the same latents in each."""
        frames = sorted(self.samples.glob("epoch-*.png")) if self.samples else []
        frames = [path for path in frames if int(path.stem.removeprefix("epoch-")) <= finished]
        if frames:
            with or_warn():
                plots.save_animation(frames, self.folder / "samples.gif")

    def outcome(self, finished: int) -> str:
        """One sentence that says what is kept."""
        if finished:
            return f"Epoch {finished} is kept in {self.model}."
        if self.checkpoint.exists():
            return "No model was saved yet."
        return "No epoch was finished, so nothing was written."


# All files that a run leaves in its folder.
FILES = {
    *("history.csv", "latents.csv", "curves.png", "samples.gif", "checkpoint.npz", "model.keras"),
    *("samples", "reconstructions"),
}


def is_a_runs_folder(path: pathlib.Path) -> bool:
    """Whether a folder was left by training, or is empty."""
    if not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir() if not entry.name.startswith(".partial-")}
    return names <= FILES or "history.csv" in names


def remove_if_empty(folder: pathlib.Path) -> None:
    """Removes a folder if it is empty."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def write_columns(columns: dict[str, list], path: pathlib.Path) -> None:
    """Writes columns as a CSV file."""
    with whole(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def free_name(folder: pathlib.Path) -> pathlib.Path:
    """The first of `NAME-1`, `NAME-2`, … without a folder or a model of that name."""
    number = 1
    while True:
        end = f"-{number}"
        most = LONGEST_NAME - len(f"{end}.keras")
        name = folder.with_name(os.fsdecode(os.fsencode(folder.name)[:most]) + end)
        if not name.exists() and not beside(name).exists():
            return name
        number += 1


def move(folder: pathlib.Path, model: pathlib.Path, to: pathlib.Path) -> None:
    """Renames a run's folder and model, if they exist."""
    if folder.exists():
        folder.rename(to)
    if model.exists():
        model.rename(beside(to))


def beside(folder: pathlib.Path) -> pathlib.Path:
    """The model file that belongs to the folder of a run."""
    return folder.with_name(f"{folder.name}.keras")
