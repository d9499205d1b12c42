"""Variational autoencoders of images in Keras 3, on TensorFlow, JAX and PyTorch.

Importing kvae registers its classes with Keras, so that `keras.saving.load_model` finds them.
"""

from kvae import data, presets
from kvae.diagnosis import Diagnosis, diagnose
from kvae.drawing import (
    by_group,
    charts,
    clusters,
    curves,
    factors,
    interpolate,
    latent,
    like,
    manifold,
    plots,
    reconstruct,
    styles,
    surprise,
    traversals,
)
from kvae.evaluation import Evaluation, compare, evaluate
from kvae.explorer import Explorer, explore
from kvae.exports import Exported, export
from kvae.likelihoods import (
    Bernoulli,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    Likelihood,
    LogisticMixture,
)
from kvae.model import VAE, Scores, build_generator, load
from kvae.muon import Muon
from kvae.networks import Network, build_decoder, build_encoder
from kvae.objectives import (
    ELBO,
    Capacity,
    ImportanceWeighted,
    InferredPrior,
    MeanDiscrepancy,
    Objective,
    TotalCorrelation,
)
from kvae.priors import Blockwise, GaussianMixture, Prior, RealNVP, StandardNormal
from kvae.recipe import Recipe
from kvae.training import (
    LatentKL,
    ReconstructionGrid,
    SampleGrid,
    fit_prior,
    model_parallel,
    train,
)
from kvae.version import __version__

__all__ = [
    "ELBO",
    "VAE",
    "Bernoulli",
    "Blockwise",
    "Capacity",
    "ContinuousBernoulli",
    "Diagnosis",
    "DiscretizedLogistic",
    "Evaluation",
    "Exported",
    "Explorer",
    "Gaussian",
    "GaussianMixture",
    "ImportanceWeighted",
    "InferredPrior",
    "LatentKL",
    "Likelihood",
    "LogisticMixture",
    "MeanDiscrepancy",
    "Muon",
    "Network",
    "Objective",
    "Prior",
    "RealNVP",
    "Recipe",
    "ReconstructionGrid",
    "SampleGrid",
    "Scores",
    "StandardNormal",
    "TotalCorrelation",
    "__version__",
    "build_decoder",
    "build_encoder",
    "build_generator",
    "by_group",
    "charts",
    "clusters",
    "compare",
    "curves",
    "data",
    "diagnose",
    "evaluate",
    "export",
    "explore",
    "factors",
    "fit_prior",
    "interpolate",
    "latent",
    "like",
    "load",
    "manifold",
    "model_parallel",
    "plots",
    "presets",
    "reconstruct",
    "styles",
    "surprise",
    "train",
    "traversals",
]
