"""Training: carries out a recipe on a data set, with callbacks and the files of the run."""

from kvae.steps import team
from kvae.training.callbacks import LatentKL, ReconstructionGrid, SampleGrid
from kvae.training.fit_prior import fit_prior, prior_to_fit
from kvae.training.model_parallel import model_parallel
from kvae.training.run import Run
from kvae.training.settings import default_epochs, optimizer, prepared
from kvae.training.train import train

__all__ = [
    "LatentKL",
    "ReconstructionGrid",
    "Run",
    "SampleGrid",
    "default_epochs",
    "fit_prior",
    "model_parallel",
    "optimizer",
    "prepared",
    "prior_to_fit",
    "team",
    "train",
]
