"""Objective: the base class of losses: KL weight, warm-up, and draws of z."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from kvae.objectives.terms import Terms
from kvae.parts import Part, checked_integer

__all__ = ["Objective"]


class Objective(Part):
    """Base class of objectives, the losses that training minimises. A subclass defines `loss`.

    Register the class with `keras.saving.register_keras_serializable`, so that files can hold it.
    Its `get_config` adds its own arguments to those of this class. Arguments are fixed when the
    objective is made. To make one assignable later, call `self.add_setting(name, number)`, which
    makes a variable, and define a property that returns it, with a setter that calls
    `self.assign_setting(name, number)`.

    An objective can show figures as metrics beside `kl`: `shown` lists their names, and `loss` puts
    each into `terms.shown`, a scalar that is a mean over the images of the batch.

    Args:
        beta: Weight of the KL term; 1 gives the bound on log p(x). Can be assigned to, also in a
            callback: `model.beta = 0.5`.
        warmup_steps: Number of training steps over which that weight rises linearly to `beta`.
            There is no warm-up at test time, so `val_loss` can be compared between epochs. Can be
            assigned to.
        samples: Number of draws of z per image. All are decoded in one pass.

    Attributes:
        step: Number of training steps made, a variable. Files contain it, also those of
            `save_weights`, but it is not a weight.
        mean_of_draws: z is the mean of this many draws.
        shown: Names of the figures that it shows as metrics.
        factorised: Whether it needs a prior with independent latents.
        one_group: Whether it needs latents in one group.
        compares_images: Whether it compares the images of a batch with each other. Devices that
            each have a share of the batch cannot do that.

    Raises:
        ValueError: If an argument is invalid.

    References:
        Higgins et al. (2017), "beta-VAE", ICLR (the weight beta). Sønderby et al. (2016), "Ladder
        variational autoencoders", arXiv:1602.02282 (warm-up).

    Example:
        >>> import keras, numpy as np
        >>> import kvae
        >>> @keras.saving.register_keras_serializable("mine")
        ... class SquaredKL(kvae.Objective):
        ...     def loss(self, terms, training=True):
        ...         kl = terms.mean_of(keras.ops.square(terms.kl))
        ...         return terms.mean_of(terms.reconstruction) + self.kl_weight(training) * kl
        >>> objective = SquaredKL(beta=0.1)
        >>> vae = kvae.VAE.from_preset("mlp", (8, 8, 1), latent_dim=4, objective=objective)
        >>> vae.compile("adam")
        >>> history = vae.fit(np.zeros((32, 8, 8, 1), "uint8"), verbose=0)
    """

    mean_of_draws = 1
    shown: tuple[str, ...] = ()
    factorised = False
    one_group = False
    compares_images = False

    def __init__(
        self, beta: float = 1.0, warmup_steps: float = 0, samples: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.samples = checked_integer("samples", samples)
        self.add_setting("beta", checked("beta", beta))
        self.add_setting("warmup_steps", checked("warmup_steps", warmup_steps))
        self.step = self.add_setting("step", 0)  # on JAX, the optimizer's own step would be frozen

    def loss(self, terms: Terms, training: bool = True) -> Any:
        """The loss of one batch.

        Args:
            terms: The terms of the batch. `terms.mean_of` averages over its images, with their
                sample weights.
            training: Whether this is a training step. Nothing warms up at test time.

        Returns:
            A float32 scalar, nats per image.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a `loss`.")

    def begin(self, images: int | None) -> None:
        """Called by `fit` before its first step.

        Args:
            images: Number of training images. None: `fit` has a stream.
        """

    def check(self, prior: Any) -> None:
        """Raises a ValueError if the objective does not work with this prior."""
        if self.factorised and not prior.closed_form:
            raise ValueError(
                f"{type(self).__name__} needs a prior whose latents are independent of each other, "
                f"such as standard-normal. Received: {type(prior).__name__}"
            )

    def check_groups(self, groups: Sequence[int]) -> None:
        """Raises a ValueError if the objective does not work with latents in several groups."""
        if self.one_group:
            raise ValueError(
                f"{type(self).__name__} is for latents in one group, and this model has "
                f"{len(groups)}, whose posteriors depend on each other. Choose another network."
            )

    def check_whole(self, terms: Terms) -> None:
        """Raises a ValueError if this device has only a share of a batch that must be whole.

        On JAX each device sees the whole batch.
        """
        if self.compares_images and terms.share is not None:
            raise ValueError(
                f"{type(self).__name__} compares all images of a batch with each other, and of "
                "several devices each has a share of them. Train on one: devices=1, or --devices 1."
            )

    def kl_weight(self, training: bool = True) -> Any:
        """The current weight of the KL term: `beta`, or less during warm-up."""
        return self.beta * self.warmed_up(training)

    def warmed_up(self, training: bool = True) -> Any:
        """The progress of the warm-up, from 0 to 1. It is always 1 at test time."""
        if not training:
            return 1.0
        return ops.minimum(1.0, self.step / ops.maximum(self.warmup_steps, 1.0))

    @property
    def beta(self) -> Any:
        """The weight of the KL term, a variable."""
        return self.held["beta"]

    @beta.setter
    def beta(self, value: float) -> None:
        self.assign_setting("beta", checked("beta", value))

    @property
    def warmup_steps(self) -> Any:
        """The number of training steps over which that weight rises, a variable."""
        return self.held["warmup_steps"]

    @warmup_steps.setter
    def warmup_steps(self, value: float) -> None:
        self.assign_setting("warmup_steps", checked("warmup_steps", value))

    def save_own_variables(self, store: Any) -> None:
        """Saves the step too, so that schedules continue where they were."""
        super().save_own_variables(store)
        store["step"] = ops.convert_to_numpy(self.step)

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved."""
        super().load_own_variables(store)
        if "step" in store:  # of format 0 the model has it
            self.step.assign(store["step"][()])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, with the current values of settings."""
        return {
            **super().get_config(),
            "beta": float(ops.convert_to_numpy(self.beta)),
            "warmup_steps": float(ops.convert_to_numpy(self.warmup_steps)),
            "samples": self.samples,
        }


def checked(name: str, value: Any) -> float:
    """Returns a finite, non-negative number as a float, or raises a ValueError."""
    array = np.asarray(ops.convert_to_numpy(value) if hasattr(value, "shape") else value)
    if array.shape == () and array.dtype.kind in "iuf":
        number = float(array)
        if math.isfinite(number) and number >= 0:
            return number
    raise ValueError(f"`{name}` must be finite and at least 0. Received: {name}={value!r}")
