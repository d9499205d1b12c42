"""Checkpoints: the whole state of a run, so that a killed run can continue bit for bit."""

import json
import pathlib
import zipfile
import zlib
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.data import Dataset
from kvae.files import whole
from kvae.limits import pieces

__all__ = ["Checkpoint", "fingerprint"]

FORMAT = 2
KINDS: dict[str, Any] = {  # of the facts
    **dict.fromkeys(("recipe", "card", "logs", "history", "latents", "plateau"), dict),
    **dict.fromkeys(("data", "backend"), str),
    **dict.fromkeys(("finished", "made"), int),
    "seconds": (int, float),
    "losses": list,
}
FACTS = "facts"  # the array with the facts as JSON


class Checkpoint:
    """The state that a run needs to continue: every variable, and facts about the run.

    It is stored as a `.npz` file without any code: the variables by number, and the facts as JSON.

    Args:
        values: Values of the variables, in the order of `variables_of`.
        facts: Facts about the run, as JSON types.
    """

    def __init__(self, values: list[np.ndarray], facts: dict[str, Any]) -> None:
        self.values = values
        self.facts = facts

    @classmethod
    def of(
        cls, vae: keras.Model, raw: list[np.ndarray] | None, facts: dict[str, Any]
    ) -> "Checkpoint":
        """Makes a checkpoint of the current state.

        Args:
            vae: The model, with its optimizer.
            raw: The trained weights, if the model currently has their average. None: the model has
                its own weights.
            facts: Facts about the run.
        """
        values = {id(one): ops.convert_to_numpy(one) for one in variables_of(vae)}
        if raw is not None:
            for variable, value in zip(vae.trainable_variables, raw, strict=True):
                values[id(variable)] = value
        return cls(list(values.values()), facts)

    def write(self, path: pathlib.Path) -> None:
        """Writes the checkpoint, as a whole or not at all.

        Raises:
            OSError: If the checkpoint cannot be written.
        """
        facts = np.frombuffer(json.dumps({"format": FORMAT, **self.facts}).encode(), "uint8")
        arrays: dict[str, Any] = {str(i): value for i, value in enumerate(self.values)}
        arrays[FACTS] = facts
        with whole(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def read(cls, path: pathlib.Path) -> "Checkpoint":
        """Reads a checkpoint that `write` wrote.

        Raises:
            ValueError: If the file is damaged, or from a later version of kvae.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                if any(one.compress_type != zipfile.ZIP_STORED for one in archive.infolist()):
                    raise ValueError("packed, so that it may be larger than the file")
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                facts = json.loads(arrays[FACTS].tobytes())
                values = [arrays[str(i)] for i in range(len(arrays.files) - 1)]
            number = facts.pop("format")
            for name, kind in KINDS.items():
                if not isinstance(facts[name], kind):
                    raise ValueError(f"{name} is of another kind")
        except Exception:  # damage may raise any error in NumPy and json
            raise ValueError(
                f"{path} is damaged, so the run cannot go on. Train anew, without --resume."
            ) from None
        if number != FORMAT:
            raise ValueError(
                f"{path} is of format {number}, and this version of kvae has {FORMAT}. Train anew, "
                "without --resume."
            )
        return cls(values, facts)

    def restore(self, vae: keras.Model) -> None:
        """Restores the state of a model that was built and compiled with the same recipe.

        Raises:
            ValueError: If the checkpoint is of another model.
        """
        if not vae.optimizer.built:
            vae.optimizer.build(vae.trainable_variables)
        variables = variables_of(vae)
        shapes = [tuple(value.shape) for value in self.values]
        if shapes != [tuple(variable.shape) for variable in variables]:
            raise ValueError("The checkpoint is that of another model. Train anew.")
        for variable, value in zip(variables, self.values, strict=True):
            variable.assign(value)

    def restore_metrics(self, vae: keras.Model) -> None:
        """Restores the sums of the metrics, which Keras sets to zero in `fit`."""
        metrics = {id(variable) for variable in vae.metrics_variables}
        for variable, value in zip(variables_of(vae), self.values, strict=True):
            if id(variable) in metrics:
                variable.assign(value)


def variables_of(vae: keras.Model) -> list[keras.Variable]:
    """All variables with a state: weights, settings, random states, metrics, optimizer."""
    every = [*vae.variables, *vae.metrics_variables, *vae.optimizer.variables]
    return list({id(variable): variable for variable in every}.values())


def fingerprint(dataset: Dataset, labels: bool = False) -> str:
    """A checksum of the training and validation images and their order.

    Args:
        dataset: The images.
        labels: Whether to include the labels.
    """
    number = 0
    arrays = [dataset.train, dataset.validation]
    if labels:
        arrays += [np.asarray(dataset.train_labels), np.asarray(dataset.validation_labels)]
    for images in arrays:
        number = zlib.crc32(repr((images.shape, images.dtype.name)).encode(), number)
        for piece in pieces(images):
            number = zlib.crc32(np.ascontiguousarray(piece).data, number)
    return f"{number:08x}"
