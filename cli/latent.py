"""`kvae latent`."""

from typing import Any

import click

from .command import Command, backend_option
from .inputs import (
    Images,
    data_options,
    model_option,
    numbers_of_classes,
    open_model,
    out_option,
    seed_option,
)


@click.command(
    cls=Command,
    groups={
        "Most used options": ("show", "model", "out", "count"),
        "Picture": ("size", "latents", "class_name"),
        "Data": ("dataset", "split", "data_dir"),
    },
)
@click.option(
    "--show",
    type=click.Choice(["tsne", "pca", "plane", "manifold", "traversals", "factors", "clusters"]),
    default="tsne",
    show_default=True,
    help="Picture to draw. tsne, pca, plane: the latents of images in a plane, by t-SNE, by "
    "principal components, or directly if there are two; manifold: images decoded from a grid of "
    "that plane; traversals: images decoded along single latents; factors: how much each latent "
    "says about known factors, such as those of shapes; clusters: images from the components of a "
    "mixture prior.",
)
@click.option(
    "--count",
    type=click.IntRange(min=3),
    default=3000,
    show_default=True,
    help="Number of images of the split to use, drawn at random.",
)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Number of images along each side of the manifold.",
)
@click.option(
    "--latents",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Largest number of rows of the traversals, the factors or the clusters.",
)
@click.option(
    "--class",
    "class_name",
    help="Class of the manifold or the clusters of a conditional model.  [default: of the "
    "manifold, the most common class]",
)
@out_option("latent.png", ".png")
@model_option
@data_options
@seed_option
@backend_option
def latent(
    show: str,
    count: int,
    size: int,
    latents: int,
    class_name: str | None,
    out: str,
    model: str,
    dataset: str | None,
    data_dir: str | None,
    split: str,
    seed: int,
) -> None:
    """Draw the latent space of a model.

    Example: kvae latent --show tsne --count 3000
    """
    vae = open_model(model)
    of_class = None
    if class_name is not None:
        of_one = show in ("manifold", "clusters")
        if not of_one or vae.condition is None or not vae.condition.classes:
            raise click.UsageError(
                "--class needs --show manifold or clusters, and a conditional model."
            )
        found = numbers_of_classes(vae, (class_name,))
        if len(found) > 1:
            raise click.UsageError("--class must be one class. Received: all")
        (of_class,) = found
    import kvae

    if show == "clusters":
        kvae.plots.save_picture(kvae.clusters(vae, latents, seed=seed, of_class=of_class), out)
        click.echo(f"{out}: clusters by the prior of {model}")
        return
    source = Images(vae, dataset, data_dir, split)
    if show == "factors":
        figure, shown = by_factor(vae, source, count, latents)
        kvae.plots.save_picture(figure, out)
        click.echo(f"{out}: factors of {shown} by {model}")
        return
    images, labels = source.sample(count, seed)
    if show == "manifold":
        figure = kvae.manifold(vae, images, size, source.what, of_class, source.classes_of(labels))
    elif show == "traversals":
        figure = kvae.traversals(
            vae, images, latents, what=source.what, classes=source.classes_of(labels)
        )
    else:
        names = source.class_names
        told = source.classes_of(labels)
        figure = kvae.latent(vae, images, labels, names, show, seed, source.what, told)
    kvae.plots.save_picture(figure, out)
    click.echo(f"{out}: {show} of {len(images):,} {source.what} by {model}")


def by_factor(vae: Any, source: Images, count: int, latents: int) -> tuple[Any, str]:
    """The picture of latents by the factors of images that are drawn for it, and what these are."""
    import kvae

    images, rows, names = kvae.data.known_factors(source.data, source.split, count)
    images = kvae.data.fitted(images, vae.image_shape, vae.fitting)
    what = f"{len(images):,} {source.what}"
    matrix = kvae.evaluation.factor_matrix(vae, images, rows)
    return kvae.factors(vae, images, matrix, names, latents, what=what), what
