"""Variational autoencoders of images in Keras 3, on TensorFlow, JAX and PyTorch.

Importing kvae registers its classes with Keras, so that `keras.saving.load_model` finds them.
"""

from kvae import charts, data, plots, presets
from kvae.callbacks import LatentKL, ReconstructionGrid, SampleGrid
from kvae.charts import curves
from kvae.decoder import build_decoder
from kvae.doctor import diagnose
from kvae.encoder import build_encoder
from kvae.evaluation import Evaluation, compare, evaluate
from kvae.generator import build_generator
from kvae.likelihoods import Bernoulli, ContinuousBernoulli, DiscretizedLogistic, Gaussian
from kvae.model import VAE, load
from kvae.pictures import (
    interpolate,
    latent,
    like,
    manifold,
    reconstruct,
    traversals,
)
from kvae.priors import RealNVP, StandardNormal
from kvae.training import train
from kvae.version import __version__

__all__ = [
    "VAE",
    "Bernoulli",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "Evaluation",
    "Gaussian",
    "LatentKL",
    "RealNVP",
    "ReconstructionGrid",
    "SampleGrid",
    "StandardNormal",
    "__version__",
    "build_decoder",
    "build_encoder",
    "build_generator",
    "charts",
    "compare",
    "curves",
    "data",
    "evaluate",
    "diagnose",
    "interpolate",
    "latent",
    "like",
    "load",
    "manifold",
    "plots",
    "presets",
    "reconstruct",
    "train",
    "traversals",
]
