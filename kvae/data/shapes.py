"""Shapes: a colour data set that is drawn by code, with the factors of each image.

The images of a split depend only on the seed and on their index: the random bits are NumPy's
guaranteed ones, and the rest is float64 arithmetic.
"""

import math
from typing import Any

import numpy as np

from kvae.data.arrays import SPLITS, Dataset, from_arrays
from kvae.limits import check_memory

__all__ = ["COUNTS", "FACTORS", "RANGES", "SHAPES", "draw", "factors", "read_shapes"]

COUNTS = {"train": 6_000, "validation": 500, "test": 1_000}
SIDE = 64  # pixels
BACKGROUND = np.array([31, 33, 46], "float64")  # of 255: nearly black, a little blue
SATURATION, VALUE = 0.62, 0.96
SAMPLES = 4  # along each side of a pixel
REACH = 1.05  # no shape of size 1 has a point that is farther from its centre

# No two values of a factor give the same image, so a factor lies on a line: the angle of a square
# stays within a quarter turn, and the hue goes from red to magenta, not in a full circle.
RANGES = {
    "shape": (0, 6),
    "size": (10.0, 20.0),
    "angle": (-40.0, 40.0),
    "x": (21.0, 43.0),
    "y": (21.0, 43.0),
    "hue": (0.0, 300.0),
}
FACTORS = tuple(RANGES)


def square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A square: sides of 1."""
    return np.maximum(np.abs(u), np.abs(v)) < 0.5


def ellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """An ellipse that lies: 1.7 times as wide as high."""
    return u * u / 1.7 + v * v * 1.7 < 1 / math.pi


def triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """An isosceles triangle with the point up, 1.45 high and 2 / 1.45 wide."""
    below_the_point = v + 2 / 3 * 1.45
    return (below_the_point < 1.45) & (np.abs(u) < below_the_point / 1.45**2)


def heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The curve (p² + q² − 1)³ = p² q³, q up; its area is 3.662, its centre at q = 0.2935."""
    p, q = math.sqrt(3.662) * u, 0.2935 - math.sqrt(3.662) * v
    p, ring = p * p, q * q - 1
    ring = p + ring
    return ring * ring * ring < p * (q * q * q)


def cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Five squares: one, and one on each of its sides."""
    u, v = np.abs(u), np.abs(v)
    half = 0.5 / math.sqrt(5)
    return (np.minimum(u, v) < half) & (np.maximum(u, v) < 3 * half)


def moon(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A disc of radius 1 without one of 0.8 at (0.5, 0); area 1.5295, centre at −0.386."""
    p, q = math.sqrt(1.5295) * u - 0.386, math.sqrt(1.5295) * v
    q = q * q
    return (p * p + q < 1) & ((p - 0.5) ** 2 + q > 0.64)


DRAWN = {f.__name__: f for f in (square, ellipse, triangle, heart, cross, moon)}
SHAPES = tuple(DRAWN)


def factors(split: str = "train", count: int | None = None, seed: int = 0) -> np.ndarray:
    """Returns the factors of the images of `kvae.data.load("shapes")`, in their order.

    Each factor is uniform over its range in `RANGES`, and independent of the others: `shape`, an
    index into `SHAPES`; `size`, the square root of the area, in pixels; `angle`, in degrees,
    clockwise; `x` and `y` of the centre of mass, in pixels from the left and from the top; `hue`,
    in degrees: 0 red, 120 green, 240 blue.

    Args:
        split: "train", "validation" or "test".
        count: Number of images. Defaults to those of the data set. The first ones are always the
            same.
        seed: Random seed; 0 is that of the data set. Other seeds give unrelated images.

    Returns:
        (count, 6), float32, in the order of `FACTORS`.

    Raises:
        ValueError: If there is no such split, or `count` or `seed` is negative.

    Example:
        >>> from kvae.data import shapes
        >>> dict(zip(shapes.FACTORS, shapes.factors("test")[0].round(1).tolist()))["shape"]
        5.0
        >>> shapes.draw(shapes.factors("test", 5)).shape
        (5, 64, 64, 3)
    """
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}. Received: split={split!r}")
    count = COUNTS[split] if count is None else count
    for name, value in (("count", count), ("seed", seed)):
        if not isinstance(value, (int, np.integer)) or value < 0:
            raise ValueError(
                f"`{name}` must be an integer of at least 0. Received: {name}={value!r}"
            )
    low, high = np.array(list(RANGES.values())).T
    found = np.empty((count, len(FACTORS)))
    for i in range(count):
        words = np.random.SFC64([seed, SPLITS.index(split), i]).random_raw(len(FACTORS))
        found[i] = low + (high - low) * ((words >> np.uint64(11)) * 2.0**-53)
    found[:, 0] = np.floor(found[:, 0])
    return found.astype("float32")


def draw(factors: Any) -> np.ndarray:
    """Draws the images of these factors.

    Args:
        factors: (count, 6), from `factors` or others. Parts outside the image are cut off.

    Returns:
        (count, 64, 64, 3), uint8, antialiased with 4 × 4 samples per pixel.

    Raises:
        ValueError: If the factors have another shape, are not finite, or name an unknown shape.
    """
    rows = np.asarray(factors, "float64")
    if rows.ndim != 2 or rows.shape[1] != len(FACTORS) or not np.isfinite(rows).all():
        raise ValueError(
            f"`factors` must be finite, (count, {len(FACTORS)}): {', '.join(FACTORS)}. "
            f"Received: shape {rows.shape}"
        )
    kinds = rows[:, 0]
    if not ((kinds == np.rint(kinds)) & (kinds >= 0) & (kinds < len(SHAPES))).all():
        raise ValueError(f"A shape must be an integer in 0…{len(SHAPES) - 1}, for {SHAPES}.")
    if not (rows[:, 1] > 0).all():
        raise ValueError("A size must be above 0 pixels.")
    check_memory(len(rows) * SIDE * SIDE * 3, f"{len(rows):,} images", "Draw fewer.")
    images = np.empty((len(rows), SIDE, SIDE, 3), "uint8")
    images[:] = BACKGROUND
    for image, (kind, size, angle, x, y, hue) in zip(images, rows.tolist(), strict=True):
        left, right = window(x, size)
        top, bottom = window(y, size)
        if left < right and top < bottom:
            covered = coverage(SHAPES[int(kind)], size, angle, samples(left, right) - x,
                               samples(top, bottom) - y)  # fmt: skip
            blend = BACKGROUND + covered[..., np.newaxis] * (colour(hue) - BACKGROUND)
            image[top:bottom, left:right] = np.floor(blend + 0.5)
    return images


def window(centre: float, size: float) -> tuple[int, int]:
    """The range of pixels along one axis that a shape may touch."""
    reach = REACH * size
    return max(0, math.floor(centre - reach)), min(SIDE, math.ceil(centre + reach))


def samples(start: int, stop: int) -> np.ndarray:
    """The positions of the samples of these pixels, in pixels from the border."""
    return start + (np.arange((stop - start) * SAMPLES) + 0.5) / SAMPLES


def coverage(kind: str, size: float, angle: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Computes the share of each pixel that a shape covers.

    Args:
        kind: Name of the shape.
        size: Square root of its area, in pixels.
        angle: Angle in degrees, clockwise.
        x: (width · samples,), positions of samples, in pixels to the right of its centre.
        y: (height · samples,), positions in pixels below its centre.

    Returns:
        (height, width), multiples of 1/16.
    """
    cosine, sine = math.cos(math.radians(angle)) / size, math.sin(math.radians(angle)) / size
    u = cosine * x + (sine * y)[:, np.newaxis]
    v = (cosine * y)[:, np.newaxis] - sine * x
    inside = DRAWN[kind](u, v)
    height, width = len(y) // SAMPLES, len(x) // SAMPLES
    return inside.reshape(height, SAMPLES, width, SAMPLES).sum(axis=(1, 3)) / SAMPLES**2


def colour(hue: float) -> np.ndarray:
    """Red, green and blue of a hue in degrees: (3,), 0…255."""
    sixth = (hue / 60 + np.array([0.0, 4.0, 2.0])) % 6
    share = np.clip(np.abs(sixth - 3) - 1, 0, 1)
    return 255 * VALUE * (1 - SATURATION + SATURATION * share)


def read_shapes() -> Dataset:
    """The data set: 6,000 images for training, 500 for validation, 1,000 for test."""
    drawn = {split: factors(split) for split in SPLITS}
    images: dict[str, Any] = {split: draw(rows) for split, rows in drawn.items()}
    labels: dict[str, Any] = {
        f"{split}_labels": rows[:, 0].astype("int64") for split, rows in drawn.items()
    }
    return from_arrays(
        **images,
        **labels,
        class_names=SHAPES,
        name="shapes",
        source="shapes in six kinds and many colours, drawn by kvae",
    )
