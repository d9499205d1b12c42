"""Drawing: pictures of a model and of images, grids, GIFs and charts."""

from kvae.drawing import charts, plots
from kvae.drawing.charts import curves
from kvae.drawing.clusters import clusters
from kvae.drawing.factors import factors
from kvae.drawing.paths import interpolate, like, styles
from kvae.drawing.pictures import by_group, latent, manifold, reconstruct, traversals
from kvae.drawing.surprise import surprise

__all__ = [
    "by_group",
    "charts",
    "clusters",
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
