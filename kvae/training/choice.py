"""Choice: the preset, batch size and likelihood for the images, if the user names none."""

import numpy as np

from kvae.data import Dataset
from kvae.limits import read_rows
from kvae.recipe import Recipe

__all__ = ["batch_size_for", "likelihood_for", "preset_for"]

DENSE = 16 * 16  # pixels of an image up to which dense layers are as good as others
FLAT = 32 * 32  # pixels of a grey image up to which latents need no grid
AT_ONCE = 64 * 128 * 128  # pixels of a batch; convolutions need about 3 GB to train on it
LOOKED_AT = 1_000  # images, to choose a likelihood
DARK, LIGHT = 25, 230  # of 255; values beyond are nearly black or nearly white
STROKES = 0.8  # with at least this share of such pixels, images are strokes
FEW_LEVELS = 32  # with at most this many grey levels, images are (small) strokes too


def preset_for(dataset: Dataset) -> tuple[str, str]:
    """Chooses the preset for images of this size, and says why.

    Example:
        >>> from kvae.data import load
        >>> preset_for(load("digits"))
        ('mlp', 'small images')
    """
    height, width, channels = dataset.image_shape
    if height * width <= DENSE:
        return "mlp", "small images"
    if channels == 1 and height * width <= FLAT:
        return "conv", "grey images of up to 32×32"
    return "conv-colour", "images in colour" if channels > 1 else "images of more than 32×32"


def batch_size_for(recipe: Recipe, image_shape: tuple[int, ...]) -> int:
    """The batch size of the recipe, halved for large images until a batch fits in memory.

    Example:
        >>> [batch_size_for(Recipe(batch_size=64), (side, side, 3)) for side in (64, 256)]
        [64, 16]
    """
    height, width, _ = image_shape
    batch_size = recipe.batch_size
    while batch_size > 1 and batch_size * height * width > AT_ONCE:
        batch_size //= 2
    return batch_size


def likelihood_for(recipe: Recipe, dataset: Dataset) -> tuple[str, str]:
    """Chooses the likelihood for these pixels, and says why.

    Example:
        >>> from kvae.data import load
        >>> likelihood_for(Recipe(), load("digits"))
        ('bernoulli', 'black and white, or strokes')
    """
    if recipe.binarize is not None:
        return "bernoulli", "--binarize"
    if recipe.scale is not None:
        return "gaussian", "--scale"
    every = max(1, len(dataset.train) // LOOKED_AT)
    images = read_rows(dataset.train, np.arange(0, len(dataset.train), every)[:LOOKED_AT])
    if images.shape[-1] == 1 and are_strokes(images):
        return "bernoulli", "black and white, or strokes"
    if images.dtype != np.uint8 and not are_levels(images):
        return "gaussian", "values that are not those of 8 bits"
    return "logistic-mixture", "pictures of 8 bits"


def are_strokes(images: np.ndarray) -> bool:
    """Whether grey images are (nearly) black and white, such as drawings or handwriting."""
    scale = 1 if images.dtype == np.uint8 else 255
    dark, light = images <= DARK / scale, images >= LIGHT / scale
    if (dark | light).mean() >= STROKES:
        return True
    return len(np.unique(images)) <= FEW_LEVELS


def are_levels(images: np.ndarray) -> bool:
    """Whether floats are all multiples of 1/255."""
    return bool((np.abs(255 * images - np.rint(255 * images)) <= 1e-3).all())
