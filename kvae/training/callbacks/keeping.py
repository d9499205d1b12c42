"""A callback that keeps the last good epoch, whatever stops training."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kvae.steps.team import Team
from kvae.training.callbacks.averages import copied

__all__ = ["KeepLastEpoch"]

# The signals that ask a process to stop, and their names. Windows lacks some of them.
SIGNALS = {
    getattr(signal, name): what
    for name, what in (("SIGINT", "Ctrl-C"), ("SIGTERM", "SIGTERM"), ("SIGHUP", "SIGHUP"))
    if hasattr(signal, name)
}
SHARE = 0.02  # largest share of the time for checkpoints
APART = 1.0  # seconds between messages to the other processes, which cost some ms each


class KeepLastEpoch(keras.callbacks.Callback):
    """Keeps the last good epoch, so that neither Ctrl-C nor a NaN or infinite loss loses it.

    Use it as a context manager around `fit` and what follows. Within it, the first Ctrl-C, SIGTERM
    or SIGHUP waits until the running steps have ended, so that the state of the model is whole;
    during validation, it waits until the epoch has ended. Then `fit` ends with a KeyboardInterrupt.
    A second signal raises at once. After `restore`, signals are held back until the end of the
    context, so that saving is not interrupted. Signals that the process ignores stay ignored.

    If several processes train together, they communicate about once a second. All stop at the same
    step, whichever was asked to stop, and all make checkpoints when the first process does.

    Args:
        save: Called with the number of finished epochs, after the first epoch and then at most
            every `seconds`, so that a crash or a power cut loses little too.
        checkpoint: Called with the number of finished epochs and the number of steps made since,
            after each epoch and every `minutes` within an epoch; less often if that would take more
            than a fiftieth of the time.
        seconds: Seconds between two saves.
        minutes: Minutes between two checkpoints within an epoch.
        crew: The processes that train together. None: this process alone.

    Attributes:
        finished: Number of good epochs, at whose end all losses and weights were finite.
        broken: Names of the values that were not finite in the epoch that stopped training.
        interrupted: The signal that asked to stop, or None; that of any process, once all know.
    """

    def __init__(
        self,
        save: Callable[[int], None],
        checkpoint: Callable[[int, int], None] | None = None,
        seconds: float = 30.0,
        minutes: float = 5.0,
        crew: Team | None = None,
    ) -> None:
        super().__init__()
        self.crew = crew or Team()
        self.save = save
        self.checkpoint = checkpoint
        self.seconds = seconds
        self.minutes = minutes
        self.finished = 0
        self.broken: list[str] = []
        self.interrupted: int | None = None
        self.heard = self.deaf = False
        self.asked = (-1, 0.0)  # step and time of the last message between processes
        self.apart = 1  # steps until the next message
        self.kept: list[np.ndarray] = []
        self.former: dict[int, Any] = {}
        self.former_hook: Callable[[Any], None] | None = None
        self.saved_at = self.checked_at = -float("inf")
        self.cost = 0.0
        self.first_step = 0
        self.seen = 0  # steps that have begun

    def __enter__(self) -> Any:
        """Installs signal handlers, which Python allows in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                former = signal.getsignal(number)
                if former not in (signal.SIG_IGN, None):
                    self.former[number] = former
                    signal.signal(number, self.interrupt)
            self.former_hook, sys.unraisablehook = sys.unraisablehook, self.raise_again
        return self

    def __exit__(self, *_: Any) -> None:
        """Restores the former signal handlers."""
        for number, former in self.former.items():
            signal.signal(number, former)
        if self.former_hook is not None:
            sys.unraisablehook = self.former_hook

    def raise_again(self, unraisable: Any) -> None:
        """Sends a signal again that came where Python ignores exceptions, as in `__del__`."""
        if self.interrupted and isinstance(unraisable.exc_value, KeyboardInterrupt):
            threading.Timer(0.01, os.kill, (os.getpid(), self.interrupted)).start()
        elif self.former_hook is not None:
            self.former_hook(unraisable)

    def interrupt(self, number: int, frame: Any = None) -> None:
        """Notes the first signal; raises on the second."""
        if self.deaf:
            return
        if self.heard:
            raise KeyboardInterrupt
        self.heard = True
        self.interrupted = self.interrupted or number
        what = SIGNALS[number]
        print(f"\n{what}: stopping after this step. Repeat it to stop at once.", file=sys.stderr)

    def agreed(self, checkpoint: bool, save: bool = False) -> tuple[bool, bool, bool]:
        """Whether to stop, make a checkpoint and save; the same in all processes."""
        if self.crew.processes == 1:
            return bool(self.interrupted), checkpoint, save
        made, now = self.seen, time.monotonic()
        since, then = self.asked
        seconds = (now - then) / max(1, made - since) if then else APART  # of a step
        said = self.crew.gathered([self.interrupted or 0, seconds, checkpoint, save])
        self.interrupted = self.interrupted or int(said[:, 0].max()) or None
        self.apart = max(1, int(APART / max(said[:, 1].max(), 1e-6)))
        self.asked = (made, time.monotonic())
        return bool(said[:, 0].any()), bool(said[0, 2]), bool(said[0, 3])

    looks_at_batches = False  # steps may run ahead: it need not see each one

    # Not at the end of a batch: Keras would then wait for every batch's metrics.
    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Between two steps, stops or makes a checkpoint if one is due."""
        self.seen += 1
        if self.crew.processes > 1 and self.seen < self.asked[0] + self.apart:
            return
        stop, due, _ = self.agreed(self.is_time(60 * self.minutes))
        if stop or due:
            self.make_checkpoint()
        if stop:
            raise KeyboardInterrupt

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the first step of the epoch."""
        self.first_step = self.steps() - self.model.executions.made

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keeps the state, or stops if a value is not finite."""
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
        # The checkpoint comes first, so that there is never a model from which a run cannot
        # continue.
        time_to_save = time.monotonic() - self.saved_at > self.seconds
        stop, due, save = self.agreed(self.is_time(self.cost / SHARE), time_to_save)
        if last or stop or due:
            self.make_checkpoint()
        if save:
            self.save(self.finished)
            self.saved_at = time.monotonic()
        if stop:
            raise KeyboardInterrupt

    def is_time(self, seconds: float) -> bool:
        """Whether the last checkpoint is at least this old, and a new one is cheap enough."""
        if self.checkpoint is None:
            return False
        return time.monotonic() - self.checked_at > max(seconds, self.cost / SHARE)

    def make_checkpoint(self) -> None:
        """Makes a checkpoint, between two steps or at the end of an epoch."""
        if self.checkpoint is None:
            return
        begun = time.monotonic()
        self.model.settle()
        self.checkpoint(self.finished, self.steps() - self.first_step)
        self.checked_at = time.monotonic()
        self.cost = self.checked_at - begun

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self.checked_at = time.monotonic()

    def steps(self) -> int:
        """The number of training steps made."""
        return int(keras.ops.convert_to_numpy(self.model.step))

    def restore(self) -> None:
        """Restores the last good epoch of the model, if there is one; holds signals back."""
        self.deaf = True
        if self.kept:
            for variable, value in zip(self.state(), self.kept, strict=True):
                variable.assign(value)

    def state(self) -> list:
        """All variables of the model and its optimizer."""
        return [*self.model.variables, *self.model.optimizer.variables]
