"""Watch: observes a model while it trains, and writes its files."""

import math
import signal
import sys
import time
from typing import Any

import keras

from kvae.data import Dataset
from kvae.model import VAE
from kvae.printable import printable
from kvae.recipe import Recipe
from kvae.steps.team import Team
from kvae.training.callbacks import (
    AveragedWeights,
    BetaLogger,
    KeepLastEpoch,
    LatentKL,
    ReconstructionGrid,
    SampleGrid,
    Warnings,
)
from kvae.training.callbacks.averages import copied
from kvae.training.checkpoint import Checkpoint, fingerprint
from kvae.training.run import Run

__all__ = ["Watch"]

MOST_GRIDS = 20
MOST_LATENT_ROWS = 200
PLATEAU = ("wait", "best", "cooldown_counter")  # the state of Keras's callback


class Watch:
    """Observes a model while it trains, and writes its files.

    Args:
        vae: The model.
        recipe: The recipe.
        dataset: The images.
        run: The files.
        checkpoint_minutes: Minutes between two checkpoints within an epoch.
        crew: The processes that train together.

    Attributes:
        callbacks: The callbacks for `fit`.
        seconds: Time that `fit` took before the run was stopped.
    """

    def __init__(
        self,
        vae: VAE,
        recipe: Recipe,
        dataset: Dataset,
        run: Run,
        checkpoint_minutes: float = 5.0,
        crew: Team | None = None,
    ) -> None:
        epochs = recipe.epochs or 1
        every = math.ceil(epochs / MOST_GRIDS)
        self.vae = vae
        self.recipe = recipe
        self.run = run
        self.crew = crew or Team()
        self.seconds = 0.0
        self.started = time.perf_counter()
        self.images = fingerprint(dataset, recipe.conditional)
        self.history = keras.callbacks.History()
        self.averages = AveragedWeights()
        classes = vae.known(dataset.validation_labels)
        self.latents = LatentKL(
            dataset.validation, every=math.ceil(epochs / MOST_LATENT_ROWS), classes=classes
        )
        self.warnings = Warnings(self.latents)
        self.samples = SampleGrid(run.samples, every=every, seed=recipe.seed)
        self.reconstructions = ReconstructionGrid(
            run.reconstructions,
            dataset.validation[:50],
            every=every,
            classes=None if classes is None else classes[:50],
        )
        self.keep = KeepLastEpoch(
            self.save, self.checkpoint, minutes=checkpoint_minutes, crew=self.crew
        )
        self.plateau = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=2)
        self.callbacks = [
            self.averages,  # first, so that the following callbacks see the average
            BetaLogger(),
            self.history,
            self.latents,
            self.warnings,
            self.samples,
            self.reconstructions,
            *([self.plateau] if recipe.schedule == "plateau" else []),
            self.keep,  # last, so that it keeps the final state
        ]

    def save(self, finished: int) -> None:
        """Writes the model and its histories after this many epochs."""
        known = self.run.former
        with self.crew.apart():
            self.run.save(self.vae, self.history, self.latents.history, finished)
        self.samples.folder = self.run.samples
        self.reconstructions.folder = self.run.reconstructions
        if self.run.former != known:
            print(f"The former {self.run.place.name} was moved aside, to {self.run.former}")

    def checkpoint(self, finished: int, made: int) -> None:
        """Writes a checkpoint, after this many epochs and steps of the next epoch."""
        facts = {
            "recipe": self.recipe.as_dict(),
            "card": {name: self.vae.card.get(name) for name in ("origin", "dataset", "command")},
            "data": self.images,
            "backend": keras.backend.backend(),
            "seconds": self.seconds + time.perf_counter() - self.started,
            "finished": finished,
            "made": made,
            "logs": plain(self.vae.get_metrics_result()) if made else {},
            "history": plain(self.history.history),
            "latents": plain(self.latents.history),
            "losses": plain([self.warnings.losses, self.warnings.validation_losses]),
            "plateau": self.plateau_state(),
        }
        if not self.run.writes:
            return
        try:
            Checkpoint.of(self.vae, self.averages.own, facts).write(self.run.checkpoint)
        except OSError as error:
            raise OSError(f"{error} {self.run.outcome(self.run.saved)}") from error

    def plateau_state(self) -> dict[str, Any]:
        """The state of the plateau schedule, if the learning rate follows one."""
        if self.recipe.schedule != "plateau":
            return {}
        return plain({name: getattr(self.plateau, name) for name in PLATEAU})

    def go_on(self, former: Checkpoint) -> str:
        """Restores the state of a run that was stopped; returns a line about it."""
        facts = former.facts
        warmup_steps = float(keras.ops.convert_to_numpy(self.vae.warmup_steps))
        former.restore(self.vae)
        self.vae.objective.warmup_steps = warmup_steps  # differs if there are more epochs now
        self.seconds = facts["seconds"]
        self.keep.finished = facts["finished"]
        self.run.saved = 0 if self.run.is_under_way() else facts["finished"]
        self.vae.executions.made, self.vae.executions.logs = facts["made"], facts["logs"]
        self.callbacks.append(Resumed(self, former))
        # At the end of an epoch, the average is kept.
        if facts["finished"] and not facts["made"]:
            for callback in (self.averages, self.keep):
                callback.set_model(self.vae)
            self.averages.lend()
            self.keep.kept = [copied(variable) for variable in self.keep.state()]
        before = Recipe.from_card(facts)
        update = int(keras.ops.convert_to_numpy(self.vae.step))
        epochs = f"{facts['finished']} of {before.epochs} epochs"
        text = f"Resuming at update {update:,}, after {epochs}."
        if facts["backend"] != keras.backend.backend():
            text += f" It was trained on {printable(facts['backend'])} so far: rounding differs."
        if self.recipe.epochs != before.epochs:
            text += (
                f" From here the learning rate and all other schedules follow a run of "
                f"{self.recipe.epochs} epochs. The result differs from such a run without a stop."
            )
        return text

    def end(self) -> None:
        """Restores and saves the last good epoch; leaves nothing if there is none."""
        self.keep.restore()
        if self.keep.kept and not hasattr(self.history, "epoch"):
            return  # a resumed run that did not begin: its files are as they were
        if self.keep.kept:
            self.run.animate(self.keep.finished)
            self.save(self.keep.finished)
            if not self.run.optimizer and self.keep.finished == self.recipe.epochs:
                self.run.checkpoint.unlink(missing_ok=True)
        else:
            self.run.undo()

    def say_what_stopped_it(self) -> None:
        """Raises an error if the run did not reach its end."""
        outcome = self.run.outcome(self.run.saved)
        if self.keep.interrupted:
            text = f"Interrupted. {outcome}"
            if self.run.checkpoint.exists():
                text += " With --resume (in Python resume=True) the run goes on."
            number = int(self.keep.interrupted)
            if number == signal.SIGINT:
                raise KeyboardInterrupt(text)
            print(text, file=sys.stderr)
            raise SystemExit(128 + number)
        if self.keep.broken:
            raise FloatingPointError(
                f"Training stopped, because {' and '.join(self.keep.broken)} became NaN or "
                f"infinite. Try a learning rate below {self.recipe.learning_rate:g}. {outcome}"
            )


class Resumed(keras.callbacks.Callback):
    """Restores the state of callbacks and metrics after `fit` has cleared it.

    Args:
        watch: The `Watch` with the callbacks.
        former: The checkpoint of the run that was stopped.
    """

    def __init__(self, watch: Watch, former: Checkpoint) -> None:
        super().__init__()
        self.watch = watch
        self.former = former

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Restores the callbacks."""
        facts, watch = self.former.facts, self.watch
        watch.history.epoch = list(range(facts["finished"]))
        watch.history.history = facts["history"]
        watch.latents.history = facts["latents"]
        watch.warnings.losses, watch.warnings.validation_losses = facts["losses"]
        for name, value in facts["plateau"].items():
            setattr(watch.plateau, name, value)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Restores the metrics, if the run was stopped within an epoch."""
        if self.former.facts["made"] and epoch == self.former.facts["finished"]:
            self.former.restore_metrics(self.model)


def plain(value: Any) -> Any:
    """Converts numbers, or None, to JSON types."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if value is None or isinstance(value, int):
        return value
    return float(keras.ops.convert_to_numpy(value))
