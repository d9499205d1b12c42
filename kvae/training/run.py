"""Runs: the files that training leaves, where they go, and how a former run is kept."""

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

    `NAME.keras` is the model; beside it the folder `NAME` has `history.csv`, `latents.csv`,
    `curves.png`, `samples/`, `samples.gif`, `reconstructions/` and `checkpoint.npz`. Until the
    model is saved for the first time all of it is in a hidden folder, so that what a former run
    left under the same name stays there; then that is moved aside, to the first free of `NAME-1`,
    `NAME-2`, …; `former` says where.

    As a context it keeps other processes from this name.

    Args:
        out: The `.keras` file to write.
        optimizer: Whether the file has the optimizer's state.
        writes: Whether anything is written: of several processes the first alone does.

    Attributes:
        folder: Where files are written now.

    Raises:
        ValueError: If `out` does not end in `.keras`.
        OSError: As a context, if it cannot be written, or another process trains it.
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
        """Looks whether the place is free, and holds it."""
        for path, right in ((self.place, is_a_runs_folder), (self.model, pathlib.Path.is_file)):
            if path.exists() and not right(path):
                raise ValueError(
                    f"{path} is in the way, and nothing that training left. Choose another name "
                    "for the model."
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
        """Lets it go."""
        self.held.close()

    @contextlib.contextmanager
    def named_errors(self) -> Iterator[None]:
        """Makes one line of an OSError."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise OSError(
                f"{self.model} cannot be written: {reason}. Choose another place."
            ) from error

    @property
    def samples(self) -> pathlib.Path | None:
        """The folder of the sample grids, where any are written."""
        return self.folder / "samples" if self.writes else None

    @property
    def reconstructions(self) -> pathlib.Path | None:
        """The folder of the grids of reconstructions, where any are written."""
        return self.folder / "reconstructions" if self.writes else None

    @property
    def checkpoint(self) -> pathlib.Path:
        """The file of the state, from which a run goes on."""
        return self.folder / "checkpoint.npz"

    def is_under_way(self) -> bool:
        """Whether a new run was stopped here before it took the place of a former one."""
        return (self.hidden / self.checkpoint.name).is_file()

    def stopped(self) -> Checkpoint | None:
        """The state of the run that was stopped here last, to go on from; None if there is none."""
        for folder in (self.hidden, self.place):
            if (folder / self.checkpoint.name).is_file():
                self.folder = folder
                return Checkpoint.read(self.checkpoint)
        return None

    def facts(self) -> dict[str, Any] | None:
        """What is known of the run that was stopped or has ended here, or None.

        `recipe`, and `card` with what its data are called and the command that began it.
        """
        former = self.stopped()
        return None if former is None else former.facts

    def begin(self, needs: int, anew: bool = True) -> None:
        """Makes the folder, or says at once why it cannot be.

        Args:
            needs: The size of the model's file, in bytes.
            anew: Whether this is not a run that goes on.
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
        """Moves a former run aside, and this one to where it belongs."""
        if self.folder == self.place:
            return
        remove_if_empty(self.place)
        if self.model.exists() or self.place.exists():
            self.former = free_name(self.place)
            move(self.place, self.model, to=self.former)
        self.hidden.rename(self.place)
        self.folder = self.place

    def undo(self) -> None:
        """Takes back `begin`, for a run of which nothing is to stay."""
        if self.writes and self.folder == self.hidden and not self.checkpoint.exists():
            shutil.rmtree(self.hidden)

    def save(
        self,
        vae: keras.Model,
        history: keras.callbacks.History,
        latents: dict[str, list],
        finished: int,
    ) -> None:
        """Writes the model, with its card brought up to date, and the histories.

        Args:
            vae: The model.
            history: Of losses.
            latents: The history of `LatentKL`.
            finished: The number of good epochs; what comes after is left out.

        Raises:
            OSError: If that fails; the message says what is kept.
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
            # The model goes last: where it is finished nothing else is looked at.
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
        except (OSError, RuntimeError) as error:  # h5py has either
            raise OSError(f"{' '.join(str(error).split())} {self.outcome(self.saved)}") from error

    def animate(self, finished: int) -> None:
        """Makes a GIF of the sample grids of good epochs: the same latents, as training went on."""
        frames = sorted(self.samples.glob("epoch-*.png")) if self.samples else []
        frames = [path for path in frames if int(path.stem.removeprefix("epoch-")) <= finished]
        if frames:
            with or_warn():
                plots.save_animation(frames, self.folder / "samples.gif")

    def outcome(self, finished: int) -> str:
        """One sentence on what is kept."""
        if finished:
            return f"Epoch {finished} is kept in {self.model}."
        if self.checkpoint.exists():
            return "No model was saved yet."
        return "No epoch was finished, so nothing was written."


# All that a run leaves in its folder.
FILES = {
    *("history.csv", "latents.csv", "curves.png", "samples.gif", "checkpoint.npz", "model.keras"),
    *("samples", "reconstructions"),
}


def is_a_runs_folder(path: pathlib.Path) -> bool:
    """Whether a folder is one that training left, or empty."""
    if not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir() if not entry.name.startswith(".partial-")}
    return names <= FILES or "history.csv" in names


def remove_if_empty(folder: pathlib.Path) -> None:
    """Removes a folder in which there is nothing."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def write_columns(columns: dict[str, list], path: pathlib.Path) -> None:
    """Writes columns as a CSV file."""
    with whole(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def free_name(folder: pathlib.Path) -> pathlib.Path:
    """The first of `NAME-1`, `NAME-2`, … under which there is neither a folder nor a model."""
    number = 1
    while True:
        end = f"-{number}"
        most = LONGEST_NAME - len(f"{end}.keras")
        name = folder.with_name(os.fsdecode(os.fsencode(folder.name)[:most]) + end)
        if not name.exists() and not beside(name).exists():
            return name
        number += 1


def move(folder: pathlib.Path, model: pathlib.Path, to: pathlib.Path) -> None:
    """Renames those of a run's folder and model that are there."""
    if folder.exists():
        folder.rename(to)
    if model.exists():
        model.rename(beside(to))


def beside(folder: pathlib.Path) -> pathlib.Path:
    """The model's file that belongs to a run's folder."""
    return folder.with_name(f"{folder.name}.keras")
