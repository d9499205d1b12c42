"""Condition: the class or the numbers that a conditional model is given with an image."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.data.values import as_array
from kvae.objectives import ELBO, Objective
from kvae.parts import checked_integer, checked_truth
from kvae.priors import Prior

__all__ = ["Condition", "condition_of", "context_dim_of"]


class Condition:
    """The context of a conditional model: q(z|x, c), p(x|z, c), p(z|c).

    A class is one-hot, a row of `size` numbers; otherwise the context is any row of `size` numbers.

    Args:
        size: Number of values in a row.
        classes: Number of classes. None: images have numbers of their own.
        partly_labelled: Whether a class may be −1, unknown.
    """

    def __init__(self, size: int, classes: int | None, partly_labelled: bool = False) -> None:
        self.size = size
        self.classes = classes
        self.partly_labelled = partly_labelled

    @property
    def what(self) -> str:
        """The expected context of an image, in words."""
        if self.classes is None:
            return f"rows of {self.size} finite numbers, of shape (count, {self.size})"
        unknown = ", or −1 where it is not known" * self.partly_labelled
        return f"integers in 0…{self.classes - 1}{unknown}, one for each image"

    def checked(self, given: Any, count: int) -> np.ndarray:
        """Classes, (count,), int32, or rows of numbers, (count, size), float32.

        Args:
            given: One for each image; classes may be (count, 1), or one-hot rows.
            count: The number of images.

        Raises:
            ValueError: If they are not what they should be.
        """
        if given is None:
            alone = "; `kvae score` and vae.classify do without" if self.classes else ""
            raise ValueError(
                f"The model is conditional, on {self.what}: give them beside the images, as the "
                f"labels of `fit` or of a data set, or as `classes`{alone}."
            )
        values = as_values(given)
        if values.dtype.kind not in "buif" or values.ndim not in (1, 2) or not values.size:
            raise ValueError(self.refusal(values))
        if self.classes is None:
            rows = values.reshape(-1, 1) if values.ndim == 1 and self.size == 1 else values
            if rows.shape != (count, self.size) or not np.isfinite(rows).all():
                raise ValueError(self.refusal(values))
            return rows.astype("float32")
        return self.numbers(values, count)

    def numbers(self, values: np.ndarray, count: int) -> np.ndarray:
        """Classes as integers, (count,), int32, or a ValueError."""
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim == 2 and values.shape[1] == self.classes:
            sure = (values.max(axis=1) == 1) & (np.count_nonzero(values, axis=1) == 1)
            values = values.argmax(axis=1) if sure.all() else values
        if values.shape != (count,) or values.dtype.kind == "b":
            raise ValueError(self.refusal(values))
        least = -1 if self.partly_labelled else 0
        if values.min() == -1 and not self.partly_labelled:
            raise ValueError(
                "A class of −1, not known, is for a model that is made with partly_labelled=True, "
                "which trains on all classes of such an image."
            )
        if not (values == np.rint(values)).all() or not least <= values.min() <= values.max() < (
            self.size
        ):
            raise ValueError(self.refusal(values))
        return values.astype("int32")

    def refusal(self, given: np.ndarray) -> str:
        """The message about a context that is not as expected."""
        came = f"shape {given.shape} of {given.dtype}"
        if given.ndim == 1 and given.size and given.dtype.kind in "uif" and self.classes:
            came = f"{len(given)} values from {given.min():g} to {given.max():g}"
        return f"The model is conditional, on {self.what}. Received: {came}"

    def rows(self, given: Any, count: int) -> np.ndarray:
        """Returns the context of each image: (count, size), float32.

        Args:
            given: As for `checked`.
            count: The number of images.
        """
        values = self.checked(given, count)
        if self.classes is None:
            return values
        if values.min() < 0:
            raise ValueError("Here the class of each image must be known; leave out `classes`.")
        return np.eye(self.size, dtype="float32")[values]

    def arranged(self, given: Any) -> Any:
        """Converts checked tensors: to (batch,), int32, or to rows, float32."""
        rank = len(given.shape)
        if self.classes is None:
            return ops.cast(given if rank == 2 else given[:, None], "float32")
        if rank == 2:
            given = given[:, 0] if given.shape[1] == 1 else ops.argmax(given, axis=1)
        return ops.cast(given, "int32")

    def context(self, checked: Any) -> Any:
        """Returns the context within a step: (batch,) or (batch, size) to (batch, size)."""
        if self.classes is None:
            return ops.cast(checked, "float32")
        return ops.one_hot(ops.cast(checked, "int32"), self.size, dtype="float32")

    def spread(self, given: Any, count: int) -> np.ndarray:
        """`rows` for `count` images: few are repeated in turn, and None gives each class in turn.

        Raises:
            ValueError: If the values do not fit the model, or there are more than images.
        """
        if given is None and self.classes is not None:
            return np.resize(np.eye(self.classes, dtype="float32"), (count, self.size))
        if given is None:
            return self.rows(None, count)
        values = np.atleast_1d(as_values(given))
        rows = self.rows(values, len(values))
        if len(rows) > count:
            raise ValueError(f"There are classes for {len(rows)} images, and {count} are to come.")
        return np.resize(rows, (count, self.size))


def as_values(given: Any) -> np.ndarray:
    """The values as a NumPy array; an array of objects if they are not numbers."""
    try:
        values = np.asarray(as_array(given))
    except (ValueError, TypeError):
        return np.array([given, None], object)[:1]
    return values if values.dtype.kind in "buif" else values.astype(object)


def context_dim_of(model: keras.Model) -> int | None:
    """The size of the input `context` of a model; None if it has no such input."""
    for given in model.inputs:
        if given.name.split(":")[0] == "context":
            return given.shape[-1]
    return None


def condition_of(
    encoder: keras.Model,
    decoder: keras.Model,
    prior: Prior,
    objective: Objective,
    classes: int | None,
    partly_labelled: bool,
) -> Condition | None:
    """The condition of a model made of these parts; None if they have no context.

    Raises:
        ValueError: If the parts do not agree.
    """
    if partly_labelled and not (classes and is_plain(objective)):
        raise ValueError(
            "`partly_labelled` is for a model of `classes`, whose objective is kvae.ELBO with one "
            "draw and without free bits."
        )
    dims = {"encoder": context_dim_of(encoder), "decoder": context_dim_of(decoder)}
    dims["prior"] = getattr(prior, "context_dim", None)
    found = {name: size for name, size in dims.items() if size is not None}
    if classes is not None:
        classes = checked_integer("classes", classes)
    if not found and classes is None:
        return None
    if dims["decoder"] is None:
        raise ValueError(
            "A conditional model needs a decoder with a second input called 'context': see "
            "kvae.build_decoder(…, context_dim=…)."
        )
    if len(set(found.values())) > 1 or (classes or dims["decoder"]) != dims["decoder"]:
        sizes = ", ".join(f"{name} {size}" for name, size in found.items())
        wanted = f"`classes` is {classes}, and " if classes else ""
        raise ValueError(f"{wanted}the parts differ in the size of their context: {sizes}.")
    return Condition(dims["decoder"], classes, checked_truth("partly_labelled", partly_labelled))


def is_plain(objective: Objective) -> bool:
    """Whether the loss is −ELBO with one draw and the whole KL."""
    plain = type(objective) is ELBO and objective.samples == objective.mean_of_draws == 1
    return plain and not (objective.free_bits or objective.weighs_groups)
