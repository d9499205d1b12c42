"""Scene: what an explorer shows beside the model: test images, where they lie, and figures."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from kvae.data import Dataset, fitted
from kvae.drawing.pictures import METHODS, principal
from kvae.explorer.tensors import Tensors
from kvae.limits import read_rows
from kvae.model import VAE

__all__ = ["Scene", "sheet"]

HINTS = {
    "tsne": "t-SNE of the test images' latents: neighbours stay together, distances mean little. "
    "Between points, latents are mixed of those around, and a class is that of the nearest.",
    "pca": "The two directions in which the test images' latents vary most; what lies across them "
    "stays as it is.",
}


class Scene:
    """Test images of a data set, as a model sees them.

    Args:
        vae: A trained model.
        dataset: Whose test images are shown.
        count: How many, drawn at random; all if there are fewer.
        seed: Of what is drawn.

    Raises:
        ValueError: If there are fewer than three.
    """

    def __init__(self, vae: VAE, dataset: Dataset, count: int, seed: int) -> None:
        self.vae = vae
        chosen = np.random.default_rng(seed).permutation(len(dataset.test))[:count]
        if len(chosen) < 3:
            raise ValueError(f"An explorer needs at least 3 test images. Received: {len(chosen)}")
        images = fitted(read_rows(dataset.test, chosen), vae.image_shape, vae.fitting)
        self.images = vae.taken(images)
        labels = None if dataset.test_labels is None else dataset.test_labels[chosen]
        told = vae.known(labels, dataset.class_names)
        self.rows = vae.rows_or_likeliest(told, self.images)
        self.means, _ = vae.encode_told(self.images, self.rows)
        self.kl = vae.kl_told(self.images, self.rows)
        self.scores = -vae.score(self.images, draws=1, seed=seed, classes=told).elbo
        self.labels = [-1] * len(chosen) if labels is None else [int(label) for label in labels]
        self.class_names = list(dataset.class_names)
        self.seed = seed

    def described(self, tensors: Tensors, count: int) -> dict[str, Any]:
        """The first images, as plain values.

        Args:
            tensors: To which latents are added.
            count: How many images.
        """
        means = self.means[:count]
        of_class = self.vae.condition is not None and self.vae.condition.classes is not None
        rows = self.rows[:count].argmax(axis=1).tolist() if of_class else None  # type: ignore[index]
        return {
            "images": sheet(self.images[:count]),
            "columns": columns(count),
            "background": background(self.images),
            "labels": self.labels[:count],
            "class_names": self.class_names,
            "classes": rows,
            "scores": [round(float(score), 2) for score in self.scores[:count]],
            "kl": [round(float(kl), 4) for kl in self.kl],
            "means": tensors.add(means, exact=True),
            "planes": self.planes(means),
        }

    def planes(self, means: np.ndarray) -> list[dict[str, Any]]:
        """Where the images lie in each plane that the page cannot make by itself."""
        first = means[:, : self.vae.groups[0]]
        if self.vae.latent_dim < 3:
            return []
        found, _ = METHODS["tsne"](first, self.seed)
        names = {"name": "Neighbours (t-SNE)", "hint": HINTS["tsne"]}
        planes: list[dict[str, Any]] = [{**names, "places": rounded(found)}]
        directions, places = principal(means)
        names = {"name": "Principal components", "hint": HINTS["pca"]}
        axes = {"axes": rounded(directions[:2], 6), "centre": rounded(means.mean(axis=0), 6)}
        return [*planes, {**names, **axes, "places": rounded(places[:, :2])}]

    def reconstructions(self, count: int) -> str:
        """The first images as the model makes them, for a page that cannot decode."""
        return sheet(self.vae.decode_told(self.means[:count], self.given(count)))

    def given(self, count: int) -> np.ndarray | None:
        """What the model is told of the first images."""
        return None if self.rows is None else self.rows[:count]


def rounded(values: np.ndarray, digits: int = 3) -> list:
    """Numbers that are short in a page."""
    return np.round(np.asarray(values, "float64"), digits).tolist()


def columns(count: int) -> int:
    """How many images a row of a sheet has."""
    return math.ceil(math.sqrt(count))


def sheet(images: np.ndarray) -> str:
    """Images in rows without a gap, as a PNG in base64.

    Args:
        images: (count, height, width, channels), integers in 0…255 or floats in [0, 1].
    """
    levels = images if images.dtype == np.uint8 else unit(images)
    count, height, width, channels = levels.shape
    across = columns(count)
    down = math.ceil(count / across)
    padded = np.zeros((across * down, height, width, channels), "uint8")
    padded[:count] = levels
    picture = padded.reshape(down, across, height, width, channels).transpose(0, 2, 1, 3, 4)
    picture = picture.reshape(down * height, across * width, channels)
    content = io.BytesIO()
    Image.fromarray(picture[..., 0] if channels == 1 else picture).save(
        content, "png", optimize=True
    )
    return base64.b64encode(content.getvalue()).decode()


def background(images: np.ndarray) -> str:
    """What most of the images have at their edges, as a browser calls a colour."""
    levels = unit(images)
    edges = np.concatenate([levels[:, [0, -1]], levels[:, :, [0, -1]].swapaxes(1, 2)], axis=2)
    color = np.median(edges, axis=(0, 1, 2)).astype(int)
    red, green, blue = color[:3] if len(color) > 2 else color[[0, 0, 0]]
    return f"#{red:02x}{green:02x}{blue:02x}"


def unit(images: np.ndarray) -> np.ndarray:
    """Images as levels 0…255."""
    if images.dtype.kind in "iu":
        return images.astype("uint8")
    return np.rint(255 * images.astype("float32").clip(0, 1)).astype("uint8")


def finite(history: Mapping[str, Sequence[float]]) -> dict[str, list[float | None]]:
    """Columns without what JSON does not know: NaN and infinities become None."""
    return {
        name: [float(value) if math.isfinite(value) else None for value in values]
        for name, values in history.items()
    }
