"""Evaluation: bounds and other figures of a trained model, each with its protocol."""

from kvae.evaluation.classifier import Classifier, classifier_for, train_classifier
from kvae.evaluation.comparison import Comparison, compare
from kvae.evaluation.distances import (
    frechet_distance,
    kernel_distance,
    precision_recall_density_coverage,
)
from kvae.evaluation.factors import Factors, factor_matrix, factors, factors_of_codes
from kvae.evaluation.latents import (
    active_units,
    beyond_chance,
    information_within,
    linear_probe_accuracy,
    moment_gap,
    mutual_information,
    neighbour_accuracy,
    prior_gap_at_least,
)
from kvae.evaluation.neighbours import beside_neighbours, memorisation, nearest_neighbours
from kvae.evaluation.outliers import Outliers, auroc, complexity, outliers
from kvae.evaluation.report import Evaluation, evaluate
from kvae.evaluation.samples import sample_quality
from kvae.evaluation.training import test_figures, train_figures
from kvae.model.bounds import device, importance_weighted, posterior, terms

__all__ = [
    "Classifier",
    "Comparison",
    "Evaluation",
    "Factors",
    "Outliers",
    "active_units",
    "auroc",
    "beyond_chance",
    "beside_neighbours",
    "classifier_for",
    "compare",
    "complexity",
    "device",
    "evaluate",
    "factor_matrix",
    "factors",
    "factors_of_codes",
    "frechet_distance",
    "importance_weighted",
    "kernel_distance",
    "linear_probe_accuracy",
    "memorisation",
    "moment_gap",
    "information_within",
    "mutual_information",
    "nearest_neighbours",
    "neighbour_accuracy",
    "outliers",
    "posterior",
    "precision_recall_density_coverage",
    "prior_gap_at_least",
    "sample_quality",
    "terms",
    "test_figures",
    "train_classifier",
    "train_figures",
]
