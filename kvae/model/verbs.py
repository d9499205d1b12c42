"""The methods of a trained model: arrays in, arrays out, in batches."""

import contextlib
import dataclasses
import math
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
from kvae.model.told import Told
from kvae.objectives import repeated
from kvae.parts import check_seed, check_temperature, checked_integer, is_integer
from kvae.priors import Prior, given
from kvae.recipe import Recipe

__all__ = ["Verbs"]

VALUES_DECODED = 2**25  # parameters of the likelihood: 128 MB, about five copies


class Verbs(Told):
    """A model that encodes, decodes and generates images."""

    decoder: keras.Model
    prior: Prior

    @property
    def latent_dim(self) -> int:
        """The number of latents."""
        return self.decoder.inputs[0].shape[-1]

    @property
    def hierarchy(self) -> Hierarchy | None:
        """How encoder and decoder work together if latents come in groups; else None."""
        return self.kept.hierarchy

    @property
    def groups(self) -> tuple[int, ...]:
        """The number of latents in each group; one number if there is a single group."""
        return self.hierarchy.sizes if self.hierarchy else (self.latent_dim,)

    def sums_by_group(self, per_latent: Any) -> np.ndarray:
        """Sums figures of latents, (…, latent), over each group: (…, groups)."""
        starts = np.cumsum([0, *self.groups[:-1]])
        return np.add.reduceat(np.asarray(as_array(per_latent)), starts, axis=-1)

    def infer(
        self,
        observed: Any,
        noise: Any,
        samples: int = 1,
        training: bool = False,
        context: Any = None,
    ) -> Any:
        """Encodes, draws z and decodes images that are already observed.

        Args:
            observed: (batch, height, width, channels), float32 in [0, 1].
            noise: (batch · samples, latent), standard normal; zeros give the means.
            samples: Draws per image. The draws of an image follow each other.
            training: Passed to encoder and decoder.
            context: (batch, context), float32, for a conditional model; else None.

        Returns:
            Mean and log-variance of the posterior, (batch, latent), or those of each draw, (batch ·
            samples, latent), if latents come in groups; z, (batch · samples, latent); and the
            parameters of the likelihood, (batch · samples, …). All are float32.
        """
        noise = ops.convert_to_tensor(noise)
        if self.hierarchy:
            return self.hierarchy.infer(observed, noise, samples, training, context)
        mean, log_variance = self.encoder(self.seen(observed, context), training=training)
        mean, log_variance = ops.cast(mean, "float32"), ops.cast(log_variance, "float32")
        z = repeated(mean, samples) + ops.exp(0.5 * repeated(log_variance, samples)) * noise
        context = None if context is None else repeated(context, samples)
        return mean, log_variance, z, self.decoded(z, context, training)

    @property
    def fitting(self) -> Fitting:
        """How pictures of any size and kind become images of this model, as in training.

        Example:
            >>> import kvae
            >>> vae = kvae.VAE.from_preset("mlp-400", image_shape=(48, 64, 3))
            >>> vae.fitting.image_size, vae.fitting.channels
            ((48, 64), 'rgb')
        """
        height, width, channels = self.image_shape
        kinds = {number: kind for kind, number in CHANNELS.items()}
        fitting = Fitting(image_size=(height, width), channels=kinds.get(channels))
        with contextlib.suppress(ValueError):  # the card may have no valid recipe
            recipe = Recipe.from_card(self.card)
            own: dict[str, Any] = {"fit": recipe.fit or "crop", "background": recipe.background}
            fitting = dataclasses.replace(fitting, **own)
        return fitting

    def taken(self, images: Any) -> np.ndarray:
        """Returns images as an array that the model takes; reads and fits picture files.

        Args:
            images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1]; grey images
                may be (count, height, width). An array, a tensor of any framework, or a list. Or
                the path of a picture file, or a list of paths. Files may have any format, size and
                mode; they are read as the training images were.

        Returns:
            (count, height, width, channels).

        Raises:
            ValueError: If the images do not fit the model.
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
        """The number of images on the device at a time: `most`, or fewer if images are large.

        Args:
            batch_size: The number that the user asks for. None: as many as fit.
            most: The largest number, if `batch_size` is None.
        """
        if batch_size is not None:
            return batch_size
        return max(1, min(most, VALUES_DECODED // math.prod(self.decoder.output_shape[1:])))

    def encode(
        self, images: Any, batch_size: int | None = None, classes: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encodes images: returns the posterior q(z|x) of each.

        The result is deterministic: dynamically binarised pixels are thresholded at one half.

        Args:
            images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1]; grey images
                may be (count, height, width). An array, a tensor of any framework, a list, or paths
                of picture files (see `taken`).
            batch_size: Number of images on the device at a time. None: see `at_a_time`.
            classes: For a conditional model, the class of each image, (count,), or its numbers.
                None: the likeliest class, see `classify`.

        Returns:
            `mean` and `log_variance`, each (count, latent), float32.
        """
        images = self.taken(images)
        return self.encode_told(images, self.rows_or_likeliest(classes, images), batch_size)

    def encode_told(
        self, images: np.ndarray, rows: np.ndarray | None, batch_size: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encodes images that `taken` returned, with their rows of context.

        Args:
            images: (count, height, width, channels).
            rows: (count, context), float32. None if the model is not conditional.
            batch_size: Number of images on the device at a time. None: see `at_a_time`.
        """
        return tuple(in_batches(self._encode_batch, images, self.at_a_time(batch_size), rows))

    def encode_observed(
        self, observed: np.ndarray, batch_size: int | None = None, rows: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encodes images that are already observed, without changing them.

        Args:
            observed: (count, height, width, channels), float32 in [0, 1], such as `call` returns.
            batch_size: Number of images on the device at a time. None: see `at_a_time`.
            rows: Rows of context from `VAE.rows`, for a conditional model.

        Returns:
            `mean` and `log_variance`, each (count, latent), float32.
        """
        observed, size = as_array(observed), self.at_a_time(batch_size)
        return tuple(in_batches(self._encode_observed_batch, observed, size, rows))

    def decode(
        self, latents: Any, batch_size: int | None = None, classes: Any = None
    ) -> np.ndarray:
        """Decodes latents: returns the expected image of each row.

        Args:
            latents: (count, latent), an array, a tensor of any framework, or a list.
            batch_size: Number of images on the device at a time. None: see `at_a_time`.
            classes: For a conditional model, the class of each row, (count,), or its numbers. Fewer
                classes than rows are repeated in turn. None: each class in turn.

        Returns:
            (count, height, width, channels), float32 in [0, 1].
        """
        latents = np.asarray(as_array(latents), dtype="float32")
        if latents.ndim != 2 or latents.shape[1] != self.latent_dim or not len(latents):
            raise ValueError(
                f"`latents` must have shape (count, {self.latent_dim}). "
                f"Received: shape {latents.shape}"
            )
        rows = self.spread(classes, len(latents))
        return self.decode_told(latents, rows, batch_size)

    def decode_told(
        self, latents: np.ndarray, rows: np.ndarray | None, batch_size: int | None = None
    ) -> np.ndarray:
        """Decodes latents with any rows of context, such as rows between two classes.

        Args:
            latents: (count, latent), float32.
            rows: (count, context), float32. None if the model is not conditional.
            batch_size: Number of images on the device at a time. None: see `at_a_time`.
        """
        self.check_room(len(latents))
        return in_batches(self._decode_batch, latents, self.at_a_time(batch_size), rows)

    def reconstruct(
        self,
        images: Any,
        batch_size: int | None = None,
        groups: int | None = None,
        classes: Any = None,
    ) -> np.ndarray:
        """Reconstructs images by decoding the mean of each posterior.

        Args:
            images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1]; grey images
                may be (count, height, width). An array, a tensor of any framework, or a list.
            batch_size: Number of images on the device at a time. None: see `at_a_time`.
            groups: Number of groups of latents, counted from the first, that keep the latents of
                the image; the others are set to the mean of the prior. This shows what each group
                contains. None: all groups.
            classes: For a conditional model, the class of each image, (count,), or its numbers.
                None: the likeliest class, see `classify`.

        Raises:
            ValueError: If there are fewer groups.
        """
        images = self.taken(images)
        rows = self.rows_or_likeliest(classes, images)
        mean, _ = self.encode_told(images, rows, batch_size)
        return self.decode_told(self.of_groups(mean, groups, rows), rows, batch_size)

    def of_groups(
        self, latents: Any, groups: int | None = None, rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Keeps the first groups of latents, and sets the others to the middle of the prior.

        Args:
            latents: (count, latent).
            groups: Number of groups to keep, counted from the first. None: all. The others become
                what the prior makes of zero noise.
            rows: Rows of context from `VAE.rows`, for a conditional model.

        Raises:
            ValueError: If there are fewer groups.
        """
        latents = np.asarray(as_array(latents), "float32")
        if groups is None:
            return latents
        if not is_integer(groups) or groups not in range(len(self.groups) + 1):
            raise ValueError(
                f"`groups` must be an integer in 0…{len(self.groups)}. Received: groups={groups!r}"
            )
        noise = ops.convert_to_numpy(self.prior.to_noise(latents, **given(rows))).copy()
        noise[:, sum(self.groups[:groups]) :] = 0
        return ops.convert_to_numpy(self.prior.from_noise(noise, **given(rows)))

    def generate(
        self,
        count: int,
        seed: int | None = None,
        temperature: float | Sequence[float] = 1.0,
        batch_size: int | None = None,
        classes: Any = None,
    ) -> np.ndarray:
        """Generates new images: the expected images of latents drawn from the prior.

        Args:
            count: Number of images.
            seed: Random seed. On one backend, the same seed gives the same images. None: new images
                each time.
            temperature: Factor on the noise that becomes the latents: below 1 for more typical
                images, above 1 for more varied ones. One number, or one for each group of latents.
            batch_size: Number of images on the device at a time. None: see `at_a_time`, but up to
                5,000 if the decoder has no convolutions.
            classes: For a conditional model, the class of each image, such as [7], or its numbers.
                Fewer than `count` are repeated in turn. None: each class in turn.

        Returns:
            (count, height, width, channels), float32 in [0, 1].
        """
        count = checked_integer("count", count)
        if seed is not None:
            check_seed(seed)
        warmth = self.temperatures(temperature)
        rows = self.spread(classes, count)
        self.check_room(count)
        noise = warmth * ops.convert_to_numpy(self.prior.noise(count, seed))
        batch_size = self.at_a_time(batch_size, 1000 if self.convolves() else 5000)
        return in_batches(self._generate_batch, noise, batch_size, rows)

    def temperatures(self, temperature: float | Sequence[float]) -> Any:
        """The factor on the noise: a number, or one for each latent, (latent,)."""
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
        """The generator: a stock Functional model from noise to images, which opens without kvae.

        It shares its weights with this model, also while that trains.

        Returns:
            A model that maps standard normal noise, (batch, latent), to the expected images,
            (batch, height, width, channels). For a conditional model it has a second input,
            `context`: one-hot classes, or the numbers.

        Raises:
            ValueError: If a prior of your own does not consist of stock layers.
        """
        return build_generator(self.prior, self.decoder, self.likelihood)

    def check_room(self, count: int) -> None:
        """Raises a ValueError if that many images and their latents do not fit in memory."""
        values = math.prod(self.image_shape) + 2 * self.latent_dim
        check_memory(
            4 * count * values,  # float32
            f"{count:,} images of {'×'.join(map(str, self.image_shape))}",
            "Ask for fewer at a time.",
        )

    def kl_per_latent(
        self, images: Any, batch_size: int | None = None, classes: Any = None
    ) -> np.ndarray:
        """The KL of each latent: (latent,), nats, averaged over the images.

        With a factorised prior such as N(0, I), this is the share of each latent in the KL; for
        other priors see `Prior.kl_per_latent`. If latents come in groups, each posterior is the one
        at the means of the groups before it.

        Args:
            images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1]; grey
                images may be (count, height, width). An array, a tensor of any framework, or a
                list.
            batch_size: Number of images on the device at a time. None: see `at_a_time`.
            classes: For a conditional model, the class of each image, (count,), or its numbers.
                None: the likeliest class, see `classify`.
        """
        images = self.taken(images)
        return self.kl_told(images, self.rows_or_likeliest(classes, images), batch_size)

    def kl_told(
        self, images: np.ndarray, rows: np.ndarray | None, batch_size: int | None = None
    ) -> np.ndarray:
        """`kl_per_latent` of images that `taken` returned, with their rows of context."""
        encoded = self.encode_told(images, rows, batch_size)
        mean, log_variance = map(ops.convert_to_tensor, encoded)
        kl = self.prior.kl_per_latent(mean, log_variance)
        return ops.convert_to_numpy(kl).mean(axis=0)

    def _encode_batch(self, images: np.ndarray, rows: np.ndarray | None) -> list[np.ndarray]:
        observed = ops.convert_to_numpy(self.likelihood.observe(images))
        return self._encode_observed_batch(observed, rows)

    def _encode_observed_batch(
        self, observed: np.ndarray, rows: np.ndarray | None
    ) -> list[np.ndarray]:
        with self.alone():
            if self.hierarchy and self.kept.means is None:
                self.kept.means = Means(self)
            seen = self.seen(observed, rows)
            outputs = (self.kept.means or self.encoder).predict_on_batch(seen)
        return [ops.convert_to_numpy(output).astype("float32") for output in outputs]

    def _generate_batch(self, noise: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        with self.alone():
            if self.kept.generator is None:
                try:
                    self.kept.generator = self.generator()
                except Exception:  # a custom prior that is not made of stock layers
                    self.kept.generator = False
            if not self.kept.generator:
                latents = ops.convert_to_numpy(self.prior.from_noise(noise, **given(rows)))
                return self._decode_batch(latents, rows)
            inputs = noise if rows is None else [noise, rows]
            return ops.convert_to_numpy(self.kept.generator.predict_on_batch(inputs))

    def _decode_batch(self, latents: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        with self.alone():
            parameters = self.decoder.predict_on_batch(latents if rows is None else [latents, rows])
            return ops.convert_to_numpy(self.likelihood.mean(parameters))


class Means(keras.Model):
    """Computes posteriors of latents in groups, each at the means of the groups before it.

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
        """Mean and log-variance, each (batch, latent), of observed images, or (images, context)."""
        context = None
        if self.vae.condition is not None:
            observed, context = observed
        noise = ops.zeros((ops.shape(observed)[0], self.vae.latent_dim))
        return list(self.vae.infer(observed, noise, context=context)[:2])
