"""The last good epoch is kept, whatever stops training."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kvae.training.callbacks.averages import copied

__all__ = ["KeepLastEpoch"]

# What asks a process to stop, and its name. Windows has not all of them.
SIGNALS = {
    getattr(signal, name): what
    for name, what in (("SIGINT", "Ctrl-C"), ("SIGTERM", "SIGTERM"), ("SIGHUP", "SIGHUP"))
    if hasattr(signal, name)
}
SHARE = 0.02  # of all time that checkpoints may take


class KeepLastEpoch(keras.callbacks.Callback):
    """Keeps the last good epoch, so that neither Ctrl-C nor a loss that is not finite loses it.

    Use it as a context around `fit` and what follows. Within it the first Ctrl-C, SIGTERM or SIGHUP
    waits until the running steps have ended, so that the model's state is whole, or while the model
    is validated until the epoch has ended; then `fit` is left by a KeyboardInterrupt. A second one
    raises at once. After `restore` all are held back to the end of the context, so that nothing
    that is being saved is lost. What the process was told to ignore stays ignored.

    Args:
        save: Called with the number of finished epochs, after the first and then at most every
            `seconds`, so that a crash or a power cut loses little too.
        checkpoint: Called with the number of finished epochs and of the steps made since, after
            each epoch, and within one every `minutes`; less often where that would take more than
            a fiftieth of all time.
        seconds: Time between two saves.
        minutes: Time between two checkpoints within an epoch.

    Attributes:
        finished: The number of good epochs: all losses and weights were finite at their end.
        broken: What was not finite in the epoch that stopped training.
        interrupted: The signal that asked to stop, or None.
    """

    def __init__(
        self,
        save: Callable[[int], None],
        checkpoint: Callable[[int, int], None] | None = None,
        seconds: float = 30.0,
        minutes: float = 5.0,
    ) -> None:
        super().__init__()
        self.save = save
        self.checkpoint = checkpoint
        self.seconds = seconds
        self.minutes = minutes
        self.finished = 0
        self.broken: list[str] = []
        self.interrupted: int | None = None
        self.deaf = False
        self.kept: list[np.ndarray] = []
        self.former: dict[int, Any] = {}
        self.former_hook: Callable[[Any], None] | None = None
        self.saved_at = self.checked_at = -float("inf")
        self.cost = 0.0
        self.first_step = 0

    def __enter__(self) -> Any:
        """Listens for signals, where Python lets us: in the main thread."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                former = signal.getsignal(number)
                if former not in (signal.SIG_IGN, None):
                    self.former[number] = former
                    signal.signal(number, self.interrupt)
            self.former_hook, sys.unraisablehook = sys.unraisablehook, self.raise_again
        return self

    def __exit__(self, *_: Any) -> None:
        """Gives signals back."""
        for number, former in self.former.items():
            signal.signal(number, former)
        if self.former_hook is not None:
            sys.unraisablehook = self.former_hook

    def raise_again(self, unraisable: Any) -> None:
        """Sends a signal once more that came where Python can only ignore it, as in `__del__`."""
        if self.interrupted and isinstance(unraisable.exc_value, KeyboardInterrupt):
            threading.Timer(0.01, os.kill, (os.getpid(), self.interrupted)).start()
        elif self.former_hook is not None:
            self.former_hook(unraisable)

    def interrupt(self, number: int, frame: Any = None) -> None:
        """Notes the first signal; raises on the second."""
        if self.deaf:
            return
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = number
        what = SIGNALS[number]
        print(f"\n{what}: stopping in a moment. Once more stops at once.", file=sys.stderr)

    def raise_if_interrupted(self) -> None:
        """Raises, when the model's state is whole."""
        if self.interrupted:
            raise KeyboardInterrupt

    looks_at_batches = False  # steps may be made ahead: it need not see each alone

    # Not at the end of a batch: Keras would then wait for every batch's metrics.
    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Between two steps: makes a checkpoint where it is time, or stops."""
        if self.interrupted or self.is_time(60 * self.minutes):
            self.make_checkpoint()
        self.raise_if_interrupted()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes where the epoch begins."""
        self.first_step = self.steps() - self.model.executions.made

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
        self.first_step = self.steps()
        last = self.finished == self.params.get("epochs")
        # First the state, so that there is no moment with a model that could not go on.
        if last or self.interrupted or self.is_time(self.cost / SHARE):
            self.make_checkpoint()
        if time.monotonic() - self.saved_at > self.seconds:
            self.save(self.finished)
            self.saved_at = time.monotonic()
        self.raise_if_interrupted()

    def is_time(self, seconds: float) -> bool:
        """Whether the last checkpoint, or the beginning, is so long ago, and another is cheap."""
        if self.checkpoint is None:
            return False
        return time.monotonic() - self.checked_at > max(seconds, self.cost / SHARE)

    def make_checkpoint(self) -> None:
        """Makes a checkpoint of this moment, between two steps or at the end of an epoch."""
        if self.checkpoint is None:
            return
        begun = time.monotonic()
        self.model.settle()
        self.checkpoint(self.finished, self.steps() - self.first_step)
        self.checked_at = time.monotonic()
        self.cost = self.checked_at - begun

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins to count the time."""
        self.checked_at = time.monotonic()

    def steps(self) -> int:
        """The number of training steps made."""
        return int(keras.ops.convert_to_numpy(self.model.step))

    def restore(self) -> None:
        """Puts the last good epoch back into the model, if there is one; signals are held back."""
        self.deaf = True
        if self.kept:
            for variable, value in zip(self.state(), self.kept, strict=True):
                variable.assign(value)

    def state(self) -> list:
        """All variables of the model and its optimizer."""
        return [*self.model.variables, *self.model.optimizer.variables]
