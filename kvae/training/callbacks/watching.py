"""Callbacks that watch the KL of each latent, beta, and common problems during training."""

import sys
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.diagnosis import (
    Finding,
    capacity_of,
    check_groups,
    check_latents,
    check_likelihood,
    check_overfitting,
    check_scale,
    learns_scale,
    pixel_facts,
)
from kvae.training.callbacks.grids import is_due

__all__ = ["BetaLogger", "LatentKL", "Warnings"]

SETTLING = 500  # updates after warm-up, in which a model may still look collapsed
PATIENCE = 3  # epochs


class LatentKL(keras.callbacks.Callback):
    """Records the KL of each latent after an epoch. The logs do not change.

    Args:
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1]. The KL is
            averaged over at most the first 1,000.
        every: Number of epochs between two records. The last epoch always has one.
        classes: For a conditional model, the class of each image, or its numbers.

    Attributes:
        history: `epoch`, counted from 1, and a column for each latent, named by its number from 1
            on, in nats. If latents come in groups, a column for each group: "group 1" and so on.

    Example:
        >>> import kvae
        >>> images = kvae.data.load("digits").train
        >>> vae = kvae.VAE.from_preset("mlp-400", images.shape[1:], latent_dim=2)
        >>> vae.compile("adam")
        >>> latents = kvae.LatentKL(images)
        >>> history = vae.fit(images, epochs=2, verbose=0, callbacks=[latents])
        >>> list(latents.history), latents.history["epoch"]
        (['epoch', '1', '2'], [1, 2])
    """

    def __init__(
        self, images: np.ndarray, every: int = 1, classes: np.ndarray | None = None
    ) -> None:
        super().__init__()
        self.images = np.asarray(images)[:1000]
        self.classes = None if classes is None else np.asarray(classes)[:1000]
        self.every = every
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the KL if the epoch is due."""
        if is_due(epoch, self.every, self.params):
            kl = self.model.kl_per_latent(self.images, classes=self.classes)
            several = len(self.model.groups) > 1
            kl = self.model.sums_by_group(kl) if several else kl
            row: dict[str, float] = {"epoch": epoch + 1}
            row |= {f"{'group ' * several}{i + 1}": float(value) for i, value in enumerate(kl)}
            for name, value in row.items():
                self.history.setdefault(name, []).append(value)


class Warnings(keras.callbacks.Callback):
    """Warns once of each problem during training, in a line that ends with what helps.

    Before the first epoch it checks the images of `LatentKL`; then the KL of its latents, the
    losses in the logs, and a scale that all values share. It is silent while the KL term warms up,
    and if `fit` is silent.

    Args:
        latents: The `LatentKL`, which must come before this callback in the list.

    Attributes:
        findings: The problems that were found.
    """

    def __init__(self, latents: LatentKL) -> None:
        super().__init__()
        self.latents = latents
        self.findings: list[Finding] = []
        self.unsaid: list[str] = []
        self.losses: list[float] = []
        self.validation_losses: list[float] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks the images."""
        facts = pixel_facts(self.latents.images)
        self.note(check_likelihood(facts, self.model.likelihood), "Before training")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks the model, after it has had time to settle."""
        logs = logs or {}
        self.losses.append(logs.get("loss", np.nan))
        self.validation_losses.append(logs.get("val_loss", np.nan))
        step, beta, warmup = (
            float(ops.convert_to_numpy(getattr(self.model, name)))
            for name in ("step", "beta", "warmup_steps")
        )
        if len(self.model.groups) > 1:  # the last group opens then
            warmup = max(warmup, getattr(self.model.objective, "fine_steps", 0.0))
        last = epoch + 1 == self.params.get("epochs")
        if step < warmup + (0 if last else SETTLING):
            return
        after = f"After epoch {epoch + 1}"
        if self.latents.history.get("epoch", [0])[-1] == epoch + 1:
            kl = [row[-1] for name, row in self.latents.history.items() if name != "epoch"]
            if len(self.model.groups) > 1:
                self.note(check_groups(np.array(kl), not self.model.prior.closed_form), after)
            else:
                total = logs.get("val_kl", logs.get("kl"))
                capacity = capacity_of(self.model)
                found = check_latents(np.array(kl), beta, warmup, total=total, capacity=capacity)
                self.note(found, after)
        if self.rises():
            self.note(check_overfitting(self.validation_losses), after)
        likelihood = self.model.likelihood
        if learns_scale(likelihood) and likelihood.parameters_per_value == 1:
            scale = float(ops.convert_to_numpy(likelihood.location_and_scale(0.0)[1]))
            at_bound = float(scale < 1.1 * likelihood.min_scale)
            self.note(check_scale(at_bound, likelihood), after)

    def rises(self) -> bool:
        """Whether validation was best some epochs ago, while the training loss still falls."""
        best = int(np.argmin(self.validation_losses))
        return best + PATIENCE < len(self.losses) and self.losses[-1] < self.losses[best]

    def note(self, finding: Finding, when: str) -> None:
        """Keeps a new problem, to be printed after the progress bar has ended its line."""
        known = {kept.name for kept in self.findings}
        if finding.severity == "problem" and finding.name not in known:
            self.findings.append(finding)
            self.unsaid.append(f"{when}: {finding.seen} → {finding.remedy}")

    def say(self, *_: Any, **__: Any) -> None:
        """Prints the lines that are due."""
        if self.params.get("verbose", 0):
            for line in self.unsaid:
                print(line, file=sys.stderr)
        self.unsaid = []

    on_epoch_begin = on_train_end = say


class BetaLogger(keras.callbacks.Callback):
    """Adds `beta` to the logs of an epoch: the KL weight in its last training step."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Reads the weight from the model's own variables."""
        if logs is not None:
            logs["beta"] = float(ops.convert_to_numpy(self.model.objective.kl_weight()))
