"""Paths: interpolations, samples around images, and one style in all classes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from kvae.data.values import as_array, paths_of
from kvae.model import VAE
from kvae.parts import check_seed, checked_integer, positive_integer
from kvae.priors import given

__all__ = ["interpolate", "like", "posterior", "styles"]

PATHS = ("linear", "spherical")
Classes = Sequence[Any] | np.ndarray | None


def interpolate(
    vae: VAE,
    start: Sequence[np.ndarray] | np.ndarray,
    end: Sequence[np.ndarray] | np.ndarray,
    steps: int = 15,
    path: str = "linear",
    groups: int | None = None,
    hold: str | None = None,
    classes: tuple[Classes, Classes] = (None, None),
) -> np.ndarray:
    r"""Decodes paths between the posterior means of images, or of classes.

    $$z_t = (1 - t)\, z_0 + t\, z_1 \quad\text{or}\quad z_t = \big((1 - t) |z_0| + t |z_1|\big)
    \frac{\sin((1 - t) \omega)\, u_0 + \sin(t \omega)\, u_1}{\sin \omega}$$

    Here u are the directions of the ends, ω is the angle between them, and t runs from 0 to 1. The
    spherical path keeps the length between the lengths of the ends, where standard normal noise has
    its mass. With a flow as the prior, it is a path of the noise that becomes the latents. Ends on
    one line through the origin are joined by that line. In a conditional model, the context is
    interpolated too, in a straight line.

    Args:
        vae: A trained model.
        start: One entry per path: an image, (height, width, channels), or several, (count, height,
            width, channels), whose posterior means are averaged. uint8 in 0…255 or float in [0, 1].
        end: Like `start`.
        steps: Number of images of a path, including both ends.
        path: "linear" or "spherical".
        groups: Number of groups of latents, counted from the first, that are interpolated. The
            groups after them are at the mean of their prior, so the whole changes, but no detail.
            None: all groups.
        hold: For a conditional model: "class" keeps the class of the start on the whole path;
            "style" keeps the noise that becomes the latents of the start. None: both are
            interpolated.
        classes: For a conditional model: the classes of the starts, one per path, and those of the
            ends, or their numbers. None: the likeliest classes.

    Returns:
        (pairs, steps, height, width, channels), float32 in [0, 1].

    Raises:
        ValueError: If the numbers of starts and ends differ, `steps` is less than 2, there is no
            such path, or there are fewer groups.

    References:
        White (2016), "Sampling generative networks", arXiv:1609.04468 (spherical paths).
    """
    if path not in PATHS:
        raise ValueError(f"`path` must be one of {', '.join(PATHS)}. Received: {path!r}")
    if len(start) != len(end) or not len(start):
        raise ValueError(
            f"`start` and `end` must have one entry for each path. Received: {len(start)} and "
            f"{len(end)}"
        )
    if not positive_integer(steps) or steps < 2:
        raise ValueError(f"`steps` must be at least 2, for the two ends. Received: {steps!r}")
    if hold not in (None, "class", "style") or (hold and vae.condition is None):
        raise ValueError(
            '`hold` must be None, or of a conditional model "class" or "style". '
            f"Received: hold={hold!r}"
        )
    vae.check_room(len(start) * steps)
    (first, told), (last, other) = (
        ends_of(vae, ends, groups, known) for ends, known in zip((start, end), classes, strict=True)
    )
    if hold == "class":
        other = told
    by_noise = hold == "style" or (path == "spherical" and vae.prior.invertible)
    if by_noise:
        first, last = (
            ops.convert_to_numpy(vae.prior.to_noise(end, **given(rows)))
            for end, rows in ((first, told), (last, other))
        )
    if hold == "style":
        last = first
    latents = along(spherical if path == "spherical" else straight, first, last, steps)
    rows = None if told is None or other is None else along(straight, told, other, steps)
    if by_noise:
        latents = ops.convert_to_numpy(vae.prior.from_noise(latents, **given(rows)))
    images = vae.decode_told(latents, rows)
    return images.reshape(len(first), steps, *vae.image_shape)


def ends_of(
    vae: VAE, ends: Sequence[np.ndarray] | np.ndarray, groups: int | None, classes: Classes
) -> tuple[np.ndarray, np.ndarray | None]:
    """The latents of the ends of paths, (paths, latent), and their context."""
    if classes is not None and len(classes) != len(ends):
        raise ValueError(
            f"`classes` must have one for each path, {len(ends)}. Received: {len(classes)}"
        )
    known = [None] * len(ends) if classes is None else classes
    found = [posterior(vae, one, told) for one, told in zip(ends, known, strict=True)]
    told = [row for _, _, row in found if row is not None]
    rows = np.stack(told) if told else None
    return vae.of_groups(np.stack([mean for mean, _, _ in found]), groups, rows), rows


def along(
    way: Callable[..., np.ndarray], first: np.ndarray, last: np.ndarray, steps: int
) -> np.ndarray:
    """Computes points on the path between rows of `first` and `last`: (paths · steps, …)."""
    shares = np.linspace(0, 1, steps, dtype="float32")
    points = np.concatenate([way(first, last, share)[:, np.newaxis] for share in shares], axis=1)
    return points.reshape(-1, first.shape[-1])


def styles(
    vae: VAE,
    classes: Sequence[int] | None = None,
    count: int = 10,
    seed: int = 0,
    temperature: float | Sequence[float] = 1.0,
) -> np.ndarray:
    """Generates images of each class in the same styles: all classes share their draws.

    Args:
        vae: A trained conditional model of classes.
        classes: The classes. Defaults to all.
        count: Number of styles.
        seed: Random seed. On one backend, the same seed gives the same images.
        temperature: As for `VAE.generate`.

    Returns:
        (classes, count, height, width, channels), float32 in [0, 1].

    Raises:
        ValueError: If the model is not conditional on classes, or an argument is invalid.
    """
    if vae.condition is None or not vae.condition.classes:
        raise ValueError("Styles are drawn by a conditional model of classes.")
    check_seed(seed)
    count = checked_integer("count", count)
    chosen = np.arange(vae.condition.classes) if classes is None else np.atleast_1d(classes)
    rows = vae.condition.rows(chosen, len(chosen)).repeat(count, axis=0)
    vae.check_room(len(rows))
    noise = vae.temperatures(temperature) * ops.convert_to_numpy(vae.prior.noise(count, seed))
    noise = np.tile(noise.astype("float32"), (len(chosen), 1))
    latents = ops.convert_to_numpy(vae.prior.from_noise(noise, **given(rows)))
    return vae.decode_told(latents, rows).reshape(len(chosen), count, *vae.image_shape)


def straight(first: np.ndarray, last: np.ndarray, share: float) -> np.ndarray:
    """The point at this share of the way from each row of `first` to that of `last`."""
    return (1 - share) * first + share * last


def spherical(first: np.ndarray, last: np.ndarray, share: float) -> np.ndarray:
    """The point on an arc around the origin, with a length between those of the ends."""
    lengths = [np.linalg.norm(end, axis=-1, keepdims=True) for end in (first, last)]
    one, other = (
        end / np.maximum(length, 1e-12) for end, length in zip((first, last), lengths, strict=True)
    )
    angle = np.arccos(np.clip(np.sum(one * other, axis=-1, keepdims=True), -1, 1))
    sine = np.sin(angle)
    on_a_line = (sine < 1e-4) | (np.minimum(*lengths) < 1e-12)
    sine = np.where(on_a_line, 1, sine)
    direction = (np.sin((1 - share) * angle) * one + np.sin(share * angle) * other) / sine
    return np.where(
        on_a_line, straight(first, last, share), straight(lengths[0], lengths[1], share) * direction
    )


def like(
    vae: VAE,
    images: np.ndarray,
    count: int = 100,
    seed: int | None = None,
    temperature: float | Sequence[float] = 1.0,
    classes: Any = None,
) -> np.ndarray:
    """Generates images around the posterior of an image, or the average of several.

    The average posterior has the average of the means and of the variances. Draws come from NumPy,
    so a seed gives the same latents on every backend.

    Args:
        vae: A trained model.
        images: (height, width, channels), or (several, height, width, channels), uint8 in 0…255 or
            float in [0, 1].
        count: Number of new images.
        seed: Random seed; the same seed gives the same images. None: new images each time.
        temperature: Factor on the distance from the mean; 0 gives the reconstruction. One number
            for all latents, or one for each group.
        classes: For a conditional model, the class of the images, one for all, or their numbers.
            None: the likeliest class.

    Returns:
        (count, height, width, channels), float32 in [0, 1].

    Raises:
        ValueError: If `count` is less than 1 or `temperature` negative or not finite.
    """
    count = checked_integer("count", count)
    warmth = vae.temperatures(temperature)
    if seed is not None:
        check_seed(seed)
    vae.check_room(count)
    mean, deviation, told = posterior(vae, images, classes)
    noise = np.random.default_rng(seed).standard_normal((count, vae.latent_dim), dtype="float32")
    latents = (mean + warmth * deviation * noise).astype("float32")
    return vae.decode_told(latents, None if told is None else np.tile(told, (count, 1)))


def posterior(
    vae: VAE, images: np.ndarray, classes: Any = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The mean and deviation, each (latent,), of the posterior of an image or of an average.

    For a conditional model, also the context of all of them, (context,).

    Args:
        vae: A trained model.
        images: (height, width, channels), or (several, height, width, channels).
        classes: The class of all images, or their numbers. None: the likeliest class of most.
    """
    images = vae.taken(images) if paths_of(images) else as_array(images)
    alone = images.shape in (vae.image_shape, vae.image_shape[:2])
    images = vae.taken(images[np.newaxis] if alone else images)
    if classes is None:
        rows = vae.rows_or_likeliest(None, images)
        told = (
            None if rows is None else np.eye(rows.shape[1], dtype="float32")[rows.sum(0).argmax()]
        )
    else:
        one = vae.spread(classes if np.ndim(classes) == 0 else [classes], 1)
        told = None if one is None else one[0]
    rows = None if told is None else np.tile(told, (len(images), 1))
    mean, log_variance = vae.encode_told(images, rows)
    return mean.mean(axis=0), np.sqrt(np.exp(log_variance).mean(axis=0)), told
