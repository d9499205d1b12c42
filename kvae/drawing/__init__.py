"""Drawing: arrays to grids and GIFs, numbers to charts, a model and images to pictures."""

from kvae.drawing import charts, plots
from kvae.drawing.charts import curves
from kvae.drawing.factors import factors
from kvae.drawing.pictures import (
    by_group,
    interpolate,
    latent,
    like,
    manifold,
    reconstruct,
    styles,
    traversals,
)
from kvae.drawing.surprise import surprise

__all__ = [
    "by_group",
    "charts",
    "curves",
    "factors",
    "interpolate",
    "latent",
    "like",
    "manifold",
    "plots",
    "reconstruct",
    "styles",
    "surprise",
    "traversals",
]
