"""Callbacks: what happens between epochs. Each reaches the model through `self.model` only."""

import pathlib
import signal
import sys
import threading
import time

import keras
import numpy as np
from keras import ops

from kvae import checks, plots
from kvae.files import or_warn

__all__ = [
    "AveragedWeights",
    "BetaLogger",
    "KeepLastEpoch",
    "LatentKL",
    "ReconstructionGrid",
    "SampleGrid",
    "Warnings",
]

SETTLING = 500  # updates after warm-up, in which a model may still look collapsed
PATIENCE = 3  # epochs


class SampleGrid(keras.callbacks.Callback):
    """Draws a grid of new images after an epoch, from the same latents every time.

    Args:
        folder: Where `epoch-0001.png`, … are written; made where it is missing.
        count: Images in a grid.
        every: Epochs between two grids. The last one of those planned has one too.
        seed: Of the latents.
    """

    def __init__(self, folder: str | pathlib.Path, count: int = 100, every: int = 1, seed: int = 0):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.count = count
        self.every = every
        self.seed = seed

    def on_epoch_end(self, epoch, logs=None):
        """Draws the grid when it is time."""
        if is_due(epoch, self.every, self.params):
            with or_warn():
                plots.save_picture(self.picture(), self.folder / f"epoch-{epoch + 1:04}.png")

    def picture(self) -> np.ndarray:
        """The grid of this moment, (height, width, 3), uint8."""
        return plots.grid(self.model.generate(self.count, seed=self.seed))


class ReconstructionGrid(keras.callbacks.Callback):
    """Draws given images over their reconstructions after an epoch.

    Args:
        folder: Where `epoch-0001.png`, … are written; made where it is missing.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        every: Epochs between two grids. The last one of those planned has one too.
    """

    def __init__(self, folder: str | pathlib.Path, images: np.ndarray, every: int = 1):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.images = np.asarray(images)
        self.every = every

    def on_epoch_end(self, epoch, logs=None):
        """Draws the grid when it is time."""
        if is_due(epoch, self.every, self.params):
            with or_warn():
                plots.save_picture(self.picture(), self.folder / f"epoch-{epoch + 1:04}.png")

    def picture(self) -> np.ndarray:
        """The grid of this moment, (height, width, 3), uint8."""
        return plots.stacked_pairs(self.images, self.model.reconstruct(self.images))


class LatentKL(keras.callbacks.Callback):
    """Keeps the KL of each latent after an epoch; the logs stay as they are.

    Args:
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1]; the KL is
            averaged over them, over the first 1,000 at most.
        every: Epochs between two looks. The last epoch always has one.

    Attributes:
        history: `epoch`, counted from 1, and a column for each latent, by its number from 1 on, in
            nats.
    """

    def __init__(self, images: np.ndarray, every: int = 1):
        super().__init__()
        self.images = np.asarray(images)[:1000]
        self.every = every
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch, logs=None):
        """Looks when it is time."""
        if is_due(epoch, self.every, self.params):
            kl = self.model.kl_per_latent(self.images)
            row = {"epoch": epoch + 1} | {str(i + 1): float(value) for i, value in enumerate(kl)}
            for name, value in row.items():
                self.history.setdefault(name, []).append(value)


class Warnings(keras.callbacks.Callback):
    """Warns while a model trains, once of each problem, in a line that ends in what helps.

    It looks at what is at hand: the images of `LatentKL` before the first epoch; then the KL of its
    latents, the losses in the logs, and a scale that all values share. It says nothing while the KL
    term warms up, and prints nothing where `fit` is silent.

    Args:
        latents: Put it before this one in the list of callbacks.

    Attributes:
        findings: What was warned of.
    """

    def __init__(self, latents: LatentKL):
        super().__init__()
        self.latents = latents
        self.findings: list[checks.Finding] = []
        self.unsaid: list[str] = []
        self.losses: list[float] = []
        self.validation_losses: list[float] = []

    def on_train_begin(self, logs=None):
        """Looks at the images."""
        facts = checks.pixel_facts(self.latents.images)
        self.note(checks.check_likelihood(facts, self.model.likelihood), "Before training")

    def on_epoch_end(self, epoch, logs=None):
        """Looks at the model, when it has had time to settle."""
        logs = logs or {}
        self.losses.append(logs.get("loss", np.nan))
        self.validation_losses.append(logs.get("val_loss", np.nan))
        step, beta, warmup = (
            float(ops.convert_to_numpy(getattr(self.model, name)))
            for name in ("step", "beta", "warmup_steps")
        )
        last = epoch + 1 == self.params.get("epochs")
        if step < warmup + (0 if last else SETTLING):
            return
        after = f"After epoch {epoch + 1}"
        if self.latents.history.get("epoch", [0])[-1] == epoch + 1:
            kl = [row[-1] for name, row in self.latents.history.items() if name != "epoch"]
            total = logs.get("val_kl", logs.get("kl"))
            self.note(checks.check_latents(np.array(kl), beta, warmup, total=total), after)
        if self.rises():
            self.note(checks.check_overfitting(self.validation_losses), after)
        likelihood = self.model.likelihood
        if checks.learns_scale(likelihood) and likelihood.parameters_per_value == 1:
            scale = float(ops.convert_to_numpy(likelihood.location_and_scale(0.0)[1]))
            at_bound = float(scale < 1.1 * likelihood.min_scale)
            self.note(checks.check_scale(at_bound, likelihood), after)

    def rises(self) -> bool:
        """Whether validation was best some epochs ago, and the training loss has fallen since."""
        best = int(np.argmin(self.validation_losses))
        return best + PATIENCE < len(self.losses) and self.losses[-1] < self.losses[best]

    def note(self, finding: checks.Finding, when: str):
        """Keeps a problem that is new, to be said when the progress bar has ended its line."""
        known = {kept.name for kept in self.findings}
        if finding.severity == "problem" and finding.name not in known:
            self.findings.append(finding)
            self.unsaid.append(f"{when}: {finding.seen} → {finding.remedy}")

    def say(self, *_, **__):
        """Prints what is to be said."""
        if self.params.get("verbose", 0):
            for line in self.unsaid:
                print(line, file=sys.stderr)
        self.unsaid = []

    on_epoch_begin = on_train_end = say


class BetaLogger(keras.callbacks.Callback):
    """Adds `beta` to the logs of an epoch: the weight of the KL term in its last training step."""

    def on_epoch_end(self, epoch, logs=None):
        """Reads the weight from the model's own variables."""
        if logs is not None:
            logs["beta"] = float(ops.convert_to_numpy(self.model.kl_weight()))


class AveragedWeights(keras.callbacks.Callback):
    """Lends the model the average of its weights, from validation until the next epoch begins.

    So `val_loss`, pictures and saved files are those of the average, which Keras itself gives the
    model only when training ends. For an optimizer with `use_ema=True`; without it does nothing.
    Put it before callbacks that look at the model. (Keras's `SwapEMAWeights` leaves deleted arrays
    behind on JAX when another callback predicts, and drops the average when training stops early.)
    """

    def __init__(self):
        super().__init__()
        self.own = None

    def lend(self, *_, **__):
        """Puts the average in place of the model's own weights."""
        if self.own is None and self.averages():
            self.own = [copied(weight) for weight in self.model.trainable_variables]
            self.assign([copied(average) for average in self.averages()])

    on_test_begin = on_epoch_end = lend

    def on_epoch_begin(self, epoch, logs=None):
        """Puts the model's own weights back."""
        if self.own is not None:
            self.assign(self.own)
            self.own = None

    def on_train_end(self, logs=None):
        """Keras has given the model the average; on JAX the two then share arrays, so copy them."""
        self.own = None
        for average in self.averages():
            average.assign(copied(average))

    def averages(self) -> list:
        """The optimizer's averages, in the order of the model's trainable variables."""
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        return optimizer._model_variables_moving_average if optimizer.use_ema else []

    def assign(self, values: list):
        """Sets the model's weights."""
        for weight, value in zip(self.model.trainable_variables, values, strict=True):
            weight.assign(value)


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

    def __init__(self, save, seconds: float = 30.0):
        super().__init__()
        self.save = save
        self.seconds = seconds
        self.finished = 0
        self.broken: list[str] = []
        self.interrupted = False
        self.deaf = False
        self.kept: list[np.ndarray] = []

    def __enter__(self):
        """Listens for Ctrl-C, where Python lets us: in the main thread."""
        self.listens = threading.current_thread() is threading.main_thread()
        if self.listens:
            self.former = signal.signal(signal.SIGINT, self.interrupt)
        self.saved_at = -self.seconds
        return self

    def __exit__(self, *_):
        """Gives Ctrl-C back."""
        if self.listens:
            signal.signal(signal.SIGINT, self.former)

    def interrupt(self, *_):
        """Notes the first Ctrl-C; raises on the second."""
        if self.deaf:
            return
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        print("\nStopping in a moment. Ctrl-C once more stops at once.", file=sys.stderr)

    def raise_if_interrupted(self, batch=None, logs=None):
        """Raises between two steps, when the model's state is whole."""
        if self.interrupted:
            raise KeyboardInterrupt

    looks_at_batches = False  # between two dispatches is often enough
    # Not at the end of a batch: Keras would then wait for every batch's metrics.
    on_train_batch_begin = on_test_batch_begin = raise_if_interrupted

    def on_epoch_end(self, epoch, logs=None):
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

    def restore(self):
        """Puts the last good epoch back into the model, if there is one; Ctrl-C is held back."""
        self.deaf = True
        if self.finished:
            for variable, value in zip(self.state(), self.kept, strict=True):
                variable.assign(value)

    def state(self) -> list:
        """All variables of the model and its optimizer."""
        return [*self.model.variables, *self.model.optimizer.variables]


def copied(variable) -> np.ndarray:
    """A variable's value, apart from the variable."""
    return np.array(ops.convert_to_numpy(variable))


def is_due(epoch: int, every: int, params: dict) -> bool:
    """Whether an epoch, counted from 0, is one in `every`, or the last."""
    return (epoch + 1) % every == 0 or epoch + 1 == params.get("epochs")
