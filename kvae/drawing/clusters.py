"""Clusters: images of each component of a mixture prior."""

from typing import Any

import numpy as np
from keras import ops

from kvae.drawing import plots
from kvae.model import VAE
from kvae.parts import check_seed, checked_integer
from kvae.priors import Blockwise, GaussianMixture, given

__all__ = ["clusters"]


def clusters(
    vae: VAE, rows: int = 10, columns: int = 10, seed: int = 0, of_class: Any = None
) -> plots.Chart:
    """Draws a row for each component of the prior: its decoded mean, and images drawn from it.

    The component with the largest weight comes first. If latents come in groups, the mixture is the
    prior of the first group. The other groups are at the mean of their prior for the decoded mean,
    and drawn for the images.

    Args:
        vae: A trained model with a `kvae.GaussianMixture` as its prior.
        rows: Largest number of components.
        columns: Number of images in a row, including the mean.
        seed: Random seed of the draws, which come from NumPy.
        of_class: For a conditional model, the class, or its numbers, of the mixture p(z|c).

    Raises:
        ValueError: If the prior is not a mixture, or a conditional model gets no class.
    """
    rows, columns = checked_integer("rows", rows), checked_integer("columns", columns)
    check_seed(seed)
    mixture = mixture_of(vae)
    told = told_of(vae, of_class)
    rows = min(rows, mixture.components)
    vae.check_room(rows * columns)
    context = given(None if told is None else told[None])
    weights, means, log_variances = (
        ops.convert_to_numpy(values)[0] for values in mixture.parameters(**context)
    )
    weights = np.exp(weights)
    order = np.argsort(-weights, kind="stable")[:rows]
    noise = np.random.default_rng(seed).standard_normal((rows, columns, vae.latent_dim), "float32")
    noise[:, 0] = 0
    every = None if told is None else np.tile(told, (rows * columns, 1))
    latents, first = [], 0
    for prior in priors_of(vae):
        part = noise[:, :, first : first + prior.latent_dim]
        first += prior.latent_dim
        if prior is mixture:
            z = means[order, None] + np.exp(0.5 * log_variances[order, None]) * part
        else:
            z = prior.from_noise(part.reshape(rows * columns, -1), **given(every))
        latents.append(ops.convert_to_numpy(z).reshape(rows * columns, -1))
    images = vae.decode_told(np.concatenate(latents, axis=1), every)
    title = f"{rows} of {mixture.components} components of the prior, by weight"
    if told is not None and vae.classes:
        title += f", of class {int(told.argmax())}"
    return plots.framed(
        plots.grid(images, columns),
        f"{title}: the mean of each, and images drawn from it",
        rows=[f"component {one + 1}: {weights[one]:.1%}" for one in order],
        columns=["mean", *[""] * (columns - 1)],
    )


def priors_of(vae: VAE) -> list[Any]:
    """The priors of the blocks of latents; a list of one if there is a single block."""
    return vae.prior.priors if isinstance(vae.prior, Blockwise) else [vae.prior]


def mixture_of(vae: VAE) -> GaussianMixture:
    """The mixture: the prior, or the prior of a block of latents."""
    for prior in priors_of(vae):
        if isinstance(prior, GaussianMixture):
            return prior
    raise ValueError(
        "Clusters are the components of a mixture: train with --prior mixture, or "
        f"prior=kvae.GaussianMixture(…). The prior of this model is a {type(vae.prior).__name__}."
    )


def told_of(vae: VAE, of_class: Any) -> np.ndarray | None:
    """The context of the class, (context,), for a conditional model; else None."""
    if vae.condition is None:
        vae.rows(of_class, 1)  # which says that there are none
        return None
    if of_class is None:
        raise ValueError(
            "A conditional model has a mixture for each class: name one, with --class or "
            "`of_class`."
        )
    return vae.spread(of_class if np.ndim(of_class) == 0 else [of_class], 1)[0]  # type: ignore[index]
