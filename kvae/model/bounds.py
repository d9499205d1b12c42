"""Bounds on log p(x): the ELBO's terms and the importance-weighted likelihood, image by image."""

import dataclasses
import functools
import hashlib
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.limits import check_memory, pieces, release
from kvae.model.verbs import Verbs
from kvae.objectives import repeated
from kvae.priors import given

__all__ = [
    "Posterior",
    "Terms",
    "check_draws",
    "cut",
    "device",
    "digest",
    "drawn",
    "importance_weighted",
    "log_mean_exp",
    "log_weights",
    "padded",
    "posterior",
    "posteriors",
    "terms",
]

VALUES_AT_A_TIME = 2**21  # on a CPU, whose caches then hold the outputs of a layer
VALUES_AT_A_TIME_GPU = 2**27
IMAGES_AT_A_TIME = 500
OBSERVED_AT_A_TIME = 2**24  # values at a time, to bound memory


@dataclasses.dataclass(frozen=True, eq=False)
class Posterior:
    """The posteriors of images, each observed once.

    Attributes:
        observed: (count, height, width, channels), float32 in [0, 1].
        mean: (count, latent), float32.
        log_variance: (count, latent), float32, the natural log of a variance.
        seed: Random seed of the observation, and of later draws of z.
        keys: Words that, with the seed, determine the draws of each image. None: its index.
        rows: (count, context), float32, for a conditional model; see `VAE.rows`.
    """

    observed: np.ndarray
    mean: np.ndarray
    log_variance: np.ndarray
    seed: int
    keys: Sequence[Sequence[int]] | None = None
    rows: np.ndarray | None = None

    @functools.cached_property
    def observed_hash(self) -> str:
        """The SHA-256 of `observed`; figures with the same hash were scored on the same pixels."""
        return digest(self.observed)

    def noise(self, start: int, stop: int, draws: int) -> np.ndarray:
        """Draws standard normal noise for images `start` to `stop`.

        The noise of an image depends only on its key and the seed. The first 10 of 5,000 draws are
        the same as with 10 draws. So figures are the same for all backends, batch sizes and numbers
        of images.

        Returns:
            (stop − start, draws, latent), float32.
        """
        shape = (draws, self.mean.shape[1])
        keys = self.keys[start:stop] if self.keys else [(index,) for index in range(start, stop)]
        # 1: another stream than that of the pixels.
        streams = (np.random.SFC64([self.seed, 1, *key]) for key in keys)
        noise = [np.random.Generator(s).standard_normal(shape, dtype="float32") for s in streams]
        return np.stack(noise)


@dataclasses.dataclass(frozen=True, eq=False)
class Terms:
    """The two terms of −ELBO for each image, from one draw of z: (count,), float64, nats."""

    reconstruction: np.ndarray
    kl: np.ndarray

    @property
    def elbo(self) -> np.ndarray:
        """The bound on log p(x): (count,), nats."""
        return -self.reconstruction - self.kl


def posterior(
    vae: Verbs, images: np.ndarray, seed: int = 0, classes: np.ndarray | None = None
) -> Posterior:
    """Observes and encodes images.

    Args:
        vae: The model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        seed: Random seed of the observation, with one draw of pixels.
        classes: For a conditional model, the class of each image, or its numbers.
    """
    (whole,) = posteriors(vae, images, seed, classes, sys.maxsize)
    return whole


def posteriors(
    vae: Verbs,
    images: np.ndarray,
    seed: int = 0,
    classes: np.ndarray | None = None,
    count: int | None = None,
) -> Iterator[Posterior]:
    """Yields the results of `posterior` for some images at a time, to bound memory.

    Args:
        vae: The model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        seed: Random seed of the observation, with one draw of pixels.
        classes: For a conditional model, the class of each image, or its numbers.
        count: Number of images in each posterior. Defaults to about 17 million values.
    """
    images = vae.taken(images)
    rows = vae.rows(classes, len(images))
    generator = np.random.Generator(np.random.SFC64(seed))
    size = min(IMAGES_AT_A_TIME, len(images))
    count = count or max(1, OBSERVED_AT_A_TIME // math.prod(images.shape[1:]))
    for first in range(0, len(images), count):
        some = images[first : first + count]
        observed = np.empty(some.shape, "float32")
        for start in range(0, len(some), size):
            batch = some[start : start + size]
            observed[start : start + size] = vae.likelihood.observe_once(batch, generator)
            release(images)
        own = None if rows is None else rows[first : first + count]
        mean, log_variance = vae.encode_observed(observed, size, own)
        keys = [(index,) for index in range(first, first + len(some))]
        yield Posterior(observed, mean, log_variance, seed, keys, own)


def digest(array: np.ndarray) -> str:
    """The SHA-256 of an array's bytes."""
    hashed = hashlib.sha256()
    for piece in pieces(np.asanyarray(array)):
        hashed.update(np.ascontiguousarray(piece).data)
    return hashed.hexdigest()


def terms(vae: Verbs, of: Posterior, verbose: bool = False, part_of: int | None = None) -> Terms:
    r"""Computes the terms of the bound, with one draw of z per image.

    $$\log p(x) \ge \mathbb{E}_{q(z|x)} \log p(x|z) - D_{KL}(q(z|x) \,\|\, p(z))$$

    Args:
        vae: The model.
        of: The result of `posterior`.
        verbose: Whether to show progress.
        part_of: Number of all images, if these are a part of them.

    References:
        Kingma and Welling (2014), "Auto-encoding variational Bayes", arXiv:1312.6114, equation 3.
    """
    reconstruction, kl = [], []
    for start, stop, noise, parts in drawn(vae, of, 1, verbose, part_of):
        reconstruction.append(-parts["log_likelihood"][:, 0])
        if "kl" in parts:
            kl.append(parts["kl"][:, 0])
            continue
        mean, log_variance = of.mean[start:stop], of.log_variance[start:stop]
        z = mean + np.exp(0.5 * log_variance) * noise[:, 0]
        found = map(ops.convert_to_tensor, (mean, log_variance, z))
        known = given(None if of.rows is None else of.rows[start:stop])
        kl.append(ops.convert_to_numpy(vae.prior.kl(*found, **known)))
    return Terms(
        np.concatenate(reconstruction).astype("float64"), np.concatenate(kl).astype("float64")
    )


def importance_weighted(
    vae: Verbs, of: Posterior, samples: Sequence[int] = (1, 10, 100), verbose: bool = False
) -> dict[int, np.ndarray]:
    r"""Computes the importance-weighted estimate of −log p(x) for each image.

    $$-\log \frac1k \sum_{i=1}^k \frac{p(x, z_i)}{q(z_i|x)}, \quad z_i \sim q(z|x)$$

    Its expectation is never below −log p(x), and falls towards it as k grows. The draws for a small
    k are the first ones of a larger k.

    Args:
        vae: The model.
        of: The result of `posterior`.
        samples: Numbers of draws k.
        verbose: Whether to show progress.

    Returns:
        An array (count,), float64, nats, for each k in rising order.

    References:
        Burda, Grosse and Salakhutdinov (2016), "Importance weighted autoencoders",
        arXiv:1509.00519, equation 8.
    """
    counts = sorted(set(samples))
    if not counts or counts[0] < 1:
        raise ValueError(f"`samples` must be numbers of at least 1. Received: samples={samples}")
    check_draws(vae, counts[-1])
    estimates: dict[int, list[np.ndarray]] = {k: [] for k in counts}
    for _, _, _, parts in drawn(vae, of, counts[-1], verbose):
        weights = log_weights(parts)
        for k in counts:
            estimates[k].append(-log_mean_exp(weights[:, :k]))
    return {k: np.concatenate(parts) for k, parts in estimates.items()}


def check_draws(vae: Verbs, draws: int) -> None:
    """Raises a ValueError if this many draws of z for one image do not fit in memory."""
    check_memory(
        draws * (8 * vae.latent_dim + 24),  # noise, sorted, and three log-densities
        f"{draws:,} draws of z for an image",
        "Take fewer: 5,000 are what most papers take.",
    )


def log_weights(parts: dict[str, np.ndarray]) -> np.ndarray:
    """Computes the log of each draw's importance weight, p(x, z) / q(z|x): (count, draws)."""
    return parts["log_likelihood"] + parts["log_prior"] - parts["log_posterior"]


def log_mean_exp(values: np.ndarray) -> np.ndarray:
    """Computes the log of the mean exponential of each row: (count, draws) to (count,)."""
    values = values.astype("float64")
    highest = values.max(axis=1)
    return highest + np.log(np.exp(values - highest[:, None]).mean(axis=1))


class Draws(keras.Model):
    """Computes log-densities of draws of z, compiled by Keras like `predict`.

    Args:
        vae: The model.
        draws: Number of draws per image in one call.
    """

    def __init__(self, vae: Verbs, draws: int) -> None:
        super().__init__()
        self.vae = vae
        self.draws = draws
        self.autocast = False
        self.compile(optimizer=None, jit_compile=vae.best_jit_compile())
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Decodes and scores the draws.

        Args:
            inputs: `observed` (batch, height, width, channels), `mean` and `log_variance` (batch,
                latent), `noise` (batch, draws, latent), and of a conditional model `rows` (batch,
                context); float32.

        Returns:
            A dict of (batch, draws), float32, nats: `log_likelihood`, log p(x|z); `log_prior`, log
            p(z); `log_posterior`, log q(z|x); and `kl`, if latents come in groups.
        """
        observed, mean, log_variance, noise, *rows = inputs
        context = repeated(rows[0], self.draws) if rows else None
        known = given(context)
        kl = {}
        if self.vae.hierarchy:
            flat = ops.reshape(noise, (-1, self.vae.latent_dim))
            found = self.vae.infer(observed, flat, self.draws, context=rows[0] if rows else None)
            mean, log_variance, z, parameters = found
            log_variance = ops.reshape(log_variance, (-1, self.draws, self.vae.latent_dim))
            nats = self.vae.prior.kl(mean, ops.reshape(log_variance, ops.shape(mean)), z, **known)
            kl = {"kl": ops.reshape(nats, (-1, self.draws))}
        else:
            log_variance = log_variance[:, None]
            z = mean[:, None] + ops.exp(0.5 * log_variance) * noise
            z = ops.reshape(z, (-1, self.vae.latent_dim))
            parameters = self.vae.decoded(z, context)
        spread = ops.square(noise) + log_variance + math.log(2 * math.pi)
        return {
            **kl,
            "log_likelihood": self.vae.likelihood.log_prob_of_draws(
                observed, parameters, self.draws
            ),
            "log_prior": ops.reshape(self.vae.prior.log_prob(z, **known), (-1, self.draws)),
            "log_posterior": -0.5 * ops.sum(spread, axis=-1),
        }


def drawn(
    vae: Verbs, of: Posterior, draws: int, verbose: bool = False, part_of: int | None = None
) -> Iterator[tuple[int, int, np.ndarray, dict[str, np.ndarray]]]:
    """Yields start, stop, noise, (stop − start, draws, latent), and log-densities of images.

    The number of images, or of draws of one image, is such that memory stays bounded.

    Args:
        vae: The model.
        of: The result of `posterior`.
        draws: Number of draws per image.
        verbose: Whether to show progress.
        part_of: Number of all images, if these are a part of them.
    """
    count = len(of.mean)
    images, at_a_time = cut(vae, part_of or count, draws)
    model = compiled(vae, at_a_time)
    bar = keras.utils.Progbar(count, verbose=int(verbose), unit_name="image")
    for start in range(0, count, images):
        stop = min(start + images, count)
        noise = of.noise(start, stop, draws)
        known = [of.observed, of.mean, of.log_variance]
        inputs = [padded(array[start:stop], images) for array in known]
        own = [] if of.rows is None else [padded(of.rows[start:stop], images)]
        parts = []
        for first in range(0, draws, at_a_time):
            chunk = padded(noise[:, first : first + at_a_time].swapaxes(0, 1), at_a_time)
            chunk = padded(np.ascontiguousarray(chunk.swapaxes(0, 1)), images)
            with vae.alone():
                found = model.predict_on_batch((*inputs, chunk, *own))
            parts.append({name: ops.convert_to_numpy(part) for name, part in found.items()})
        yield (
            start,
            stop,
            noise,
            {
                name: np.concatenate([part[name] for part in parts], axis=1)[: stop - start, :draws]
                for name in parts[0]
            },
        )
        bar.update(stop)


def cut(vae: Verbs, count: int, draws: int) -> tuple[int, int]:
    """The number of images, and of draws of each, that are decoded in one call."""
    rows = max(1, values_at_a_time() // widest(vae.decoder))
    calls = math.ceil(draws / rows)  # for one image
    at_a_time = math.ceil(draws / calls)
    return min(count, max(1, rows // at_a_time)), at_a_time


def compiled(vae: Verbs, draws: int) -> Draws:
    """Returns the compiled model for this many draws, from the last call if possible."""
    model = getattr(vae.kept, "draws", None)
    if model is None or model.draws != draws:
        model = vae.kept.draws = Draws(vae, draws)
    return model


def padded(array: np.ndarray, length: int) -> np.ndarray:
    """Pads an array to this length with its last row, so that one shape is compiled."""
    missing = length - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def values_at_a_time() -> int:
    """The number of values that a layer may output in one call, on the current device."""
    return VALUES_AT_A_TIME if device() == "cpu" else VALUES_AT_A_TIME_GPU


def device() -> str:
    """The device of Keras's variables: "cpu", "gpu", or the backend's name for it."""
    value = keras.Variable(0.0).value
    # With several devices, JAX names the sharding of an array instead.
    every = value.devices() if callable(getattr(value, "devices", None)) else [value.device]
    name = str(next(iter(every))).lower()
    for word, kind in (("gpu", "gpu"), ("cuda", "gpu"), ("cpu", "cpu")):
        if word in name:
            return kind
    return name


def widest(decoder: keras.Model) -> int:
    """The largest number of values that a layer of the decoder outputs per row of latents."""
    sizes = [
        math.prod(size for size in output.shape[1:] if size)
        for layer in decoder._flatten_layers(include_self=False)
        for output in keras.tree.flatten(layer.output)
    ]
    return max(sizes, default=1)
