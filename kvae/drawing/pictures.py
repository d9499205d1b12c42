"""Pictures of what a model learned: a VAE and images to images, or to figures for a notebook."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from keras import ops
from matplotlib.figure import Figure

from kvae.data.values import as_array, paths_of
from kvae.drawing import charts, plots
from kvae.model import VAE
from kvae.parts import check_seed, checked_integer, positive_integer
from kvae.priors import StandardNormal, given

__all__ = [
    "by_group",
    "interpolate",
    "latent",
    "like",
    "manifold",
    "reconstruct",
    "styles",
    "traversals",
]

PATHS = ("linear", "spherical")


def reconstruct(
    vae: VAE,
    images: np.ndarray,
    columns: int | None = None,
    what: str = "images",
    classes: np.ndarray | None = None,
) -> Figure:
    """Images over their reconstructions from the posterior mean.

    Args:
        vae: A trained model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        columns: Images in a row; such that the picture is near to a square where it is not given.
        what: What the title calls the images.
        classes: Of a conditional model, the class of each image, or its numbers; None: the class
            that is the most likely.
    """
    images = vae.taken(images)
    picture = plots.stacked_pairs(images, vae.reconstruct(images, classes=classes), columns)
    return plots.framed(picture, f"{len(images):,} {what}, each over its reconstruction")


def by_group(
    vae: VAE, images: np.ndarray, what: str = "images", classes: np.ndarray | None = None
) -> Figure:
    """What each group of latents holds: images, and what is made of ever more of their groups.

    Latents of the groups that are left out are at the mean of their prior. A model whose latents
    are one group has its images beside their mean and their reconstructions.

    Args:
        vae: A trained model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1]; a row each.
        what: What the title calls the images.
        classes: Of a conditional model, the class of each image, or its numbers; None: the class
            that is the most likely.
    """
    images = vae.taken(images)
    vae.check_room(len(images) * (2 + len(vae.groups)))
    rows = vae.rows_or_likeliest(classes, images)
    means, _ = vae.encode_told(images, rows)
    made = [
        vae.decode_told(vae.of_groups(means, count, rows), rows)
        for count in range(len(vae.groups) + 1)
    ]
    shown = [plots.unit(images), *made]
    picture = plots.grid(np.stack(shown, axis=1).reshape(-1, *vae.image_shape), len(shown))
    title = f"{len(images):,} {what}; what is made of no latents, and of one group more at a time"
    return plots.framed(
        picture, title, columns=["image", "0", *(f"+{size}" for size in vae.groups)]
    )


def interpolate(
    vae: VAE,
    start: Sequence[np.ndarray] | np.ndarray,
    end: Sequence[np.ndarray] | np.ndarray,
    steps: int = 15,
    path: str = "linear",
    groups: int | None = None,
    hold: str | None = None,
) -> np.ndarray:
    r"""Decodes paths between the posterior means of images, or of classes.

    $$z_t = (1 - t)\, z_0 + t\, z_1 \quad\text{or}\quad z_t = \big((1 - t) |z_0| + t |z_1|\big)
    \frac{\sin((1 - t) \omega)\, u_0 + \sin(t \omega)\, u_1}{\sin \omega}$$

    where u are the directions of the ends and ω is the angle between them; t runs from 0 to 1. The
    spherical path keeps the length between those of the ends, where standard normal noise has its
    mass; with a learned prior it is a path of the noise that latents are made of. Ends on one line
    through the origin are joined by that line. Of a conditional model what it is told goes the way
    too, in a straight line.

    Args:
        vae: A trained model.
        start: One entry a path: an image, (height, width, channels), or several, (count, height,
            width, channels), for which the average of their posterior means stands. uint8 in 0…255
            or float in [0, 1].
        end: As `start`.
        steps: Images on a path, both ends counted.
        path: "linear" or "spherical".
        groups: So many groups of latents, from the first, go the way; those after are at the mean
            of their prior, so that what changes is the whole and no detail. None: all.
        hold: Of a conditional model: "class", and all of a path is of the class of its start; or
            "style", and its latents stay those of the start. None: both go the way.

    Returns:
        (pairs, steps, height, width, channels), float32 in [0, 1].

    Raises:
        ValueError: If the numbers of ends differ, or `steps` is less than 2, or there is no such
            path, or there are not so many groups.

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
    (first, told), (last, other) = (ends_of(vae, ends, groups) for ends in (start, end))
    if hold == "class":
        other = told
    if path == "spherical":
        first, last = (
            ops.convert_to_numpy(vae.prior.to_noise(end, **given(rows)))
            for end, rows in ((first, told), (last, other))
        )
    if hold == "style":
        last = first
    way = spherical if path == "spherical" else straight
    latents = along(way, first, last, steps)
    rows = None if told is None or other is None else along(straight, told, other, steps)
    if path == "spherical":
        latents = ops.convert_to_numpy(vae.prior.from_noise(latents, **given(rows)))
    images = vae.decode_told(latents, rows)
    return images.reshape(len(first), steps, *vae.image_shape)


def ends_of(
    vae: VAE, ends: Sequence[np.ndarray] | np.ndarray, groups: int | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Latents of the ends of paths, (paths, latent), and what a conditional model is told."""
    found = [posterior(vae, one) for one in ends]
    told = [row for _, _, row in found if row is not None]
    rows = np.stack(told) if told else None
    return vae.of_groups(np.stack([mean for mean, _, _ in found]), groups, rows), rows


def along(way: Any, first: np.ndarray, last: np.ndarray, steps: int) -> np.ndarray:
    """Points on each path from a row of `first` to that of `last`: (paths · steps, …)."""
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
    """New images of each class in the same styles: what is drawn is the same for all classes.

    Args:
        vae: A trained conditional model of classes.
        classes: Which; all where they are not given.
        count: How many styles.
        seed: The same seed, the same images, on the same backend.
        temperature: As for `VAE.generate`.

    Returns:
        (classes, count, height, width, channels), float32 in [0, 1].

    Raises:
        ValueError: If the model is not one of classes, or an argument is not what it should be.
    """
    if vae.condition is None or not vae.condition.classes:
        raise ValueError("Styles are drawn by a conditional model of classes.")
    check_seed(seed)
    count = checked_integer("count", count)
    chosen = np.arange(vae.condition.classes) if classes is None else np.asarray(classes)
    rows = vae.condition.rows(chosen, len(chosen)).repeat(count, axis=0)
    vae.check_room(len(rows))
    noise = vae.temperatures(temperature) * ops.convert_to_numpy(vae.prior.noise(count, seed))
    noise = np.tile(noise.astype("float32"), (len(chosen), 1))
    latents = ops.convert_to_numpy(vae.prior.from_noise(noise, **given(rows)))
    return vae.decode_told(latents, rows).reshape(len(chosen), count, *vae.image_shape)


def straight(first: np.ndarray, last: np.ndarray, share: float) -> np.ndarray:
    """The point that lies this share of the way from each row of `first` to that of `last`."""
    return (1 - share) * first + share * last


def spherical(first: np.ndarray, last: np.ndarray, share: float) -> np.ndarray:
    """The same along an arc around the origin, with a length between those of the ends."""
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
) -> np.ndarray:
    """New images around the posterior of an image, or around the average posterior of several.

    The average posterior has the average of the means and of the variances. Draws are NumPy's, so
    that a seed gives the same latents on every backend.

    Args:
        vae: A trained model.
        images: (height, width, channels), or (several, height, width, channels), uint8 in 0…255 or
            float in [0, 1].
        count: How many new ones.
        seed: The same seed, the same images; None: others each time.
        temperature: Multiplies the distance from the mean: 0 gives the reconstruction. One for all
            latents, or one for each group of them.

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
    mean, deviation, told = posterior(vae, images)
    noise = np.random.default_rng(seed).standard_normal((count, vae.latent_dim), dtype="float32")
    latents = (mean + warmth * deviation * noise).astype("float32")
    return vae.decode_told(latents, None if told is None else np.tile(told, (count, 1)))


def posterior(vae: VAE, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Mean and deviation, each (latent,), of an image's posterior or of the average of several.

    And what a conditional model is told of them, (context,): the likeliest class of most.
    """
    images = vae.taken(images) if paths_of(images) else as_array(images)
    alone = images.shape in (vae.image_shape, vae.image_shape[:2])
    images = vae.taken(images[np.newaxis] if alone else images)
    rows = vae.rows_or_likeliest(None, images)
    told = None
    if rows is not None:
        told = np.eye(rows.shape[1], dtype="float32")[rows.sum(axis=0).argmax()]
        rows = np.tile(told, (len(images), 1))
    mean, log_variance = vae.encode_told(images, rows)
    return mean.mean(axis=0), np.sqrt(np.exp(log_variance).mean(axis=0)), told


def latent(
    vae: VAE,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    class_names: Sequence[str] = (),
    method: str = "tsne",
    seed: int = 0,
    what: str = "images",
) -> Figure:
    """A scatter of the images' posterior means, coloured by class.

    Where latents come in groups it is of the first, which is for the whole image.

    Args:
        vae: A trained model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1]. t-SNE takes
            some ten seconds for 3,000.
        labels: (count,), integers from 0 on; of a conditional model they are its classes too.
        class_names: The name of label 0, of label 1, ….
        method: "tsne", which keeps neighbours together, and whose distances mean little; "pca", the
            two directions of greatest variance; or "plane", the latents themselves, where there are
            two.
        seed: Of t-SNE.
        what: What the title calls the images.

    Raises:
        ValueError: If there is no such method, or "plane" has not two latents, or there are fewer
            than three images.

    References:
        van der Maaten and Hinton (2008), "Visualizing data using t-SNE", JMLR 9.
    """
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}. Received: {method!r}")
    if method == "plane" and vae.groups[0] != 2:
        raise ValueError(
            f"The plane needs 2 latents; here are the {of_first(vae)}. Choose tsne or pca."
        )
    if len(images) < 3:
        raise ValueError(f"A scatter needs at least 3 images. Received: {len(images)}")
    means = vae.encode(images, classes=vae.known(labels))[0][:, : vae.groups[0]]
    points, axis_names = METHODS[method](means, seed)
    title = f"{NAMES[method]} of the {of_first(vae)} of {len(images):,} {what}"
    return charts.scatter(points, labels, class_names, title, axis_names)


def of_first(vae: VAE) -> str:
    """The latents of the first group, in words."""
    several = len(vae.groups) > 1
    return f"{vae.groups[0]} latents{' of the first group' if several else ''}"


def neighbours(means: np.ndarray, seed: int) -> tuple[np.ndarray, None]:
    """The plane of t-SNE, whose axes mean nothing."""
    from sklearn.manifold import TSNE

    start = principal(means)[1][:, :2]
    tsne = TSNE(
        perplexity=min(30, (len(means) - 1) / 3),
        init=1e-4 * start / max(start[:, 0].std(), 1e-12),  # as scikit-learn scales its own
        random_state=seed,
    )
    return tsne.fit_transform(means), None


def components(means: np.ndarray, seed: int) -> tuple[np.ndarray, tuple[str, str]]:
    """The plane of the two principal components."""
    axes, coordinates = principal(means)
    shares = coordinates.var(axis=0) / max(coordinates.var(axis=0).sum(), 1e-12)
    first, second = (f"principal component {i + 1} ({shares[i]:.0%} of variance)" for i in (0, 1))
    return coordinates[:, :2], (first, second)


def plane(means: np.ndarray, seed: int) -> tuple[np.ndarray, tuple[str, str]]:
    """The plane of two latents."""
    return means, ("latent 1", "latent 2")


METHODS = {"tsne": neighbours, "pca": components, "plane": plane}
NAMES = {"tsne": "t-SNE", "pca": "Principal components", "plane": "Plane"}


def principal(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal directions, (two or more, latent), and coordinates, (count, two or more).

    Each direction has its largest entry positive, so that the picture is the same on each backend.
    """
    centred = means - means.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2]
    largest = abs(directions).argmax(axis=1)[:, np.newaxis]
    directions *= np.sign(np.take_along_axis(directions, largest, axis=1))
    directions = np.pad(directions, ((0, max(0, 2 - len(directions))), (0, 0)))
    return directions, centred @ directions.T


def manifold(
    vae: VAE, images: np.ndarray, size: int = 20, what: str = "images", of_class: int | None = None
) -> Figure:
    """Decoded points of a plane, at the quantiles of a normal distribution.

    Of two latents it is the plane of the prior. Of more it is the plane of the two principal
    components of the images' posterior means, with their centre and their spread; where latents
    come in groups of those of the first, and the others are at the mean of their prior.

    Args:
        vae: A trained model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        size: Images along each side.
        what: What the title calls the images.
        of_class: Of a conditional model, the class that all points are of; that of most images
            where it is not given.
    """
    size = checked_integer("size", size)
    vae.check_room(size * size)
    quantiles = [NormalDist().inv_cdf((i + 0.5) / size) for i in range(size)]
    points = np.array([(x, y) for y in reversed(quantiles) for x in quantiles], "float32")
    where = "the plane of the 2 latents, at the quantiles of the prior"
    told = None
    if vae.condition is not None and of_class is None:
        told = posterior(vae, images)[2]
    elif (rows := vae.spread(of_class, 1)) is not None:
        told = rows[0]
    rows = None if told is None else np.tile(told, (len(points), 1))
    if vae.latent_dim == 2:
        points = ops.convert_to_numpy(vae.prior.from_noise(points, **given(rows)))
    else:
        if len(images) < 3:
            raise ValueError(
                f"Of {vae.latent_dim} latents a manifold is the plane of the images' principal "
                f"components, which takes at least 3 images. Received: {len(images)}"
            )
        means, first = vae.encode(images)[0], vae.groups[0]
        directions, coordinates = principal(means[:, :first])
        moved = (points * coordinates[:, :2].std(axis=0)) @ directions[:2]
        points = np.tile(means.mean(axis=0), (len(points), 1))
        points[:, :first] += moved
        points = vae.of_groups(points, 1 if first < vae.latent_dim else None, rows)
        where = f"the plane of two principal components of {len(images):,} {what}, at its quantiles"
    if told is not None:
        where += f", as class {int(told.argmax())}"
    picture = plots.grid(vae.decode_told(points.astype("float32"), rows), size)
    return plots.framed(picture, f"{size} × {size} points of {where}")


def traversals(
    vae: VAE, images: np.ndarray, latents: int = 10, steps: int = 11, what: str = "images"
) -> Figure:
    """One row for each latent: the first image, decoded with that latent moved from −3 to 3.

    With a learned prior, whose latents have no range in common, from 3 standard deviations of that
    latent over the images below its mean to 3 above.

    Args:
        vae: A trained model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1]. Rows are
            ordered by the KL of their latent, averaged over these.
        latents: How many rows at most.
        steps: Images in a row.
        what: What the title calls the images.
    """
    if not (positive_integer(latents) and positive_integer(steps)) or steps < 2:
        raise ValueError(
            "`latents` must be at least 1 and `steps` at least 2. "
            f"Received: latents={latents!r}, steps={steps!r}"
        )
    vae.check_room(min(latents, vae.latent_dim) * steps)
    if len(images) < 2 and not vae.prior.closed_form:
        raise ValueError(
            "With a learned prior it takes at least 2 images to see how far latents spread. "
            f"Received: {len(images)}"
        )
    kl = vae.kl_per_latent(images)
    rows = np.argsort(-kl, kind="stable")[:latents]
    values = np.linspace(-3, 3, steps, dtype="float32")
    picture = plots.grid(moved(vae, images, rows, values), steps)
    unit = "" if isinstance(vae.prior, StandardNormal) else " of its deviations"
    share = "KL in nats" if vae.prior.closed_form else "KL from a Gaussian fitted to each, in nats"
    if len(vae.groups) > 1 and not vae.prior.closed_form:
        share = "KL in nats, of a learned prior from a Gaussian fitted to each"
    return plots.framed(
        picture,
        f"{len(rows)} of {vae.latent_dim} latents of one image, each moved from −3 to 3{unit}; "
        f"beside them their {share}, mean over {len(images):,} {what}",
        rows=[f"latent {row + 1}{of_group(vae, row)}: {kl[row]:.2f}" for row in rows],
        columns=[f"{value:.1f}".replace("-", "−") for value in values],
    )


def moved(vae: VAE, images: np.ndarray, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The first image, decoded with each of these latents moved alone.

    Args:
        vae: A trained model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        rows: The numbers of the latents.
        values: Where to; with a learned prior in deviations of that latent over the images.

    Returns:
        (rows · values, height, width, channels), float32 in [0, 1].
    """
    mean, _, told = posterior(vae, images[0])
    points = np.tile(mean, (len(rows), len(values), 1))
    places = np.repeat(values[np.newaxis], len(rows), axis=0)
    if not isinstance(vae.prior, StandardNormal):
        means, log_variances = vae.encode(images)
        spread = np.sqrt(means.var(axis=0) + np.exp(log_variances).mean(axis=0))
        places = (means.mean(axis=0) + np.outer(values, spread)).T[rows]
    points[np.arange(len(rows)), :, rows] = places
    points = points.reshape(-1, vae.latent_dim)
    return vae.decode_told(points, None if told is None else np.tile(told, (len(points), 1)))


def of_group(vae: VAE, latent: int) -> str:
    """The group of a latent, in words; none where there is but one group."""
    if len(vae.groups) == 1:
        return ""
    return f" (group {int(np.searchsorted(np.cumsum(vae.groups), latent, side='right')) + 1})"
