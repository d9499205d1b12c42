"""Factors: a table of the information of latents about factors, with images."""

from collections.abc import Sequence

import numpy as np

from kvae.drawing import plots
from kvae.drawing.pictures import moved
from kvae.model import VAE
from kvae.parts import checked_integer
from kvae.priors import StandardNormal

__all__ = ["factors"]

CELL = 56  # pixels of a column of the table, at least
LETTER, LINE, EDGE = plots.LETTER, plots.LINE, plots.LINE // 2
DARK = 0.6  # from which share on letters are white


def factors(
    vae: VAE,
    images: np.ndarray,
    matrix: np.ndarray,
    names: Sequence[str],
    latents: int = 10,
    steps: int = 9,
    what: str = "images",
) -> plots.Chart:
    """Draws a table of latents and factors; beside each latent, images with it varied.

    The images are the first image, decoded with that latent moved alone. Rows are in the order of
    the factors. Under each factor are the latents that are most informative about it, the most
    informative first.

    Args:
        vae: A trained model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1]; at least two if
            the prior is learned.
        matrix: (latent, factor), the share of each factor that each latent explains, in [0, 1]: see
            `kvae.evaluation.factor_matrix`.
        names: Names of the factors.
        latents: Largest number of rows; the latents that are most informative about any factor are
            shown.
        steps: Number of images in a row.
        what: Name, in the title, of the images behind the table.

    Raises:
        ValueError: If the table does not fit the model's latents and the names, or has values that
            are not shares.
    """
    matrix = np.asarray(matrix, "float64")
    latents, steps = checked_integer("latents", latents), checked_integer("steps", steps)
    if matrix.shape != (vae.latent_dim, len(names)) or not matrix.size:
        raise ValueError(
            f"`matrix` must be of {vae.latent_dim} latents and {len(names)} factors, "
            f"{tuple(names)}. Received: shape {matrix.shape}"
        )
    if not ((matrix >= 0) & (matrix <= 1 + 1e-6)).all():
        raise ValueError("`matrix` must have shares in [0, 1].")
    vae.check_room(min(latents, vae.latent_dim) * steps)
    rows = in_order(matrix, latents)
    values = np.linspace(-3, 3, steps, dtype="float32")
    picture = plots.grid(moved(vae, images, rows, values), steps)
    unit = "" if isinstance(vae.prior, StandardNormal) else " of its deviations"
    titles = (
        "How much of a factor each latent tells by itself",
        f"The image with that latent moved from −3 to 3{unit}",
        f"{len(rows)} of {vae.latent_dim} latents; shares of the entropy of each factor, by {what}",
    )
    return laid_out(picture, matrix[rows], [f"latent {row + 1}" for row in rows], names, titles)


def in_order(matrix: np.ndarray, latents: int) -> np.ndarray:
    """The latents that are most informative, by factor and by their share."""
    most = matrix.max(axis=1)
    rows = np.argsort(-most, kind="stable")[:latents]
    return rows[np.lexsort((-most[rows], matrix.argmax(axis=1)[rows]))]


def laid_out(
    picture: np.ndarray,
    table: np.ndarray,
    rows: Sequence[str],
    names: Sequence[str],
    titles: tuple[str, str, str],
) -> plots.Chart:
    """Places the table to the left of the picture, at the same height, pixel for pixel."""
    height, width = picture.shape[:2]
    left = 2 * EDGE + LETTER * max(map(len, rows))
    cells = max(CELL, LETTER * max(map(len, names))) * len(names)
    cells = max(cells, LETTER * len(titles[0]))
    room = max(width, LETTER * len(titles[1]))
    total = left + cells + 2 * EDGE + room + EDGE, height + 3 * LINE + 2 * EDGE + LINE
    chart = plots.Chart(
        figsize=(total[0] / plots.DPI, total[1] / plots.DPI), dpi=plots.DPI, facecolor="white"
    )
    bottom = (LINE + EDGE) / total[1]
    axes = chart.add_axes((left / total[0], bottom, cells / total[0], height / total[1]))
    axes.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(names)), names, parse_math=False)
    for i, row in enumerate(table):
        for k, share in enumerate(row):
            color = "white" if share > DARK else "black"
            axes.text(k, i, f"{share:.2f}", ha="center", va="center", color=color, fontsize=9)
    beside = left + cells + 2 * EDGE
    other = chart.add_axes((beside / total[0], bottom, width / total[0], height / total[1]))
    other.imshow(picture, interpolation="nearest", aspect="auto")
    other.set(xticks=[], yticks=[])
    for one in (axes, other):
        one.spines[:].set_visible(False)
        one.tick_params(length=0, labelsize=10)
    top = 1 - EDGE / total[1]
    chart.text(left / total[0], top, f"{titles[2]}\n{titles[0]}", va="top", linespacing=1.4)
    chart.text(beside / total[0], top, f"\n{titles[1]}", va="top", linespacing=1.4)
    return chart
