"""Scores of single images: how likely each is, and which regions are surprising; in nats."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops

from kvae.likelihoods import bits_per_dimension
from kvae.limits import release
from kvae.markup import section, table
from kvae.model.bounds import (
    IMAGES_AT_A_TIME,
    Posterior,
    check_draws,
    cut,
    drawn,
    log_mean_exp,
    log_weights,
    padded,
)
from kvae.model.verbs import Verbs
from kvae.parts import check_seed, checked_integer
from kvae.priors import given

__all__ = ["Scores", "Scoring"]

MOST_SHOWN = 20  # rows of a table in a notebook
VALUES_OBSERVED = 2**24  # in images held at a time as float32: 64 MiB


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Scores of single images, as `VAE.score` returns them: arrays (count,), float64, nats.

    Attributes:
        reconstruction: −log p(x|z), averaged over the draws of z.
        kl: Divergence of the posterior from the prior; averaged over the draws, too, if the prior
            has no closed form.
        log_prob: The importance-weighted estimate of log p(x). On average it is a lower bound.
        draws: Number of draws of z per image.
        seed: Random seed of the draws.
        measure: The kind of quantity whose logarithm `log_prob` is: "probability", "density",
            "neither" (soft targets), or "unstated". Only figures of the same measure can be
            compared.
        image_shape: (height, width, channels).

    Example:
        >>> import numpy as np
        >>> import kvae
        >>> vae = kvae.VAE.from_preset("mlp", (8, 8, 1), latent_dim=4)
        >>> scores = vae.score(np.zeros((3, 8, 8, 1), "uint8"), draws=10)
        >>> len(scores), scores.log_prob.shape, scores.elbo.shape
        (3, (3,), (3,))
    """

    reconstruction: np.ndarray
    kl: np.ndarray
    log_prob: np.ndarray
    draws: int
    seed: int
    measure: str
    image_shape: tuple[int, int, int]

    def __len__(self) -> int:
        """The number of images."""
        return len(self.log_prob)

    @property
    def elbo(self) -> np.ndarray:
        """The bound on log p(x), −reconstruction − kl: (count,), nats."""
        return -self.reconstruction - self.kl

    @property
    def bits_per_dimension(self) -> np.ndarray | None:
        """−log p(x) in bits per value; None unless p(x) is a probability."""
        if self.measure != "probability":
            return None
        return bits_per_dimension(-self.log_prob, self.image_shape)

    @property
    def protocol(self) -> str:
        """How the scores were measured, in words."""
        return (
            f"nats per image; −log p(x) at most, by {self.draws:,} draws of z; seed {self.seed}; "
            f"measure: {self.measure}"
        )

    def _repr_html_(self) -> str:
        """A table for a notebook: one row for each image, and the mean over all."""
        columns = {
            "−log p(x)": -self.log_prob,
            "−ELBO": -self.elbo,
            "reconstruction": self.reconstruction,
            "KL": self.kl,
        }
        head, values = ["image", *columns], np.stack(list(columns.values()), axis=1)
        rows = [[i, *(f"{value:.2f}" for value in row)] for i, row in enumerate(values)]
        shown = rows[:MOST_SHOWN]
        if len(rows) > MOST_SHOWN:
            shown.append(["…", *[""] * len(columns)])
        if len(rows) > 1:
            errors = values.std(axis=0, ddof=1) / math.sqrt(len(rows))
            means = zip(values.mean(axis=0), errors, strict=True)
            shown.append(["mean", *(f"{mean:.2f} ± {error:.2f}" for mean, error in means)])
        title = f"{len(rows):,} image{'s' * (len(rows) != 1)}"
        notes = [self.protocol] + ["± one standard error over images"] * (len(rows) > 1)
        return section(title, table(shown, head, numbers=True), notes=notes)


class Scoring(Verbs):
    """A model that scores single images."""

    def score(
        self,
        images: Any,
        draws: int = 100,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
        classes: Any = None,
    ) -> Scores:
        r"""Computes the log-likelihood of each image, log p(x).

        $$\log p(x) \approx \log \frac1k \sum_{i=1}^k \frac{p(x, z_i)}{q(z_i|x)}, \quad
        z_i \sim q(z|x)$$

        The ELBO and its two terms come from the same draws. The random numbers of an image depend
        only on the seed and on its 8-bit levels, and come from NumPy. Therefore an image has the
        same scores in every batch, at every place, and on every backend, up to rounding. Under
        dynamic binarisation its pixels are drawn once.

        Args:
            images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
            draws: k, the number of draws of z per image.
            seed: Random seed of the draws.
            progress: Called with the number of images that are done, and the number of all.
            classes: For a conditional model, the class of each image, (count,), or its numbers. All
                figures are then those of log p(x|class). None: those of log p(x), over all classes,
                which are assumed equally likely.

        Raises:
            ValueError: If the images do not fit the model, or `draws` or `seed` is not what it
                should be.

        References:
            Burda, Grosse and Salakhutdinov (2016), "Importance weighted autoencoders",
            arXiv:1509.00519, equation 8.
        """
        images, draws = self.checked_scoring(images, draws, seed)
        if classes is None and self.condition is not None and self.condition.classes:
            return over_classes(self.score_of_each(images, draws, seed, progress))
        rows = self.rows(classes, len(images))
        found: dict[str, list[np.ndarray]] = {"reconstruction": [], "kl": [], "log_prob": []}
        done = 0
        for of in self.posteriors(images, draws, seed, rows):
            for start, stop, _, parts in drawn(self, of, draws, part_of=len(images)):
                cost = parts["log_posterior"] - parts["log_prior"]
                kl = cost.astype("float64").mean(axis=1)
                if "kl" in parts:
                    kl = parts["kl"].astype("float64").mean(axis=1)
                elif self.prior.closed_form:
                    mean, log_variance = of.mean[start:stop], of.log_variance[start:stop]
                    posterior = map(ops.convert_to_tensor, (mean, log_variance, mean))
                    known = given(None if of.rows is None else of.rows[start:stop])
                    kl = ops.convert_to_numpy(self.prior.kl(*posterior, **known)).astype("float64")
                likelihood = parts["log_likelihood"].astype("float64")
                found["reconstruction"].append(-likelihood.mean(axis=1))
                found["kl"].append(kl)
                found["log_prob"].append(log_mean_exp(log_weights(parts)))
                done += stop - start
                if progress is not None:
                    progress(done, len(images))
        arrays = {name: np.concatenate(parts) for name, parts in found.items()}
        return Scores(
            **arrays,
            draws=draws,
            seed=int(seed),
            measure=self.likelihood.measure,
            image_shape=self.image_shape,
        )

    def score_of_each(
        self,
        images: np.ndarray,
        draws: int,
        seed: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Scores]:
        """The scores of the images under each class in turn, as a list."""
        count = (self.condition.classes or 0) if self.condition else 0
        found = []
        for one in range(count):

            def told(done: int, of: int, before: int = one * len(images)) -> None:
                if progress is not None:
                    progress(before + done, count * of)

            found.append(self.score(images, draws, seed, told, np.full(len(images), one)))
        return found

    def classify(self, images: Any, draws: int = 1, seed: int = 0) -> np.ndarray:
        r"""Finds the likeliest class of each image, with a conditional model.

        $$\operatorname{argmax}_c \log p(x|c)$$

        It is estimated as by `score`, with the same draws for all classes. Classes are assumed
        equally likely.

        Args:
            images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
            draws: Number of draws of z for each image and class.
            seed: Random seed of the draws.

        Returns:
            (count,), int64.

        Raises:
            ValueError: If the model is not conditional on classes, or an argument is invalid.
        """
        if self.condition is None or not self.condition.classes:
            raise ValueError("Only a model of classes can classify: see `classes` of kvae.VAE.")
        images, draws = self.checked_scoring(images, draws, seed)
        scores = self.score_of_each(images, draws, seed)
        return np.stack([one.log_prob for one in scores]).argmax(axis=0)

    def surprise(
        self, images: Any, draws: int = 100, seed: int = 0, classes: Any = None
    ) -> np.ndarray:
        """Maps the surprise in each image: −log p(x|z) pixel by pixel.

        The map is summed over channels and averaged over the draws of z from the posterior that
        `score` takes, so its sum over an image is the `reconstruction` of `score`. If the
        likelihood is a density, values may have either sign. Under dynamic binarisation, the map is
        of the pixels that were drawn.

        Args:
            images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
            draws: Number of draws of z per image.
            seed: Random seed of the draws.
            classes: For a conditional model, the class of each image, (count,), or its numbers.
                None: the likeliest class, see `classify`.

        Returns:
            (count, height, width), float32, nats.

        Raises:
            ValueError: If an argument is invalid, or a likelihood of your own does
                not score each pixel by itself.
        """
        images, draws = self.checked_scoring(images, draws, seed)
        rows = self.rows_or_likeliest(classes, images)
        maps = np.zeros((len(images), *self.image_shape[:2]), "float32")
        at_a_time, draws_at_a_time = cut(self, len(images), draws)
        done = 0
        for of in self.posteriors(images, draws, seed, rows):
            for start in range(0, len(of.mean), at_a_time):
                stop = min(start + at_a_time, len(of.mean))
                part = slice(start, stop)
                noise = of.noise(start, stop, draws)
                for first in range(0, draws, draws_at_a_time):
                    some = noise[:, first : first + draws_at_a_time]
                    own = None if of.rows is None else of.rows[part]
                    nats = self.pixel_nats(
                        of.observed[part], of.mean[part], of.log_variance[part], some, own
                    )
                    maps[done : done + stop - start] += nats / draws
                done += stop - start
        return maps

    def checked_scoring(self, images: Any, draws: int, seed: int) -> tuple[np.ndarray, int]:
        """Returns the images and the number of draws, or raises a ValueError."""
        draws = checked_integer("draws", draws)
        check_seed(seed)
        check_draws(self, draws)
        return self.taken(images), draws

    def posteriors(
        self, images: np.ndarray, draws: int, seed: int, rows: np.ndarray | None = None
    ) -> Iterator[Posterior]:
        """Observes and encodes the images, in parts.

        The size of a part is such that the decoder runs in whole calls and memory stays bounded.
        """
        at_a_time, _ = cut(self, len(images), draws)
        most = min(IMAGES_AT_A_TIME, VALUES_OBSERVED // math.prod(self.image_shape))
        size = min(len(images), at_a_time * max(1, most // at_a_time))
        for start in range(0, len(images), size):
            keys = keys_of(images[start : start + size])
            observed = self.observed_alone(images[start : start + size], seed)
            own = None if rows is None else rows[start : start + size]
            filled = None if own is None else padded(own, size)
            found = self.encode_observed(padded(observed, size), None, filled)
            mean, log_variance = (array[: len(observed)] for array in found)
            yield Posterior(observed, mean, log_variance, seed, keys, own)
            release(images)

    def observed_alone(self, images: np.ndarray, seed: int) -> np.ndarray:
        """The images as `score` observes them: (count, height, width, channels), float32 in [0, 1].

        Each image is observed by itself, with random numbers from the seed and the image.
        """
        observed = np.empty(images.shape, "float32")
        for i, key in enumerate(keys_of(images)):
            generator = np.random.Generator(np.random.SFC64([seed, 0, *key]))
            observed[i] = self.likelihood.observe_once(images[i : i + 1], generator)[0]
        return observed

    def pixel_nats(
        self,
        observed: np.ndarray,
        mean: np.ndarray,
        log_variance: np.ndarray,
        noise: np.ndarray,
        rows: np.ndarray | None = None,
    ) -> np.ndarray:
        """−log p(x|z) of each pixel, summed over channels and over the draws of z.

        Each pixel is scored as an image of one pixel. This holds for every likelihood with
        independent pixels; for another, the sum over pixels would differ from the image's.

        Args:
            observed: (batch, height, width, channels), float32 in [0, 1].
            mean: (batch, latent), float32.
            log_variance: (batch, latent), float32.
            noise: (batch, draws, latent), float32, standard normal.
            rows: (batch, context), float32, of a conditional model.

        Returns:
            (batch, height, width), float32, nats.
        """
        count, draws = noise.shape[:2]
        height, width, channels = self.image_shape
        same = ops.convert_to_tensor(observed.repeat(draws, axis=0))
        with self.alone():
            if self.hierarchy:
                flat = ops.convert_to_tensor(noise.reshape(-1, self.latent_dim))
                known = None if rows is None else ops.convert_to_tensor(rows)
                parameters = self.infer(observed, flat, draws, context=known)[3]
            else:
                z = mean[:, None] + np.exp(0.5 * log_variance)[:, None] * noise
                z = z.reshape(-1, self.latent_dim)
                inputs = z if rows is None else [z, rows.repeat(draws, axis=0)]
                parameters = ops.cast(self.decoder.predict_on_batch(inputs)[: len(z)], "float32")
        pixels = ops.reshape(same, (-1, 1, 1, channels))
        each = self.likelihood.log_prob(
            pixels, ops.reshape(parameters, (-1, 1, 1, parameters.shape[-1]))
        )
        nats = -ops.convert_to_numpy(each).reshape(count * draws, -1)
        whole = -ops.convert_to_numpy(self.likelihood.log_prob(same, parameters))
        if nats.shape[1] != height * width or not np.allclose(
            nats.sum(axis=1), whole, rtol=1e-3, atol=1e-2
        ):
            raise ValueError(
                f"{type(self.likelihood).__name__} does not score each pixel by itself: there is "
                "no map of its surprise."
            )
        return nats.reshape(count, draws, height, width).sum(axis=1)


def over_classes(scores: Sequence[Scores]) -> Scores:
    r"""Combines the scores under each class into those of images whose class is not known.

    $$\log p(x) = \log \frac1C \sum_c p(x|c), \qquad
    -\text{ELBO} = -\log \frac1C \sum_c e^{\text{ELBO}_c}$$

    This is the bound with the optimal posterior over classes. The divergence of that posterior from
    equally likely classes is a part of `kl`.

    References:
        Kingma et al. (2014), "Semi-supervised learning with deep generative models",
        arXiv:1406.5298, equation 7.
    """
    elbo = np.stack([one.elbo for one in scores], axis=1)
    log_share = elbo - log_mean_exp(elbo)[:, np.newaxis] - math.log(len(scores))
    share = np.exp(log_share)
    costs = {
        name: (share * np.stack([getattr(one, name) for one in scores], axis=1)).sum(axis=1)
        for name in ("reconstruction", "kl")
    }
    costs["kl"] += (share * (log_share + math.log(len(scores)))).sum(axis=1)
    log_prob = log_mean_exp(np.stack([one.log_prob for one in scores], axis=1))
    return dataclasses.replace(scores[0], **costs, log_prob=log_prob)


def keys_of(images: np.ndarray) -> Sequence[Sequence[int]]:
    """Two 32-bit words that identify each image by its 8-bit levels, whatever their dtype."""
    if images.dtype.kind in "fb":
        images = np.rint(np.float32(255) * images)
    rows = images.astype("uint8").reshape(len(images), -1)
    digests = (hashlib.sha256(row.tobytes()).digest() for row in rows)
    return [tuple(np.frombuffer(one, "<u4", 2).tolist()) for one in digests]
