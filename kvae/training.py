"""Training: from a data set to a trained, saved model with its history and pictures."""

import csv
import math
import pathlib
import platform
import shutil
import time

import keras
import numpy as np

from kvae import charts, plots, presets
from kvae.callbacks import (
    AveragedWeights,
    BetaLogger,
    KeepLastEpoch,
    LatentKL,
    ReconstructionGrid,
    SampleGrid,
)
from kvae.data import Dataset
from kvae.files import whole
from kvae.model import VAE
from kvae.version import __version__

__all__ = ["Run", "default_epochs", "train"]

ENOUGH_UPDATES = 5_000
MOST_GRIDS = 20
MOST_LATENT_ROWS = 200
WARMUP = 0.05  # the share of all updates in which the learning rate and the KL weight rise
AVERAGED = 0.05  # the share of all updates that the average of the weights looks back on


def train(
    dataset: Dataset,
    preset: str = "mlp",
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    latent_dim: int | None = None,
    beta: float = 1.0,
    binarize: str | None = None,
    seed: int = 0,
    out: str | pathlib.Path = "saved_models/vae.keras",
    verbose: str | int = "auto",
) -> VAE:
    """Trains a preset on a data set; saves the model, its history, and pictures by epoch.

    Adam with a cosine learning rate after a short rise, KL warm-up, and an average of the weights,
    each over a share of the whole run, so that one epoch and a hundred are both sensible. The
    figures of the test images, in nats per image, end in the model's card.

    Args:
        dataset: What `kvae.data.load` or `kvae.data.from_arrays` returned.
        preset: A key of `kvae.presets.PRESETS`.
        epochs: Passes over the training images; see `default_epochs` where none is given.
        batch_size: Images in one update; the preset's where none is given.
        learning_rate: Of Adam, at its highest; the preset's where none is given.
        latent_dim: The number of latents; the preset's where none is given.
        beta: The weight of the KL term.
        binarize: "dynamic", "threshold" or "none"; the preset's where none is given.
        seed: Of weights, shuffling and draws; Keras's global seed is set to it.
        out: The `.keras` file to write; see `Run` for what else is written, and where.
        verbose: As for `keras.Model.fit`.

    Returns:
        The trained model.

    Raises:
        KeyboardInterrupt: After Ctrl-C; its message says which epoch is kept, and where.
        FloatingPointError: If the loss becomes NaN or infinite; the last good epoch is kept.
        OSError: If `out` cannot be written.

    References:
        Kingma and Ba (2015), "Adam", arXiv:1412.6980. Loshchilov and Hutter (2017), "SGDR",
        arXiv:1608.03983 (cosine). Polyak and Juditsky (1992), "Acceleration of stochastic
        approximation by averaging".
    """
    settings = presets.get(preset)
    batch_size = batch_size or settings.batch_size
    learning_rate = learning_rate or settings.learning_rate
    epochs = epochs or default_epochs(len(dataset.train), batch_size)
    updates = epochs * math.ceil(len(dataset.train) / batch_size)
    keras.utils.set_random_seed(seed)
    vae = VAE.from_preset(
        preset,
        dataset.image_shape,
        latent_dim=latent_dim,
        binarize=binarize,
        beta=beta,
        warmup_steps=math.ceil(WARMUP * updates),
        seed=seed,
    )
    vae.compile(recipe(learning_rate, updates), jit_compile=vae.best_jit_compile())
    vae.card = {
        **card(dataset, vae),
        "preset": preset,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    every = math.ceil(epochs / MOST_GRIDS)
    history = keras.callbacks.History()
    run = Run(out, needs=16 * vae.count_params())
    latents = LatentKL(dataset.validation, every=math.ceil(epochs / MOST_LATENT_ROWS))
    keep = KeepLastEpoch(lambda finished: run.save(vae, history, latents, finished))
    callbacks = [
        AveragedWeights(),  # first, so that all that follow see the average
        BetaLogger(),
        history,
        latents,
        keep,
        SampleGrid(run.samples, every=every, seed=seed),
        ReconstructionGrid(run.reconstructions, dataset.validation[:50], every=every),
    ]
    run.begin()
    try:
        if verbose:
            print(opening(dataset, vae, epochs, run))
        started = time.perf_counter()
        with keep:
            vae.fit(
                dataset.train,
                batch_size=batch_size,
                epochs=epochs,
                verbose=verbose,
                callbacks=callbacks,
                validation_data=(dataset.validation,),
            )
        if keep.broken:
            raise FloatingPointError(
                f"Training stopped: {' and '.join(keep.broken)} became NaN or infinite. "
                f"Try a learning rate below {learning_rate:g}. {run.outcome(keep.finished)}"
            )
        vae.card["fit_seconds"] = round(time.perf_counter() - started, 1)
        vae.card["test"] = test_figures(vae, dataset.test, seed)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Interrupted. {run.outcome(keep.finished)}") from None
    finally:
        if keep.finished:
            run.save(vae, history, latents, keep.finished)
            run.animate()
        else:
            run.undo()
    return vae


def opening(dataset: Dataset, vae: VAE, epochs: int, run: "Run") -> str:
    """What a user should know before the first epoch."""
    parts = ", ".join(f"{count:,} {part}" for part, count in vae.card["images"].items())
    size = "×".join(map(str, dataset.image_shape))
    lines = [
        f"Data: {dataset.source}; {parts} images of {size}",
        f"Model: preset {vae.card['preset']}, {vae.latent_dim} latents, "
        f"{vae.count_params():,} parameters, {vae.card['precision']}, binarize "
        f"{vae.likelihood.binarize}",
        f"Training: {epochs} epochs on {vae.card['backend']} ({vae.card['device']}); Ctrl-C keeps "
        "the last finished epoch",
    ]
    if run.former:
        lines.append(f"The former {run.folder.name} was moved aside, to {run.former}")
    return "\n".join(lines)


def default_epochs(images: int, batch_size: int) -> int:
    """Ten, or as many as make 5,000 updates where the data set is small."""
    return max(10, math.ceil(ENOUGH_UPDATES / math.ceil(images / batch_size)))


def recipe(learning_rate: float, updates: int) -> keras.optimizers.Optimizer:
    """Adam for so many updates: cosine learning rate, averaged weights, clipped gradients."""
    rise = math.ceil(WARMUP * updates)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=learning_rate,
        warmup_steps=rise,
        decay_steps=max(1, updates - rise),
    )
    return keras.optimizers.Adam(
        schedule,
        global_clipnorm=200.0,  # some ten times the usual norm: only a spike is cut
        use_ema=True,
        ema_momentum=max(0.0, 1 - 1 / (AVERAGED * updates)),
    )


def card(dataset: Dataset, vae: VAE) -> dict:
    """What a model says of its data and its making; values as JSON has them."""
    return {
        "dataset": dataset.name,
        "origin": dataset.origin,
        "source": dataset.source,
        "image_shape": list(vae.image_shape),
        "class_names": list(dataset.class_names),
        "images": {part: len(getattr(dataset, part)) for part in ("train", "validation", "test")},
        "binarize": vae.likelihood.binarize,
        "precision": keras.config.dtype_policy().name,
        "backend": keras.backend.backend(),
        "device": device(),
        "versions": {
            "kvae": __version__,
            "keras": keras.__version__,
            "python": platform.python_version(),
        },
    }


def device() -> str:
    """Where Keras puts variables: "cpu" or "gpu"."""
    name = str(keras.Variable(0.0).value.device).lower()
    return "gpu" if "gpu" in name or "cuda" in name else "cpu"


def test_figures(vae: VAE, images: np.ndarray, seed: int) -> dict:
    """The terms of the bound on these images, from one draw of pixels and of z for each, in nats.

    The draws start from `seed`; the model's own stream of random numbers is left where it was.
    """
    stream = keras.ops.convert_to_numpy(vae.seed_generator.state)
    vae.seed_generator.state.assign([seed, 0])
    figures = vae.evaluate(images, batch_size=500, verbose=0, return_dict=True)
    vae.seed_generator.state.assign(stream)
    return {
        **{name: round(float(value), 3) for name, value in figures.items()},
        "unit": "nats per image",
        "images": len(images),
        "protocol": f"binarize {vae.likelihood.binarize}, one draw of z an image, seed {seed}",
    }


class Run:
    """The files of one training run.

    `NAME.keras` is the model; beside it the folder `NAME` has `history.csv`, `latents.csv`,
    `curves.png`, `samples/`, `samples.gif` and `reconstructions/`. What a former run left under the
    same name is moved aside, to the first free of `NAME-1`, `NAME-2`, …; `former` then says where.

    Args:
        out: The `.keras` file to write.
        needs: The size of the model's file, in bytes.

    Raises:
        ValueError: If `out` does not end in `.keras`.
    """

    def __init__(self, out: str | pathlib.Path, needs: int = 0):
        self.model = pathlib.Path(out)
        if self.model.suffix != ".keras":
            raise ValueError(f"The model's file must end in .keras. Received: {out}")
        self.needs = needs
        self.folder = self.model.with_name(self.model.stem)
        self.samples = self.folder / "samples"
        self.reconstructions = self.folder / "reconstructions"
        self.former: pathlib.Path | None = None

    def begin(self) -> None:
        """Moves a former run aside and makes the folder, or says at once why it cannot be."""
        self.model.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.model.parent).free
        if free < 2 * self.needs:
            raise OSError(
                f"The disk of {self.model.parent} has {free / 1e6:.0f} MB free; the model and its "
                f"pictures need about {2 * self.needs / 1e6:.0f} MB. Make room, or choose another "
                "place."
            )
        if self.model.exists() or self.folder.exists():
            self.former = free_name(self.folder)
            move(self.folder, self.model, to=self.former)
        self.folder.mkdir()

    def undo(self) -> None:
        """Takes back `begin`, for a run that finished no epoch."""
        shutil.rmtree(self.folder)
        if self.former is not None:
            move(self.former, beside(self.former), to=self.folder)
            self.former = None

    def save(
        self, vae: VAE, history: keras.callbacks.History, latents: LatentKL, finished: int
    ) -> None:
        """Writes the model, with its card brought up to date, and the histories."""
        per_epoch = math.ceil(vae.card["images"]["train"] / vae.card["batch_size"])
        columns = {
            "epoch": [epoch + 1 for epoch in history.epoch],
            "updates": [per_epoch * (epoch + 1) for epoch in history.epoch],
            **history.history,
        }
        last = {name: round(float(values[-1]), 3) for name, values in history.history.items()}
        vae.card |= {"epochs": finished, "last_epoch": last}
        with whole(self.model) as partial:
            vae.save(partial)
        write_columns(columns, self.folder / "history.csv")
        write_columns(latents.history, self.folder / "latents.csv")
        plots.save_picture(charts.curves(columns, latents.history), self.folder / "curves.png")

    def animate(self) -> None:
        """Makes a GIF of the sample grids: the same latents, as training went on."""
        if frames := sorted(self.samples.glob("*.png")):
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
