"""Training: from a data set to a trained, saved model with its history and pictures."""

import math
import pathlib
import platform
import time

import keras

from kvae import likelihoods, presets, priors
from kvae.callbacks import (
    AveragedWeights,
    BetaLogger,
    KeepLastEpoch,
    LatentKL,
    ReconstructionGrid,
    SampleGrid,
    Warnings,
)
from kvae.data import Dataset, reduced, resized
from kvae.evaluation import device, test_figures, train_figures
from kvae.model import VAE
from kvae.runs import Run

__all__ = ["default_epochs", "train"]

ENOUGH_UPDATES = 3_000
MOST_GRIDS = 20
MOST_LATENT_ROWS = 200
WARMUP = 0.05  # the share of all updates in which the learning rate rises
KL_WARMUP = 0.15  # the share of all updates in which the KL weight rises


def train(
    dataset: Dataset,
    preset: str = "mlp",
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    latent_dim: int | None = None,
    likelihood: str | None = None,
    binarize: str | None = None,
    scale: str | float | None = None,
    prior: str | None = None,
    beta: float = 1.0,
    samples: int = 1,
    objective: str = "elbo",
    free_bits: float = 0.0,
    mean_of_draws: int = 1,
    seed: int = 0,
    out: str | pathlib.Path = "saved_models/vae.keras",
    keep_optimizer: bool = True,
    notes: dict | None = None,
    verbose: str | int = "auto",
) -> VAE:
    """Trains a preset on a data set; saves the model, its history, and pictures by epoch.

    By default the decoder begins at the mean of the images; Adam follows with a cosine learning
    rate after a short rise, and KL warm-up, each over a share of the whole run, so that one epoch
    and a hundred are both sensible. Some presets average the weights, or have a way of their own.
    The figures of the test images, in nats per image, end in the model's card.

    Args:
        dataset: What `kvae.data.load` or `kvae.data.from_arrays` returned.
        preset: A key of `kvae.presets.PRESETS`.
        epochs: Passes over the training images; the preset's, or else `default_epochs`, where none
            is given.
        batch_size: Images in one update; the preset's where none is given.
        learning_rate: Of Adam, at its highest; the preset's where none is given.
        latent_dim: The number of latents; the preset's where none is given.
        likelihood: A key of `kvae.likelihoods.LIKELIHOODS`; the preset's where none is given.
        binarize: Of the Bernoulli likelihood; the preset's where none is given.
        scale: Of the Gaussian likelihood; the preset's where none is given.
        prior: A key of `kvae.priors.PRIORS`; the preset's where none is given.
        beta: The weight of the KL term.
        samples: Draws of z for each image.
        objective: "elbo" or "iwae"; see `VAE`.
        free_bits: Nats of each latent that cost nothing in training; see `VAE`.
        mean_of_draws: See `VAE`.
        seed: Of weights, shuffling and draws; Keras's global seed is set to it.
        out: The `.keras` file to write; see `Run` for what else is written, and where.
        keep_optimizer: Whether the file has the optimizer's state, twice the size of the weights,
            so that training can go on from it.
        notes: What else the model's card should say; plain values, as JSON has them.
        verbose: As for `keras.Model.fit`.

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
    """
    settings = presets.get(preset)
    dataset = prepared(dataset, settings)
    batch_size = settings.batch_size if batch_size is None else batch_size
    learning_rate = settings.learning_rate if learning_rate is None else learning_rate
    check_settings(epochs, batch_size, learning_rate)
    latent_dim = settings.latent_dim if latent_dim is None else latent_dim
    epochs = epochs or settings.epochs or default_epochs(len(dataset.train), batch_size)
    updates = epochs * math.ceil(len(dataset.train) / batch_size)
    keras.utils.set_random_seed(seed)
    vae = VAE.from_preset(
        preset,
        dataset.image_shape,
        latent_dim=latent_dim,
        likelihood=chosen_likelihood(settings, likelihood, binarize=binarize, scale=scale),
        prior=chosen_prior(settings, prior, latent_dim),
        beta=beta,
        warmup_steps=math.ceil(KL_WARMUP * updates) if settings.schedule == "cosine" else 0,
        samples=samples,
        objective=objective,
        free_bits=free_bits,
        mean_of_draws=mean_of_draws,
        seed=seed,
    )
    if settings.start_at_mean:
        vae.start_at_mean(dataset.train)
    vae.compile(optimizer(settings, learning_rate, updates), jit_compile=vae.best_jit_compile())
    vae.card |= {
        **card(dataset),
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        **(notes or {}),
    }
    every = math.ceil(epochs / MOST_GRIDS)
    history = keras.callbacks.History()
    run = Run(
        out, needs=(16 if keep_optimizer else 4) * vae.count_params(), optimizer=keep_optimizer
    )
    latents = LatentKL(dataset.validation, every=math.ceil(epochs / MOST_LATENT_ROWS))
    keep = KeepLastEpoch(lambda finished: run.save(vae, history, latents.history, finished))
    callbacks = [
        AveragedWeights(),  # first, so that all that follow see the average
        BetaLogger(),
        history,
        latents,
        Warnings(latents),
        SampleGrid(run.samples, every=every, seed=seed),
        ReconstructionGrid(run.reconstructions, dataset.validation[:50], every=every),
        keep,
    ]
    if settings.schedule == "plateau":
        callbacks.append(keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=2))
    run.begin()
    started = time.perf_counter()
    with keep:
        try:
            if verbose:
                print(opening(dataset, vae, epochs))
            if run.former:
                print(f"The former {run.folder.name} was moved aside, to {run.former}")
            vae.fit(
                dataset.train,
                batch_size=batch_size,
                epochs=epochs,
                verbose=verbose,
                callbacks=callbacks,
                validation_data=(dataset.validation,),
            )
            vae.card["fit_seconds"] = round(time.perf_counter() - started, 1)
            if not keep.broken:
                vae.card["train"] = train_figures(vae, history.history)
                vae.card["test"] = test_figures(vae, dataset.test, seed)
        except BaseException:
            # Stopped in the middle of a step, Keras may fail with errors that say nothing.
            if not keep.interrupted:
                raise
        finally:
            keep.restore()
            if keep.finished:
                run.save(vae, history, latents.history, keep.finished)
                run.animate(keep.finished)
            else:
                run.undo()
    if keep.interrupted:
        raise KeyboardInterrupt(f"Interrupted. {run.outcome(keep.finished)}")
    if keep.broken:
        raise FloatingPointError(
            f"Training stopped, because {' and '.join(keep.broken)} became NaN or infinite. "
            f"Try a learning rate below {learning_rate:g}. {run.outcome(keep.finished)}"
        )
    return vae


def default_epochs(images: int, batch_size: int) -> int:
    """Ten, or as many as make 3,000 updates where the data set is small."""
    return max(10, math.ceil(ENOUGH_UPDATES / math.ceil(images / batch_size)))


def prepared(dataset: Dataset, settings: presets.Preset) -> Dataset:
    """The data set as a preset wants it: shrunk, or with fewer images."""
    height, width, _ = dataset.image_shape
    if settings.largest and max(height, width) > settings.largest:
        factor = settings.largest / max(height, width)
        size = [max(1, round(factor * length)) for length in (height, width)]
        dataset = resized(dataset, *size)
    return reduced(dataset, settings.per_class) if settings.per_class else dataset


def check_settings(epochs: int | None, batch_size: int, learning_rate: float) -> None:
    """Raises a ValueError for what cannot be trained with."""
    for name, value in (("epochs", 1 if epochs is None else epochs), ("batch_size", batch_size)):
        if int(value) != value or value < 1:
            raise ValueError(f"`{name}` must be an integer of at least 1. Received: {value}")
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"`learning_rate` must be above 0 and finite. Received: {learning_rate}")


def chosen_likelihood(
    settings: presets.Preset, name: str | None, **options
) -> likelihoods.Likelihood:
    """The preset's likelihood, or another, with the options that are not None."""
    own = settings.likelihood_arguments if name in (None, settings.likelihood) else {}
    given = {option: value for option, value in options.items() if value is not None}
    return likelihoods.get(name or settings.likelihood, **{**own, **given})


def chosen_prior(settings: presets.Preset, name: str | None, latent_dim: int) -> priors.Prior:
    """The preset's prior, or another."""
    own = settings.prior_arguments if name in (None, settings.prior) else {}
    return priors.get(name or settings.prior, latent_dim, **own)


def optimizer(
    settings: presets.Preset, learning_rate: float, updates: int
) -> keras.optimizers.Optimizer:
    """Adam for so many updates, by the preset's schedule."""
    if settings.schedule != "cosine":
        return keras.optimizers.Adam(learning_rate)
    averages = {}
    if settings.averaged:
        momentum = max(0.0, 1 - 1 / (settings.averaged * updates))
        averages = {"use_ema": True, "ema_momentum": momentum}
    rise = math.ceil(WARMUP * updates)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=learning_rate,
        warmup_steps=rise,
        decay_steps=max(1, updates - rise),
    )
    return keras.optimizers.Adam(
        schedule,
        global_clipnorm=200.0,  # on MNIST mlp settles near 35, conv-large near 150: cuts spikes
        **averages,
    )


def card(dataset: Dataset) -> dict:
    """What a model says of its data and where it was trained; values as JSON has them."""
    return {
        "dataset": dataset.name,
        "origin": dataset.origin,
        "source": dataset.source,
        "class_names": list(dataset.class_names),
        "images": {part: len(getattr(dataset, part)) for part in ("train", "validation", "test")},
        "precision": keras.config.dtype_policy().name,
        "device": device(),
        "python": platform.python_version(),
    }


def opening(dataset: Dataset, vae: VAE, epochs: int) -> str:
    """What a user should know before the first epoch."""
    parts = ", ".join(f"{count:,} {part}" for part, count in vae.card["images"].items())
    size = "×".join(map(str, dataset.image_shape))
    draws = f", {vae.samples} draws of z" if vae.samples > 1 else ""
    draws += f", objective {vae.objective}" if vae.objective != "elbo" else ""
    return (
        f"Data: {dataset.source}; {parts} images of {size}\n"
        f"Model: preset {vae.card['preset']}, {vae.latent_dim} latents, "
        f"{vae.count_params():,} parameters, {vae.card['precision']}, prior "
        f"{type(vae.prior).__name__}, {vae.likelihood.protocol}{draws}\n"
        f"Training: {epochs} epochs on {vae.card['backend']} ({vae.card['device']}); Ctrl-C keeps "
        "the last finished epoch"
    )
