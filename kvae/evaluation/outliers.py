"""Outliers: the images that a model finds least likely, and how well scores separate sets."""

import dataclasses
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from kvae.data import Dataset, fitted
from kvae.limits import read_rows
from kvae.markup import section, table
from kvae.model import VAE, Scores

__all__ = ["Outliers", "auroc", "complexity", "outliers"]

SAME_OF_EACH_FILE = 57  # bytes of a PNG file: signature, sizes, and frame of the pixels
AT_A_TIME = 500  # images observed and compressed at a time
MOST_SHOWN = 20  # rows of a table in a notebook
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@dataclasses.dataclass(frozen=True, eq=False)
class Outliers:
    """The result of `outliers`: the images of a split, the least likely first.

    Attributes:
        indices: (count,), int64: index of each image in the split.
        values: (count,), float64: the values that determine the order, in nats: −log p(x), or −log
            p(x) − L(x) if complexity is subtracted. The largest come first.
        images: (count, height, width, channels), resized to the model's size.
        labels: (count,), int64, or None if the split has none.
        scores: Scores of all images that were scored, in the order of the split.
        complexity: L(x) of these images, in nats. None if it is not subtracted.

    Example:
        >>> import kvae
        >>> data = kvae.data.load("digits")
        >>> vae = kvae.VAE.from_preset("mlp-400", data.image_shape)
        >>> found = kvae.evaluation.outliers(vae, data, count=5, draws=10)
        >>> found.images.shape, len(found.scores)
        ((5, 8, 8, 1), 179)
    """

    indices: np.ndarray
    values: np.ndarray
    images: np.ndarray
    labels: np.ndarray | None
    scores: Scores
    complexity: np.ndarray | None = None

    def _repr_html_(self) -> str:
        """A table for a notebook, with a row for each image."""
        what = "−log p(x)" if self.complexity is None else "−log p(x) − L(x)"
        head = ["place in the split", what] + ["label"] * (self.labels is not None)
        columns = [self.indices, [f"{value:.2f}" for value in self.values]]
        columns += [] if self.labels is None else [self.labels]
        rows = list(zip(*columns, strict=True))
        title = f"{len(rows):,} of {len(self.scores):,} images, the least likely first"
        found = table(rows[:MOST_SHOWN], head, numbers=True)
        more = [f"and {len(rows) - MOST_SHOWN:,} more"] * (len(rows) > MOST_SHOWN)
        return section(title, found, notes=[*more, self.scores.protocol])


def outliers(
    vae: VAE,
    dataset: Dataset,
    split: str = "test",
    *,
    count: int = 25,
    images: int | None = None,
    draws: int = 100,
    seed: int = 0,
    subtract_complexity: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Outliers:
    """Finds the least likely images of a split, by −log p(x) or −log p(x) − L(x).

    The likelihood alone is misleading between data sets: a model of clothes finds digits likelier
    than clothes, because digits are simpler. One remedy is to subtract the complexity of each
    image; see `complexity`.

    Args:
        vae: A trained model.
        dataset: A data set from `kvae.data.load` or `kvae.data.from_arrays`. Images of another size
            are resized to the model's.
        split: "train", "validation" or "test".
        count: Number of images to return, or all if there are fewer.
        images: Score only the first N images of the split. None: all.
        draws: Number of draws of z per image.
        seed: Random seed of the draws.
        subtract_complexity: Whether to subtract L(x).
        progress: Called with the number of images that are done, and the number of all.

    Raises:
        ValueError: If an argument is invalid.

    References:
        Nalisnick, Matsukawa, Teh, Gorur and Lakshminarayanan (2019), "Do deep generative models
        know what they don't know?", arXiv:1810.09136. Serrà, Álvarez, Gómez, Slizovskaia, Núñez and
        Luque (2020), "Input complexity and out-of-distribution detection with likelihood-based
        generative models", arXiv:1909.11480, equation 2.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"`split` must be train, validation or test. Received: split={split!r}")
    for name, value in (("count", count), ("images", 1 if images is None else images)):
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(
                f"`{name}` must be an integer of at least 1. Received: {name}={value!r}"
            )
    chosen = fitted(getattr(dataset, split)[:images], vae.image_shape, vae.fitting)
    scores = vae.score(chosen, draws, seed, progress)
    values, nats = -scores.log_prob, None
    if subtract_complexity:
        nats = complexity(vae, chosen, seed)
        values = values - nats
    indices = np.argsort(-values, kind="stable")[:count]
    labels = getattr(dataset, f"{split}_labels")
    return Outliers(
        indices,
        values[indices],
        read_rows(chosen, indices),
        None if labels is None else labels[indices],
        scores,
        nats,
    )


def complexity(vae: VAE, images: Any, seed: int = 0) -> np.ndarray:
    r"""Computes the complexity L(x) of each image: the size of its PNG file, in nats.

    $$S(x) = -\log p(x) - L(x)$$

    This score separates other kinds of images from the training images by more than their
    simplicity. The complexity is that of the observed image, with black-and-white pixels if they
    are binarised, and without the bytes that all PNG files share. If the likelihood is a density, S
    has no zero, and only its order has a meaning.

    Args:
        vae: The model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        seed: As for `VAE.score`.

    Returns:
        (count,), float64, nats.

    References:
        Serrà, Álvarez, Gómez, Slizovskaia, Núñez and Luque (2020), "Input complexity and
        out-of-distribution detection with likelihood-based generative models", arXiv:1909.11480,
        equation 2.
    """
    images = vae.check(images)
    sizes = []
    for start in range(0, len(images), AT_A_TIME):
        observed = vae.observed_alone(images[start : start + AT_A_TIME], seed)
        sizes += [compressed_bytes(one) for one in np.rint(255 * observed).astype("uint8")]
    return 8 * math.log(2) * np.array(sizes, "float64")


def compressed_bytes(image: np.ndarray) -> int:
    """The size of an image, (height, width, channels), uint8, as PNG without its frame."""
    from PIL import Image

    height, width, channels = image.shape
    mode = MODES.get(channels, "L")
    if channels not in MODES:  # channels side by side
        image = image.transpose(0, 2, 1).reshape(height, -1, 1)
    picture = Image.fromarray(image[..., 0] if mode == "L" else image, mode)
    if mode == "L" and np.isin(image, (0, 255)).all():
        picture = picture.convert("1", dither=Image.Dither.NONE)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.tell() - SAME_OF_EACH_FILE


def auroc(inside: Any, outside: Any) -> float:
    r"""Computes the area under the ROC curve: how well a value separates outside images.

    $$P(v_{\text{outside}} > v_{\text{inside}}) + \tfrac12 P(v_{\text{outside}} =
    v_{\text{inside}})$$

    The two images are drawn at random. 1 is perfect, ½ is chance; below ½, the outside images seem
    more typical than the others. It is computed from ranks, so it is exact, also with ties.

    Args:
        inside: (count,), values of images like those of training; large for unlikely images, as
            −log p(x) is.
        outside: (count,), values of other images.

    Raises:
        ValueError: If one of them is empty or has NaN.

    References:
        Hanley and McNeil (1982), "The meaning and use of the area under a receiver operating
        characteristic (ROC) curve", Radiology 143(1).

    Example:
        >>> from kvae.evaluation import auroc
        >>> auroc([1, 2, 3], [3, 4])
        0.9166666666666666
    """
    inside, outside = (np.asarray(values, "float64").ravel() for values in (inside, outside))
    for name, values in (("inside", inside), ("outside", outside)):
        if not len(values) or np.isnan(values).any():
            raise ValueError(
                f"`{name}` must be at least one value, none of them NaN. Received: {len(values)} "
                f"values, {int(np.isnan(values).sum())} of them NaN"
            )
    ordered = np.sort(inside)
    below, up_to = (np.searchsorted(ordered, outside, side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(inside)))
