"""Objectives: the losses that training minimises, in nats per image."""

from kvae.objectives.capacity import Capacity
from kvae.objectives.elbo import ELBO
from kvae.objectives.importance_weighted import ImportanceWeighted
from kvae.objectives.inferred_prior import InferredPrior
from kvae.objectives.mean_discrepancy import MeanDiscrepancy
from kvae.objectives.named import OBJECTIVES, get
from kvae.objectives.objective import Objective
from kvae.objectives.terms import Terms, averaged, repeated
from kvae.objectives.total_correlation import TotalCorrelation

__all__ = [
    "OBJECTIVES",
    "ELBO",
    "Capacity",
    "ImportanceWeighted",
    "InferredPrior",
    "MeanDiscrepancy",
    "Objective",
    "Terms",
    "TotalCorrelation",
    "averaged",
    "get",
    "repeated",
]
