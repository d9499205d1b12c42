"""The variational autoencoder: encoder, decoder, likelihood, prior and objective in one model."""

import math
import types
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.likelihoods import Bernoulli, Likelihood
from kvae.model.build import from_recipe
from kvae.model.card import Card, checked_card
from kvae.model.condition import condition_of
from kvae.model.format import FORMAT, upgraded
from kvae.model.hierarchy import hierarchy_of
from kvae.model.match import check_encoder, check_parts
from kvae.model.scoring import Scoring
from kvae.model.start import start_at_mean
from kvae.noise import Seeds, StepSeeds, normal
from kvae.objectives import ELBO, Objective, Terms, repeated
from kvae.parts import Fixed, arguments_of, attributes_of_layers, with_nested
from kvae.priors import Prior, StandardNormal
from kvae.recipe import Recipe
from kvae.version import __version__

__all__ = ["VAE"]

HALVES = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")
PARTS = ("encoder", "decoder", "likelihood", "prior", "objective")


@keras.saving.register_keras_serializable(package="kvae")
class VAE(Fixed, Scoring):
    r"""A variational autoencoder of images.

    $$\text{loss} = -\mathbb{E}_{q(z|x)} \log p(x|z) + \beta \, D_{KL}(q(z|x) \,\|\, p(z))$$

    The terms are summed over pixels, channels and latents and averaged over the batch, in nats per
    image. The model is a `keras.Model`: `compile` (with an optimizer and no loss), `fit`,
    `evaluate`, `predict` and `save` work as usual. `fit` takes images alone and ignores labels,
    unless the model is conditional.

    **Conditional models.** If encoder and decoder have a second input, `context`, the model is
    conditional, p(x|c). With `classes`, c is the class of each image; without it, c is a row of
    numbers. `fit` then takes (images, c), and the other methods take an argument `classes`. A
    `RealNVP` with `context_dim` is a prior p(z|c).

    Metrics are means over images, in nats: `reconstruction` (−log p(x|z)), `kl`, `elbo`
    (−reconstruction − kl), the figures that the objective shows, and `loss`. By default, `loss` is
    `reconstruction + beta · kl` at every step, plus what your own layers add to the loss, if
    anything. Sample weights multiply the terms of each image.

    The parts are fixed when the model is made. Settings of the objective can also be set on the
    model: `vae.beta = 0.5`, also in a callback.

    Args:
        encoder: A Functional model, (batch, height, width, channels) to `[mean, log_variance]`,
            each (batch, latent).
        decoder: A Functional model, (batch, latent) to the likelihood's raw parameters, (batch,
            height, width, channels · `likelihood.parameters_per_value`).
        likelihood: p(x|z). Defaults to `Bernoulli()`.
        prior: p(z). Defaults to `StandardNormal(latent_dim)`.
        objective: The loss that training minimises. Defaults to `ELBO()`.
        classes: Number of classes of a conditional model; must equal the size of the context. None:
            the context is a row of numbers.
        partly_labelled: Whether the class of an image may be −1, unknown. The loss of such an image
            is the bound on log p(x), over all classes, which are equally likely; the bound is at
            its best where beta is 1. Each image takes a pass for each class, which batch norm sees
            too.
        seed: Random seed of the draws of z and of binarised pixels.
        card: Facts about the model (data set, figures, versions), which are saved with it.

    Raises:
        ValueError: If the parts do not fit each other.

    References:
        Kingma and Welling (2014), "Auto-encoding variational Bayes", arXiv:1312.6114. Sohn, Lee and
        Yan (2015), "Learning structured output representation using deep conditional generative
        models", NeurIPS.

    Example:
        >>> import numpy as np
        >>> import kvae
        >>> vae = kvae.VAE.from_preset("mlp", image_shape=(8, 8, 1), latent_dim=4)
        >>> vae.compile("adam")
        >>> images = np.zeros((32, 8, 8, 1), "uint8")
        >>> history = vae.fit(images, epochs=1, verbose=0)
        >>> sorted(history.history)
        ['elbo', 'kl', 'loss', 'reconstruction']
        >>> vae.generate(16, seed=0).shape
        (16, 8, 8, 1)
    """

    settable = ("card",)

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        likelihood: Likelihood | None = None,
        prior: Prior | None = None,
        objective: Objective | None = None,
        seed: int | None = None,
        card: dict[str, Any] | None = None,
        classes: int | None = None,
        partly_labelled: bool = False,
        **kwargs: Any,
    ) -> None:
        for name in arguments_of(ELBO) & kwargs.keys():
            raise ValueError(f"`{name}` belongs to the objective: objective=kvae.ELBO({name}=…).")
        super().__init__(**kwargs)
        self.autocast = False  # keeps all bits of grey values; each part casts for itself
        likelihood = Bernoulli() if likelihood is None else likelihood
        objective = ELBO() if objective is None else objective
        prior = StandardNormal(check_encoder(encoder)) if prior is None else prior
        check_parts(encoder, decoder, likelihood, prior, objective)
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.prior = prior
        self.objective = objective
        self.classes = classes
        self.partly_labelled = partly_labelled
        self.seed = seed

        self.seed_generator = keras.random.SeedGenerator(seed)
        shown = ("reconstruction", "kl", "elbo", *objective.shown)
        self.trackers = {name: keras.metrics.Mean(name=name) for name in shown}
        for whole in (self.likelihood, self.prior, self.objective):
            for part in with_nested(whole):
                part.owners.add(self)
        # Hidden from Keras, which would save it with the model.
        ladder = hierarchy_of(encoder, decoder, prior, objective)
        parts = (encoder, decoder, prior, objective)
        condition = condition_of(*parts, classes, partly_labelled)
        self.kept = types.SimpleNamespace(
            generator=None, means=None, hierarchy=ladder, condition=condition, card=Card()
        )

        self.card = {
            "backend": keras.backend.backend(),
            "versions": {"kvae": __version__, "keras": keras.__version__},
            **checked_card(card),
            "image_shape": list(self.image_shape),
            "latent_dim": self.latent_dim,
            "protocol": self.likelihood.protocol,
        }
        self.built = True

    @classmethod
    def from_preset(
        cls, preset: str | Recipe, image_shape: tuple[int, int, int], **arguments: Any
    ) -> "VAE":
        """Builds the model of a preset, untrained.

        Args:
            preset: A key of `kvae.presets.PRESETS`, such as "mlp" or "conv", or a `kvae.Recipe`.
            image_shape: (height, width, channels), of any size.
            **arguments: `latent_dim`, `likelihood`, `prior` and `objective` replace those of the
                preset. `classes` or `context_dim` make the model conditional, on classes or on rows
                of that many numbers. Other arguments are those of `VAE`.

        Raises:
            ValueError: If there is no such preset, or the shape or number of latents is not one.
        """
        return cls(**from_recipe(preset, image_shape, **arguments))

    @property
    def card(self) -> dict[str, Any]:
        """Facts about the model: a dict that is saved with it. You can add entries."""
        return self.kept.card

    @card.setter
    def card(self, card: dict[str, Any]) -> None:
        self.kept.card = Card(card)

    @property
    def beta(self) -> Any:
        """The weight of the KL term: the variable of the objective, which can be assigned to."""
        return self.objective.beta

    @property
    def warmup_steps(self) -> Any:
        """The number of steps over which `beta` rises, of the objective. Can be assigned to."""
        return self.objective.warmup_steps

    @property
    def samples(self) -> int:
        """The number of draws of z per image, of the objective."""
        return self.objective.samples

    @property
    def step(self) -> Any:
        """The number of training steps made: a variable of the objective."""
        return self.objective.step

    # The mathematics -----------------------------------------------------------------------------

    def call(self, images: Any, training: bool = False) -> dict[str, Any]:
        """Runs one pass: observes, encodes, draws z and decodes.

        Args:
            images: (batch, height, width, channels), uint8 in 0…255 or float in [0, 1]. For a
                conditional model, a pair of these and of the class of each image, (batch,), or its
                numbers.
            training: Passed to encoder and decoder.

        Returns:
            A dict of float32 tensors: `observed` (batch, height, width, channels), `mean` and
            `log_variance` (batch, latent), `z` (batch · samples, latent) and `parameters` (batch ·
            samples, …), the output of the decoder. The samples of an image follow each other. If
            latents come in groups, mean and log-variance are those of each sample. For a
            conditional model, the dict also has `context`, (batch, context). If classes may be
            unknown, all but `observed` are given for each class of an image, as if the classes were
            samples, and `known`, (batch, classes), is 1 at the class that is known.
        """
        images, context = self.told_apart(images)
        seeds = Seeds(self.seed_generator, self.share)
        if training:
            seeds = StepSeeds(self.seed_generator, self.step, self.share)
        observed = self.likelihood.observe(images, seeds)
        samples = self.objective.samples
        shape = (ops.shape(observed)[0] * samples, self.latent_dim)
        noise = normal(shape, seeds)
        if self.objective.mean_of_draws > 1:
            noise = noise / math.sqrt(self.objective.mean_of_draws)
        seen, told = observed, {} if context is None else {"context": context}
        if self.condition is not None and self.condition.partly_labelled:
            count = self.condition.size
            seen, noise = repeated(observed, count), repeated(noise, count)
            every = ops.tile(ops.eye(count), (ops.shape(observed)[0], 1))
            told = {"context": every, "known": context}
        found = self.infer(seen, noise, samples, training, told.get("context"))
        mean, log_variance, z, parameters = found
        return {
            **told,
            "observed": observed,
            "mean": mean,
            "log_variance": log_variance,
            "z": z,
            "parameters": parameters,
        }

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Computes the loss of one batch, in nats per image, and updates the metrics.

        Args:
            x: The images. Not used: `y_pred` contains the observed images.
            y: Ignored.
            y_pred: What `call` returned.
            sample_weight: (batch,) or (batch, 1), or None.
            training: Whether this is a training step, in which warm-ups apply.

        Returns:
            A float32 scalar.
        """
        terms = self.terms(y_pred, sample_weight, training)
        reconstruction, kl = terms.reconstruction, terms.kl
        shown = (terms.weight * reconstruction, terms.weight * kl)
        if self.share is not None:  # all devices show the same, of all images
            shown = tuple(map(self.share.mean, shown))
        values = {"reconstruction": shown[0], "kl": shown[1], "elbo": -(shown[0] + shown[1])}
        for name, value in values.items():
            self.trackers[name].update_state(value, self.share and self.share.total)
        if training:
            self.step.assign_add(1.0)
        loss = self.objective.loss(terms, training)
        images = self.share.total if self.share is not None else ops.shape(reconstruction)[0]
        for name in self.objective.shown:
            self.trackers[name].update_state(terms.shown[name], images)
        for penalty in self.losses:
            penalty = ops.sum(ops.cast(penalty, "float32"))
            loss = loss + (penalty if self.share is None else self.share.once(penalty))
        return loss

    def terms(self, outputs: Any, sample_weight: Any = None, training: bool = False) -> Terms:
        """The terms of one pass, from which an objective computes the loss.

        Args:
            outputs: What `call` returned.
            sample_weight: (batch,) or (batch, 1), or None.
            training: Passed to the decoder if the objective decodes again.
        """
        weight = 1.0
        if sample_weight is not None:
            weight = ops.reshape(ops.cast(sample_weight, "float32"), (-1,))

        known = outputs.get("known")
        samples = self.objective.samples if known is None else known.shape[-1]

        def decode(z: Any) -> Any:
            return self.decoded(z, terms.given.get("context"), training)

        parts = (self.likelihood, self.prior, decode, samples)
        terms = Terms(outputs, *parts, weight, self.groups, self.share)
        return terms

    def told_apart(self, images: Any) -> tuple[Any, Any]:
        """Splits the argument of `call` into images and context, (batch, context), or None."""
        if self.condition is None:
            return images, None
        if not isinstance(images, (tuple, list)) or len(images) != 2:
            self.condition.checked(None, 0)  # raises an error about the missing context
        return images[0], self.condition.context(images[1])

    # Settings and files --------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        """Passes settings of a part on to that part, which sets or refuses them."""
        if self.is_fixed and name not in arguments_of(type(self)) | attributes_of_layers():
            for whole in (self.objective, self.likelihood, self.prior):
                for part in with_nested(whole):
                    if name in arguments_of(type(part)):
                        setattr(part, name, value)
                        return
            if name in arguments_of(ELBO):
                setattr(self.objective, name, value)  # raises an error
        super().__setattr__(name, value)

    def start_at_mean(self, images: Any) -> None:
        """Sets the last bias of the decoder so that its output begins at the mean of these images.

        Args:
            images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].

        Raises:
            ValueError: If the decoder has no bias that fits.
        """
        images = self.taken(images)
        start_at_mean(self.decoder, self.likelihood, images)

    def uncompiled(self, objective: Objective | None = None, prior: Prior | None = None) -> "VAE":
        """A copy of the model without its optimizer. Its file is a half or a third of the size.

        You can compile the copy and train it further; its optimizer then starts anew.

        Args:
            objective: Objective of the copy. Defaults to that of this model.
            prior: Prior of the copy. Defaults to that of this model, with its weights.
        """
        others = {"objective": objective, "prior": prior}
        others = {name: part for name, part in others.items() if part is not None}
        return self.rebuilt(self.get_config() | others, set(PARTS) - others.keys())

    def in_float32(self) -> "VAE":
        """This model with all arithmetic in float32; the model itself if that is already so.

        The weights of a mixed-precision model are float32 already.
        """
        config = self.get_config()
        full = without_halves(config)
        return self if full == config else self.rebuilt(full, set(PARTS))

    def rebuilt(self, config: dict[str, Any], parts: set[str]) -> "VAE":
        """A copy made from a configuration, with the weights of some parts of this model.

        Args:
            config: A configuration as `get_config` returns it.
            parts: Names of the parts whose weights are copied, from `PARTS`.
        """
        copy = type(self).from_config(config, custom_objects=self.custom_objects())
        for name in parts:
            pairs = zip(getattr(copy, name).variables, getattr(self, name).variables, strict=True)
            for variable, value in pairs:
                # A copy: on JAX, two variables with the same array lose it when one of them trains.
                variable.assign(np.array(ops.convert_to_numpy(value)))
        copy.seed_generator.state.assign(ops.convert_to_numpy(self.seed_generator.state))
        return copy

    def save_own_variables(self, store: Any) -> None:
        """Saves the random state too, so that a resumed run continues unchanged."""
        store["seed"] = ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved."""
        self.seed_generator.state.assign(store["seed"][()])
        if "step" in store:  # in format 0
            self.step.assign(store["step"][()])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, and the number of the file's format."""
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in PARTS}
        return {
            "format": FORMAT,
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            **parts,
            **({} if self.classes is None else {"classes": self.classes}),
            **({"partly_labelled": True} if self.partly_labelled else {}),
            "seed": self.seed,
            "card": dict(self.card),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "VAE":
        """Builds the model that `get_config` described, in this format or an earlier one."""
        config = upgraded(config)
        for name in (*PARTS, "dtype"):
            if isinstance(config.get(name), dict):
                config[name] = keras.saving.deserialize_keras_object(
                    config[name], custom_objects=custom_objects
                )
        return cls(**config)


def without_halves(config: Any) -> Any:
    """A configuration in which "float32" replaces policies and dtypes of half precision."""
    if isinstance(config, (list, tuple)):
        return type(config)(without_halves(part) for part in config)
    if not isinstance(config, dict):
        return config
    full = {name: without_halves(part) for name, part in config.items()}
    if full.get("class_name") == "DTypePolicy" and full["config"].get("name") in HALVES:
        full["config"]["name"] = "float32"
    if full.get("dtype") in HALVES:
        full["dtype"] = "float32"
    return full
