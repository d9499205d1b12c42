"""Evaluation: bounds and other figures of a trained model, each with its protocol."""

from kvae.evaluation.bounds import importance_weighted, posterior, terms
from kvae.evaluation.latents import (
    active_units,
    linear_probe_accuracy,
    moment_gap,
    mutual_information,
    neighbour_accuracy,
)
from kvae.evaluation.report import Evaluation, compare, evaluate
from kvae.evaluation.training import test_figures, train_figures

__all__ = [
    "Evaluation",
    "active_units",
    "compare",
    "evaluate",
    "importance_weighted",
    "linear_probe_accuracy",
    "moment_gap",
    "mutual_information",
    "neighbour_accuracy",
    "posterior",
    "terms",
    "test_figures",
    "train_figures",
]
