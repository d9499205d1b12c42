"""Context rows of conditional models, made from the classes or numbers of images."""

import types
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from kvae.model.condition import Condition, context_dim_of
from kvae.model.keras_model import KerasModel

__all__ = ["Told"]


class Told(KerasModel):
    """A model that may be conditional. `rows` are the context of its parts, one per image."""

    kept: types.SimpleNamespace
    card: dict[str, Any]

    @property
    def condition(self) -> Condition | None:
        """The condition of a conditional model; None if the model is not conditional."""
        return self.kept.condition

    def rows(self, classes: Any, count: int) -> np.ndarray | None:
        """Returns the context of `count` images: (count, context), float32.

        Returns None if the model is not conditional.

        Raises:
            ValueError: If the classes do not fit the model, or it is not conditional.
        """
        if self.condition is not None:
            return self.condition.rows(classes, count)
        if classes is not None:
            raise ValueError(
                "`classes` is for a conditional model, and this one was trained without them."
            )
        return None

    def rows_or_likeliest(self, classes: Any, images: np.ndarray) -> np.ndarray | None:
        """Like `rows`; classes that are not given are the likeliest of each image.

        So are classes of −1, if the model is `partly_labelled`.
        """
        if self.condition is not None and self.condition.classes:
            if classes is None:
                classes = self.classify(images)
            elif self.condition.partly_labelled:
                classes = self.filled(classes, images)
        return self.rows(classes, len(images))

    def spread(self, classes: Any, count: int) -> np.ndarray | None:
        """Like `rows`, for new images: few classes are repeated in turn; None is each in turn."""
        if self.condition is None:
            return self.rows(classes, count)
        return self.condition.spread(classes, count)

    def known(
        self, labels: np.ndarray | None, class_names: Sequence[str] = ()
    ) -> np.ndarray | None:
        """Labels of a data set as an argument `classes`; None if the model is not conditional.

        Args:
            labels: (count,), integers from 0 on; −1, unknown, stays −1.
            class_names: The names of the data set's classes. If these and the model's are known,
                classes are matched by name: in a folder that lacks a class, the others have other
                numbers.

        Raises:
            ValueError: If the model does not know a class of this name, or is conditional on
                numbers, which labels are not.
        """
        if self.condition is None or labels is None:
            return None
        labels = np.asarray(labels)
        if not self.condition.classes and labels.ndim == 1 and labels.dtype.kind in "iu":
            raise ValueError(
                f"The model is conditional on {self.condition.what}, and a data set has classes. "
                "In Python, pass the numbers as `classes` to vae.score, encode, reconstruct or "
                "generate; to train, as the labels of fit."
            )
        own = list(self.card.get("class_names") or [])
        if not self.condition.classes or not class_names or not own or list(class_names) == own:
            return labels
        for number in np.unique(labels[labels >= 0]):
            if class_names[number] not in own:
                raise ValueError(
                    f"The model knows no class {class_names[number]!r}; it knows "
                    f"{', '.join(own[:20])}{', …' * (len(own) > 20)}."
                )
        numbers = [own.index(name) if name in own else -1 for name in class_names]
        return np.array([*numbers, -1])[labels]

    def filled(self, classes: Any, images: np.ndarray) -> Any:
        """Replaces each class of −1, unknown, by the likeliest class of the image."""
        of_classes = self.condition is not None and self.condition.classes
        numbers = None if classes is None or not of_classes else np.array(classes)
        if numbers is None or numbers.shape != (len(images),) or not (numbers == -1).any():
            return classes
        unknown = np.flatnonzero(numbers == -1)
        numbers[unknown] = self.classify(images[unknown])
        return numbers

    def classify(self, images: Any, draws: int = 1, seed: int = 0) -> np.ndarray:
        """The most likely class of each image: see `Scoring.classify`."""
        raise NotImplementedError

    def seen(self, observed: Any, rows: Any) -> Any:
        """The inputs of the encoder: observed images, with their context if it takes one."""
        if self.condition is not None and rows is None:
            self.condition.checked(None, 0)  # raises an error about the missing context
        told = rows is not None and context_dim_of(self.encoder) is not None
        return [observed, rows] if told else observed

    def decoded(self, z: Any, context: Any = None, training: bool = False) -> Any:
        """Decodes draws of z to the parameters of the likelihood, float32.

        Args:
            z: (batch, latent).
            context: (batch, context), for a conditional model; else None.
            training: Passed to the decoder.
        """
        inputs = z if context is None else [z, context]
        return ops.cast(self.decoder(inputs, training=training), "float32")
