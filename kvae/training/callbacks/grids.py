"""Callbacks that draw grids of new and reconstructed images by epoch."""

import pathlib
from typing import Any

import keras
import numpy as np

from kvae.drawing import plots
from kvae.files import or_warn

__all__ = ["ReconstructionGrid", "SampleGrid", "is_due"]


class Grid(keras.callbacks.Callback):
    """Draws a picture of the model after an epoch.

    Args:
        folder: Folder of `epoch-0001.png`, …, which is made if missing. None: write nothing.
        every: Number of epochs between two pictures. The last planned epoch has one too.
    """

    def __init__(self, folder: str | pathlib.Path | None, every: int = 1) -> None:
        super().__init__()
        self.folder = None if folder is None else pathlib.Path(folder)
        self.every = every

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Draws the picture if the epoch is due."""
        if is_due(epoch, self.every, self.params):
            with or_warn():
                picture = self.picture()  # on JAX, all processes take part in this
                if self.folder is not None:
                    plots.save_picture(picture, self.folder / f"epoch-{epoch + 1:04}.png")

    def picture(self) -> np.ndarray:
        """The current picture, (height, width, 3), uint8."""
        raise NotImplementedError


class SampleGrid(Grid):
    """Draws a grid of new images after an epoch, always from the same latents.

    For a conditional model, each class comes in turn.

    Args:
        folder: Folder of `epoch-0001.png`, …, which is made if missing. None: write nothing.
        count: Number of images in a grid.
        every: Number of epochs between two grids. The last planned epoch has one too.
        seed: Random seed of the latents.
        classes: For a conditional model, the class of each image, or its numbers, as for
            `VAE.generate`. None: each class in turn.

    Example:
        >>> import pathlib, tempfile
        >>> import kvae
        >>> images = kvae.data.load("digits").train
        >>> vae = kvae.VAE.from_preset("mlp-400", images.shape[1:])
        >>> vae.compile("adam")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     grids = kvae.SampleGrid(folder, count=16)
        ...     history = vae.fit(images, epochs=2, verbose=0, callbacks=[grids])
        ...     sorted(path.name for path in pathlib.Path(folder).iterdir())
        ['epoch-0001.png', 'epoch-0002.png']
    """

    def __init__(
        self,
        folder: str | pathlib.Path | None,
        count: int = 100,
        every: int = 1,
        seed: int = 0,
        classes: Any = None,
    ) -> None:
        super().__init__(folder, every)
        self.count = count
        self.seed = seed
        self.classes = classes

    def picture(self) -> np.ndarray:
        """The current grid, (height, width, 3), uint8."""
        return plots.grid(self.model.generate(self.count, self.seed, classes=self.classes))


class ReconstructionGrid(Grid):
    """Draws images above their reconstructions after an epoch.

    Args:
        folder: Folder of `epoch-0001.png`, …, which is made if missing. None: write nothing.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        every: Number of epochs between two grids. The last planned epoch has one too.
        classes: For a conditional model, the class of each image, or its numbers.

    Example:
        >>> import pathlib, tempfile
        >>> import kvae
        >>> images = kvae.data.load("digits").train
        >>> vae = kvae.VAE.from_preset("mlp-400", images.shape[1:])
        >>> vae.compile("adam")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     grids = kvae.ReconstructionGrid(folder, images[:8])
        ...     history = vae.fit(images, epochs=1, verbose=0, callbacks=[grids])
        ...     [path.name for path in pathlib.Path(folder).iterdir()]
        ['epoch-0001.png']
    """

    def __init__(
        self,
        folder: str | pathlib.Path | None,
        images: np.ndarray,
        every: int = 1,
        classes: np.ndarray | None = None,
    ) -> None:
        super().__init__(folder, every)
        self.images = np.asarray(images)
        self.classes = classes

    def picture(self) -> np.ndarray:
        """The current grid, (height, width, 3), uint8."""
        made = self.model.reconstruct(self.images, classes=self.classes)
        return plots.stacked_pairs(self.images, made)


def is_due(epoch: int, every: int, params: dict) -> bool:
    """Whether an epoch, counted from 0, completes `every` epochs, or is the last."""
    return (epoch + 1) % every == 0 or epoch + 1 == params.get("epochs")
