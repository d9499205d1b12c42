"""`kvae evaluate`."""

import json
from typing import Any

import click

from .command import Command, backend_option, ends_in
from .inputs import MODEL, Images, data_options, open_model, seed_option


@click.command(
    cls=Command,
    groups={
        "Most used options": ("importance_samples", "images", "samples", "factors", "as_json"),
        "Data": ("dataset", "split", "data_dir"),
    },
)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--importance-samples",
    "-k",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Number of importance samples of z per image for −log p(x). Most papers use 5,000.",
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    help="Evaluate only the first N images of the split. The probe and the neighbours still use "
    "all training images.  [default: all]",
)
@click.option(
    "--samples",
    type=click.IntRange(min=0),
    default=10_000,
    show_default=True,
    help="Number of generated images to compare with test images; 0: no comparison.",
)
@click.option(
    "--neighbours",
    type=click.Path(dir_okay=False),
    callback=ends_in(".png"),
    help="Also draw ten samples of the first model beside their nearest training images, to this "
    ".png file.  [default: none]",
)
@click.option(
    "--factors",
    is_flag=True,
    help="Also compute disentanglement scores (MIG, DCI, SAP, …). The data set must have known "
    "factors, as shapes, dsprites and shapes3d have.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@data_options
@seed_option
@backend_option
def evaluate(
    models: tuple[str, ...],
    importance_samples: int,
    images: int | None,
    samples: int,
    neighbours: str | None,
    factors: bool,
    as_json: bool,
    quiet: bool,
    dataset: str | None,
    data_dir: str | None,
    split: str,
    seed: int,
) -> None:
    """Evaluate one or more models on a data set.

    Prints −ELBO, −log p(x), figures of the latents and of new images, and the protocol of the
    measurement. Several models are compared with the first, image by image. MODEL is a .keras file,
    by default saved_models/vae.keras, or the name of a model that comes with kvae: mnist,
    mnist-ladder, mnist-conditional, shapes.

    Example: kvae evaluate saved_models/vae.keras -k 1000
    """
    import contextlib
    import sys

    names = models or (MODEL,)
    vaes = {name: open_model(name) for name in names}
    import kvae

    found = {}
    for name, vae in vaes.items():
        data = Images(vae, dataset, data_dir, split).data
        with contextlib.redirect_stdout(sys.stderr):
            found[name] = kvae.evaluate(
                vae,
                data,
                split,
                images=images,
                importance_samples=importance_samples,
                samples=samples,
                factors=factors,
                seed=seed,
                verbose=not quiet and sys.stderr.isatty(),
            )
    first, *others = found
    differences = {name: kvae.compare(found[name], found[first]) for name in others}
    click.echo(as_text(found, differences) if not as_json else as_plain(found, differences))
    if neighbours:
        vae = vaes[first]
        train = Images(vae, dataset, data_dir, split).data.train
        train = kvae.data.fitted(train, vae.image_shape, vae.fitting)
        cells, _ = kvae.evaluation.beside_neighbours(vae.generate(10, seed), train)
        columns = len(cells) // 10
        kvae.plots.save_picture(kvae.plots.grid(cells, columns), neighbours)
        nearest = f"the {columns - 1} training images" if columns > 2 else "the training image"
        click.echo(f"{neighbours}: 10 samples beside {nearest} nearest to each", err=as_json)


def as_plain(found: dict[str, Any], differences: dict[str, dict]) -> str:
    """All figures as JSON."""
    first = next(iter(found))
    report = {
        "models": {name: evaluation.as_dict() for name, evaluation in found.items()},
        "differences": [
            {"first": name, "second": first, **difference}
            for name, difference in differences.items()
        ],
    }
    return json.dumps(report, indent=2, allow_nan=False)


def as_text(found: dict[str, Any], differences: dict[str, dict]) -> str:
    """A table for each model, and a line for each difference."""
    first = next(iter(found))
    lines = [f"{name}\n{evaluation}\n" for name, evaluation in found.items()]
    lines += [f"{name} − {first}: {sentence(d)}" for name, d in differences.items()]
    return "\n".join(lines)


def sentence(difference: dict) -> str:
    """A comparison in words."""
    if not difference["comparable"]:
        return f"not comparable: {difference['why']}"
    names = {"negative_elbo": "−ELBO", "nll": "−log p(x)"}
    parts = []
    for name, title in names.items():
        if found := difference[name]:
            parts.append(f"{title} {found['difference']:+.3f} nats per image")
            if found["low"] is not None:
                parts[-1] += f", 95 % interval {found['low']:+.3f} to {found['high']:+.3f}"
    if not difference["nll"]:
        parts.append("−log p(x) not comparable: the numbers of draws differ")
    return f"{'; '.join(parts)} (paired)"
