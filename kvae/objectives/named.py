"""Objectives by name."""

from typing import Any

from kvae.objectives.capacity import Capacity
from kvae.objectives.elbo import ELBO
from kvae.objectives.importance_weighted import ImportanceWeighted
from kvae.objectives.inferred_prior import InferredPrior
from kvae.objectives.mean_discrepancy import MeanDiscrepancy
from kvae.objectives.objective import Objective
from kvae.objectives.total_correlation import TotalCorrelation
from kvae.parts import made

__all__ = ["OBJECTIVES", "get"]

OBJECTIVES: dict[str, type[Objective]] = {
    "elbo": ELBO,
    "iwae": ImportanceWeighted,
    "tc": TotalCorrelation,
    "mmd": MeanDiscrepancy,
    "capacity": Capacity,
    "dip": InferredPrior,
}


def get(name: str, **arguments: Any) -> Objective:
    """Makes the objective of this name, a key of `OBJECTIVES`.

    Raises:
        ValueError: If there is none of this name, or it has no such argument.

    Example:
        >>> from kvae import objectives
        >>> objectives.get("iwae", samples=5).samples
        5
    """
    return made(OBJECTIVES, "objective", name, **arguments)
