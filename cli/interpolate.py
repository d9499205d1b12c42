"""`kvae interpolate`."""

from typing import Any

import click

from .command import Command, backend_option
from .inputs import Images, data_options, model_option, open_model, out_option, seed_option


@click.command(cls=Command)
@click.option(
    "--start",
    multiple=True,
    help="An image (a file, or an index such as test:7) or a class, whose average is then the end "
    "of a path. As often as --end.  [default: images drawn at random]",
)
@click.option(
    "--end",
    multiple=True,
    help="As --start.  [default: images drawn at random, of another class than the start]",
)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=15,
    show_default=True,
    help="Paths, where no ends are named.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=2),
    default=15,
    show_default=True,
    help="Images on a path, both ends counted.",
)
@click.option(
    "--path",
    type=click.Choice(["linear", "spherical"]),
    default="linear",
    show_default=True,
    help="Straight, or along an arc around the origin (of the noise that latents are made of).",
)
@click.option(
    "--groups",
    type=click.IntRange(min=1),
    help="So many groups of latents, from the first, go the way, of a model that has several; "
    "those after are at the mean of their prior.  [default: all]",
)
@click.option(
    "--hold",
    type=click.Choice(["class", "style"]),
    help="Of a conditional model: a path keeps the class of its start, or its style.  [default: "
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
    """Draw the way from image to image, or from class to class: a grid (.png) or in time (.gif).

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
        raise click.UsageError(f"--hold is for a conditional model, and {model} is none.")
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
                f"Paths between images take at least 2, and there is one of {source.what}. Take "
                "another --split, or name ends with --start and --end."
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
