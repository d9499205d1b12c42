"""Explorer: a model in one HTML file, for any browser."""

import base64
import hashlib
import html
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from kvae.data import Dataset
from kvae.explorer.runnable import runnable
from kvae.explorer.scene import Scene, finite
from kvae.explorer.tensors import KINDS, Tensors
from kvae.files import whole
from kvae.model import VAE
from kvae.parts import check_seed, checked_integer

__all__ = ["Explorer", "explore"]

HERE = pathlib.Path(__file__).parent
SCRIPTS = ("interpreter.js", "pictures.js", "map.js", "panels.js", "page.js")
LARGEST = 5_000_000  # bytes of a page
FEWEST = 60  # images of a page, where weights leave room for no more
IN_NOTEBOOK = 860  # pixels, the height of the frame


class Explorer:
    """A page that shows a model: `save` writes it, and a notebook shows it.

    Args:
        page: The HTML.
        notes: What the page says of itself: its weights, and what it cannot run.

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

    def save(self, path: str | os.PathLike) -> None:
        """Writes the page to a file, whole or not at all."""
        with whole(path) as partial:
            partial.write_text(self.page, encoding="utf-8")

    def _repr_html_(self) -> str:
        """The page in a frame of its own, which can reach neither the notebook nor the network."""
        style = f"width: 100%; height: {IN_NOTEBOOK}px; border: 0"
        return (
            f'<iframe sandbox="allow-scripts" style="{style}" title="kvae explorer" '
            f'srcdoc="{html.escape(self.page)}"></iframe>'
        )


def explore(
    vae: VAE,
    data: Dataset,
    count: int = 1000,
    history: Mapping[str, Sequence[float]] | None = None,
    title: str | None = None,
    weights: str | None = None,
    seed: int = 0,
) -> Explorer:
    """A page in which a model decodes and encodes, in any browser and without a network.

    Args:
        vae: A trained model.
        data: Whose test images are the points of its map.
        count: How many of them at most, drawn at random; fewer where the page would be too large.
        history: Figures by epoch, by name, such as `model.fit` gives; their curves are shown.
        title: Of the page; the data set's name where none is given.
        weights: "float16" or "int8", which halves the page and may move pixels by some hundredths;
            None: float16, unless the page would be larger than 5 MB.
        seed: Of the images that are drawn, and of t-SNE.

    Returns:
        An `Explorer`. What of the model a page cannot run is left out, or made beforehand, and the
        page says so.

    Raises:
        ValueError: If there are too few images, or an argument is not what it should be.

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
    check_seed(seed)
    if weights is not None and weights not in KINDS:
        raise ValueError(f"`weights` must be one of {', '.join(KINDS)}. Received: {weights!r}")
    scene = Scene(vae, data, count, seed)
    shown = {
        "title": title or data.name,
        "card": vae.card,
        "history": finite(history) if history else None,
    }
    count = len(scene.images)
    for kind in [weights] if weights else [*KINDS, None]:
        left = count
        while True:
            explorer = paged(scene, shown, kind, left)
            if len(explorer.page) <= LARGEST:
                return explorer
            if left <= FEWEST:
                break
            left = max(FEWEST, left // 2)
    return explorer


def paged(scene: Scene, shown: Mapping[str, Any], kind: str | None, count: int) -> Explorer:
    """The page of so many images; without a kind of weights, of what was made beforehand."""
    tensors = Tensors(kind or KINDS[0])
    model, notes = runnable(scene.vae, tensors)
    if kind is None:
        tensors = Tensors()
        model = {**model, "graphs": {}, "prior": []}
        notes = ["The model is too large for a page, so that nothing is decoded or encoded here."]
    described = scene.described(tensors, count)
    if "decoder" in model["graphs"]:
        notes.append(f"The weights are {kind}; all is computed in this page, which asks no server.")
    else:
        described["made"] = scene.reconstructions(count)
        notes.append("Reconstructions of test images were made beforehand.")
    data = {
        **shown,
        **described,
        "model": {**model, "tensors": tensors.entries},
        "weights": tensors.text(),
        "notes": notes,
    }
    return Explorer(html_of(data, str(shown["title"])), notes)


def html_of(data: Mapping[str, Any], title: str) -> str:
    """The page, whose policy lets its own script and style pass and nothing else."""
    style = (HERE / "style.css").read_text(encoding="utf-8")
    script = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {digest(script)}",
            f"style-src {digest(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    # Within a script only "<" could end it, and so JSON has none here.
    text = json.dumps(data, allow_nan=False, default=str, separators=(",", ":"))
    parts = {
        "policy": policy,
        "title": html.escape(title),
        "style": style,
        "data": text.replace("<", "\\u003c"),
        "script": script,
    }
    page = (HERE / "page.html").read_text(encoding="utf-8")
    before, *rest = page.split("{{")
    filled = [before]
    for piece in rest:
        name, after = piece.split("}}", 1)
        filled += [parts[name], after]
    return "".join(filled)


def digest(text: str) -> str:
    """What a content security policy calls a script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
