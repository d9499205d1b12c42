"""Runnable: the parts of a model that a page can run, and words about the others."""

from typing import Any

import numpy as np
from keras import ops

from kvae.explorer.graph import graph_of
from kvae.explorer.operations import Unrunnable
from kvae.explorer.tensors import Tensors
from kvae.likelihoods import (
    Bernoulli,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    Likelihood,
    LogisticMixture,
)
from kvae.model import VAE
from kvae.priors import Blockwise, GaussianMixture, Prior, RealNVP, StandardNormal

__all__ = ["runnable"]


def runnable(vae: VAE, tensors: Tensors) -> tuple[dict[str, Any], list[str]]:
    """Collects the parts of a model for a reader of graphs.

    Args:
        vae: The model.
        tensors: The `Tensors` to which the weights are added.

    Returns:
        A dict with `image_shape`, `latent_dim`, `context_dim`, `groups`, `likelihood`, `prior` (for
        each block of latents its size and the names of its graphs: the `couplings` of a flow, from
        z to noise, or the `mixture`, which returns logits, means and log-variances) and `graphs`,
        without parts that cannot be run; and a sentence for each of those.
    """
    parts: dict[str, Any] = {"likelihood": mean_of(vae.likelihood), "graphs": {}, "prior": []}
    makers = {
        "Nothing is decoded in this page": add_decoder,
        "Nothing is encoded in this page, and so nothing can be drawn": add_encoder,
        "No new images are drawn in this page": add_prior,
    }
    notes = []
    for sentence, add in makers.items():
        try:
            check_told(vae)
            with tensors.undone():
                add(vae, parts, tensors)
        except Unrunnable as error:
            notes.append(f"{sentence}: {error}.")
    described = {
        "image_shape": [*vae.image_shape],
        "latent_dim": vae.latent_dim,
        "context_dim": vae.condition.size if vae.condition else 0,
        "groups": [*vae.groups],
        **parts,
    }
    return described, notes


def check_told(vae: VAE) -> None:
    """Raises an error if a page could not provide the condition of an image."""
    if vae.condition is not None and vae.condition.classes is None:
        raise Unrunnable("the model is conditional on numbers, for which there are no sliders")


def add_decoder(vae: VAE, parts: dict[str, Any], tensors: Tensors) -> None:
    """Adds the decoder's graph."""
    check_likelihood(vae)
    parts["graphs"]["decoder"] = graph_of(vae.decoder, tensors)


def add_encoder(vae: VAE, parts: dict[str, Any], tensors: Tensors) -> None:
    """Adds the encoder's graph; for a ladder `bottom_up`, `posterior_1`, `stage_1` and so on."""
    check_likelihood(vae)  # an unknown one may observe images in any way
    if vae.hierarchy:
        ladder = vae.hierarchy
        models = [ladder.bottom_up, *ladder.posteriors, *ladder.stages]
        parts["graphs"].update({model.name: graph_of(model, tensors) for model in models})
    else:
        parts["graphs"]["encoder"] = graph_of(vae.encoder, tensors)


def add_prior(vae: VAE, parts: dict[str, Any], tensors: Tensors) -> None:
    """Adds the blocks of the prior and their graphs, if there is a decoder."""
    if "decoder" not in parts["graphs"]:
        return
    blocks: list[dict[str, Any]] = []
    graphs: dict[str, Any] = {}
    for prior in vae.prior.priors if type(vae.prior) is Blockwise else [vae.prior]:
        name = f"block_{len(blocks) + 1}"
        block: dict[str, Any] = {"size": prior.latent_dim, "couplings": []}
        if type(prior) is GaussianMixture:
            block["mixture"] = f"{name}_mixture"
            graphs[block["mixture"]] = graph_of(prior.heads, tensors)
        else:
            couplings = flow_of(prior, name, tensors)
            block["couplings"] = [*couplings]
            graphs.update(couplings)
        blocks.append(block)
    parts["prior"] = blocks
    parts["graphs"].update(graphs)


def check_likelihood(vae: VAE) -> None:
    """Raises an error if a page does not know this likelihood."""
    if mean_of(vae.likelihood) is None:
        raise Unrunnable(f"the likelihood is a {type(vae.likelihood).__name__}")


def mean_of(likelihood: Likelihood) -> dict[str, Any] | None:
    """The data that the expected image needs beside the parameters; None if unknown."""
    if type(likelihood) is Bernoulli:
        return {"kind": "bernoulli", "threshold": likelihood.binarize != "none"}
    if type(likelihood) is ContinuousBernoulli:
        return {"kind": "continuous_bernoulli"}
    if type(likelihood) is Gaussian:
        return {"kind": "gaussian", "per_value": likelihood.parameters_per_value}
    if type(likelihood) is DiscretizedLogistic:
        return {"kind": "discretized_logistic", "min_scale": likelihood.min_scale}
    if type(likelihood) is LogisticMixture:
        return {
            "kind": "logistic_mixture",
            "min_scale": likelihood.min_scale,
            "components": likelihood.components,
            "coupled": likelihood.coupled,
            "floor": least_scale(likelihood),
        }
    return None


def flow_of(prior: Prior, name: str, tensors: Tensors) -> dict[str, Any]:
    """The graphs of a flow, with names that begin with `name`; none for N(0, I)."""
    if type(prior) is StandardNormal:
        return {}
    if type(prior) is not RealNVP:
        raise Unrunnable(f"the prior is a {type(prior).__name__}")
    return {f"{name}_{one.name}": graph_of(one, tensors) for one in prior.couplings}


def least_scale(likelihood: LogisticMixture) -> float:
    """The floor of the scales of a mixture, in levels; 0 without a floor.

    It is read from the result for very small scales.
    """
    if not likelihood.floor:
        return 0.0
    narrow = np.zeros((1, 1, 1, likelihood.parameters_per_value), "float32")
    narrow[..., likelihood.components : 2 * likelihood.components] = -50.0
    return float(ops.convert_to_numpy(likelihood.split(narrow)[1]).min())
