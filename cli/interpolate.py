"""`kvae interpolate`."""

from typing import Any

import click

from .command import Command, backend_option
from .inputs import Images, data_options, model_option, open_model, out_option, seed_option


@click.command(
    cls=Command,
    groups={
        "Most used options": ("model", "out", "start", "end", "rows"),
        "Path": ("steps", "path", "groups", "hold"),
        "Data": ("dataset", "split", "data_dir"),
    },
)
@click.option(
    "--start",
    multiple=True,
    help="Start of a path: an image (a file, or an index such as test:7), or a class, meaning its "
    "average. Repeat --start and --end for several paths.  [default: random images]",
)
@click.option(
    "--end",
    multiple=True,
    help="End of a path, as --start.  [default: random images of other classes]",
)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=15,
    show_default=True,
    help="Number of paths, if --start and --end are not given.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=2),
    default=15,
    show_default=True,
    help="Number of images of a path, with both ends.",
)
@click.option(
    "--path",
    type=click.Choice(["linear", "spherical"]),
    default="linear",
    show_default=True,
    help="Linear, or spherical around the origin of the prior's noise.",
)
@click.option(
    "--groups",
    type=click.IntRange(min=1),
    help="Interpolate only the first N groups of latents, of a model with several. Later groups "
    "are at the mean of their prior.  [default: all]",
)
@click.option(
    "--hold",
    type=click.Choice(["class", "style"]),
    help="With a conditional model: keep the class, or the style, of the start.  [default: "
    "neither]",
)
@out_option("interpolation.png", ".png", ".gif")
@model_option
@data_options
@seed_option
@backend_option
def interpolate(
    start: tuple[str, ...],
    end: tuple[str, ...],
    rows: int,
    steps: int,
    path: str,
    groups: int | None,
    hold: str | None,
    out: str,
    model: str,
    dataset: str | None,
    data_dir: str | None,
    split: str,
    seed: int,
) -> None:
    """Draw interpolations between images or classes.

    The picture is a grid with a path in each row (.png), or an animation (.gif).

    Example: kvae interpolate --rows 15 --steps 15 --out transitions.gif
    """
    if len(start) != len(end):
        raise click.UsageError(
            f"--start and --end go in pairs. Received: {len(start)} and {len(end)}."
        )
    vae = open_model(model)
    import kvae

    if groups is not None and groups > len(vae.groups):
        raise click.UsageError(f"--groups is at most {len(vae.groups)} for this model.")
    classes: Any
    if hold is not None and vae.condition is None:
        raise click.UsageError(
            f"--hold needs a model trained with --conditional. Received: {model}"
        )
    source = Images(vae, dataset, data_dir, split)
    if start:
        ends = [source.end(name) for name in start], [source.end(name) for name in end]
        classes = tuple([source.class_of(name) for name in names] for names in (start, end))
        ways = ", ".join(f"{one} to {other}" for one, other in zip(start, end, strict=True))
        what = f"{len(start)} {path} path{'s' * (len(start) > 1)}: {ways}"
    else:
        vae.check_room(rows * steps)
        images, labels = source.sample(10_000, seed)
        if len(images) < 2:
            raise click.ClickException(
                f"A path needs at least 2 {source.what}. Received: {len(images)}. Choose another "
                "--split, or give --start and --end."
            )
        ends, classes = pairs(images, labels, source.classes_of(labels), rows)
        what = f"{len(ends[0])} {path} paths between {source.what}"
    images = kvae.interpolate(vae, ends[0], ends[1], steps, path, groups, hold, classes)
    if hold:
        what += f", each of the {hold} of its start"
    if out.endswith(".gif"):
        there = [kvae.plots.grid(images[:, step]) for step in range(steps)]
        back = there[-2:0:-1]
        kvae.plots.save_animation([*there, *back], out, seconds=0.1, last_seconds=0.1)
    else:
        grid = kvae.plots.grid(images.reshape(-1, *vae.image_shape), steps)
        kvae.plots.save_picture(kvae.plots.framed(grid, f"{what}; {steps} steps"), out)
    click.echo(f"{out}: {what}; {steps} steps, by {model}")


def pairs(images: Any, labels: Any, classes: Any, count: int) -> Any:
    """Starts and ends among images in random order; of different classes where there are labels.

    And the classes of both, of a conditional model.
    """
    import numpy as np

    starts = np.arange(count) % len(images)
    ends = (starts + (count % len(images) or 1)) % len(images)
    if labels is not None and len(np.unique(labels)) > 1:
        for i, start in enumerate(starts):
            later = (np.arange(len(images)) + ends[i]) % len(images)
            ends[i] = later[labels[later] != labels[start]][0]
    told = (None, None) if classes is None else (classes[starts], classes[ends])
    return (images[starts], images[ends]), told
