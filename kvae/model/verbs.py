"""Verbs: what users ask of a trained model; arrays in, arrays out, in batches."""

import contextlib
import dataclasses
import math
import types
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.data.fitting import CHANNELS, Fitting
from kvae.data.pictures import read_pictures
from kvae.data.values import as_array, paths_of
from kvae.limits import check_memory
from kvae.model.batches import in_batches
from kvae.model.generator import build_generator
from kvae.model.hierarchy import Hierarchy
from kvae.model.keras_model import KerasModel
from kvae.objectives import repeated
from kvae.parts import check_seed, check_temperature, checked_integer, is_integer
from kvae.priors import Prior
from kvae.recipe import Recipe

__all__ = ["Verbs"]

VALUES_DECODED = 2**25  # of the likelihood's parameters: 128 MB, some five times over


class Verbs(KerasModel):
    """A model that encodes, decodes and generates images."""

    decoder: keras.Model
    prior: Prior
    kept: types.SimpleNamespace

    @property
    def latent_dim(self) -> int:
        """The number of latents."""
        return self.decoder.input_shape[-1]

    @property
    def hierarchy(self) -> Hierarchy | None:
        """How encoder and decoder work together where latents come in groups."""
        return self.kept.hierarchy

    @property
    def groups(self) -> tuple[int, ...]:
        """The number of latents in each group; one number where there is but one group."""
        return self.hierarchy.sizes if self.hierarchy else (self.latent_dim,)

    def sums_by_group(self, per_latent: Any) -> np.ndarray:
        """Figures of latents, (…, latent), summed up for each group: (…, groups)."""
        starts = np.cumsum([0, *self.groups[:-1]])
        return np.add.reduceat(np.asarray(as_array(per_latent)), starts, axis=-1)

    def infer(self, observed: Any, noise: Any, samples: int = 1, training: bool = False) -> Any:
        """Encodes, draws z and decodes: what `call` does with images as they were observed.

        Args:
            observed: (batch, height, width, channels), float32 in [0, 1].
            noise: (batch · samples, latent), standard normal; zeros give the means.
            samples: Draws for each image; an image's follow each other.
            training: Passed to encoder and decoder.

        Returns:
            Mean and log-variance of the posterior, (batch, latent), or where latents come in
            groups those of each draw, (batch · samples, latent); z, (batch · samples, latent); and
            the likelihood's parameters, (batch · samples, …). float32.
        """
        noise = ops.convert_to_tensor(noise)
        if self.hierarchy:
            return self.hierarchy.infer(observed, noise, samples, training)
        mean, log_variance = self.encoder(observed, training=training)
        mean, log_variance = ops.cast(mean, "float32"), ops.cast(log_variance, "float32")
        z = repeated(mean, samples) + ops.exp(0.5 * repeated(log_variance, samples)) * noise
        parameters = ops.cast(self.decoder(z, training=training), "float32")
        return mean, log_variance, z, parameters

    @property
    def fitting(self) -> Fitting:
        """How pictures of any size and kind become images that the model takes, as in training.

        Example:
            >>> import kvae
            >>> vae = kvae.VAE.from_preset("mlp-400", image_shape=(48, 64, 3))
            >>> vae.fitting.image_size, vae.fitting.channels
            ((48, 64), 'rgb')
        """
        height, width, channels = self.image_shape
        kinds = {number: kind for kind, number in CHANNELS.items()}
        fitting = Fitting(image_size=(height, width), channels=kinds.get(channels))
        with contextlib.suppress(ValueError):  # of a card without a recipe, or a stranger's
            recipe = Recipe.from_card(self.card)
            own: dict[str, Any] = {"fit": recipe.fit or "crop", "background": recipe.background}
            fitting = dataclasses.replace(fitting, **own)
        return fitting

    def taken(self, images: Any) -> np.ndarray:
        """Images as an array that the model takes; those of files are read, and fitted.

        Args:
            images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1]; grey ones
                may be (count, height, width). An array, a tensor of any framework, or a list. Or
                the path of a picture file, or a list of such: of any format, size and mode, which
                become what those were that the model was trained on.

        Returns:
            (count, height, width, channels).

        Raises:
            ValueError: If they are no such images.
            OSError: If there is no such file.

        Example:
            >>> import kvae
            >>> vae = kvae.VAE.from_preset("mlp-400", image_shape=(8, 8, 1))
            >>> vae.taken([[[0.5] * 8] * 8]).shape
            (1, 8, 8, 1)
        """
        paths = paths_of(images)
        return self.check(read_pictures(paths, self.fitting) if paths else images)

    def at_a_time(self, batch_size: int | None = None, most: int = 1000) -> int:
        """How many images are held on the device at a time: so many, or fewer of large ones.

        Args:
            batch_size: What the user asks for; None: what fits.
            most: Of those that fit.
        """
        if batch_size is not None:
            return batch_size
        return max(1, min(most, VALUES_DECODED // math.prod(self.decoder.output_shape[1:])))

    def encode(self, images: Any, batch_size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The posterior of each image.

        Nothing is drawn: under dynamic binarisation pixels are thresholded at one half here.

        Args:
            images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1]; grey ones
                may be (count, height, width). An array, a tensor of any framework, or a list; or
                paths of picture files, see `taken`.
            batch_size: How many are held on the device at a time; None: see `at_a_time`.

        Returns:
            `mean` and `log_variance`, each (count, latent), float32.
        """
        images = self.taken(images)
        return tuple(in_batches(self._encode_batch, images, self.at_a_time(batch_size)))

    def encode_observed(
        self, observed: np.ndarray, batch_size: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The posterior of images as they were observed, so that nothing is done to them here.

        Args:
            observed: (count, height, width, channels), float32 in [0, 1]; `call` gives such.
            batch_size: How many are held on the device at a time; None: see `at_a_time`.

        Returns:
            `mean` and `log_variance`, each (count, latent), float32.
        """
        return tuple(
            in_batches(self._encode_observed_batch, as_array(observed), self.at_a_time(batch_size))
        )

    def decode(self, latents: Any, batch_size: int | None = None) -> np.ndarray:
        """The expected image of each row of latents.

        Args:
            latents: (count, latent), an array, a tensor of any framework, or a list.
            batch_size: How many are held on the device at a time; None: see `at_a_time`.

        Returns:
            (count, height, width, channels), float32 in [0, 1].
        """
        latents = np.asarray(as_array(latents), dtype="float32")
        if latents.ndim != 2 or latents.shape[1] != self.latent_dim or not len(latents):
            raise ValueError(
                f"`latents` must have shape (count, {self.latent_dim}). "
                f"Received: shape {latents.shape}"
            )
        self.check_room(len(latents))
        return in_batches(self._decode_batch, latents, self.at_a_time(batch_size))

    def reconstruct(
        self, images: Any, batch_size: int | None = None, groups: int | None = None
    ) -> np.ndarray:
        """Decodes each image's posterior mean: (count, height, width, channels), float32 in [0, 1].

        Args:
            images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1]; grey ones
                may be (count, height, width). An array, a tensor of any framework, or a list.
            batch_size: How many are held on the device at a time; None: see `at_a_time`.
            groups: So many groups of latents, from the first, are those of the images; the others
                are at the mean of the prior. So it shows what each group holds. None: all.

        Raises:
            ValueError: If there are not so many groups.
        """
        mean, _ = self.encode(images, batch_size)
        return self.decode(self.of_groups(mean, groups), batch_size)

    def of_groups(self, latents: Any, groups: int | None = None) -> np.ndarray:
        """Latents whose groups after so many are what noise of zero becomes: the prior's middle.

        Args:
            latents: (count, latent).
            groups: How many groups stay as they are, from the first; None: all.

        Raises:
            ValueError: If there are not so many groups.
        """
        latents = np.asarray(as_array(latents), "float32")
        if groups is None:
            return latents
        if not is_integer(groups) or groups not in range(len(self.groups) + 1):
            raise ValueError(
                f"`groups` must be an integer in 0…{len(self.groups)}. Received: groups={groups!r}"
            )
        noise = ops.convert_to_numpy(self.prior.to_noise(latents)).copy()
        noise[:, sum(self.groups[:groups]) :] = 0
        return ops.convert_to_numpy(self.prior.from_noise(noise))

    def generate(
        self,
        count: int,
        seed: int | None = None,
        temperature: float | Sequence[float] = 1.0,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """New images: the expected image of latents drawn from the prior.

        Args:
            count: How many.
            seed: The same seed, the same images, on the same backend; None: others each time.
            temperature: Multiplies the noise that latents are made of: below 1 safer and more
                alike, above 1 wilder. One for all, or one for each group of latents.
            batch_size: How many are held on the device at a time; None: see `at_a_time`, but up to
                5,000 where nothing convolves.

        Returns:
            (count, height, width, channels), float32 in [0, 1].
        """
        count = checked_integer("count", count)
        if seed is not None:
            check_seed(seed)
        warmth = self.temperatures(temperature)
        self.check_room(count)
        noise = warmth * ops.convert_to_numpy(self.prior.noise(count, seed))
        batch_size = self.at_a_time(batch_size, 1000 if self.convolves() else 5000)
        return in_batches(self._generate_batch, noise, batch_size)

    def temperatures(self, temperature: float | Sequence[float]) -> Any:
        """What multiplies noise: a number, or one for each latent, (latent,)."""
        if not isinstance(temperature, (list, tuple, np.ndarray)):
            check_temperature(temperature)
            return temperature
        for one in temperature:
            check_temperature(one)
        if len(temperature) != len(self.groups):
            each = f", or one for each of {len(self.groups)} groups" * (len(self.groups) > 1)
            raise ValueError(
                f"`temperature` must be one number{each}. Received: {len(temperature)} numbers"
            )
        return np.repeat(np.asarray(temperature, "float32"), self.groups)

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

    def check_room(self, count: int) -> None:
        """Raises a ValueError if so many images do not fit into memory, with their latents."""
        values = math.prod(self.image_shape) + 2 * self.latent_dim
        check_memory(
            4 * count * values,  # float32
            f"{count:,} images of {'×'.join(map(str, self.image_shape))}",
            "Ask for fewer at a time.",
        )

    def kl_per_latent(self, images: Any, batch_size: int | None = None) -> np.ndarray:
        """What each latent says of these images: (latent,), nats, averaged over the images.

        The share of each latent in the KL where the prior takes them one by one, as N(0, I) does;
        otherwise see `Prior.kl_per_latent`. Where latents come in groups each posterior is the one
        at the means of the groups before it.

        Args:
            images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1]; grey ones
                may be (count, height, width). An array, a tensor of any framework, or a list.
            batch_size: How many are held on the device at a time; None: see `at_a_time`.
        """
        mean, log_variance = map(ops.convert_to_tensor, self.encode(images, batch_size))
        kl = self.prior.kl_per_latent(mean, log_variance)
        return ops.convert_to_numpy(kl).mean(axis=0)

    def _encode_batch(self, images: np.ndarray) -> list[np.ndarray]:
        return self._encode_observed_batch(ops.convert_to_numpy(self.likelihood.observe(images)))

    def _encode_observed_batch(self, observed: np.ndarray) -> list[np.ndarray]:
        with self.alone():
            if self.hierarchy and self.kept.means is None:
                self.kept.means = Means(self)
            outputs = (self.kept.means or self.encoder).predict_on_batch(observed)
        return [ops.convert_to_numpy(output).astype("float32") for output in outputs]

    def _generate_batch(self, noise: np.ndarray) -> np.ndarray:
        with self.alone():
            if self.kept.generator is None:
                try:
                    self.kept.generator = self.generator()
                except Exception:  # a prior of one's own that is not made of stock layers
                    self.kept.generator = False
            if not self.kept.generator:
                return self._decode_batch(ops.convert_to_numpy(self.prior.from_noise(noise)))
            return ops.convert_to_numpy(self.kept.generator.predict_on_batch(noise))

    def _decode_batch(self, latents: np.ndarray) -> np.ndarray:
        with self.alone():
            parameters = self.decoder.predict_on_batch(latents)
            return ops.convert_to_numpy(self.likelihood.mean(parameters))


class Means(keras.Model):
    """Posteriors of latents in groups, each group's at the means of those before it.

    Args:
        vae: The model.
    """

    def __init__(self, vae: Verbs) -> None:
        super().__init__()
        self.vae = vae
        self.autocast = False
        self.compile(optimizer=None, jit_compile=vae.best_jit_compile())
        self.built = True

    def call(self, observed: Any) -> list[Any]:
        """Mean and log-variance, each (batch, latent), of observed images."""
        noise = ops.zeros((ops.shape(observed)[0], self.vae.latent_dim))
        return list(self.vae.infer(observed, noise)[:2])
