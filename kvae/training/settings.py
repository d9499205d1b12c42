"""Settings: the images, epochs, model and optimizer of a recipe on a data set."""

import contextlib
import dataclasses
import inspect
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from kvae import likelihoods, objectives, priors
from kvae.data import Dataset, Fitting, reduced, refitted, resized
from kvae.model import VAE
from kvae.model.build import groups_of, latents_of
from kvae.muon import Muon
from kvae.recipe import OWNED, Recipe
from kvae.training.choice import likelihood_for

PARTS = ("train", "validation", "test")

__all__ = ["built", "completed", "default_epochs", "optimizer", "precision", "prepared", "updates"]


def completed(recipe: Recipe, dataset: Dataset) -> Recipe:
    """Completes the recipe of a run on this data set, as returned by `prepared`.

    If latents come in groups, their number stays open: it depends on the size of the images.
    """
    if recipe.likelihood == "auto":
        kind, _ = likelihood_for(recipe, dataset)
        own = {"binarize": recipe.binarize, "scale": recipe.scale}
        recipe = recipe.replaced(likelihood=kind, **own)
    parts = {
        "likelihood": likelihoods.LIKELIHOODS,
        "prior": priors.PRIORS,
        "objective": objectives.OBJECTIVES,
    }
    chosen = {}
    for part, classes in parts.items():
        arguments = inspect.signature(classes[getattr(recipe, part)]).parameters
        for name in OWNED[part]:
            if getattr(recipe, name) is None and name in arguments:
                chosen[name] = arguments[name].default
    if dataset.fitting is not None:
        own = dataclasses.asdict(dataset.fitting)
        chosen |= {name: own[name] for name in own if getattr(recipe, name) is None}
    if not groups_of(recipe, dataset.image_shape):
        chosen["latent_dim"] = latents_of(recipe, dataset.image_shape)
    return recipe.replaced(
        epochs=recipe.epochs or default_epochs(len(dataset.train), recipe),
        precision=recipe.precision or keras.config.dtype_policy().name,
        **chosen,
    )


def default_epochs(images: int, recipe: Recipe) -> int:
    """The minimum number of epochs, or more if a small data set needs them for its updates."""
    updates_of_one = math.ceil(images / recipe.batch_size)
    return max(recipe.least_epochs, math.ceil(recipe.least_updates / updates_of_one))


def updates(recipe: Recipe, dataset: Dataset) -> int:
    """The number of updates of a run."""
    return (recipe.epochs or 0) * math.ceil(len(dataset.train) / recipe.batch_size)


def prepared(dataset: Dataset, recipe: Recipe) -> Dataset:
    """Prepares the data set for a recipe: its image size and channels, or fewer images."""
    dataset = refitted(dataset, fitting_of(recipe))
    height, width, _ = dataset.image_shape
    if recipe.largest and max(height, width) > recipe.largest:
        factor = recipe.largest / max(height, width)
        size = [max(1, round(factor * length)) for length in (height, width)]
        dataset = resized(dataset, *size)
    return reduced(dataset, recipe.per_class) if recipe.per_class else dataset


def fitting_of(recipe: Recipe) -> Fitting:
    """How pictures become images, as far as the recipe says."""
    return Fitting(
        image_size=recipe.image_size,
        fit=recipe.fit or "crop",
        channels=recipe.channels,
        background=recipe.background,
    )


def built(recipe: Recipe, dataset: Dataset) -> VAE:
    """Builds the untrained model of a recipe with its optimizer; sets Keras's global seed."""
    keras.utils.set_random_seed(recipe.seed)
    count = updates(recipe, dataset)
    rises = recipe.capacity_rise if recipe.objective == "capacity" else recipe.kl_warmup
    steps = {"warmup_steps": math.ceil(rises * count)}
    if recipe.fine_warmup:
        steps["fine_steps"] = math.ceil(recipe.fine_warmup * count)
    objective = objectives.get(recipe.objective, **steps, **recipe.objective_arguments)
    with precision(recipe.precision):
        parts: dict[str, Any] = {"objective": objective, "classes": classes_of(recipe, dataset)}
        if parts["classes"] and unknown(dataset):
            parts["partly_labelled"] = True
        vae = VAE.from_preset(recipe, dataset.image_shape, seed=recipe.seed, **parts)
    if recipe.start_at_mean:
        vae.start_at_mean(dataset.train)
    vae.compile(optimizer(recipe, count), jit_compile=vae.best_jit_compile())
    return vae


def classes_of(recipe: Recipe, dataset: Dataset) -> int | None:
    """The number of classes of a conditional recipe; None for any other recipe.

    Raises:
        ValueError: If the images have no labels, or all have the same.
    """
    if not recipe.conditional:
        return None
    labels = [getattr(dataset, f"{part}_labels") for part in PARTS]
    without = [part for part, one in zip(PARTS, labels, strict=True) if one is None]
    if without:
        parts = "" if len(without) == len(PARTS) else f" for its {' and '.join(without)} images"
        flat = "without --flat (flat=True), " if recipe.flat else ""
        raise ValueError(
            f"A conditional model needs the class of each image, and {dataset.name} has no labels"
            f"{parts}. A folder for each class gives them, {flat}or a table with a column label."
        )
    if len(np.unique(labels[0][labels[0] >= 0])) < 2:
        raise ValueError(
            f"A conditional model needs train images of two classes or more, and {dataset.name} "
            "has one."
        )
    return max(len(dataset.class_names), *(int(one.max()) + 1 for one in labels))


def unknown(dataset: Dataset) -> int:
    """The number of training images of unknown class, if others have one."""
    labels = dataset.train_labels
    return 0 if labels is None else int((labels < 0).sum())


@contextlib.contextmanager
def precision(policy: str | None) -> Iterator[None]:
    """Sets Keras's dtype policy within a context; None does not change it."""
    former = keras.config.dtype_policy()
    if policy is not None and policy != former.name:
        keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(former)


def optimizer(recipe: Recipe, count: int) -> keras.optimizers.Optimizer:
    """Makes the optimizer of a recipe, with its schedule for this many updates."""
    kind = {"adam": keras.optimizers.Adam, "muon": Muon}[recipe.optimizer]
    arguments: dict[str, Any] = {"global_clipnorm": recipe.clip_norm, "beta_2": recipe.beta_2}
    if recipe.averaged:
        momentum = max(0.0, 1 - 1 / (recipe.averaged * count))
        arguments |= {"use_ema": True, "ema_momentum": momentum}
    if recipe.schedule != "cosine":
        return kind(recipe.learning_rate, **arguments)
    rise = max(math.ceil(recipe.warmup * count), min(recipe.least_warmup, count // 2))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=recipe.learning_rate,
        warmup_steps=rise,
        decay_steps=max(1, count - rise),
    )
    return kind(schedule, **arguments)
