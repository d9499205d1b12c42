"""Plots: grids of images as pictures. Images are enlarged by whole factors."""

import io
import math
import pathlib
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.text import Text
from PIL import Image

from kvae.files import whole
from kvae.limits import check_memory
from kvae.parts import checked_integer

__all__ = [
    "Chart",
    "framed",
    "grid",
    "save_animation",
    "save_image",
    "save_picture",
    "side_by_side",
    "stacked_pairs",
]

DPI = 100
LETTER = 8  # the width of a letter in pixels, at most on average, at 10 points and 100 dots an inch
LINE = 18  # the height of a line of text in pixels


class Chart(Figure):
    """A matplotlib figure that a notebook shows inline, also where pyplot is not imported."""

    def text(self, *args: Any, **style: Any) -> Text:
        """Adds text literally: a `$` in the name of a class or a file begins no formula."""
        return super().text(*args, parse_math=False, **style)

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def grid(images: np.ndarray, columns: int | None = None, scale: int | None = None) -> np.ndarray:
    """Arranges images in a grid, with a line of pixels between them.

    Args:
        images: (count, height, width, channels), uint8 or float in [0, 1]. One channel is shown in
            grey and three in colour. Of two channels the first is shown, of more than three the
            first three. NaN is black.
        columns: Number of images in a row. Defaults to a nearly square grid.
        scale: Whole factor by which each pixel is enlarged. By default, the longer side of the grid
            has about 800 pixels, and that of an image at most 300.

    Returns:
        (height, width, 3), uint8. Empty cells are white.

    Raises:
        ValueError: If there are no images.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not images.size:
        raise ValueError(
            "A picture needs images of shape (count, height, width, channels). "
            f"Received: shape {images.shape}"
        )
    images = levels(images)
    count, height, width, channels = images.shape
    images = images[..., : 3 if channels >= 3 else 1]
    for name, value in (("columns", columns), ("scale", scale)):
        if value is not None:
            checked_integer(name, value)
    columns = min(columns or round_to_square(count, height, width), count)
    rows = math.ceil(count / columns)
    line = max(1, round(max(height, width) / 28))
    size = rows * (height + line) + line, columns * (width + line) + line
    check_memory(
        3 * math.prod(size) * (scale or 1) ** 2,
        f"A picture of {rows:,} rows of {columns:,} images",
        "Draw fewer.",
    )
    sheet = np.full((*size, 3), 255, "uint8")
    for i, image in enumerate(images):
        top = line + i // columns * (height + line)
        left = line + i % columns * (width + line)
        sheet[top : top + height, left : left + width] = image
    scale = scale or max(1, min(round(800 / max(sheet.shape)), 300 // max(images.shape[1:3])))
    return sheet.repeat(scale, axis=0).repeat(scale, axis=1)


def side_by_side(pictures: Sequence[np.ndarray], gap: int = 12) -> np.ndarray:
    """Places pictures of the same height side by side, with white pixels between them.

    Args:
        pictures: Each (height, width, 3), uint8.
        gap: Number of pixels between two pictures.

    Raises:
        ValueError: If the heights differ.
    """
    heights = {picture.shape[0] for picture in pictures}
    if len(heights) != 1:
        raise ValueError(f"Pictures side by side must be of one height. Received: {heights}")
    white = np.full((heights.pop(), gap, 3), 255, "uint8")
    parts = [part for picture in pictures for part in (white, picture)][1:]
    return np.concatenate(parts, axis=1)


def round_to_square(count: int, height: int, width: int) -> int:
    """The number of columns that makes a sheet of these cells closest to a square."""
    return max(1, math.ceil(math.sqrt(count * height / width)))


def stacked_pairs(
    first: np.ndarray, second: np.ndarray, columns: int | None = None, scale: int | None = None
) -> np.ndarray:
    """Arranges pairs of images: each row of `first` above the matching row of `second`.

    Args:
        first: (count, height, width, channels), uint8 or float in [0, 1].
        second: Images of the same shape.
        columns: Number of images in a row. Defaults to a nearly square grid.
        scale: As for `grid`.

    Returns:
        (height, width, 3), uint8. Empty cells are white.
    """
    count, height, width, _ = first.shape
    if columns is None:
        rows = math.ceil(count / round_to_square(count, 2 * height, width))
        columns = math.ceil(count / rows)  # so that the last row is nearly as long as the rest
    columns = min(checked_integer("columns", columns), count)
    first, second = (with_white(unit(part), columns) for part in (first, second))
    by_row = (-1, columns, *first.shape[1:])
    both = np.stack([first.reshape(by_row), second.reshape(by_row)], axis=1)
    return grid(both.reshape(-1, *first.shape[1:]), columns, scale)


def with_white(images: np.ndarray, columns: int) -> np.ndarray:
    """Returns float images, with white ones added to complete the last row."""
    missing = -len(images) % columns
    return np.concatenate([images, np.ones((missing, *images.shape[1:]), images.dtype)])


def levels(images: np.ndarray) -> np.ndarray:
    """Converts images to uint8 in 0…255; floats are in [0, 1], and NaN is black."""
    if images.dtype == np.uint8:
        return images
    return np.rint(255 * np.clip(np.nan_to_num(images), 0, 1)).astype("uint8")


def unit(images: np.ndarray) -> np.ndarray:
    """Converts images to float32 in [0, 1]."""
    return images.astype("float32") / (255 if images.dtype == np.uint8 else 1)


def framed(
    picture: np.ndarray,
    title: str,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> Chart:
    """Draws a picture under a title, with labels for rows and columns of images.

    Args:
        picture: (height, width, 3), uint8, as from `grid`; drawn pixel for pixel.
        title: Title; it is broken into lines if it is wider than the picture.
        rows: Labels of rows from the top, evenly spaced.
        columns: Labels of columns from the left, evenly spaced.
    """
    height, width = picture.shape[:2]
    edge = LINE // 2
    left = edge + (LETTER * max(map(len, rows)) + edge if rows else 0)
    lines = textwrap.wrap(title, max(20, width // LETTER))
    room = max(width, LETTER * max(map(len, lines), default=0))  # a title wider than a slim picture
    top, bottom = edge + LINE * len(lines) + edge, edge + (LINE if columns else 0)
    full_width, full_height = left + room + edge, top + height + bottom
    chart = Chart(figsize=(full_width / DPI, full_height / DPI), dpi=DPI, facecolor="white")
    place = left / full_width, bottom / full_height, width / full_width, height / full_height
    axes = chart.add_axes(place)
    axes.imshow(picture, interpolation="nearest", aspect="auto")
    axes.spines[:].set_visible(False)
    axes.set_yticks(
        (np.arange(len(rows)) + 0.5) * height / max(1, len(rows)), rows, parse_math=False
    )
    places = (np.arange(len(columns)) + 0.5) * width / max(1, len(columns))
    axes.set_xticks(places, columns, parse_math=False)
    axes.tick_params(length=0, labelsize=10)
    chart.text(
        left / full_width,
        1 - edge / full_height,
        "\n".join(lines),
        fontsize=10,
        va="top",
        linespacing=1.3,
    )
    return chart


def save_picture(picture: np.ndarray | Figure, path: str | pathlib.Path) -> None:
    """Writes a picture, (height, width, 3), uint8, or a figure, as a complete PNG file."""
    with whole(path) as partial:
        if isinstance(picture, Figure):
            picture.savefig(partial, format="png")
        else:
            imsave(partial, picture, format="png")


def save_image(image: np.ndarray, path: str | pathlib.Path) -> None:
    """Writes one image as a complete PNG file, with one pixel for each pixel.

    Args:
        image: (height, width, channels), uint8 or float in [0, 1]; channels as for `grid`.
        path: The file to write.
    """
    values = np.rint(255 * np.clip(np.nan_to_num(unit(image)), 0, 1)).astype("uint8")
    values = values[..., :3] if values.shape[-1] >= 3 else values[..., 0]
    with whole(path) as partial:
        Image.fromarray(values).save(partial, "PNG")


def save_animation(
    frames: Sequence[np.ndarray | pathlib.Path],
    path: str | pathlib.Path,
    seconds: float = 0.4,
    last_seconds: float = 2.0,
) -> None:
    """Writes pictures as a complete, endlessly looping GIF file.

    Grey pictures keep every value. Coloured pictures get 256 colours each, without dithering.

    Args:
        frames: Frames of one size: arrays (height, width, 3), uint8, or the paths of PNG files.
        path: The file to write.
        seconds: Duration of each frame.
        last_seconds: Duration of the last frame.

    Raises:
        ValueError: If there are no frames.
    """
    if not len(frames):
        raise ValueError("An animation needs at least one frame. Received: none")
    images = [with_palette(frame) for frame in frames]
    durations = [round(1000 * seconds)] * (len(images) - 1) + [round(1000 * last_seconds)]
    with whole(path) as partial:
        images[0].save(
            partial, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0
        )


def with_palette(frame: np.ndarray | pathlib.Path) -> Image.Image:
    """Converts a frame to at most 256 greys or colours."""
    if isinstance(frame, np.ndarray):
        values = frame
    else:
        with Image.open(frame) as opened:
            values = np.asarray(opened.convert("RGB"))
    if (values == values[..., :1]).all():
        return Image.fromarray(values[..., 0])
    return Image.fromarray(values).quantize(256, dither=Image.Dither.NONE)
