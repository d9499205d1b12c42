"""Surprise: images, their reconstructions, and maps of surprising regions."""

import math
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from kvae.drawing import plots
from kvae.model import VAE
from kvae.parts import checked_integer

__all__ = ["surprise"]

BRIGHT = 0.995  # the share of pixels that are not drawn in the brightest colour


def surprise(
    vae: VAE,
    images: Any,
    columns: int | None = None,
    draws: int = 100,
    seed: int = 0,
    what: str = "images",
) -> Figure:
    """Draws images above their reconstructions, above maps of surprising regions.

    The surprise of a pixel is −log p(x|z), summed over channels and averaged over draws of z from
    the posterior, as in `VAE.surprise`. Expected pixels are dark, and surprising ones bright. All
    images share one colour scale.

    Args:
        vae: A trained model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        columns: Number of images in a row. Defaults to a nearly square picture.
        draws: Number of draws of z per image.
        seed: Random seed of the draws.
        what: Name of the images in the title.

    Example:
        >>> import numpy as np
        >>> import kvae
        >>> vae = kvae.VAE.from_preset("mlp-400", (8, 8, 1))
        >>> figure = kvae.drawing.surprise(vae, np.zeros((4, 8, 8, 1), "uint8"))
    """
    images = vae.check(images)
    maps = vae.surprise(images, draws, seed)
    low, high = float(maps.min()), float(np.quantile(maps, BRIGHT))
    low = min(low, 0.0) if vae.likelihood.measure == "probability" else low
    shade = colormaps["inferno"](np.clip((maps - low) / max(high - low, 1e-12), 0, 1))
    rows = [coloured(images), coloured(vae.reconstruct(images)), shade[..., :3].astype("float32")]
    count, height, width, _ = images.shape
    if columns is None:
        blocks = math.ceil(count / plots.round_to_square(count, 3 * height, width))
        columns = math.ceil(count / blocks)  # so that the last row is nearly as long as the rest
    columns = min(checked_integer("columns", columns), count)
    cells = np.stack([by_row(row, columns) for row in rows], axis=1)
    picture = plots.grid(cells.reshape(-1, height, width, 3), columns)
    span = f"from {low:.2f} nats (dark) to {high:.2f} and more (bright)".replace("-", "−")
    title = (
        f"{count:,} {what}, each over its reconstruction and its surprise: "
        f"−log\u00a0p(x|z) of each pixel, {span}"
    )
    names = ["image", "reconstruction", "surprise"] if count <= columns else []
    return plots.framed(picture, title, rows=names)


def coloured(images: np.ndarray) -> np.ndarray:
    """Converts images to colours for drawing: (count, height, width, 3), float32 in [0, 1]."""
    images = plots.unit(images)
    return images[..., :3] if images.shape[-1] >= 3 else images[..., :1].repeat(3, axis=-1)


def by_row(images: np.ndarray, columns: int) -> np.ndarray:
    """Arranges images as (rows, columns, height, width, 3), padded with white."""
    return plots.with_white(images, columns).reshape(-1, columns, *images.shape[1:])
