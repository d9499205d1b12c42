"""`kvae score`."""

import json
from typing import Any

import click

from .command import Command, backend_option, ends_in, progress
from .inputs import Images, data_options, model_option, open_model, seed_option
from .reconstruct import as_float

draws_option = click.option(
    "--draws",
    "-k",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Number of importance samples of z per image for −log p(x).",
)


@click.command(cls=Command)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@model_option
@data_options
@draws_option
@click.option(
    "--training-images",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Number of random training images to rank each image among; 0: no rank.",
)
@click.option(
    "--map",
    "picture",
    type=click.Path(dir_okay=False),
    callback=ends_in(".png"),
    help="Also draw each image, its reconstruction and a map of surprising regions, to this .png "
    "file.  [default: none]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@seed_option
@backend_option
def score(
    images: tuple[str, ...],
    model: str,
    dataset: str | None,
    data_dir: str | None,
    split: str,
    draws: int,
    training_images: int,
    picture: str | None,
    as_json: bool,
    quiet: bool,
    seed: int,
) -> None:
    """Compute the log-likelihood of single images.

    Each image is also ranked among training images. An IMAGE is a file, or an index such as
    test:7. Between data sets the likelihood is misleading: simple images of any kind get a high
    likelihood.

    Example: kvae score mine.png test:7 --map map.png
    """
    vae = open_model(model)
    import numpy as np

    import kvae

    source = Images(vae, dataset, data_dir, split)
    inputs = np.stack([as_float(source.image(name)) for name in images])
    known = training(vae, source, training_images, seed) if training_images else None
    scores, ranks = vae.score(inputs, draws, seed), None
    if known is not None:
        with progress("Scoring training images", quiet) as told:
            others = vae.score(known[0], draws, seed, told)
        ranks = (others.log_prob > scores.log_prob[:, np.newaxis]).mean(axis=1)
    protocol = {
        "unit": "nats per image",
        "measure": scores.measure,
        "observation": vae.likelihood.protocol,
        "classes": vae.classes and "all, taken for equally likely",
        "draws": draws,
        "seed": seed,
        "training_images": None if known is None else len(known[0]),
        "training_images_of": None if known is None else known[1],
    }
    table = columns_of(scores, ranks)
    click.echo(as_plain(images, table, protocol) if as_json else as_text(images, table, protocol))
    if picture:
        figure = kvae.drawing.surprise(vae, inputs, draws=draws, seed=seed)
        kvae.plots.save_picture(figure, picture)
        click.echo(
            f"{picture}: {len(inputs):,} image{'s' * (len(inputs) != 1)}, with reconstructions and "
            "maps of surprising regions",
            err=as_json,
        )


def training(vae: Any, source: Images, count: int, seed: int) -> tuple[Any, str] | None:
    """Training images of the model's own data set, and its name.

    Where that cannot be read, those of the data set that the user names; None, and a notice, where
    there is none.
    """
    import numpy as np

    own = Images(vae, None, source.data_dir, "train") if source.dataset else source
    try:
        data = own.data
    except click.ClickException as error:
        if source.dataset is None:
            click.echo(
                f"The images are not ranked among training images. {error.message}", err=True
            )
            return None
        own, data = source, source.data
    chosen = np.random.default_rng(seed).permutation(len(data.train))[:count]
    return own.fitted(data.train[np.sort(chosen)]), data.name


def columns_of(scores: Any, ranks: Any) -> dict[str, Any]:
    """The printed values of each image, by name: arrays of shape (count,)."""
    table = {name: getattr(scores, name) for name in ("log_prob", "elbo", "reconstruction", "kl")}
    if scores.bits_per_dimension is not None:
        table["bits_per_dimension"] = scores.bits_per_dimension
    if ranks is not None:
        table["likelier_training_images"] = ranks
    return table


def as_plain(names: tuple[str, ...], table: dict[str, Any], protocol: dict[str, Any]) -> str:
    """All figures as JSON."""
    rows = [
        {"image": name, **{key: round(float(values[i]), 4) for key, values in table.items()}}
        for i, name in enumerate(names)
    ]
    return json.dumps({"images": rows, "protocol": protocol}, indent=2, allow_nan=False)


def as_text(names: tuple[str, ...], table: dict[str, Any], protocol: dict[str, Any]) -> str:
    """A table, an image a line; and how it was measured."""
    kinds = {
        "log_prob": ("−log p(x)", lambda value: f"{-value:.2f}"),
        "elbo": ("−ELBO", lambda value: f"{-value:.2f}"),
        "reconstruction": ("reconstruction", lambda value: f"{value:.2f}"),
        "kl": ("KL", lambda value: f"{value:.2f}"),
        "bits_per_dimension": ("bits/dim", lambda value: f"{value:.4f}"),
        "likelier_training_images": ("likelier", lambda value: f"{100 * value:.1f} %"),
    }
    cells = [["image", *names]]
    for key, values in table.items():
        title, shown = kinds[key]
        cells.append([title, *(shown(value) for value in values.tolist())])
    lines = aligned(cells)
    lines.append(
        f"nats per image; −log p(x): upper bound from {protocol['draws']:,} draws of z; "
        f"{protocol['observation']}; seed {protocol['seed']}"
        + (f"; over classes: {protocol['classes']}" if protocol["classes"] else "")
    )
    if protocol["training_images"]:
        lines.append(
            f"likelier: share of {protocol['training_images']:,} training images of "
            f"{protocol['training_images_of']}, drawn at random, with a higher log p(x)"
        )
    return "\n".join(lines)


def aligned(columns: list[list[str]]) -> list[str]:
    """The lines of a table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in columns]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in zip(*columns, strict=True)
    ]
