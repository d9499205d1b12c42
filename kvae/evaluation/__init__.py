"""Evaluation: bounds and other figures of a trained model, each with its protocol."""

import math
from typing import Any

import keras
import numpy as np

from kvae.evaluation.classifier import Classifier, classifier_for, train_classifier
from kvae.evaluation.samples import (
    beside_neighbours,
    frechet_distance,
    kernel_distance,
    memorisation,
    nearest_neighbours,
    precision_recall_density_coverage,
    sample_quality,
)
from kvae.likelihoods import DiscretizedLogistic, Gaussian, bits_per_dimension
from kvae.model import VAE

__all__ = [
    "Classifier",
    "beside_neighbours",
    "classifier_for",
    "frechet_distance",
    "kernel_distance",
    "memorisation",
    "nearest_neighbours",
    "precision_recall_density_coverage",
    "sample_quality",
    "test_figures",
    "train_classifier",
    "train_figures",
]


def test_figures(vae: VAE, images: np.ndarray, seed: int) -> dict:
    """The terms of the bound on these images, from one draw of pixels for each, in nats.

    The draws start from `seed`; the model's own stream of random numbers is left where it was.
    A model trained with `mean_of_draws` has its own, looser estimate beside the bound.
    """
    draws = int(keras.ops.convert_to_numpy(vae.mean_of_draws))
    loose = {}
    if draws > 1:
        loose = {
            "mean_of_draws": {
                **evaluated(vae, images, seed),
                "protocol": f"z the mean of {draws} draws: no bound",
            }
        }
    vae.mean_of_draws.assign(1)
    figures = evaluated(vae, images, seed)
    vae.mean_of_draws.assign(draws)
    of_z = "one draw" if vae.samples == 1 else f"{vae.samples} draws"
    figures |= {
        "unit": "nats per image",
        "images": len(images),
        "protocol": f"{vae.likelihood.protocol}, {of_z} of z an image, seed {seed}",
    }
    return figures | likelihood_figures(vae, figures) | loose


def train_figures(vae: VAE, history: dict[str, list[float]]) -> dict:
    """The terms of the bound in the last epoch of a history, as they were while it trained."""
    terms = ("elbo", "reconstruction", "kl")
    figures: dict[str, Any] = {name: round(float(history[name][-1]), 3) for name in terms}
    draws = int(keras.ops.convert_to_numpy(vae.mean_of_draws))
    loose = f", z the mean of {draws} draws: no bound" if draws > 1 else ""
    figures |= {
        "unit": "nats per image",
        "protocol": f"mean over the last epoch, as the weights moved{loose}",
    }
    return figures | likelihood_figures(vae, figures)


def likelihood_figures(vae: VAE, figures: dict) -> dict[str, float]:
    """The bound in the other units that a likelihood has."""
    if isinstance(vae.likelihood, DiscretizedLogistic):
        bits = bits_per_dimension(-figures["elbo"], vae.image_shape)
        return {"bits_per_dimension": round(bits, 4)}
    if isinstance(vae.likelihood, Gaussian) and vae.likelihood.parameters_per_value == 1:
        return squared_error(vae, figures)
    return {}


def evaluated(vae: VAE, images: np.ndarray, seed: int) -> dict[str, Any]:
    """What `vae.evaluate` says, with draws that start from `seed`."""
    stream = keras.ops.convert_to_numpy(vae.seed_generator.state)
    vae.seed_generator.state.assign([seed, 0])
    figures = vae.evaluate(images, batch_size=500, verbose=0, return_dict=True)
    vae.seed_generator.state.assign(stream)
    return {name: round(float(value), 3) for name, value in figures.items()}


def squared_error(vae: VAE, figures: dict) -> dict[str, float]:
    """The mean squared error that a Gaussian of one scale has measured in nats.

    Returns:
        `mean_squared_error`, per value in [0, 1]; and, to compare with losses that add the sum of
        squares of grey levels, averaged over pixels, to the KL term and divide by a batch of 400:
        `squared_error_figure`, (65025 · mean squared error + KL) / 400.
    """
    scale = float(keras.ops.convert_to_numpy(vae.likelihood.location_and_scale(0.0)[1]))
    values = math.prod(vae.image_shape)
    constant = values * (math.log(scale) + 0.5 * math.log(2 * math.pi))
    error = 2 * scale**2 * (figures["reconstruction"] - constant) / values
    return {
        "mean_squared_error": round(error, 6),
        "squared_error_figure": round((255**2 * error + figures["kl"]) / 400, 4),
    }
