"""Pictures of what a model learned, as arrays or as figures for a notebook."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from keras import ops
from matplotlib.figure import Figure

from kvae.drawing import charts, plots
from kvae.model import VAE
from kvae.parts import checked_integer, positive_integer
from kvae.priors import StandardNormal, given

__all__ = [
    "by_group",
    "latent",
    "manifold",
    "reconstruct",
    "traversals",
]


def reconstruct(
    vae: VAE,
    images: np.ndarray,
    columns: int | None = None,
    what: str = "images",
    classes: np.ndarray | None = None,
) -> Figure:
    """Draws images above their reconstructions from the posterior mean.

    Args:
        vae: A trained model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        columns: Number of images in a row. Defaults to a nearly square picture.
        what: Name of the images in the title.
        classes: For a conditional model, the class of each image, or its numbers. None: the
            likeliest class.
    """
    images = vae.taken(images)
    picture = plots.stacked_pairs(images, vae.reconstruct(images, classes=classes), columns)
    return plots.framed(picture, f"{len(images):,} {what}, each over its reconstruction")


def by_group(
    vae: VAE, images: np.ndarray, what: str = "images", classes: np.ndarray | None = None
) -> Figure:
    """Draws images, and their decodings from more and more groups of latents.

    Groups that are left out are at the mean of their prior. If the latents are one group, this
    draws images, the decoded prior mean, and reconstructions.

    Args:
        vae: A trained model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1]; one row each.
        what: Name of the images in the title.
        classes: For a conditional model, the class of each image, or its numbers. None: the
            likeliest class.
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


def latent(
    vae: VAE,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    class_names: Sequence[str] = (),
    method: str = "tsne",
    seed: int = 0,
    what: str = "images",
    classes: np.ndarray | None = None,
) -> Figure:
    """Draws a scatter plot of the posterior means of images, coloured by class.

    If latents come in groups, it shows the first group, which describes the whole image.

    Args:
        vae: A trained model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1]. t-SNE takes
            about ten seconds for 3,000.
        labels: (count,), integers from 0 on.
        class_names: Names of label 0, label 1, ….
        method: "tsne", which keeps neighbours together, but whose distances mean little; "pca", the
            two directions of largest variance; or "plane", the latents themselves, if there are
            two.
        seed: Random seed of t-SNE.
        what: Name of the images in the title.
        classes: For a conditional model, the class of each image, or its numbers. None: `labels`,
            or the likeliest class.

    Raises:
        ValueError: If there is no such method, "plane" has not two latents, or there are fewer than
            three images.

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
    classes = vae.known(labels, class_names) if classes is None else classes
    means = vae.encode(images, classes=classes)[0][:, : vae.groups[0]]
    points, axis_names = METHODS[method](means, seed)
    title = f"{NAMES[method]} of the {of_first(vae)} of {len(images):,} {what}"
    return charts.scatter(points, labels, class_names, title, axis_names)


def of_first(vae: VAE) -> str:
    """The latents of the first group, in words."""
    several = len(vae.groups) > 1
    return f"{vae.groups[0]} latents{' of the first group' if several else ''}"


def neighbours(means: np.ndarray, seed: int) -> tuple[np.ndarray, None]:
    """Computes the plane of t-SNE, whose axes have no meaning."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    start = principal(means)[1][:, :2]
    tsne = TSNE(
        perplexity=min(30, (len(means) - 1) / 3),
        init=1e-4 * start / max(start[:, 0].std(), 1e-12),  # as scikit-learn scales its own
        random_state=seed,
    )
    # Threads wait for each other in each of 1,000 steps. For few images, on cores with other work,
    # that takes longer than the steps: 36 s, where one thread takes 5 for the same result.
    with threadpool_limits(1 if len(means) <= FEW_POINTS else None, user_api="openmp"):
        return tsne.fit_transform(means), None


def components(means: np.ndarray, seed: int) -> tuple[np.ndarray, tuple[str, str]]:
    """Computes the plane of the two principal components."""
    axes, coordinates = principal(means)
    shares = coordinates.var(axis=0) / max(coordinates.var(axis=0).sum(), 1e-12)
    first, second = (f"principal component {i + 1} ({shares[i]:.0%} of variance)" for i in (0, 1))
    return coordinates[:, :2], (first, second)


def plane(means: np.ndarray, seed: int) -> tuple[np.ndarray, tuple[str, str]]:
    """The plane of two latents."""
    return means, ("latent 1", "latent 2")


METHODS = {"tsne": neighbours, "pca": components, "plane": plane}
FEW_POINTS = 1000  # for t-SNE by one thread
NAMES = {"tsne": "t-SNE", "pca": "Principal components", "plane": "Plane"}


def principal(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes principal directions, (two or more, latent), and coordinates.

    The coordinates are (count, two or more). The largest entry of each direction is positive, so
    the picture is the same on every backend.
    """
    centred = means - means.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2]
    largest = abs(directions).argmax(axis=1)[:, np.newaxis]
    directions *= np.sign(np.take_along_axis(directions, largest, axis=1))
    directions = np.pad(directions, ((0, max(0, 2 - len(directions))), (0, 0)))
    return directions, centred @ directions.T


def manifold(
    vae: VAE,
    images: np.ndarray,
    size: int = 20,
    what: str = "images",
    of_class: Any = None,
    classes: np.ndarray | None = None,
) -> Figure:
    """Draws images decoded from a grid of a plane, at the quantiles of a normal distribution.

    With two latents, it is the plane of the prior. With more latents, or if the prior is a mixture,
    it is the plane of the two principal components of the images' posterior means, with their
    centre and their spread. If latents come in groups, these are the means of the first group, and
    the others are at the mean of their prior.

    Args:
        vae: A trained model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        size: Number of images along each side.
        what: Name of the images in the title.
        of_class: For a conditional model, the class of all points, or their numbers. Defaults to
            the most common class of the images.
        classes: For a conditional model, the class of each image, or its numbers. None: the
            likeliest class.
    """
    size = checked_integer("size", size)
    vae.check_room(size * size)
    quantiles = [NormalDist().inv_cdf((i + 0.5) / size) for i in range(size)]
    points = np.array([(x, y) for y in reversed(quantiles) for x in quantiles], "float32")
    where = "the plane of the 2 latents, at the quantiles of the prior"
    told, own = told_of_all(vae, images, of_class, classes)
    rows = None if told is None else np.tile(told, (len(points), 1))
    if vae.latent_dim == 2 and vae.prior.invertible:
        points = ops.convert_to_numpy(vae.prior.from_noise(points, **given(rows)))
    else:
        if len(images) < 3:
            raise ValueError(
                f"Of these {vae.latent_dim} latents a manifold is the plane of the images' "
                f"principal components, which takes at least 3 images. Received: {len(images)}"
            )
        if own is not None and told is not None and (same := (own == told).all(1)).sum() > 2:
            images, own = vae.taken(images)[same], own[same]  # p(z|class) is of these alone
        means, first = vae.encode_told(vae.taken(images), own)[0], vae.groups[0]
        directions, coordinates = principal(means[:, :first])
        moved = (points * coordinates[:, :2].std(axis=0)) @ directions[:2]
        points = np.tile(means.mean(axis=0), (len(points), 1))
        points[:, :first] += moved
        points = vae.of_groups(points, 1 if first < vae.latent_dim else None, rows)
        where = f"the plane of two principal components of {len(images):,} {what}, at its quantiles"
    if told is not None and vae.classes:
        where += f", as class {int(told.argmax())}"
    picture = plots.grid(vae.decode_told(points.astype("float32"), rows), size)
    return plots.framed(picture, f"{size} × {size} points of {where}")


def told_of_all(
    vae: VAE, images: np.ndarray, of_class: Any, classes: np.ndarray | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The context of all points, (context,), and of each image, for a conditional model."""
    if vae.condition is None:
        vae.rows(of_class, 1)  # raises an error
        return None, None
    own = vae.rows_or_likeliest(classes, vae.taken(images))
    if of_class is None and own is not None:
        rows, counts = np.unique(own, axis=0, return_counts=True)
        return rows[counts.argmax()], own
    told = vae.spread(of_class if np.ndim(of_class) == 0 else [of_class], 1)
    return None if told is None else told[0], own


def traversals(
    vae: VAE,
    images: np.ndarray,
    latents: int = 10,
    steps: int = 11,
    what: str = "images",
    classes: np.ndarray | None = None,
) -> Figure:
    """Draws one row for each latent: the first image, decoded with it moved from −3 to 3.

    With a learned prior, whose latents have no common range, the latent moves from 3 standard
    deviations below its mean over the images to 3 above.

    Args:
        vae: A trained model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1]. Rows are
            ordered by the KL of their latent, averaged over the images.
        latents: Largest number of rows.
        steps: Number of images in a row.
        what: Name of the images in the title.
        classes: For a conditional model, the class of each image, or its numbers. None: the
            likeliest class.
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
    own = vae.rows_or_likeliest(classes, vae.taken(images))
    if own is not None and (same := (own == own[0]).all(axis=1)).sum() > 1:
        images, own = vae.taken(images)[same], own[same]  # of the class of the first
    kl = vae.kl_told(vae.taken(images), own)
    rows = np.argsort(-kl, kind="stable")[:latents]
    values = np.linspace(-3, 3, steps, dtype="float32")
    picture = plots.grid(moved(vae, images, rows, values, own), steps)
    unit = "" if isinstance(vae.prior, StandardNormal) else " of its deviations"
    return plots.framed(
        picture,
        f"{len(rows)} of {vae.latent_dim} latents of one image, each moved from −3 to 3{unit}; "
        f"beside them their {kl_words(vae)}, mean over {len(images):,} {what}",
        rows=[f"latent {row + 1}{of_group(vae, row)}: {kl[row]:.2f}" for row in rows],
        columns=[f"{value:.1f}".replace("-", "−") for value in values],
    )


def kl_words(vae: VAE) -> str:
    """The meaning of `VAE.kl_per_latent`, in words."""
    if vae.prior.closed_form:
        return "KL in nats"
    if len(vae.groups) > 1:
        return "KL in nats, of a learned prior from a Gaussian fitted to each"
    return "KL from a Gaussian fitted to each, in nats"


def moved(
    vae: VAE,
    images: np.ndarray,
    rows: np.ndarray,
    values: np.ndarray,
    told: np.ndarray | None = None,
) -> np.ndarray:
    """Decodes the first image with each of these latents moved alone.

    Args:
        vae: A trained model.
        images: (count, height, width, channels), uint8 in 0…255 or float in [0, 1].
        rows: Numbers of the latents.
        values: Target values; with a learned prior, in standard deviations of that latent over the
            images.
        told: (count, context), for a conditional model. None: the likeliest class of each image.

    Returns:
        (rows · values, height, width, channels), float32 in [0, 1].
    """
    images = vae.taken(images)
    told = vae.rows_or_likeliest(None, images) if told is None else told
    means, log_variances = vae.encode_told(images, told)
    points = np.tile(means[0], (len(rows), len(values), 1))
    places = np.repeat(values[np.newaxis], len(rows), axis=0)
    if not isinstance(vae.prior, StandardNormal):
        spread = np.sqrt(means.var(axis=0) + np.exp(log_variances).mean(axis=0))
        places = (means.mean(axis=0) + np.outer(values, spread)).T[rows]
    points[np.arange(len(rows)), :, rows] = places
    points = points.reshape(-1, vae.latent_dim)
    return vae.decode_told(points, None if told is None else np.tile(told[0], (len(points), 1)))


def of_group(vae: VAE, latent: int) -> str:
    """The group of a latent, in words; empty if there is a single group."""
    if len(vae.groups) == 1:
        return ""
    return f" (group {int(np.searchsorted(np.cumsum(vae.groups), latent, side='right')) + 1})"
