"""Runs: the files that training leaves, where they go, and how a former run is kept."""

import csv
import math
import os
import pathlib
import shutil

import keras

from kvae.drawing import charts, plots
from kvae.files import or_warn, whole

__all__ = ["Run"]


class Run:
    """The files of one training run.

    `NAME.keras` is the model; beside it the folder `NAME` has `history.csv`, `latents.csv`,
    `curves.png`, `samples/`, `samples.gif` and `reconstructions/`. What a former run left under the
    same name is moved aside, to the first free of `NAME-1`, `NAME-2`, …; `former` then says where.

    Args:
        out: The `.keras` file to write.
        needs: The size of the model's file, in bytes.
        optimizer: Whether the file has the optimizer's state.

    Raises:
        ValueError: If `out` does not end in `.keras`.
    """

    def __init__(self, out: str | os.PathLike, needs: int = 0, optimizer: bool = True) -> None:
        self.model = pathlib.Path(out)
        if self.model.suffix != ".keras":
            raise ValueError(f"The model's file must end in .keras. Received: {out}")
        self.needs = needs
        self.optimizer = optimizer
        self.folder = self.model.with_name(self.model.stem)
        self.samples = self.folder / "samples"
        self.reconstructions = self.folder / "reconstructions"
        self.former: pathlib.Path | None = None
        self.saved = 0

    def begin(self) -> None:
        """Moves a former run aside and makes the folder, or says at once why it cannot be."""
        for path, right in (
            (self.folder, self.is_a_runs_folder),
            (self.model, pathlib.Path.is_file),
        ):
            if path.exists() and not right(path):
                raise ValueError(
                    f"{path} is in the way, and nothing that training left. Choose another name "
                    "for the model."
                )
        try:
            self.model.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.model.parent).free
            if free < 2 * self.needs:
                raise OSError(
                    f"{free / 1e6:.0f} MB are free on its disk, and the model and its pictures "
                    f"need about {2 * self.needs / 1e6:.0f} MB"
                )
            if self.model.exists() or (self.folder / "history.csv").exists():
                self.former = free_name(self.folder)
                move(self.folder, self.model, to=self.former)
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise OSError(
                f"{self.model} cannot be written: {reason}. Choose another place."
            ) from error

    @staticmethod
    def is_a_runs_folder(path: pathlib.Path) -> bool:
        """Whether a folder is one that training left, or empty."""
        return path.is_dir() and ((path / "history.csv").is_file() or not any(path.iterdir()))

    def undo(self) -> None:
        """Takes back `begin`, for a run that finished no epoch."""
        shutil.rmtree(self.folder)
        if self.former is not None:
            move(self.former, beside(self.former), to=self.folder)
            self.former = None

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
        try:
            with whole(self.model) as partial:
                (vae if self.optimizer else vae.uncompiled()).save(partial)
            self.saved = finished
            write_columns(columns, self.folder / "history.csv")
            write_columns(latents, self.folder / "latents.csv")
        except (OSError, RuntimeError) as error:  # h5py has either
            raise OSError(f"{' '.join(str(error).split())} {self.outcome(self.saved)}") from error
        with or_warn():
            plots.save_picture(charts.curves(columns, latents), self.folder / "curves.png")

    def animate(self, finished: int) -> None:
        """Makes a GIF of the sample grids of good epochs: the same latents, as training went on."""
        frames = sorted(self.samples.glob("epoch-*.png"))
        frames = [path for path in frames if int(path.stem.removeprefix("epoch-")) <= finished]
        if frames:
            with or_warn():
                plots.save_animation(frames, self.folder / "samples.gif")

    def outcome(self, finished: int) -> str:
        """One sentence on what is kept."""
        if finished:
            return f"Epoch {finished} is kept in {self.model}."
        return "No epoch was finished, so nothing was written."


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
        name = folder.with_name(f"{folder.name}-{number}")
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
