"""The figures at the end of training, for a model's card."""

import math
from typing import Any

import keras
import numpy as np

from kvae.evaluation.report import bound_figures
from kvae.likelihoods import DiscretizedLogistic, Gaussian, bits_per_dimension
from kvae.model import VAE

__all__ = ["test_figures", "train_figures"]


def test_figures(
    vae: VAE, images: np.ndarray, seed: int, classes: np.ndarray | None = None
) -> dict[str, Any]:
    """Computes the terms of the bound on these images, in nats, with their protocol.

    For a model trained with `mean_of_draws`, the result also has that looser estimate.
    """
    figures = bound_figures(vae, images, seed, classes)
    figures |= squared_error(vae, figures)
    draws = vae.objective.mean_of_draws
    if draws == 1:
        return figures
    loose = {
        **evaluated(vae, images, seed, classes),
        "protocol": f"z the mean of {draws} draws: no bound",
    }
    return {**figures, "mean_of_draws": loose}


def train_figures(vae: VAE, history: dict[str, list[float]]) -> dict[str, Any]:
    """The terms of the bound in the last epoch of a history, measured during training."""
    terms = ("elbo", "reconstruction", "kl")
    figures: dict[str, Any] = {name: round(float(history[name][-1]), 4) for name in terms}
    draws = vae.objective.mean_of_draws
    loose = f", z the mean of {draws} draws: no bound" if draws > 1 else ""
    figures["protocol"] = f"mean over the last epoch, as the weights moved{loose}"
    if isinstance(vae.likelihood, DiscretizedLogistic):
        bits = bits_per_dimension(-figures["elbo"], vae.image_shape)
        figures["bits_per_dimension"] = round(bits, 4)
    return figures | squared_error(vae, figures)


def evaluated(vae: VAE, images: np.ndarray, seed: int, classes: Any = None) -> dict[str, float]:
    """The result of `vae.evaluate` with draws from `seed`; the model's own seeds stay."""
    stream = keras.ops.convert_to_numpy(vae.seed_generator.state)
    vae.seed_generator.state.assign([seed, 0])
    figures = vae.evaluate(images, classes, batch_size=500, verbose=0, return_dict=True)
    vae.seed_generator.state.assign(stream)
    return {name: round(float(value), 4) for name, value in figures.items()}


def squared_error(vae: VAE, figures: dict) -> dict[str, float]:
    """The mean squared error behind the nats of a Gaussian with one scale.

    Returns:
        Empty for other likelihoods. `mean_squared_error`, per value in [0, 1]; and, to compare with
        losses that add the sum of squares of grey levels, averaged over pixels, to the KL term and
        divide by a batch of 400: `squared_error_figure`, (65025 · mean squared error + KL) / 400.
    """
    if not isinstance(vae.likelihood, Gaussian) or vae.likelihood.parameters_per_value != 1:
        return {}
    scale = float(keras.ops.convert_to_numpy(vae.likelihood.location_and_scale(0.0)[1]))
    values = math.prod(vae.image_shape)
    constant = values * (math.log(scale) + 0.5 * math.log(2 * math.pi))
    error = 2 * scale**2 * (figures["reconstruction"] - constant) / values
    return {
        "mean_squared_error": round(error, 6),
        "squared_error_figure": round((255**2 * error + figures["kl"]) / 400, 4),
    }
