"""Training: trains and saves a model on a data set, with its history and pictures."""

import contextlib
import io
import os
import pathlib
import platform
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

from kvae import presets
from kvae.data import Dataset
from kvae.evaluation import device, test_figures, train_figures
from kvae.model import VAE, load
from kvae.priors import Blockwise
from kvae.recipe import Recipe
from kvae.steps import team
from kvae.steps.team import Team
from kvae.training.checkpoint import Checkpoint, fingerprint
from kvae.training.choice import batch_size_for, likelihood_for, preset_for
from kvae.training.run import Run
from kvae.training.settings import built, completed, prepared, unknown
from kvae.training.watch import Watch

__all__ = ["train"]


def train(
    dataset: Dataset,
    preset: str | Recipe = "auto",
    *,
    out: str | os.PathLike = "saved_models/vae.keras",
    keep_optimizer: bool = True,
    resume: bool = False,
    checkpoint_minutes: float = 5.0,
    devices: str | int = "auto",
    notes: dict[str, Any] | None = None,
    verbose: str | int = "auto",
    **settings: Any,
) -> VAE:
    """Trains a model on a data set, and saves it with its history and pictures by epoch.

    By default the decoder begins at the mean image. The learning rate of Adam or Muon warms up
    briefly and then follows a cosine; the KL term warms up too. Both cover a share of the whole
    run, so that runs of one epoch and of a hundred both work. Some presets average the weights, or
    use other schedules. The card of the model contains the figures of the test images, in nats per
    image.

    Args:
        dataset: A data set from `kvae.data.load` or `kvae.data.from_arrays`.
        preset: A key of `kvae.presets.PRESETS`, a `kvae.Recipe`, or "auto", which chooses by the
            size of the images: "mlp" for small ones, "conv" for grey ones such as MNIST's,
            "conv-colour" for others, with smaller batches above 128×128.
        out: The `.keras` file to write. See `Run` for the other files.
        keep_optimizer: Whether the file contains the optimizer's state, so that training can
            continue from it. The state takes up to twice the size of the weights.
        resume: Whether to continue the run of this recipe on these images that was stopped or
            killed under this name. The result is that of an uninterrupted run, bit for bit on the
            same backend and device. If there is no such run, a new one starts. With more `epochs`
            than before, schedules continue from where they are; the result differs from that of an
            uninterrupted run of the new length.
        checkpoint_minutes: Minutes between two checkpoints within an epoch. There is also one after
            each epoch, unless that would take more than a fiftieth of the time.
        devices: Number of devices that share each batch, or "auto" for all devices of this machine.
            If a launcher started several processes, all of them are used: on PyTorch, a launcher
            that sets RANK and WORLD_SIZE, such as torchrun; on JAX, Slurm, Open MPI, or one that
            sets Keras's KERAS_DISTRIBUTION_JOB_ADDRESSES. Only the first process then writes files
            and prints. The result is that of one device, except for rounding and batch norm.
        notes: Further entries of the model's card, as JSON types.
        verbose: As for `keras.Model.fit`.
        **settings: Fields of `kvae.Recipe` to replace, such as `epochs=10, beta=4`. None keeps the
            value of the preset. Keras's global seed is set to that of the recipe.

    Returns:
        The trained model.

    Raises:
        ValueError: If an argument is invalid.
        KeyboardInterrupt: After Ctrl-C. The message says which epoch is kept, and where.
        SystemExit: After SIGTERM or SIGHUP, with the same message.
        FloatingPointError: If the loss becomes NaN or infinite. The last good epoch is kept.
        OSError: If `out` cannot be written, or another process that trains with this one has died.

    References:
        Kingma and Ba (2015), "Adam", arXiv:1412.6980; for Muon see `kvae.Muon`. Loshchilov and
        Hutter (2017), "SGDR", arXiv:1608.03983 (cosine). Polyak and Juditsky (1992), "Acceleration
        of stochastic approximation by averaging".

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
    recipe, why = chosen(dataset, preset, settings)
    dataset = prepared(dataset, recipe)
    recipe = completed(recipe, dataset)
    with contextlib.ExitStack() as held:
        crew = held.enter_context(team(devices))
        verbose = 0 if crew.rank else verbose
        out = held.enter_context(place_of(crew, out, resume))
        vae = built(recipe, dataset)
        run = held.enter_context(Run(out, keep_optimizer, writes=not crew.rank))
        if resume and (done := finished(run, recipe)) is not None:
            print(f"{run.model} is finished: {recipe.epochs} epochs. Set more to train further.")
            return done
        former = stopped(run, recipe, dataset) if resume else None
        vae.card |= {**card(dataset, recipe), **(notes or {})}
        size = (16 if keep_optimizer else 4) * vae.count_params()
        run.begin(needs=size, anew=former is None)
        watch = Watch(vae, recipe, dataset, run, checkpoint_minutes, crew)
        if verbose:
            print(opening(dataset, vae, recipe, why, crew))
        if former is not None:
            print(watch.go_on(former))
        with watch.keep:
            try:
                fit(vae, recipe, dataset, watch, verbose)
            except BaseException:
                # If it is stopped within a step, Keras may raise meaningless errors.
                if not watch.keep.interrupted:
                    raise
            finally:
                watch.end()
        watch.say_what_stopped_it()
    return vae


def chosen(
    dataset: Dataset, preset: str | Recipe, settings: dict[str, Any]
) -> tuple[Recipe, list[str]]:
    """Returns the recipe of the user's choices, and the reasons for choices made by kvae."""
    why = []
    if preset == "auto":
        sized = Recipe().replaced(**settings)
        images = prepared(dataset, sized)
        preset, reason = preset_for(images)
        why.append(f"preset {preset} for {reason}")
        usual = presets.get(preset)
        batch_size = batch_size_for(usual, images.image_shape)
        if settings.get("batch_size") is None and batch_size < usual.batch_size:
            settings = {**settings, "batch_size": batch_size}
            why.append(f"batches of {batch_size} for the memory that such images take")
    recipe = presets.get(preset).replaced(**settings)
    if recipe.likelihood == "auto":
        kind, reason = likelihood_for(recipe, dataset)
        why.append(f"likelihood {kind} for {reason}")
    return recipe, why


def checked(dataset: Any, verbose: Any) -> None:
    """Raises a ValueError if `dataset` or `verbose` is invalid."""
    if not isinstance(dataset, Dataset):
        raise ValueError(
            "`dataset` must be what kvae.data.load or kvae.data.from_arrays returned. "
            f"Received: {type(dataset).__name__}"
        )
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f'`verbose` must be "auto", 0, 1 or 2. Received: verbose={verbose!r}')


def finished(run: Run, recipe: Recipe) -> VAE | None:
    """Returns the model of this run if the run is complete, else None."""
    if not run.model.is_file() or run.is_under_way():
        return None
    vae = load(run.model)
    done = vae.card.get("epochs") == recipe.epochs and "test" in vae.card
    return vae if done and not changes(Recipe.from_card(vae.card), recipe) else None


def changes(was: Recipe, recipe: Recipe) -> dict[str, tuple]:
    """The differences between two recipes, except how the number of epochs was chosen."""
    chosen_by = ("least_epochs", "least_updates")
    changed = was.differences(recipe)
    return {name: pair for name, pair in changed.items() if name not in chosen_by}


def stopped(run: Run, recipe: Recipe, dataset: Dataset) -> Checkpoint | None:
    """Returns the checkpoint of the run that was stopped here; prints a line if there is none.

    Raises:
        ValueError: If the run has another recipe or other images.
    """
    former = run.stopped()
    if former is None:
        if run.model.exists():
            raise ValueError(
                f"{run.model} has no checkpoint to resume from. Train a new model, without "
                "--resume or with another --out."
            )
        print(f"There is no run to resume at {run.model}: starting a new one.")
        return None
    changed = changes(Recipe.from_card(former.facts), recipe)
    was, epochs = changed.pop("epochs", (recipe.epochs, recipe.epochs))
    if changed or epochs < was:
        changed |= {"epochs": (was, epochs)} if epochs < was else {}
        each = ", ".join(f"{name} {old!r}, not {new!r}" for name, (old, new) in changed.items())
        raise ValueError(
            f"The interrupted run has another recipe: {each}. Resume with its own settings, or "
            "train a new model, without --resume."
        )
    if former.facts["data"] != fingerprint(dataset, recipe.conditional):
        raise ValueError(
            "The interrupted run was trained on other images. Resume with them, or train a new "
            "model, without --resume."
        )
    return former


def fit(vae: VAE, recipe: Recipe, dataset: Dataset, watch: Watch, verbose: str | int) -> None:
    """Trains the model; unless training broke off, adds the figures to its card."""
    started = time.perf_counter() - watch.seconds
    classes = [vae.known(dataset.train_labels), vae.known(dataset.validation_labels)]
    vae.fit(
        dataset.train,
        classes[0],
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        initial_epoch=watch.keep.finished,
        verbose=verbose,
        callbacks=watch.callbacks,
        validation_data=(dataset.validation, *([] if classes[1] is None else classes[1:])),
    )
    vae.card["fit_seconds"] = round(time.perf_counter() - started, 1)
    if not watch.keep.broken:
        vae.card["train"] = train_figures(vae, watch.history.history)
        known = vae.known(dataset.test_labels)
        vae.card["test"] = test_figures(vae, dataset.test, recipe.seed, known)


def card(dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
    """The facts about data and training for a model's card, as JSON types."""
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


def opening(
    dataset: Dataset, vae: VAE, recipe: Recipe, why: Sequence[str] = (), crew: Team | None = None
) -> str:
    """The lines that are printed before the first epoch."""
    parts = ", ".join(f"{count:,} {part}" for part, count in vae.card["images"].items())
    size = "×".join(map(str, dataset.image_shape))
    draws = f", {vae.samples} draws of z" if vae.samples > 1 else ""
    draws += f", conditional on {vae.classes} classes" if vae.classes else ""
    if vae.partly_labelled:
        images = len(dataset.train)
        draws += f", known of {images - unknown(dataset):,} of {images:,} train images"
    draws += f", objective {recipe.objective}" if recipe.objective != "elbo" else ""
    epochs = "1 epoch" if recipe.epochs == 1 else f"{recipe.epochs} epochs"
    because = f"Chosen: {', '.join(why)}\n" if why else ""
    groups = f" in {len(vae.groups)} groups" if len(vae.groups) > 1 else ""
    priors = vae.prior.priors if isinstance(vae.prior, Blockwise) else [vae.prior]
    prior = ", then ".join(type(one).__name__ for one in priors)
    return (
        f"Data: {dataset.source}; {parts} images of {size}\n"
        f"{because}"
        f"Model: preset {recipe.preset}, {vae.latent_dim} latents{groups}, "
        f"{vae.count_params():,} parameters, {recipe.precision}, prior "
        f"{prior}, {vae.likelihood.protocol}{draws}\n"
        f"Training: {epochs} on {vae.card['backend']} ({vae.card['device']}"
        f"{shared(recipe, crew, vae.card['backend'])}); Ctrl-C keeps the last finished epoch"
    )


def shared(recipe: Recipe, crew: Team | None, backend: str) -> str:
    """How many devices share a batch, in words, if there are several."""
    if crew is not None and crew.devices > 1:
        processes = f" in {crew.processes} processes" if crew.processes > 1 else ""
        batch, left = recipe.batch_size, recipe.batch_size % crew.devices
        text = f", {crew.devices} devices{processes} for each batch of {batch}"
        if left and backend == "jax":
            near = [batch - left, batch - left + crew.devices]
            sizes = " or ".join(str(size) for size in near if size)
            text += f", which each computes whole: --batch-size {sizes} would be divided"
        return text
    if crew is not None and crew.idle:
        return f", 1 of {crew.idle + 1}: torchrun --nproc-per-node starts a process for each"
    return ""


@contextlib.contextmanager
def place_of(crew: Team, out: str | os.PathLike, resume: bool) -> Iterator[pathlib.Path]:
    """The place of a run's files: `out` in the first process, a copy in the others.

    When resuming, the others get the checkpoint from the first process. They compute all that it
    computes, but write nothing else.
    """
    if crew.processes == 1:
        yield pathlib.Path(out)
        return
    run = Run(out)
    kept = [run.model, *(folder / run.checkpoint.name for folder in (run.hidden, run.place))]
    names = [path.relative_to(run.model.parent) for path in kept]
    for_all = io.BytesIO()
    if not crew.rank and resume:
        with zipfile.ZipFile(for_all, "w") as parcel:
            for path, name in zip(kept, names, strict=True):
                if path.is_file():
                    parcel.write(path, name)
    said = crew.told(for_all.getvalue())
    if not crew.rank:
        yield run.model
        return
    with tempfile.TemporaryDirectory() as folder:
        if said:
            with zipfile.ZipFile(io.BytesIO(said)) as parcel:
                parcel.extractall(folder)
        yield pathlib.Path(folder) / run.model.name
