"""Training: from a data set to a trained, saved model with its history and pictures."""

import math
import os
import platform
import time
from typing import Any

import keras

from kvae import presets
from kvae.data import Dataset
from kvae.evaluation import device, test_figures, train_figures
from kvae.model import VAE
from kvae.recipe import Recipe
from kvae.training.callbacks import (
    AveragedWeights,
    BetaLogger,
    KeepLastEpoch,
    LatentKL,
    ReconstructionGrid,
    SampleGrid,
    Warnings,
)
from kvae.training.run import Run
from kvae.training.settings import built, completed, prepared

__all__ = ["train"]

MOST_GRIDS = 20
MOST_LATENT_ROWS = 200


def train(
    dataset: Dataset,
    preset: str | Recipe = "mlp",
    *,
    out: str | os.PathLike = "saved_models/vae.keras",
    keep_optimizer: bool = True,
    notes: dict[str, Any] | None = None,
    verbose: str | int = "auto",
    **settings: Any,
) -> VAE:
    """Trains a preset on a data set; saves the model, its history, and pictures by epoch.

    By default the decoder begins at the mean of the images; Adam follows with a cosine learning
    rate after a short rise, and KL warm-up, each over a share of the whole run, so that one epoch
    and a hundred are both sensible. Some presets average the weights, or have a way of their own.
    The figures of the test images, in nats per image, end in the model's card.

    Args:
        dataset: What `kvae.data.load` or `kvae.data.from_arrays` returned.
        preset: A key of `kvae.presets.PRESETS`, or a `kvae.Recipe`.
        out: The `.keras` file to write; see `Run` for what else is written, and where.
        keep_optimizer: Whether the file has the optimizer's state, twice the size of the weights,
            so that training can go on from it.
        notes: What else the model's card should say; plain values, as JSON has them.
        verbose: As for `keras.Model.fit`.
        **settings: Fields of `kvae.Recipe` to replace, such as `epochs=10, beta=4`; None leaves one
            as the preset has it. Keras's global seed is set to the recipe's.

    Returns:
        The trained model.

    Raises:
        ValueError: If an argument is not what it should be.
        KeyboardInterrupt: After Ctrl-C; its message says which epoch is kept, and where.
        FloatingPointError: If the loss becomes NaN or infinite; the last good epoch is kept.
        OSError: If `out` cannot be written.

    References:
        Kingma and Ba (2015), "Adam", arXiv:1412.6980. Loshchilov and Hutter (2017), "SGDR",
        arXiv:1608.03983 (cosine). Polyak and Juditsky (1992), "Acceleration of stochastic
        approximation by averaging".

    Example:
        >>> import tempfile
        >>> import kvae
        >>> data = kvae.data.load("digits")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     out = f"{folder}/vae.keras"
        ...     vae = kvae.train(data, "mlp-400", epochs=1, beta=4, out=out, verbose=0)
        >>> kvae.Recipe.from_card(vae.card).beta
        4.0
    """
    checked(dataset, verbose)
    recipe = presets.get(preset).replaced(**settings)
    dataset = prepared(dataset, recipe)
    recipe = completed(recipe, dataset)
    vae = built(recipe, dataset)
    vae.card |= {**card(dataset, recipe), **(notes or {})}
    size = (16 if keep_optimizer else 4) * vae.count_params()
    run = Run(out, needs=size, optimizer=keep_optimizer)
    watch = Watch(vae, recipe, dataset, run)
    run.begin()
    with watch.keep:
        try:
            if verbose:
                print(opening(dataset, vae, recipe))
            if run.former:
                print(f"The former {run.folder.name} was moved aside, to {run.former}")
            fit(vae, recipe, dataset, watch, verbose)
        except BaseException:
            # Stopped in the middle of a step, Keras may fail with errors that say nothing.
            if not watch.keep.interrupted:
                raise
        finally:
            watch.end()
    if watch.keep.interrupted:
        raise KeyboardInterrupt(f"Interrupted. {run.outcome(watch.keep.finished)}")
    if watch.keep.broken:
        raise FloatingPointError(
            f"Training stopped, because {' and '.join(watch.keep.broken)} became NaN or infinite. "
            f"Try a learning rate below {recipe.learning_rate:g}. "
            f"{run.outcome(watch.keep.finished)}"
        )
    return vae


def checked(dataset: Any, verbose: Any) -> None:
    """Raises a ValueError unless there is a data set, and `fit` knows how much to say."""
    if not isinstance(dataset, Dataset):
        raise ValueError(
            "`dataset` must be what kvae.data.load or kvae.data.from_arrays returned. "
            f"Received: {type(dataset).__name__}"
        )
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f'`verbose` must be "auto", 0, 1 or 2. Received: verbose={verbose!r}')


class Watch:
    """What looks on while a model trains, and sees to its files.

    Args:
        vae: The model.
        recipe: The recipe.
        dataset: The images.
        run: The files.
    """

    def __init__(self, vae: VAE, recipe: Recipe, dataset: Dataset, run: Run) -> None:
        epochs = recipe.epochs or 1
        every = math.ceil(epochs / MOST_GRIDS)
        self.vae = vae
        self.run = run
        self.history = keras.callbacks.History()
        self.latents = LatentKL(dataset.validation, every=math.ceil(epochs / MOST_LATENT_ROWS))
        self.keep = KeepLastEpoch(self.save)
        self.callbacks = [
            AveragedWeights(),  # first, so that all that follow see the average
            BetaLogger(),
            self.history,
            self.latents,
            Warnings(self.latents),
            SampleGrid(run.samples, every=every, seed=recipe.seed),
            ReconstructionGrid(run.reconstructions, dataset.validation[:50], every=every),
            self.keep,
        ]
        if recipe.schedule == "plateau":
            halving = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=2)
            self.callbacks.append(halving)

    def save(self, finished: int) -> None:
        """Writes the model and its histories as they are after so many epochs."""
        self.run.save(self.vae, self.history, self.latents.history, finished)

    def end(self) -> None:
        """Puts the last good epoch back and saves it; where there is none, nothing stays."""
        self.keep.restore()
        if self.keep.finished:
            self.save(self.keep.finished)
            self.run.animate(self.keep.finished)
        else:
            self.run.undo()


def fit(vae: VAE, recipe: Recipe, dataset: Dataset, watch: Watch, verbose: str | int) -> None:
    """Trains the model; where all went well, its card gets the figures."""
    started = time.perf_counter()
    vae.fit(
        dataset.train,
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        verbose=verbose,
        callbacks=watch.callbacks,
        validation_data=(dataset.validation,),
    )
    vae.card["fit_seconds"] = round(time.perf_counter() - started, 1)
    if not watch.keep.broken:
        vae.card["train"] = train_figures(vae, watch.history.history)
        vae.card["test"] = test_figures(vae, dataset.test, recipe.seed)


def card(dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
    """What a model says of its data and how it was trained; values as JSON has them."""
    return {
        "dataset": dataset.name,
        "origin": dataset.origin,
        "source": dataset.source,
        "class_names": list(dataset.class_names),
        "images": {part: len(getattr(dataset, part)) for part in ("train", "validation", "test")},
        "recipe": recipe.as_dict(),
        "device": device(),
        "python": platform.python_version(),
    }


def opening(dataset: Dataset, vae: VAE, recipe: Recipe) -> str:
    """What a user should know before the first epoch."""
    parts = ", ".join(f"{count:,} {part}" for part, count in vae.card["images"].items())
    size = "×".join(map(str, dataset.image_shape))
    draws = f", {vae.samples} draws of z" if vae.samples > 1 else ""
    draws += f", objective {recipe.objective}" if recipe.objective != "elbo" else ""
    return (
        f"Data: {dataset.source}; {parts} images of {size}\n"
        f"Model: preset {recipe.preset}, {vae.latent_dim} latents, "
        f"{vae.count_params():,} parameters, {recipe.precision}, prior "
        f"{type(vae.prior).__name__}, {vae.likelihood.protocol}{draws}\n"
        f"Training: {recipe.epochs} epochs on {vae.card['backend']} ({vae.card['device']}); Ctrl-C "
        "keeps the last finished epoch"
    )
