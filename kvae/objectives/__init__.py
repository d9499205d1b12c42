"""Objectives: what training minimises, in nats per image."""

from kvae.objectives.elbo import ELBO
from kvae.objectives.importance_weighted import ImportanceWeighted
from kvae.objectives.named import OBJECTIVES, get
from kvae.objectives.objective import Objective
from kvae.objectives.terms import Terms, averaged, repeated

__all__ = [
    "OBJECTIVES",
    "ELBO",
    "ImportanceWeighted",
    "Objective",
    "Terms",
    "averaged",
    "get",
    "repeated",
]
