"""Objective: what every loss shares: the weight of its KL term, warm-up, and draws of z."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from kvae.objectives.terms import Terms
from kvae.parts import Part, checked_integer

__all__ = ["Objective"]


class Objective(Part):
    """What training minimises; one of your own defines `loss`.

    Register it with `keras.saving.register_keras_serializable`, so that files can hold it; its
    `get_config` adds its own arguments to those of this class. These are fixed when it is made. One
    that can be assigned to later is made by `self.add_setting(name, number)`, a variable, and has a
    property that returns it, with a setter that calls `self.assign_setting(name, number)`.

    Figures of its own become metrics beside `kl`: `shown` has their names, and `loss` puts each in
    `terms.shown`, a scalar that is a mean over the batch's images.

    Args:
        beta: The weight of the KL term; 1 gives the bound on log p(x). It can be assigned to, also
            in a callback: `model.beta = 0.5`.
        warmup_steps: Over this many training steps that weight rises linearly to `beta`. Not at
            test time, so that `val_loss` can be compared between epochs. It can be assigned to.
        samples: Draws of z for each image; all are decoded in one pass.

    Attributes:
        step: The number of training steps made, a variable: a part of files, also of those that
            `save_weights` writes, but no weight.
        mean_of_draws: Of so many draws z is the mean.
        shown: The names of figures of its own.
        factorised: Whether it needs a prior whose latents are independent of each other.
        one_group: Whether it needs latents in one group.
        compares_images: Whether it compares images of a batch with each other; devices that each
            have a share of it cannot.

    Raises:
        ValueError: If an argument is not what it should be.

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
        self.step = self.add_setting("step", 0)  # the optimizer's JAX would freeze

    def loss(self, terms: Terms, training: bool = True) -> Any:
        """The loss of one batch.

        Args:
            terms: What the batch's pass through the model gave. `terms.mean_of` averages over its
                images, with their sample weights.
            training: Whether gradients are wanted; at test time nothing warms up.

        Returns:
            A float32 scalar, nats per image.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a `loss`.")

    def begin(self, images: int | None) -> None:
        """What `fit` calls before its first step.

        Args:
            images: How many it trains on; None where it has a stream.
        """

    def check(self, prior: Any) -> None:
        """Raises a ValueError if it cannot be had with this prior."""
        if self.factorised and not prior.closed_form:
            raise ValueError(
                f"{type(self).__name__} needs a prior whose latents are independent of each other, "
                f"such as standard-normal. Received: {type(prior).__name__}"
            )

    def check_groups(self, groups: Sequence[int]) -> None:
        """Raises a ValueError if it cannot be had of so many latents in each of several groups."""
        if self.one_group:
            raise ValueError(
                f"{type(self).__name__} is for latents in one group, and this model has "
                f"{len(groups)}, whose posteriors depend on each other. Choose another network."
            )

    def check_whole(self, terms: Terms) -> None:
        """Raises a ValueError if this device has but a share of the batch, and that is too little.

        On JAX each has all of it.
        """
        if self.compares_images and terms.share is not None:
            raise ValueError(
                f"{type(self).__name__} compares all images of a batch with each other, and of "
                "several devices each has a share of them. Train on one: devices=1, or --devices 1."
            )

    def kl_weight(self, training: bool = True) -> Any:
        """The weight of the KL term: `beta`, or in training, while that warms up, less."""
        return self.beta * self.warmed_up(training)

    def warmed_up(self, training: bool = True) -> Any:
        """How far warm-up has come: from 0 to 1, which it always is at test time."""
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
        """The number of training steps in which that weight rises, a variable."""
        return self.held["warmup_steps"]

    @warmup_steps.setter
    def warmup_steps(self, value: float) -> None:
        self.assign_setting("warmup_steps", checked("warmup_steps", value))

    def save_own_variables(self, store: Any) -> None:
        """Saves the step too, so that a schedule goes on where it was."""
        super().save_own_variables(store)
        store["step"] = ops.convert_to_numpy(self.step)

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved."""
        super().load_own_variables(store)
        if "step" in store:  # of format 0 the model has it
            self.step.assign(store["step"][()])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; settings as they stand now."""
        return {
            **super().get_config(),
            "beta": float(ops.convert_to_numpy(self.beta)),
            "warmup_steps": float(ops.convert_to_numpy(self.warmup_steps)),
            "samples": self.samples,
        }


def checked(name: str, value: Any) -> float:
    """A number that is finite and not negative, or a ValueError."""
    array = np.asarray(ops.convert_to_numpy(value) if hasattr(value, "shape") else value)
    if array.shape == () and array.dtype.kind in "iuf":
        number = float(array)
        if math.isfinite(number) and number >= 0:
            return number
    raise ValueError(f"`{name}` must be finite and at least 0. Received: {name}={value!r}")
