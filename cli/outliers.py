"""`kvae outliers`."""

import json
from collections.abc import Callable
from typing import Any

import click

from .command import Command, backend_option, progress
from .inputs import Images, data_options, model_option, open_model, out_option, seed_option
from .score import aligned, draws_option

NO_BREAK = "\u00a0"  # a space at which no line of a title ends


@click.command(
    cls=Command,
    groups={
        "Most used options": ("model", "count", "images", "complexity", "out"),
        "Data": ("dataset", "split", "data_dir"),
    },
)
@model_option
@data_options
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=25,
    show_default=True,
    help="Number of images to list and to draw.",
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    help="Score only the first N images of the split.  [default: all]",
)
@click.option(
    "--complexity",
    is_flag=True,
    help="Order by −log p(x) − L(x), where L(x) is the size of the image as PNG, in nats. This "
    "corrects for the complexity of images (Serrà et al. 2020).",
)
@draws_option
@out_option("outliers.png", ".png")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@seed_option
@backend_option
def outliers(
    model: str,
    dataset: str | None,
    data_dir: str | None,
    split: str,
    count: int,
    images: int | None,
    complexity: bool,
    draws: int,
    out: str,
    as_json: bool,
    quiet: bool,
    seed: int,
) -> None:
    """List the images that a model finds least likely.

    They are also drawn, above their reconstructions. Within one data set they are its unusual
    images. Between data sets the likelihood is misleading: a model may assign simple images of
    another data set a higher likelihood than its own (Nalisnick et al. 2019, arXiv:1810.09136).
    Use --complexity there (Serrà et al. 2020, arXiv:1909.11480).

    Example: kvae outliers --split test --count 25 --out outliers.png
    """
    vae = open_model(model)
    import kvae

    source = Images(vae, dataset, data_dir, split)
    with progress("Scoring images", quiet) as told:
        found = kvae.evaluation.outliers(
            vae,
            source.data,
            split,
            count=count,
            images=images,
            draws=draws,
            seed=seed,
            subtract_complexity=complexity,
            progress=told,
        )
    rows = rows_of(found, split, source)
    what = "−log p(x) − L(x)" if complexity else "−log p(x)"
    span = f"{found.values[0]:.2f} to {found.values[-1]:.2f}".replace("-", "−")
    title = (
        f"{len(rows):,} of {len(found.scores):,} {source.what}, the least likely first, each over "
        f"its reconstruction: {what.replace(' ', NO_BREAK)} of {span} nats"
    )
    pairs = kvae.plots.stacked_pairs(found.images, vae.reconstruct(found.images))
    figure = kvae.plots.framed(pairs, title)
    if as_json:
        protocol = {
            "data": source.data.name,
            "split": split,
            "images": len(found.scores),
            "unit": "nats per image",
            "measure": found.scores.measure,
            "observation": vae.likelihood.protocol,
            "classes": vae.classes and "all, taken for equally likely",
            "draws": draws,
            "seed": seed,
            "ordered_by": "score" if complexity else "log_prob",
        }
        click.echo(json.dumps({"images": rows, "protocol": protocol}, indent=2, allow_nan=False))
    else:
        click.echo(as_text(rows))
    kvae.plots.save_picture(figure, out)
    click.echo(
        f"{out}: the {len(rows):,} least likely of {len(found.scores):,} {source.what} by {model}",
        err=as_json,
    )


def rows_of(found: Any, split: str, source: Images) -> list[dict[str, Any]]:
    """The printed values of each image, by name; the least likely first."""
    rows = []
    for place, index in enumerate(found.indices.tolist()):
        row: dict[str, Any] = {"image": f"{split}:{index}"}
        if found.labels is not None:
            label = found.labels[place]
            row["class"] = source.class_names[label] if label >= 0 else ""
        row["log_prob"] = round(float(found.scores.log_prob[index]), 4)
        if found.complexity is not None:
            row["complexity"] = round(float(found.complexity[index]), 4)
            row["score"] = round(float(found.values[place]), 4)
        rows.append(row)
    return rows


def as_text(rows: list[dict[str, Any]]) -> str:
    """A table, an image a line."""
    kinds: dict[str, tuple[str, Callable[[Any], str]]] = {
        "image": ("image", str),
        "class": ("class", str),
        "log_prob": ("−log p(x)", lambda value: f"{-value:.2f}"),
        "complexity": ("L(x)", lambda value: f"{value:.2f}"),
        "score": ("−log p(x) − L(x)", lambda value: f"{value:.2f}"),
    }
    columns = []
    for key in rows[0]:
        title, shown = kinds[key]
        columns.append([title, *(shown(row[key]) for row in rows)])
    return "\n".join(aligned(columns))
