"""Pictures that tests make up."""

import io

import numpy as np
from PIL import Image

RED, GREEN, BLUE, WHITE, BLACK = (
    *((255, 0, 0), (0, 255, 0), (0, 0, 255)),
    *((255, 255, 255), (0, 0, 0)),
)


def plain(size, colour=RED, mode="RGB"):
    """A picture of one colour, (height, width)."""
    return Image.new(mode, size[::-1], colour)


def coded(picture, form="PNG", **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def fill(folder, pictures):
    """Writes pictures by name; the format is that of the suffix."""
    for name, picture in pictures.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)


def noise(size, seed=0, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (*size, channels)).astype("uint8")


def three_bands(height=30, width=90):
    """Red, green, blue, from left to right."""
    image = np.zeros((height, width, 3), "uint8")
    for i in range(3):
        image[:, i * width // 3 : (i + 1) * width // 3, i] = 255
    return image


def see_through(colour=RED, opacity=128, size=(8, 8)):
    return plain(size, (*colour, opacity), "RGBA")
