"""Explorer: a model in one HTML file, for any browser."""

import html
import os
from collections.abc import Mapping, Sequence
from typing import Any

from kvae.data import Dataset
from kvae.explorer.runnable import runnable
from kvae.explorer.scene import Scene, plain
from kvae.explorer.template import page_of
from kvae.explorer.tensors import KINDS, Tensors
from kvae.files import whole
from kvae.model import VAE
from kvae.parts import check_seed, checked_integer

__all__ = ["Explorer", "explore"]

LARGEST = 5_000_000  # bytes of a page
MOST_IMAGES = 10_000
FEW_IMAGES = 20  # to show more images than this, weights become int8
FEWEST_IMAGES = 3
IN_NOTEBOOK = 860  # height of the frame in pixels


class Explorer:
    """A page that shows a model. `save` writes it; a notebook shows it.

    Args:
        page: The HTML.
        notes: Remarks on the page: its weights, and what it cannot run.

    Example:
        >>> import pathlib, tempfile
        >>> from kvae import Explorer
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "explorer.html"
        ...     Explorer("<!doctype html>").save(path)
        ...     path.read_text()
        '<!doctype html>'
    """

    def __init__(self, page: str, notes: Sequence[str] = ()) -> None:
        self.page = page
        self.notes = list(notes)

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return len(self.page.encode())

    def save(self, path: str | os.PathLike) -> None:
        """Writes the page to a file, whole or not at all."""
        with whole(path) as partial:
            partial.write_text(self.page, encoding="utf-8")

    def _repr_html_(self) -> str:
        """The page in a sandboxed frame, without access to the notebook or the network."""
        style = f"width: 100%; height: {IN_NOTEBOOK}px; border: 0"
        return (
            f'<iframe sandbox="allow-scripts" style="{style}" title="kvae explorer" '
            f'srcdoc="{html.escape(self.page)}"></iframe>'
        )


def explore(
    vae: VAE,
    data: Dataset,
    count: int = 1000,
    history: Any = None,
    title: str | None = None,
    weights: str | None = None,
    seed: int = 0,
) -> Explorer:
    """Makes a page in which a model decodes and encodes, in any browser, without a network.

    Parts that a page cannot run, such as a layer of your own, are computed beforehand or left out;
    the page says so.

    Args:
        vae: A trained model.
        data: A data set; its test images are the points of the map.
        count: Number of test images, 3 to 10,000, drawn at random; fewer if the page would exceed 5
            MB.
        history: The result of `model.fit`, or its `history`: figures by name and epoch.
        title: Title of the page. None: the name of the data set.
        weights: Precision of the weights in the page: "int16", with a scale for each channel, or
            "int8", which takes half the bytes and may move pixels by some hundredths. None: int16,
            or int8 if the page would exceed 5 MB.
        seed: Random seed of the choice of images, and of t-SNE.

    Raises:
        ValueError: If there are too few images, an argument is invalid, or a page of 5 MB has no
            room for the weights asked for, or for three images.

    Example:
        >>> import numpy as np
        >>> import kvae
        >>> data = kvae.data.from_arrays(np.zeros((60, 8, 8, 1), "uint8"), name="black")
        >>> vae = kvae.VAE.from_preset("mlp-400", data.image_shape, latent_dim=2)
        >>> explorer = kvae.explore(vae, data)
        >>> explorer.page[:15]
        '<!doctype html>'
    """
    count = checked_integer("count", count)
    if count > MOST_IMAGES:
        raise ValueError(f"`count` must be at most {MOST_IMAGES:,}. Received: count={count}")
    check_seed(seed)
    if weights is not None and weights not in KINDS:
        raise ValueError(f"`weights` must be one of {', '.join(KINDS)}. Received: {weights!r}")
    title = title or data.name
    history = getattr(history, "history", history)
    if history is not None and not isinstance(history, Mapping):
        raise ValueError(f"`history` must be figures by name. Received: {type(history).__name__}")
    return Maker(Scene(vae, data, count, seed), title, history, weights).made()


class Maker:
    """Makes the page of a scene, with as many images as it has room for.

    Args:
        scene: The test images and figures that are shown beside the model.
        title: The title.
        history: Figures by name and epoch, or None.
        weights: Kind of weights. None: whatever fits.
    """

    def __init__(
        self, scene: Scene, title: str, history: Mapping[str, Any] | None, weights: str | None
    ) -> None:
        self.scene = scene
        self.weights = weights
        self.fixed = {
            "title": title,
            "card": plain(scene.vae.card, str),
            "history": plain(history),
        }
        self.models: dict[str | None, tuple[dict[str, Any], list[str]]] = {}

    def made(self) -> Explorer:
        """Makes the page.

        If room is short, it prefers int8 weights to very few images, and very few images to leaving
        out the model.
        """
        kinds = [self.weights] if self.weights else list(KINDS)
        few = min(FEW_IMAGES, len(self.scene.images))
        tries: list[tuple[str | None, int]] = [(kind, few) for kind in kinds]
        tries += [(kind, FEWEST_IMAGES) for kind in kinds]
        for kind, least in tries if self.weights else [*tries, (None, FEWEST_IMAGES)]:
            if self.size(kind, least) <= LARGEST:
                return self.page(kind, self.most(kind, least))
        most = f"{LARGEST / 1e6:g} MB"
        if self.weights and self.size(None, FEWEST_IMAGES) <= LARGEST:
            raise ValueError(
                f"With weights as {self.weights} the page would be larger than {most}: "
                "leave out `weights`."
            )
        raise ValueError(f"A page of {most} has no room for three images of this size.")

    def most(self, kind: str | None, least: int) -> int:
        """The largest number of images that fits; `least` are known to fit."""
        count = len(self.scene.images)
        while count > least and (size := self.size(kind, count)) > LARGEST:
            count = max(least, min(count - 1, int(count * 0.97 * LARGEST / size)))
        return count

    def size(self, kind: str | None, count: int) -> int:
        """Upper bound on the size in bytes of the page with this many images."""
        weights = len(self.model(kind)[0]["weights"])
        if weights > LARGEST:
            return weights
        explorer = self.filled(kind, count, planes=[])
        return explorer.size + self.scene.bytes_of_planes(count)

    def page(self, kind: str | None, count: int) -> Explorer:
        """The page with this many images."""
        return self.filled(kind, count, self.scene.planes(count))

    def filled(self, kind: str | None, count: int, planes: list[dict[str, Any]]) -> Explorer:
        """The page with this many images and their places in the planes."""
        model, notes = self.model(kind)
        described = {**self.scene.described(count), "planes": planes}
        if "decoder" not in model["model"]["graphs"]:
            described["made"] = self.scene.reconstructions(count)
        content = {**self.fixed, **described, **model, "notes": notes}
        return Explorer(page_of(content, self.fixed["title"]), notes)

    def model(self, kind: str | None) -> tuple[dict[str, Any], list[str]]:
        """The model with weights of this kind, packed once, and notes; no model for None."""
        if kind not in self.models:
            tensors = Tensors(kind or KINDS[0])
            model, notes = runnable(self.scene.vae, tensors)
            if kind is None:
                tensors = Tensors()
                model = {**model, "graphs": {}, "prior": []}
                notes = ["The model is too large for a page: nothing is decoded or encoded here."]
            if "decoder" in model["graphs"]:
                notes.append(
                    f"The weights are {kind}. The page computes all of it, and asks no server."
                )
            else:
                notes.append("Reconstructions of test images were computed beforehand.")
            packed = {"model": {**model, "tensors": tensors.entries}, "weights": tensors.text()}
            self.models[kind] = packed, notes
        return self.models[kind]
