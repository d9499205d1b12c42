"""Decoding: reads the bytes of a picture, in any known format and mode, as pixels."""

import contextlib
import functools
import io
import warnings
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from kvae.data.fitting import CHANNELS, Fitting, Look, fitted_pixels
from kvae.printable import printable

__all__ = ["FORMATS", "PICTURES", "decoded", "looked_at", "reasons"]

# Suffixes of image files, and Pillow's names of their formats. Pillow opens no other format,
# whatever the suffix: for some it starts a program.
FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".dib": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
}
PICTURES = tuple(FORMATS)
GREY = ("1", "L", "LA", "La", "I", "F")  # what Pillow calls the modes of images without colour
SEE_THROUGH = ("LA", "La", "PA", "RGBA", "RGBa")  # and of those with transparency
TURNED = range(5, 9)  # the EXIF orientations in which height and width are exchanged
ORIENTATION = 0x0112  # the EXIF tag
LARGE = 4  # how many times larger than needed a JPEG must be, to be decoded at a smaller scale


@contextlib.contextmanager
def reasons() -> Iterator[None]:
    """Turns whatever Pillow raises for a damaged file into one ValueError."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata, which is not needed
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        except Exception as error:
            unknown = isinstance(error, Image.UnidentifiedImageError)
            reason = "it is of no such format" if unknown else printable(error)
            raise ValueError(reason or type(error).__name__) from None


def opened_picture(file: IO[bytes]) -> Any:
    """Opens a picture with Pillow, without reading its pixels."""
    from PIL import Image

    return Image.open(file, formats=known_formats())


@functools.cache
def known_formats() -> list[str]:
    """Pillow's names of the formats that are read here."""
    from PIL import features

    return sorted({kind for kind in FORMATS.values() if kind != "AVIF" or features.check("avif")})


def looked_at(file: IO[bytes]) -> Look:
    """Reads the header of a picture.

    Raises:
        ValueError: If it is damaged, or of an unknown format; the message is the reason.
    """
    with reasons():
        picture = opened_picture(file)
        width, height = picture.size
        # For a PNG, `getexif` would read all of it; for a TIFF, the size is that after rotation.
        known = picture.format != "TIFF" and (picture.format != "PNG" or "exif" in picture.info)
        exif = picture.getexif() if known else {}
        turned = exif.get(ORIENTATION) in TURNED
        transparent = picture.mode in SEE_THROUGH or "transparency" in picture.info
        size = (width, height) if turned else (height, width)
        return Look(size, is_grey(picture.mode), transparent)


def is_grey(mode: str) -> bool:
    """Whether images of this mode, as Pillow calls it, have no colour."""
    return mode in GREY or mode.startswith("I;")


def decoded(content: Any, fitting: Fitting) -> np.ndarray:
    """Decodes a picture and fits it; of an animation, the first image.

    Args:
        content: Content of its file, or a Pillow image.
        fitting: The fitting. If it leaves size or channels open, the picture keeps its own.

    Returns:
        (height, width, channels), uint8.

    Raises:
        ValueError: If it is damaged, or of an unknown format; the message is the reason.
    """
    with reasons():
        picture = opened_picture(io.BytesIO(content)) if isinstance(content, bytes) else content
        if fitting.image_size and picture.format == "JPEG":
            side = LARGE * max(fitting.image_size)
            if min(picture.size) > side:
                picture.draft(None, (side, side))
        return fitted_pixels(pixels_of(picture, fitting), fitting)


def pixels_of(picture: Any, fitting: Fitting) -> np.ndarray:
    """Converts a picture to (height, width, channels), uint8, turned and on a background."""
    from PIL import Image, ImageOps

    picture.load()
    picture = ImageOps.exif_transpose(picture)
    grey = is_grey(picture.mode)
    channels = fitting.channels or ("grey" if grey else "rgb")
    if picture.mode.startswith(("I", "F")):
        picture = Image.fromarray(in_8_bits(np.asarray(picture)))
    if picture.mode in SEE_THROUGH or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if channels != "rgba":
            under = Image.new("RGBA", picture.size, (*fitting.colour(), 255))
            picture = Image.alpha_composite(under, picture).convert("RGB")
    mode = {"grey": "L", "rgb": "RGB", "rgba": "RGBA"}[channels]
    pixels = np.asarray(picture if picture.mode == mode else picture.convert(mode))
    return pixels.reshape(*pixels.shape[:2], CHANNELS[channels])


def in_8_bits(values: np.ndarray) -> np.ndarray:
    """Converts grey values of 16 bits, or floats in [0, 1], to bytes."""
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not (0 <= low and high <= 1):  # in this form, NaN is refused too
            raise ValueError(f"its values are floats from {low:g} to {high:g}, not in [0, 1]")
        return np.rint(255 * values).astype("uint8")
    if low < 0 or high >= 2**16:
        raise ValueError(f"its values are integers from {low} to {high}, more than 16 bits hold")
    return ((values.astype("uint32") + 128) // 257).astype("uint8")


def brightness_of(content: bytes) -> tuple[float, float]:
    """The brightness, 0…1, of the opaque part of a picture, and its share of the area.

    Raises:
        ValueError: As for `decoded`.
    """
    pixels = decoded(content, Fitting(channels="rgba")).astype("float32") / 255
    weights = pixels[..., 3]
    grey = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], "float32")
    share = float(weights.mean())
    return (float((weights * grey).mean()) / share if share else 0.0), share
