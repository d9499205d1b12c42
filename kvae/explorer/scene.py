"""Scene: the test images of an explorer, their places on maps, and figures."""

import base64
import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import ops
from PIL import Image

from kvae.data import Dataset, fitted
from kvae.drawing.pictures import METHODS, kl_words, of_first, principal
from kvae.drawing.plots import levels
from kvae.limits import read_rows
from kvae.model import VAE

__all__ = ["Scene", "plain", "sheet"]

BYTES_OF_A_PLACE = 60  # upper bound: the places of an image in two planes


class Scene:
    """Test images of a data set, encoded by a model.

    Args:
        vae: A trained model.
        dataset: A data set, whose test images are shown.
        count: Number of images, drawn at random; all if there are fewer.
        seed: Random seed of the choice of images.

    Raises:
        ValueError: If there are fewer than three images.
    """

    def __init__(self, vae: VAE, dataset: Dataset, count: int, seed: int) -> None:
        self.vae = vae
        self.seed = seed
        chosen = np.random.default_rng(seed).permutation(len(dataset.test))[:count]
        if len(chosen) < 3:
            raise ValueError(f"An explorer needs at least 3 test images. Received: {len(chosen)}")
        images = fitted(read_rows(dataset.test, chosen), vae.image_shape, vae.fitting)
        self.images = vae.taken(images)
        labels = None if dataset.test_labels is None else dataset.test_labels[chosen]
        self.class_names = list(dataset.class_names)
        self.classes, self.scores = self.scored(vae.known(labels, self.class_names))
        self.rows = vae.rows(self.classes, len(chosen))
        self.means, log_variance = vae.encode_told(self.images, self.rows)
        posterior = map(ops.convert_to_tensor, (self.means, log_variance))
        self.kl = ops.convert_to_numpy(vae.prior.kl_per_latent(*posterior)).mean(axis=0)
        whole = labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu"
        self.labels = labels.tolist() if whole else [-1] * len(chosen)  # type: ignore[union-attr]

    def scored(self, classes: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray]:
        """The classes, or the likeliest if unknown, and −ELBO given these."""
        condition = self.vae.condition
        if classes is None and condition is not None and condition.classes:
            each = self.vae.score_of_each(self.images, 1, self.seed)
            classes = np.stack([one.log_prob for one in each]).argmax(axis=0)
            return classes, -np.stack([one.elbo for one in each])[classes, np.arange(len(classes))]
        return classes, -self.vae.score(self.images, 1, self.seed, classes=classes).elbo

    @property
    def of_class(self) -> bool:
        """Whether the model is conditional on classes."""
        return self.vae.condition is not None and self.vae.condition.classes is not None

    @property
    def model_classes(self) -> list[str]:
        """The names of the model's classes, which may differ from those of the data set."""
        if not self.of_class:
            return []
        count: int = self.vae.condition.classes  # type: ignore[union-attr, assignment]
        own = list(self.vae.card.get("class_names") or [])
        names = own if own else self.class_names
        return names if len(names) == count else [str(number) for number in range(count)]

    def described(self, count: int) -> dict[str, Any]:
        """The first images as plain values, without `planes`."""
        return {
            "images": sheet(self.images[:count]),
            "columns": columns(count),
            "background": background(self.images),
            "fit": self.vae.fitting.fit,
            "labels": self.labels[:count],
            "class_names": self.class_names,
            "model_classes": self.model_classes,
            "classes": self.rows[:count].argmax(axis=1).tolist() if self.of_class else None,  # type: ignore[index]
            "scores": [round(float(score), 2) for score in self.scores[:count]],
            "kl": [round(float(kl), 4) for kl in self.kl],
            "kl_of": kl_words(self.vae),
            "means": base64.b64encode(self.means[:count].astype("<f4").tobytes()).decode(),
        }

    def planes(self, count: int) -> list[dict[str, Any]]:
        """The places of the first images in each plane that the page cannot compute."""
        if self.vae.latent_dim < 3:
            return []
        found: list[dict[str, Any]] = []
        means = self.means[:count]
        if self.vae.groups[0] > 1:
            first = means[:, : self.vae.groups[0]]
            hint = f"t-SNE of the {of_first(self.vae)} of the test images: neighbours stay "
            hint += "together, distances mean little. Between points, latents are mixed of those "
            hint += "around" + (", and a class is that of the nearest." if self.of_class else ".")
            near = rounded(METHODS["tsne"](first, self.seed)[0])
            found.append({"name": "Neighbours (t-SNE)", "hint": hint, "places": near})
        directions, places = principal(means)
        return [
            *found,
            {
                "name": "Principal components",
                "hint": "The two directions in which the test images' latents vary most; what "
                "lies across them stays as it is.",
                "axes": rounded(directions[:2], 6),
                "centre": rounded(means.mean(axis=0), 6),
                "places": rounded(places[:, :2]),
            },
        ]

    def bytes_of_planes(self, count: int) -> int:
        """The largest size of `planes` in a page, in bytes."""
        return BYTES_OF_A_PLACE * count + 60 * self.vae.latent_dim + 2000

    def reconstructions(self, count: int) -> str:
        """The reconstructions of the first images, for a page that cannot decode."""
        rows = None if self.rows is None else self.rows[:count]
        return sheet(self.vae.decode_told(self.means[:count], rows))


def rounded(values: np.ndarray, digits: int = 3) -> list:
    """Rounds numbers, so that they are short in a page."""
    return np.round(np.asarray(values, "float64"), digits).tolist()


def columns(count: int) -> int:
    """The number of images in a row of a sheet."""
    return math.ceil(math.sqrt(count))


def sheet(images: np.ndarray) -> str:
    """Arranges images in rows without gaps, as a PNG in base64.

    Args:
        images: (count, height, width, channels), integers in 0…255 or floats in [0, 1]. If the
            channels are not colours, the first or the first three are shown.
    """
    pictures = levels(images)
    kind = {1: 1, 2: 1, 4: 4}.get(pictures.shape[3], 3)
    count, height, width, channels = (pictures := pictures[..., :kind]).shape
    across = columns(count)
    down = math.ceil(count / across)
    padded = np.zeros((across * down, height, width, channels), "uint8")
    padded[:count] = pictures
    picture = padded.reshape(down, across, height, width, channels).transpose(0, 2, 1, 3, 4)
    picture = picture.reshape(down * height, across * width, channels)
    content = io.BytesIO()
    Image.fromarray(picture[..., 0] if channels == 1 else picture).save(
        content, "png", optimize=True
    )
    return base64.b64encode(content.getvalue()).decode()


def background(images: np.ndarray) -> str:
    """The most common colour at the edges of the images, as CSS."""
    whole = levels(images)
    edges = np.concatenate([whole[:, [0, -1]], whole[:, :, [0, -1]].swapaxes(1, 2)], axis=2)
    color = np.median(edges, axis=(0, 1, 2)).astype(int)
    red, green, blue = color[:3] if len(color) > 2 else color[[0, 0, 0]]
    return f"#{red:02x}{green:02x}{blue:02x}"


def plain(value: Any, unknown: Callable[[float], Any] = lambda number: None) -> Any:
    """Converts a value to JSON types; NaN and infinities become the result of `unknown`.

    Args:
        value: Any value; unknown types become text.
        unknown: A function of NaN or an infinity.
    """
    if isinstance(value, Mapping):
        return {str(name): plain(one, unknown) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), unknown)
    if isinstance(value, (list, tuple)):
        return [plain(one, unknown) for one in value]
    if isinstance(value, np.generic):
        return plain(value.item(), unknown)
    if isinstance(value, float):
        return value if math.isfinite(value) else unknown(value)
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
