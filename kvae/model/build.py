"""Builds the parts of a model from a recipe."""

from typing import Any

from kvae import likelihoods, objectives, presets, priors
from kvae.likelihoods import Likelihood
from kvae.limits import check_memory
from kvae.model.match import check_image_shape
from kvae.networks import NETWORKS, build_decoder, build_encoder, fewest_weights
from kvae.objectives import Objective
from kvae.parts import checked_integer
from kvae.priors import Prior
from kvae.recipe import Recipe

__all__ = ["from_recipe"]

LATENTS = 40  # default, if neither a recipe nor its groups have a number
TRAINED = 16  # bytes of a weight in training: itself, its gradient and Adam's two averages
COUPLING = 64  # units of a hidden layer of a flow's coupling


def from_recipe(
    preset: str | Recipe,
    image_shape: tuple[int, int, int],
    latent_dim: int | None = None,
    likelihood: Likelihood | None = None,
    prior: Prior | None = None,
    objective: Objective | None = None,
    classes: int | None = None,
    context_dim: int | None = None,
    **arguments: Any,
) -> dict[str, Any]:
    """Makes the arguments of `VAE`; parts that are not given are those of the recipe.

    For a model of classes, the size of the context is the number of classes; otherwise it is
    `context_dim`, if given.
    """
    recipe = presets.get(preset)
    for name, value in (("classes", classes), ("context_dim", context_dim)):
        if value is not None:
            checked_integer(name, value)
    context_dim = classes if context_dim is None else context_dim
    shape = check_image_shape(image_shape)
    latent_dim = latents_of(recipe, shape) if latent_dim is None else latent_dim
    latent_dim = checked_integer("latent_dim", latent_dim)
    check_room(recipe, shape, latent_dim)
    if likelihood is None:
        kind = kind_of(recipe, shape)
        own = {"coupled": shape[2] > 1} if kind == "logistic-mixture" else {}
        likelihood = likelihoods.get(kind, **own, **recipe.likelihood_arguments)
    if prior is None:
        prior = prior_of(recipe, shape, latent_dim, context_dim)
    if objective is None:
        objective = objectives.get(recipe.objective, **recipe.objective_arguments)
    network = recipe.network_arguments
    each = likelihood.parameters_per_value
    card = {"preset": recipe.preset, **(arguments.pop("card", None) or {})}
    return {
        "encoder": build_encoder(shape, latent_dim, recipe.network, context_dim, **network),
        "decoder": build_decoder(shape, latent_dim, recipe.network, each, context_dim, **network),
        "likelihood": likelihood,
        "prior": prior,
        "objective": objective,
        "card": card,
        "classes": classes,
        **arguments,
    }


def latents_of(recipe: Recipe, shape: tuple[int, int, int]) -> int:
    """The number of latents of a recipe, or of its groups if it does not say."""
    return recipe.latent_dim or sum(groups_of(recipe, shape)) or LATENTS


def groups_of(recipe: Recipe, shape: tuple[int, int, int]) -> tuple[int, ...]:
    """The number of latents in each group of a recipe's network; empty without groups."""
    return NETWORKS[recipe.network].groups(shape, **recipe.network_arguments)


def prior_of(
    recipe: Recipe, shape: tuple[int, int, int], latent_dim: int, context_dim: int | None = None
) -> Prior:
    """Makes the prior of a recipe; with groups, a learned prior is for the first group.

    The other groups depend on those before them through the decoder.
    """
    arguments = dict(recipe.prior_arguments)
    if context_dim is not None and recipe.prior != "standard-normal":
        arguments["context_dim"] = context_dim
    first, *rest = groups_of(recipe, shape) or (latent_dim,)
    if recipe.prior == "standard-normal" or not rest or first >= latent_dim:
        return priors.get(recipe.prior, latent_dim, **arguments)
    learned = priors.get(recipe.prior, first, **arguments)
    return priors.Blockwise([learned, priors.StandardNormal(latent_dim - first)])


def kind_of(recipe: Recipe, shape: tuple[int, int, int]) -> str:
    """The name of the likelihood; if the recipe leaves it open, chosen by the channels.

    `kvae.train` has the images, and chooses by their pixels.
    """
    if recipe.likelihood != "auto":
        return recipe.likelihood
    if recipe.scale is not None:
        return "gaussian"
    return "bernoulli" if shape[2] == 1 or recipe.binarize is not None else "logistic-mixture"


def check_room(recipe: Recipe, shape: tuple[int, int, int], latent_dim: int) -> None:
    """Raises a ValueError if the model of a recipe would be too large to train."""
    count = fewest_weights(recipe.network, shape, latent_dim, **recipe.network_arguments)
    if recipe.prior == "real-nvp":
        coupled = (groups_of(recipe, shape) or (latent_dim,))[0]
        count += (recipe.couplings or 1) * COUPLING * (COUPLING + 3 * coupled)
    if recipe.prior == "mixture":
        count += (recipe.components or 1) * (1 + 2 * (groups_of(recipe, shape) or (latent_dim,))[0])
    size = "×".join(map(str, shape))
    check_memory(
        TRAINED * count,
        f"The training of a model of {latent_dim:,} latents for images of {size}, with {count:,} "
        "weights or more,",
        "Choose fewer latents (`latent_dim`), smaller images or a smaller network.",
    )
