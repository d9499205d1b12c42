"""The variational autoencoder: encoder, decoder, likelihood and prior in one Keras model."""

import json
import math
import pathlib
import types
import zipfile

import keras
import numpy as np
from keras import ops, tree

from kvae import presets, priors
from kvae.decoder import build_decoder
from kvae.encoder import build_encoder
from kvae.generator import build_generator
from kvae.likelihoods import LIKELIHOODS, Bernoulli, Likelihood
from kvae.noise import normal
from kvae.priors import Prior, StandardNormal
from kvae.shipped import SHIPPED, path_of
from kvae.steps import TrainStep
from kvae.version import __version__

__all__ = ["VAE", "load"]

OBJECTIVES = ("elbo", "iwae")
STATE = ("beta", "warmup_steps", "mean_of_draws", "step")  # scalars that a file keeps


@keras.saving.register_keras_serializable(package="kvae")
class VAE(TrainStep):
    r"""A variational autoencoder of images.

    $$\text{loss} = -\mathbb{E}_{q(z|x)} \log p(x|z) + \beta \, D_{KL}(q(z|x) \,\|\, p(z))$$

    with one draw of z for each image, or `samples`; summed over pixels, channels and latents,
    averaged over the batch: nats per image. It is a `keras.Model`: `compile` (with an optimizer and
    no loss), `fit`, `evaluate`, `predict` and `save` work as ever. `fit` takes images alone; labels
    are ignored.

    Metrics, each a mean over images, in nats: `reconstruction` (−log p(x|z)), `kl`, `elbo`
    (−reconstruction − kl), and `loss`, which is `reconstruction + beta · kl` at every step, unless
    `objective` or `free_bits` say otherwise (and the regularisation losses of your own layers, if
    any). Sample weights multiply each image's terms.

    Args:
        encoder: A Functional model, (batch, height, width, channels) to `[mean, log_variance]`,
            each (batch, latent).
        decoder: A Functional model, (batch, latent) to the likelihood's raw parameters, (batch,
            height, width, channels · `likelihood.parameters_per_value`).
        likelihood: p(x|z); `Bernoulli()` where none is given.
        prior: p(z); `StandardNormal(latent_dim)` where none is given.
        beta: The weight of the KL term; 1 gives the bound on log p(x).
        warmup_steps: Over this many training steps the weight of the KL term rises linearly to
            `beta`. Not at test time, so that `val_loss` can be compared between epochs.
        samples: Draws of z for each image, over which the terms are averaged; all are decoded in
            one pass. More draws, the same bound with less noise, or with "iwae" a tighter one.
        objective: "elbo", or "iwae": the loss is the importance-weighted bound of `samples` draws,
            $-\log \frac1k \sum_i p(x|z_i) (p(z_i) / q(z_i|x))^\beta$, on average at most
            `reconstruction + beta · kl`; the other metrics stay those of one draw. Its gradient is
            the doubly reparameterised one, and takes a second pass through the decoder (of one with
            dropout that is another network, and batch norm counts both).
        free_bits: So many nats of each latent cost nothing in training: its KL, averaged over the
            batch, counts as this where it is less. Where the prior ties latents together (a flow)
            it holds for all of them at once: `free_bits` times their number. Not at test time.
        mean_of_draws: With 2 or more, z is the mean of so many draws from the posterior, while the
            KL term stays that of one. The loss is then no bound; it is here to compare with
            figures that others obtained so.
        seed: For the draws of z and of binarised pixels.
        card: What is known of the model (data set, figures, versions); saved with it.

    Raises:
        ValueError: If encoder, decoder, likelihood and prior do not fit each other.

    References:
        Kingma and Welling (2014), "Auto-encoding variational Bayes", arXiv:1312.6114.
        Higgins et al. (2017), "beta-VAE", ICLR (the weight beta).
        Sønderby et al. (2016), "Ladder variational autoencoders", arXiv:1602.02282 (warm-up).
        Burda, Grosse and Salakhutdinov (2016), "Importance weighted autoencoders",
        arXiv:1509.00519. Tucker et al. (2019), "Doubly reparameterized gradient estimators for
        Monte Carlo objectives", arXiv:1810.04152 (its gradient). Kingma et al. (2016), "Improving
        variational inference with inverse autoregressive flow", arXiv:1606.04934 (free bits).

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

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        likelihood: Likelihood | None = None,
        prior: Prior | None = None,
        beta: float = 1.0,
        warmup_steps: int = 0,
        samples: int = 1,
        objective: str = "elbo",
        free_bits: float = 0.0,
        mean_of_draws: int = 1,
        seed: int | None = None,
        card: dict | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.autocast = False  # grey values keep all their bits; each part casts for itself
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood or Bernoulli()
        check_parts(encoder, decoder, self.likelihood)
        self.prior = prior or StandardNormal(self.latent_dim)
        if self.prior.latent_dim != self.latent_dim:
            raise ValueError(
                f"The prior has {self.prior.latent_dim} latents, the decoder {self.latent_dim}."
            )
        for name, value in (("samples", samples), ("mean_of_draws", mean_of_draws)):
            if not positive_integer(value):
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        check_objective(objective, samples, free_bits, mean_of_draws, self.prior)
        self.samples = samples
        self.objective = objective
        self.free_bits = free_bits
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        if not (math.isfinite(beta) and beta >= 0):
            raise ValueError(f"`beta` must be finite and at least 0. Received: beta={beta}")
        if not warmup_steps >= 0:
            raise ValueError(f"`warmup_steps` must be at least 0. Received: {warmup_steps}")
        self.beta = self.add_state("beta", beta)
        self.warmup_steps = self.add_state("warmup_steps", warmup_steps)
        self.mean_of_draws = self.add_state("mean_of_draws", mean_of_draws)
        self.step = self.add_state("step", 0)  # not the optimizer's: JAX would freeze its value
        self.trackers = {
            name: keras.metrics.Mean(name=name) for name in ("reconstruction", "kl", "elbo")
        }
        # Out of sight of Keras, which would save it with the model.
        self.kept = types.SimpleNamespace(generator=None, parts=())
        self.card = {
            "image_shape": list(self.image_shape),
            "latent_dim": self.latent_dim,
            "protocol": self.likelihood.protocol,
            "backend": keras.backend.backend(),
            "versions": {"kvae": __version__, "keras": keras.__version__},
            **(card or {}),
        }
        self.built = True

    @classmethod
    def from_preset(
        cls,
        name: str,
        image_shape: tuple[int, int, int],
        latent_dim: int | None = None,
        likelihood: Likelihood | None = None,
        prior: Prior | None = None,
        **kwargs,
    ) -> "VAE":
        """Builds the model of a preset, untrained.

        Args:
            name: A key of `kvae.presets.PRESETS`, such as "mlp" or "conv".
            image_shape: (height, width, channels), of any size.
            latent_dim: The number of latents; the preset's where none is given.
            likelihood: p(x|z); the preset's where none is given.
            prior: p(z); the preset's where none is given.
            **kwargs: Of `VAE`.

        Raises:
            ValueError: If there is no such preset, or the shape or number of latents is not one.
        """
        preset = presets.get(name)
        latent_dim = preset.latent_dim if latent_dim is None else latent_dim
        shape = tuple(image_shape)
        if len(shape) != 3 or not all(positive_integer(size) for size in shape):
            raise ValueError(
                "`image_shape` must be (height, width, channels), three positive integers. "
                f"Received: image_shape={image_shape}"
            )
        if not positive_integer(latent_dim):
            raise ValueError(f"`latent_dim` must be at least 1. Received: latent_dim={latent_dim}")
        likelihood = likelihood or LIKELIHOODS[preset.likelihood](**preset.likelihood_arguments)
        prior = prior or priors.get(preset.prior, latent_dim, **preset.prior_arguments)
        encoder = build_encoder(shape, latent_dim, preset.network, **preset.arguments)
        decoder = build_decoder(
            shape,
            latent_dim,
            preset.network,
            likelihood.parameters_per_value,
            **preset.arguments,
        )
        kwargs["card"] = {"preset": name, **(kwargs.get("card") or {})}
        return cls(encoder, decoder, likelihood, prior, **kwargs)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images."""
        return tuple(self.encoder.input_shape[1:])

    @property
    def latent_dim(self) -> int:
        """The number of latents."""
        return self.decoder.input_shape[-1]

    # The mathematics -----------------------------------------------------------------------------

    def call(self, images, training=False):
        """One pass: observe, encode, draw z, decode.

        Args:
            images: (batch, height, width, channels), uint8 in 0…255 or float in [0, 1].
            training: Passed to encoder and decoder.

        Returns:
            A dict of float32 tensors: `observed` (batch, height, width, channels), `mean` and
            `log_variance` (batch, latent), `z` (batch · samples, latent) and `parameters` (batch ·
            samples, …) as the decoder gives them; an image's samples follow each other.
        """
        observed = self.likelihood.observe(images, self.seed_generator)
        mean, log_variance = self.encoder(observed, training=training)
        mean, log_variance = ops.cast(mean, "float32"), ops.cast(log_variance, "float32")
        z = self.draw(self.repeated(mean), self.repeated(log_variance))
        return {
            "observed": observed,
            "mean": mean,
            "log_variance": log_variance,
            "z": z,
            "parameters": ops.cast(self.decoder(z, training=training), "float32"),
        }

    def draw(self, mean, log_variance):
        """Draws z, reparameterised: (batch, latent), float32."""
        noise = normal(ops.shape(mean), self.seed_generator)
        return mean + ops.exp(0.5 * log_variance) * noise / ops.sqrt(self.mean_of_draws)

    def repeated(self, tensor):
        """Each row `samples` times: (batch, …) to (batch · samples, …)."""
        return tensor if self.samples == 1 else ops.repeat(tensor, self.samples, axis=0)

    def averaged(self, values):
        """The mean over each image's samples: (batch · samples,) to (batch,)."""
        if self.samples == 1:
            return values
        return ops.mean(ops.reshape(values, (-1, self.samples)), axis=1)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss of one batch, in nats per image; updates the metrics.

        Args:
            x: The images; not needed, since `y_pred` holds what was observed of them.
            y: Ignored.
            y_pred: What `call` returned.
            sample_weight: (batch,) or (batch, 1), or None.
            training: Whether the KL weight warms up, free bits are free, and gradients are wanted.

        Returns:
            A float32 scalar.
        """
        observed, mean, log_variance = (
            self.repeated(y_pred[name]) for name in ("observed", "mean", "log_variance")
        )
        reconstruction = self.averaged(-self.likelihood.log_prob(observed, y_pred["parameters"]))
        kl = self.averaged(self.prior.kl(mean, log_variance, y_pred["z"]))
        weight = 1.0
        if sample_weight is not None:
            weight = ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
        self.trackers["reconstruction"].update_state(weight * reconstruction)
        self.trackers["kl"].update_state(weight * kl)
        self.trackers["elbo"].update_state(-weight * (reconstruction + kl))
        if training:
            self.step.assign_add(1.0)
        beta = self.kl_weight() if training else self.beta
        if self.objective == "iwae":
            bound = self.importance_weighted(observed, mean, log_variance, y_pred, beta, training)
            loss = ops.mean(weight * bound)
        else:
            kl = ops.mean(weight * kl)
            if self.free_bits and training:
                kl = self.beyond_free_bits(kl, y_pred["mean"], y_pred["log_variance"], weight)
            loss = ops.mean(weight * reconstruction) + beta * kl
        for penalty in self.losses:
            loss = loss + ops.sum(ops.cast(penalty, "float32"))
        return loss

    def importance_weighted(self, observed, mean, log_variance, y_pred, beta, training):
        """The importance-weighted bound of each image: (batch,), float32, nats.

        The weights of the draws are those of the pass that `call` made. Where there is a gradient,
        the draws are decoded again, since what comes back through z is to be scaled by them: with
        the weights w, normalised over an image's draws, a draw's z gets w (1 − beta (1 − w)) of the
        gradient of its log-weight, and the decoder and the prior w.
        """
        z, parameters = y_pred["z"], y_pred["parameters"]
        if training:
            weights = self.log_weights(observed, mean, log_variance, z, parameters, beta)
            weights = ops.reshape(ops.stop_gradient(weights), (-1, self.samples))
            share = ops.exp(weights - ops.logsumexp(weights, axis=1, keepdims=True))
            scale = 1.0 - beta * (1.0 - ops.reshape(share, (-1, 1)))
            fixed = ops.stop_gradient(z)
            z = fixed + scale * (z - fixed)
            parameters = ops.cast(self.decoder(z, training=training), "float32")
        weights = self.log_weights(observed, mean, log_variance, z, parameters, beta)
        weights = ops.reshape(weights, (-1, self.samples))
        return math.log(self.samples) - ops.logsumexp(weights, axis=1)

    def log_weights(self, observed, mean, log_variance, z, parameters, beta):
        """The log of each draw's weight, log p(x|z) + β (log p(z) − log q(z|x)): float32, nats."""
        log_ratio = self.prior.log_ratio(mean, log_variance, z)
        return self.likelihood.log_prob(observed, parameters) - beta * log_ratio

    def beyond_free_bits(self, kl, mean, log_variance, weight):
        """The mean KL that counts, where so much of each latent is free."""
        free = self.free_bits * ops.mean(weight)
        if not self.prior.closed_form:
            return ops.maximum(kl, free * self.latent_dim)
        each = self.prior.kl_per_latent(mean, log_variance)
        each = ops.mean(ops.reshape(weight, (-1, 1)) * each, axis=0)
        return ops.sum(ops.maximum(each, free))

    def kl_weight(self):
        """The weight of the KL term in the training step just taken: `beta`, or less in warm-up."""
        return self.beta * ops.minimum(1.0, self.step / ops.maximum(self.warmup_steps, 1.0))

    # What users ask of a trained model -----------------------------------------------------------

    def encode(self, images, batch_size: int = 1000) -> tuple[np.ndarray, np.ndarray]:
        """The posterior of each image.

        Nothing is drawn: under dynamic binarisation pixels are thresholded at one half here.

        Args:
            images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
            batch_size: How many are held on the device at a time.

        Returns:
            `mean` and `log_variance`, each (count, latent), float32.
        """
        images = self.likelihood.check(images, self.image_shape)
        return tuple(in_batches(self._encode_batch, images, batch_size))

    def encode_observed(self, observed: np.ndarray, batch_size: int = 1000):
        """The posterior of images as they were observed, so that nothing is done to them here.

        Args:
            observed: (count, height, width, channels), float32 in [0, 1]; `call` gives such.
            batch_size: How many are held on the device at a time.

        Returns:
            `mean` and `log_variance`, each (count, latent), float32.
        """
        return tuple(in_batches(self._encode_observed_batch, observed, batch_size))

    def decode(self, latents, batch_size: int = 1000) -> np.ndarray:
        """The expected image of each row of latents.

        Args:
            latents: (count, latent).
            batch_size: How many are held on the device at a time.

        Returns:
            (count, height, width, channels), float32 in [0, 1].
        """
        latents = np.asarray(ops.convert_to_numpy(latents), dtype="float32")
        if latents.ndim != 2 or latents.shape[1] != self.latent_dim or not len(latents):
            raise ValueError(
                f"`latents` must have shape (count, {self.latent_dim}). "
                f"Received: shape {latents.shape}"
            )
        return in_batches(self._decode_batch, latents, batch_size)

    def reconstruct(self, images, batch_size: int = 1000) -> np.ndarray:
        """Decodes each image's posterior mean: (count, height, width, channels), float32 in [0, 1].

        Args:
            images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
            batch_size: How many are held on the device at a time.
        """
        mean, _ = self.encode(images, batch_size)
        return self.decode(mean, batch_size)

    def generate(
        self,
        count: int,
        seed: int | None = None,
        temperature: float = 1.0,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """New images: the expected image of latents drawn from the prior.

        Args:
            count: How many.
            seed: The same seed, the same images, on the same backend; None: others each time.
            temperature: Multiplies the noise that latents are made of: below 1 safer and more
                alike, above 1 wilder.
            batch_size: How many are held on the device at a time; None: 1,000, or up to 5,000 where
                images are small and nothing convolves.

        Returns:
            (count, height, width, channels), float32 in [0, 1].
        """
        if not positive_integer(count):
            raise ValueError(f"`count` must be at least 1. Received: count={count}")
        if seed is not None and not 0 <= seed < 2**32:
            raise ValueError(f"`seed` must be in 0…2³² − 1. Received: seed={seed}")
        if not (math.isfinite(temperature) and temperature >= 0):
            raise ValueError(
                f"`temperature` must be finite and at least 0. Received: temperature={temperature}"
            )
        noise = temperature * ops.convert_to_numpy(self.prior.noise(count, seed))
        if batch_size is None:
            many = 2**25 // (4 * math.prod(self.image_shape))
            batch_size = 1000 if self.convolves() else min(max(many, 1000), 5000)
        return in_batches(self._generate_batch, noise, batch_size)

    def generator(self) -> keras.Model:
        """The way from noise to images as a stock Functional model, which opens without kvae.

        Its weights are those of this model: it stays what the model is, also while that trains.

        Returns:
            (batch, latent), standard normal noise, to the expected images, (batch, height, width,
            channels), float32 in [0, 1].

        Raises:
            ValueError: If a prior of your own is not made of stock layers.
        """
        return build_generator(self.prior, self.decoder, self.likelihood)

    def kl_per_latent(self, images, batch_size: int = 1000) -> np.ndarray:
        """What each latent says of these images: (latent,), nats, averaged over the images.

        The share of each latent in the KL where the prior takes them one by one, as N(0, I) does;
        otherwise see `Prior.kl_per_latent`.

        Args:
            images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
            batch_size: How many are held on the device at a time.
        """
        mean, log_variance = map(ops.convert_to_tensor, self.encode(images, batch_size))
        kl = self.prior.kl_per_latent(mean, log_variance)
        return ops.convert_to_numpy(kl).mean(axis=0)

    def _encode_batch(self, images):
        return self._encode_observed_batch(ops.convert_to_numpy(self.likelihood.observe(images)))

    def _encode_observed_batch(self, observed):
        outputs = self.encoder.predict_on_batch(observed)
        return [ops.convert_to_numpy(output).astype("float32") for output in outputs]

    def _generate_batch(self, noise):
        parts = (self.prior, self.decoder, self.likelihood)
        if self.kept.parts != parts:
            self.kept.parts = parts
            try:
                self.kept.generator = self.generator()
            except Exception:  # a prior of one's own that is not made of stock layers
                self.kept.generator = None
        if self.kept.generator is None:
            return self._decode_batch(ops.convert_to_numpy(self.prior.from_noise(noise)))
        return ops.convert_to_numpy(self.kept.generator.predict_on_batch(noise))

    def _decode_batch(self, latents):
        parameters = self.decoder.predict_on_batch(latents)
        return ops.convert_to_numpy(self.likelihood.mean(parameters))

    # Keras ---------------------------------------------------------------------------------------

    def fit(self, x=None, y=None, *args, **kwargs):
        """`keras.Model.fit`, after a look at the images: their rank, size and range."""
        self._check_data(x)
        self._check_data(kwargs.get("validation_data"))
        return super().fit(x, weighted_without_labels(y, kwargs), *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """`keras.Model.evaluate`, after a look at the images: their rank, size and range."""
        if "_use_cached_eval_dataset" not in kwargs:  # else `fit` has looked
            self._check_data(x)
        return super().evaluate(x, weighted_without_labels(y, kwargs), *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """`keras.Model.predict`, after a look at the images: their rank, size and range."""
        self._check_data(x)
        return super().predict(x, *args, **kwargs)

    def start_at_mean(self, images) -> None:
        """Sets the last bias of the decoder so that it begins at the mean of these images.

        For each value where that layer has a bias for each (a dense one), or else for each channel.

        Args:
            images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].

        Raises:
            ValueError: If the decoder has no bias that fits.
        """
        images = self.likelihood.check(images, self.image_shape)
        mean = images.mean(axis=0, dtype="float64") / (1 if images.dtype.kind in "fb" else 255)
        parameters = self.likelihood.parameters_of(mean[np.newaxis])
        last = [layer for layer in self.decoder.layers if hasattr(layer, "kernel")][-1:]
        bias = last[0].bias if last else None
        size = math.prod(bias.shape) if bias is not None else 0
        if size != parameters.size:
            mean = np.broadcast_to(mean.mean(axis=(0, 1)), (1, 1, 1, mean.shape[-1]))
            parameters = self.likelihood.parameters_of(mean)
        if bias is None or size % parameters.size:
            raise ValueError("The decoder's last layer has no bias for each value or channel.")
        bias.assign(np.tile(parameters.reshape(-1), size // parameters.size))

    def uncompiled(self) -> "VAE":
        """A copy without an optimizer: its file is a third of the size.

        Compiled anew it can be trained on, with an optimizer that begins anew too.
        """
        own = {type(part).__name__: type(part) for part in (self.likelihood, self.prior)}
        copy = type(self).from_config(self.get_config(), custom_objects=own)
        copy.set_weights(self.get_weights())
        copy.seed_generator.state.assign(ops.convert_to_numpy(self.seed_generator.state))
        return copy

    def get_compile_config(self):
        """As Keras's, without what suits one backend only.

        XLA on one backend is a trap on another; and PyTorch's optimizers, which stand for Keras's
        there, fail elsewhere.
        """
        config = super().get_compile_config()
        return {**portable(config), "jit_compile": "auto"} if config else config

    def _check_data(self, data):
        """Checks arrays whole; of data sets that can be read again, the first batch.

        Of generators, which cannot be read twice, nothing.
        """
        if data is None or hasattr(data, "__next__"):
            return
        if isinstance(data, keras.utils.PyDataset):
            data = data[0]
        elif not (hasattr(data, "shape") or isinstance(data, (tuple, list, dict))):
            data = next(iter(data))
        images = data[0] if isinstance(data, (tuple, list)) and len(data) else data
        self.likelihood.check(images, self.image_shape)

    def add_state(self, name: str, value: float):
        """A float32 scalar that belongs to the model's state and is not trained."""
        return self.add_weight(
            name=name,
            shape=(),
            initializer=keras.initializers.Constant(value),
            dtype="float32",
            trainable=False,
            autocast=False,
        )

    def save_own_variables(self, store):
        """Saves the schedule and the random state too, so that a resumed run goes on unchanged."""
        for name in STATE:
            store[name] = ops.convert_to_numpy(getattr(self, name))
        store["seed"] = ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store):
        """Loads what `save_own_variables` saved."""
        for name in STATE:
            if name in store:  # files of older versions may lack some
                getattr(self, name).assign(store[name][()])
        self.seed_generator.state.assign(store["seed"][()])

    def get_config(self) -> dict:
        """The constructor's arguments, those that are variables as they stand now."""
        parts = {
            part: keras.saving.serialize_keras_object(getattr(self, part))
            for part in ("encoder", "decoder", "likelihood", "prior")
        }
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            **parts,
            "beta": float(ops.convert_to_numpy(self.beta)),
            "warmup_steps": int(ops.convert_to_numpy(self.warmup_steps)),
            "samples": self.samples,
            "objective": self.objective,
            "free_bits": self.free_bits,
            "mean_of_draws": int(ops.convert_to_numpy(self.mean_of_draws)),
            "seed": self.seed,
            "card": dict(self.card),
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "VAE":
        """Builds the model that `get_config` described."""
        config = dict(config)
        for part in ("encoder", "decoder", "likelihood", "prior", "dtype"):
            if isinstance(config.get(part), dict):
                config[part] = keras.saving.deserialize_keras_object(
                    config[part], custom_objects=custom_objects
                )
        return cls(**config)


def load(path: str | pathlib.Path, compile: bool = True) -> VAE:
    """Loads a model that kvae saved: `keras.saving.load_model`, with one clear line where it fails.

    Args:
        path: A `.keras` file; or the name of a model that comes with kvae, "mnist", "mnist-conv" or
            "mnist-conv-large", where there is no file of that name.
        compile: Whether to load the optimizer too, to train further.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no model of kvae, or is damaged.
    """
    if str(path) in SHIPPED and not pathlib.Path(path).is_file():
        path = path_of(str(path))
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no model at {path}. Those that come with kvae: {', '.join(SHIPPED)}."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            kind = json.loads(archive.read("config.json")).get("registered_name")
    except (zipfile.BadZipFile, KeyError, ValueError):
        raise ValueError(f"{path} is not a .keras file, or is damaged.") from None
    if kind != "kvae>VAE":
        raise ValueError(
            f"{path} is not a model of kvae, but {kind or 'another Keras model'}; "
            "keras.saving.load_model may open it."
        )
    try:
        return keras.saving.load_model(path, compile=compile)
    except Exception as error:  # whatever a damaged archive sets off inside Keras
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} cannot be loaded: {reason}") from error


def portable(config):
    """A serialised object in which Keras's own class stands for a backend's variant of it."""
    if isinstance(config, list):
        return [portable(part) for part in config]
    if not isinstance(config, dict):
        return config
    config = {name: portable(part) for name, part in config.items()}
    if str(config.get("module")).startswith("keras.src.backend."):
        config |= {"module": "keras.optimizers", "registered_name": None}
    return config


def positive_integer(value) -> bool:
    """Whether the value is an integer of at least 1."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= 1


def check_parts(encoder, decoder, likelihood) -> None:
    """Raises a ValueError unless the three fit each other."""
    for name, part in (("encoder", encoder), ("decoder", decoder)):
        if not (isinstance(part, keras.Model) and getattr(part, "inputs", None)):
            raise ValueError(
                f"`{name}` must be a Keras Functional model, built with `keras.Input`. "
                f"Received: {type(part).__name__}"
            )
    images, latents = encoder.input_shape, decoder.input_shape
    if not isinstance(images, tuple) or len(images) != 4 or None in images[1:]:
        raise ValueError(
            "`encoder` must take one input of shape (batch, height, width, channels), sizes known. "
            f"Received: {images}"
        )
    heads = [tuple(output.shape) for output in encoder.outputs]
    if len(heads) != 2 or heads[0] != heads[1] or len(heads[0]) != 2:
        raise ValueError(
            "`encoder` must give [mean, log_variance], each of shape (batch, latent). "
            f"Received: outputs of shape {heads}"
        )
    if latents != heads[0]:
        raise ValueError(
            f"`decoder` must take what the encoder gives, of shape {heads[0]}. Received: {latents}"
        )
    expected = (*images[:3], images[3] * likelihood.parameters_per_value)
    if tuple(decoder.output_shape) != expected:
        raise ValueError(
            f"`decoder` must give the parameters of {type(likelihood).__name__}, of shape "
            f"{expected}. Received: {decoder.output_shape}"
        )


def check_objective(
    objective: str, samples: int, free_bits: float, mean_of_draws: int, prior: Prior
) -> None:
    """Raises a ValueError unless the loss is one of those that there are."""
    if objective not in OBJECTIVES:
        raise ValueError(f"`objective` must be one of {OBJECTIVES}. Received: {objective!r}")
    if not (math.isfinite(free_bits) and free_bits >= 0):
        raise ValueError(f"`free_bits` must be finite and at least 0. Received: {free_bits}")
    if objective == "iwae" and samples < 2:
        raise ValueError(
            f"`objective` iwae needs `samples` of at least 2. Received: samples={samples}"
        )
    if objective == "iwae" and free_bits:
        raise ValueError("`free_bits` are of the objective elbo; leave them out with iwae.")
    if mean_of_draws > 1 and (objective == "iwae" or not prior.closed_form):
        raise ValueError(
            "`mean_of_draws` needs the objective elbo and a prior whose KL has a closed form, such "
            "as standard-normal."
        )


def weighted_without_labels(y, arguments: dict):
    """Labels to pass on: Keras drops sample weights where there are none, and we ignore labels."""
    return arguments.get("sample_weight") if y is None else y


def in_batches(function, array: np.ndarray, batch_size: int):
    """Applies a function batch by batch, the last one padded, so that one shape is compiled."""
    if not positive_integer(batch_size):
        raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}")
    size = min(batch_size, len(array))
    results = None
    for start in range(0, len(array), size):
        batch = array[start : start + size]
        count = len(batch)
        if count < size:
            batch = np.concatenate([batch, np.repeat(batch[-1:], size - count, axis=0)])
        parts = function(batch)
        if results is None:  # one array from the start, so that nothing is held twice
            results = tree.map_structure(
                lambda part: np.empty((len(array), *part.shape[1:]), part.dtype), parts
            )
        for whole, part in zip(tree.flatten(results), tree.flatten(parts), strict=True):
            whole[start : start + count] = part[:count]
    return results
