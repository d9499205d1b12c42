"""Fitting: how pictures of any size, mode and transparency become images of one shape."""

import collections
import dataclasses
import numbers
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from kvae.printable import printable

__all__ = ["BACKGROUNDS", "CHANNELS", "FITS", "Fitting", "Look", "resolved", "size_of"]

FITS = ("crop", "pad", "stretch")
CHANNELS = {"grey": 1, "rgb": 3, "rgba": 4}
BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0)}
LONGEST_SIDE = 2**16  # pixels
LARGEST_KEPT = 128  # pixels; where all images have one size, and that is larger, they are shrunk
SENSIBLE = (64, 32, 16, 8)  # sides of the square for images of many sizes
MOSTLY = 0.8  # the share of images of one size from which on that is the common one
NEARLY_WHITE = 0.8  # the mean brightness from which on drawings are laid over black


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitting:
    """The rules by which pictures become images of one shape.

    Attributes:
        image_size: (height, width) in pixels. None: still to be chosen.
        fit: How pictures of another aspect ratio are fitted: "crop" cuts both ends of the longer
            side, "pad" adds the background to the shorter side, "stretch" distorts.
        channels: "grey", "rgb" or "rgba". None: still to be chosen, or as they are if images have
            another number of channels.
        background: Background of transparent pictures: "white", "black" or "#rrggbb". None: still
            to be chosen.

    Raises:
        ValueError: If a value is invalid.

    Example:
        >>> from kvae.data import Fitting
        >>> Fitting(image_size=64).image_size
        (64, 64)
    """

    image_size: Any = None
    fit: str = "crop"
    channels: str | None = None
    background: str | None = None

    def __post_init__(self) -> None:
        """Checks each value."""
        if self.image_size is not None:
            object.__setattr__(self, "image_size", size_of(self.image_size))
        for name, choices in (("fit", FITS), ("channels", (None, *CHANNELS))):
            if getattr(self, name) not in choices:
                words = ", ".join(repr(choice) for choice in choices if choice)
                raise ValueError(
                    f"`{name}` must be one of {words}. Received: {name}={getattr(self, name)!r}"
                )
        if self.background is not None:
            self.colour()

    def colour(self) -> tuple[int, int, int]:
        """The background as (red, green, blue), each in 0…255; white if it is not chosen yet."""
        background = self.background or "white"
        if background in BACKGROUNDS:
            return BACKGROUNDS[background]
        found = isinstance(background, str) and re.fullmatch("#([0-9a-fA-F]{6})", background)
        if not found:
            raise ValueError(
                "`background` must be 'white', 'black' or a colour such as '#ff8800'. Received: "
                f"background={printable(repr(background))}"
            )
        red, green, blue = bytes.fromhex(found[1])
        return red, green, blue

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of a fitting with nothing left to choose."""
        if self.image_size is None or self.channels is None:
            raise ValueError("A fitting has a shape where its size and its channels are chosen.")
        return (*self.image_size, CHANNELS[self.channels])


@dataclasses.dataclass(frozen=True)
class Look:
    """Facts from the header of a picture.

    Attributes:
        size: (height, width) in pixels, as shown after the EXIF rotation.
        grey: Whether it is grey.
        transparent: Whether it may have transparency.
    """

    size: tuple[int, int]
    grey: bool
    transparent: bool


def size_of(value: Any) -> tuple[int, int]:
    """Returns (height, width) of a pair, or of a side.

    Raises:
        ValueError: If it is neither.
    """
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    whole = all(isinstance(side, numbers.Integral) and side is not True for side in pair)
    if len(pair) == 2 and whole and all(1 <= side <= LONGEST_SIDE for side in pair):
        return int(pair[0]), int(pair[1])
    raise ValueError(
        "`image_size` must be a side in pixels, or (height, width). Received: "
        f"image_size={printable(repr(value))}"
    )


def resolved(
    fitting: Fitting, looks: Sequence[Look], brightness: float | None = None
) -> tuple[Fitting, list[str]]:
    """Completes a fitting for these pictures; also returns what to tell the user.

    Args:
        fitting: The user's fitting.
        looks: The looks of all pictures.
        brightness: Brightness, 0…1, of the opaque parts of transparent pictures. None: not known.
    """
    said = []
    size, some = chosen_size(fitting, looks)
    said += some
    grey = sum(look.grey for look in looks)
    channels = fitting.channels or ("grey" if grey == len(looks) else "rgb")
    if fitting.channels is None and 0 < grey < len(looks):
        said.append(f"{grey:,} of {len(looks):,} images are grey and become RGB.")
    transparent = sum(look.transparent for look in looks)
    background = fitting.background
    if background is None and transparent:
        light = brightness is not None and brightness > NEARLY_WHITE
        background = "black" if light else "white"
    if transparent and channels != "rgba":
        share = "" if transparent == len(looks) else f" of {counted(transparent)}"
        said.append(
            f"Transparency{share} is laid over {background}; --background for another, --channels "
            "rgba to keep it."
        )
    chosen = dataclasses.replace(fitting, image_size=size, channels=channels, background=background)
    return chosen, said


def counted(number: int) -> str:
    """A number of images, in words."""
    return f"{number:,} image{'s' * (number != 1)}"


def chosen_size(fitting: Fitting, looks: Sequence[Look]) -> tuple[tuple[int, int], list[str]]:
    """Chooses (height, width) for pictures of these sizes; also what to tell the user."""
    counts = collections.Counter(look.size for look in looks)
    ((common, count),) = counts.most_common(1)
    size, cure = fitting.image_size, ""
    if size is None:
        cure = "; --image-size for another"
        is_common = count >= MOSTLY * len(looks)
        if is_common and max(common) <= LARGEST_KEPT:
            size = common
        else:
            sides = sorted(min(look.size) for look in looks)
            middle = sides[len(sides) // 2]
            side = next((side for side in SENSIBLE if side <= middle), middle)
            size = (side, side)
    others = sorted((one for one in counts if one != size), key=lambda one: one[0] * one[1])
    if not others:
        return size, []
    least, most = shown_size(others[0]), shown_size(others[-1])
    span = least if least == most else f"{least} to {most}"
    number = sum(counts[one] for one in others)
    images = "Images" if number == len(looks) else f"{number:,} of {len(looks):,} images,"
    distorted = any(one[0] * size[1] != one[1] * size[0] for one in others)
    deed = {"crop": "cropped", "pad": "padded", "stretch": "stretched"}[fitting.fit]
    deed = deed if distorted else "resized"
    return size, [f"{images} from {span} pixels are {deed} to {shown_size(size)}{cure}."]


def shown_size(size: Sequence[int]) -> str:
    """Writes (height, width) as people do, width first."""
    return f"{size[1]}×{size[0]}"


def boxes(
    size: tuple[int, int], target: tuple[int, int], fit: str
) -> tuple[tuple[float, float, float, float], tuple[int, int, int, int]]:
    """Computes which part of a picture is used, and its place in the image.

    Args:
        size: (height, width) of the picture.
        target: (height, width) of the image.
        fit: "crop", "pad" or "stretch".

    Returns:
        (left, top, right, bottom) in the picture, which may be fractions of pixels, and the same in
        the image.
    """
    (height, width), (to_height, to_width) = size, target
    if fit == "crop":
        factor = min(height / to_height, width / to_width)
        tall, wide = factor * to_height, factor * to_width
        left, top = (width - wide) / 2, (height - tall) / 2
        return (left, top, left + wide, top + tall), (0, 0, to_width, to_height)
    if fit == "pad":
        factor = min(to_height / height, to_width / width)
        tall = min(to_height, max(1, round(factor * height)))
        wide = min(to_width, max(1, round(factor * width)))
        left, top = (to_width - wide) // 2, (to_height - tall) // 2
        return (0, 0, width, height), (left, top, left + wide, top + tall)
    return (0, 0, width, height), (0, 0, to_width, to_height)


def fitted_pixels(pixels: np.ndarray, fitting: Fitting) -> np.ndarray:
    """Fits pixels, (height, width, channels), uint8 or float, to the size of the fitting.

    The result is antialiased: each new pixel averages all old pixels that it covers (Lanczos, three
    lobes). The colour of transparent pixels does not count.
    """
    from PIL import Image

    target = fitting.image_size or pixels.shape[:2]
    if pixels.shape[:2] == target:
        return pixels
    source, (left, top, right, bottom) = boxes(pixels.shape[:2], target, fitting.fit)
    if pixels.dtype == np.uint8 and pixels.shape[2] in CHANNELS.values():
        modes = {1: "L", 3: "RGB", 4: "RGBA"}
        planes = [Image.fromarray(pixels.squeeze() if pixels.shape[2] == 1 else pixels)]
        planes = [Image.frombytes(modes[pixels.shape[2]], pixels.shape[1::-1], pixels.tobytes())]
    else:
        planes = [
            Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(pixels, 2, 0)
        ]
    done = [
        np.asarray(plane.resize((right - left, bottom - top), Image.Resampling.LANCZOS, box=source))
        for plane in planes
    ]
    inside = done[0] if done[0].ndim == 3 else np.stack(done, axis=-1)
    if pixels.dtype != np.uint8:
        inside = inside.clip(0, 1)  # Lanczos overshoots
    if inside.shape[:2] == target:
        return inside
    image = np.empty((*target, pixels.shape[2]), pixels.dtype)
    image[:] = margin(pixels.shape[2], fitting, pixels.dtype)
    image[top:bottom, left:right] = inside
    return image


def margin(channels: int, fitting: Fitting, dtype: Any) -> np.ndarray:
    """The value of padding pixels: the background; transparent in RGBA."""
    red, green, blue = fitting.colour() if fitting.background else BACKGROUNDS["black"]
    grey = round(0.299 * red + 0.587 * green + 0.114 * blue)
    values = {1: [grey], 3: [red, green, blue], 4: [0, 0, 0, 0]}.get(channels, [grey] * channels)
    return np.array(values, "float32") / 255 if dtype != np.uint8 else np.array(values, "uint8")


def fitted_images(images: Iterable[np.ndarray], fitting: Fitting) -> np.ndarray:
    """Fits images of one shape; see `fitted_pixels`."""
    return np.stack([fitted_pixels(image, fitting) for image in images])
