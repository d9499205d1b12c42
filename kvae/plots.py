"""Plots: arrays to pictures. Pixels stay pixels: images are enlarged by whole factors."""

import math
import pathlib

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator

from kvae.files import whole

__all__ = ["curves", "grid", "save_picture", "stacked_pairs"]

# Okabe and Ito's colours, which colour-blind readers tell apart.
COLORS = {"train": "#0072B2", "validation": "#D55E00"}


def grid(images: np.ndarray, columns: int | None = None, scale: int | None = None) -> np.ndarray:
    """Lays images out in rows, with a line of pixels between them.

    Args:
        images: (count, height, width, channels), uint8 or float in [0, 1]. One channel is shown in
            grey and three in colour; of two channels the first, of more than three the first three.
            NaN is black.
        columns: Images in a row; as near to a square as can be where it is not given.
        scale: Whole factor by which each pixel is enlarged; where it is not given, such that the
            longer side has about 800 pixels.

    Returns:
        (height, width, 3), uint8. Cells that no image fills are white.

    Raises:
        ValueError: If there are no images.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not images.size:
        raise ValueError(
            "A picture needs images of shape (count, height, width, channels). "
            f"Received: shape {images.shape}"
        )
    if images.dtype != np.uint8:
        images = np.rint(255 * np.clip(np.nan_to_num(images), 0, 1)).astype("uint8")
    count, height, width, channels = images.shape
    images = images[..., : 3 if channels >= 3 else 1]
    columns = min(columns or round_to_square(count, height, width), count)
    rows = math.ceil(count / columns)
    line = max(1, round(max(height, width) / 28))
    sheet = np.full(
        (rows * (height + line) + line, columns * (width + line) + line, 3), 255, "uint8"
    )
    for i, image in enumerate(images):
        top = line + i // columns * (height + line)
        left = line + i % columns * (width + line)
        sheet[top : top + height, left : left + width] = image
    scale = scale or max(1, round(800 / max(sheet.shape)))
    return sheet.repeat(scale, axis=0).repeat(scale, axis=1)


def round_to_square(count: int, height: int, width: int) -> int:
    """The columns that make a sheet of so many cells of (height, width) nearest to a square."""
    return max(1, math.ceil(math.sqrt(count * height / width)))


def stacked_pairs(
    first: np.ndarray, second: np.ndarray, columns: int | None = None, scale: int | None = None
) -> np.ndarray:
    """A grid whose odd rows are `first` and whose even rows, below, are `second`.

    Args:
        first: (count, height, width, channels), uint8 or float in [0, 1].
        second: Of the same shape.
        columns: Images in a row; as near to a square as can be where it is not given.
        scale: As for `grid`.

    Returns:
        (height, width, 3), uint8. Cells that no image fills are white.
    """
    count, height, width, _ = first.shape
    columns = min(columns or round_to_square(count, 2 * height, width), count)
    missing = -count % columns
    filled = [
        np.concatenate([unit(part), np.ones((missing, *part.shape[1:]), "float32")])
        for part in (first, second)
    ]
    rows = [
        part[start : start + columns]
        for start in range(0, count + missing, columns)
        for part in filled
    ]
    return grid(np.concatenate(rows), columns, scale)


def unit(images: np.ndarray) -> np.ndarray:
    """Images as float32 in [0, 1]."""
    return images.astype("float32") / (255 if images.dtype == np.uint8 else 1)


def save_picture(picture: np.ndarray, path: str | pathlib.Path) -> None:
    """Writes (height, width, 3), uint8, as a PNG file, whole or not at all."""
    with whole(path) as partial:
        imsave(partial, picture, format="png")


def curves(history: dict[str, list[float]], path: str | pathlib.Path) -> None:
    """Draws loss, reconstruction and KL of train and validation against epochs, as a PNG file.

    Args:
        history: Columns by name, one value an epoch: `epoch`, `loss`, `reconstruction`, `kl`, and
            the same with `val_` before them; those that are missing are left out.
        path: The file to write.
    """
    figure = Figure(figsize=(9, 3), layout="constrained", dpi=120)
    epochs = history["epoch"]
    names = {"loss": "loss", "reconstruction": "−log p(x|z)", "kl": "KL"}
    for axes, (name, label) in zip(figure.subplots(1, 3), names.items(), strict=True):
        for part, column in (("train", name), ("validation", f"val_{name}")):
            if column in history:
                marker = "o" if len(epochs) == 1 else None
                axes.plot(epochs, history[column], color=COLORS[part], label=part, marker=marker)
        axes.set(title=label, xlabel="epoch", ylabel="nats per image")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with whole(path) as partial:
        figure.savefig(partial, format="png")
