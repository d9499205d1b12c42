"""The last good epoch is kept, whatever stops training."""

import signal
import sys
import threading
import time
from typing import Any

import keras
import numpy as np

from kvae.training.callbacks.averages import copied

__all__ = ["KeepLastEpoch"]


class KeepLastEpoch(keras.callbacks.Callback):
    """Keeps the last good epoch, so that neither Ctrl-C nor a loss that is not finite loses it.

    Use it as a context around `fit` and what follows. Within it the first Ctrl-C waits until the
    running steps have ended, so that the model's state is whole, and then raises KeyboardInterrupt
    out of `fit`; a second one raises at once. After `restore` Ctrl-C is held back to the end of the
    context, so that nothing that is being saved is lost.

    Args:
        save: Called with the number of finished epochs, after the first and then at most every
            `seconds`, so that a crash or a power cut loses little too.
        seconds: Time between two saves.

    Attributes:
        finished: The number of good epochs: all losses and weights were finite at their end.
        broken: What was not finite in the epoch that stopped training.
        interrupted: Whether Ctrl-C was pressed.
    """

    def __init__(self, save: Any, seconds: float = 30.0) -> None:
        super().__init__()
        self.save = save
        self.seconds = seconds
        self.finished = 0
        self.broken: list[str] = []
        self.interrupted = False
        self.deaf = False
        self.kept: list[np.ndarray] = []

    def __enter__(self) -> Any:
        """Listens for Ctrl-C, where Python lets us: in the main thread."""
        self.listens = threading.current_thread() is threading.main_thread()
        if self.listens:
            self.former = signal.signal(signal.SIGINT, self.interrupt)
        self.saved_at = -self.seconds
        return self

    def __exit__(self, *_: Any) -> None:
        """Gives Ctrl-C back."""
        if self.listens:
            signal.signal(signal.SIGINT, self.former)

    def interrupt(self, *_: Any) -> None:
        """Notes the first Ctrl-C; raises on the second."""
        if self.deaf:
            return
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        print("\nStopping in a moment. Ctrl-C once more stops at once.", file=sys.stderr)

    def raise_if_interrupted(self, batch: Any = None, logs: dict[str, Any] | None = None) -> None:
        """Raises between two steps, when the model's state is whole."""
        if self.interrupted:
            raise KeyboardInterrupt

    looks_at_batches = False  # steps may be made ahead: it need not see each alone
    # Not at the end of a batch: Keras would then wait for every batch's metrics.
    on_train_batch_begin = on_test_batch_begin = raise_if_interrupted

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keeps the state; where something is not finite, stops instead."""
        now = [copied(variable) for variable in self.state()]
        self.broken = [name for name, value in (logs or {}).items() if not np.isfinite(value)]
        if not self.broken and not all(np.isfinite(value).all() for value in now):
            self.broken = ["the weights"]
        if self.broken:
            self.model.stop_training = True
            return
        self.kept, self.finished = now, epoch + 1
        if time.monotonic() - self.saved_at > self.seconds or self.finished == 1:
            self.save(self.finished)
            self.saved_at = time.monotonic()
        self.raise_if_interrupted()

    def restore(self) -> None:
        """Puts the last good epoch back into the model, if there is one; Ctrl-C is held back."""
        self.deaf = True
        if self.finished:
            for variable, value in zip(self.state(), self.kept, strict=True):
                variable.assign(value)

    def state(self) -> list:
        """All variables of the model and its optimizer."""
        return [*self.model.variables, *self.model.optimizer.variables]
