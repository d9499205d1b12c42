"""`kvae reconstruct`."""

from typing import Any

import click

from .command import Command, backend_option
from .inputs import Images, data_options, model_option, open_model, out_option, seed_option


@click.command(cls=Command)
@click.argument("images", metavar="[IMAGE]...", nargs=-1)
@out_option("reconstructions.png", ".png")
@model_option
@data_options
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Number of random images of the split, if no IMAGE is given.",
)
@click.option("--columns", type=click.IntRange(min=1), help="Number of images per row.")
@click.option(
    "--by-group",
    is_flag=True,
    help="With groups of latents: a row for each image, decoded from none of its groups, then from "
    "one more group at a time.",
)
@seed_option
@backend_option
def reconstruct(
    images: tuple[str, ...],
    out: str,
    model: str,
    dataset: str | None,
    data_dir: str | None,
    split: str,
    count: int,
    columns: int | None,
    by_group: bool,
    seed: int,
) -> None:
    """Draw images above their reconstructions.

    The images are random ones of the data set, or those given as IMAGE: a file, or an index such as
    test:7.

    Example: kvae reconstruct --split test --count 50
    """
    if by_group and columns:
        raise click.UsageError("--by-group has a column for each group: leave out --columns.")
    vae = open_model(model)
    import numpy as np

    import kvae

    source = Images(vae, dataset, data_dir, split)
    classes = None
    if images:
        inputs, what = np.stack([as_float(source.image(name)) for name in images]), "images"
    else:
        (inputs, labels), what = source.sample(count, seed), source.what
        classes = source.classes_of(labels)
    if by_group:
        figure = kvae.by_group(vae, inputs, what, classes)
        how = "beside their reconstructions by group"
    else:
        figure = kvae.reconstruct(vae, inputs, columns, what, classes)
        how = "over their reconstructions"
    kvae.plots.save_picture(figure, out)
    if len(inputs) == 1:
        what, how = what.removesuffix("s"), how.replace("their", "its")
    click.echo(f"{out}: {len(inputs):,} {what} {how}, by {model}")


def as_float(image: Any) -> Any:
    """An image as float32 in [0, 1], so that files and data of either kind go together."""
    return image.astype("float32") / (255 if image.dtype == "uint8" else 1)
