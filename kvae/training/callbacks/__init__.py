"""Callbacks that run between epochs. Each reaches the model through `self.model` only."""

from kvae.training.callbacks.averages import AveragedWeights
from kvae.training.callbacks.grids import ReconstructionGrid, SampleGrid
from kvae.training.callbacks.keeping import KeepLastEpoch
from kvae.training.callbacks.watching import BetaLogger, LatentKL, Warnings

__all__ = [
    "AveragedWeights",
    "BetaLogger",
    "KeepLastEpoch",
    "LatentKL",
    "ReconstructionGrid",
    "SampleGrid",
    "Warnings",
]
