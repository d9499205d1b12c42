"""The moving average of the weights."""

from typing import Any

import keras
import numpy as np
from keras import ops

__all__ = ["AveragedWeights", "copied"]


class AveragedWeights(keras.callbacks.Callback):
    """Gives the model the average of its weights from validation until the next epoch.

    So `val_loss`, pictures and saved files are those of the average; Keras gives it to the model
    only when training ends. It is for an optimizer with `use_ema=True`, and does nothing without
    it. Put it before callbacks that use the model. (Keras's `SwapEMAWeights` leaves deleted arrays
    behind on JAX if another callback predicts, and drops the average if training stops early.)
    """

    def __init__(self) -> None:
        super().__init__()
        self.own: list[np.ndarray] | None = None

    def lend(self, *_: Any, **__: Any) -> None:
        """Puts the average in place of the model's own weights."""
        if self.own is None and self.averages():
            self.own = [copied(weight) for weight in self.model.trainable_variables]
            self.assign([copied(average) for average in self.averages()])

    on_test_begin = on_epoch_end = lend

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Puts the model's own weights back."""
        if self.own is not None:
            self.assign(self.own)
            self.own = None

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Forgets the own weights: Keras has now given the model the average for good."""
        self.own = None

    def averages(self) -> list:
        """The optimizer's averages, in the order of the model's trainable variables."""
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        return optimizer._model_variables_moving_average if optimizer.use_ema else []

    def assign(self, values: list) -> None:
        """Sets the model's weights."""
        for weight, value in zip(self.model.trainable_variables, values, strict=True):
            weight.assign(value)


def copied(variable: Any) -> np.ndarray:
    """A copy of the value of a variable."""
    return np.array(ops.convert_to_numpy(variable))
