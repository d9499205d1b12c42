"""`kvae generate`."""

import pathlib

import click

from .command import Command, FiniteRange, backend_option, ends_in, import_quietly


@click.command(cls=Command)
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    default="grid.png",
    show_default=True,
    callback=ends_in(".png", ".npz"),
    help="The file to write: a grid as .png, or the arrays as .npz.",
)
@click.option(
    "--model",
    type=click.Path(dir_okay=False),
    default="saved_models/vae.keras",
    show_default=True,
    help="The model's .keras file.",
)
@click.option("--count", type=click.IntRange(min=1), help="How many images.  [default: 100]")
@click.option("--rows", type=click.IntRange(min=1), help="Rows of the grid; with --count, at most.")
@click.option("--columns", type=click.IntRange(min=1), help="Columns of the grid.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    help="The same seed, the same images.  [default: another one each time]",
)
@click.option(
    "--temperature",
    type=FiniteRange(min=0),
    default=1.0,
    show_default=True,
    help="Multiplies the drawn latents: below 1 safer, above 1 wilder.",
)
@backend_option
def generate(
    out: str,
    model: str,
    count: int | None,
    rows: int | None,
    columns: int | None,
    seed: int | None,
    temperature: float,
) -> None:
    """Draw new images from a trained model.

    Example: kvae generate --rows 4 --columns 8 --out grid.png
    """
    count, columns = layout(count, rows, columns)
    path = pathlib.Path(out)
    if not pathlib.Path(model).is_file():
        raise click.ClickException(
            f"There is no model at {model} yet. Run `kvae train`, or name one with --model."
        )
    import random

    import_quietly()
    import numpy as np

    import kvae
    from kvae.files import whole

    seed = random.randrange(2**31) if seed is None else seed
    images = kvae.load(model, compile=False).generate(count, seed, temperature)
    if path.suffix == ".npz":
        with whole(path) as partial:
            np.savez_compressed(partial, images=images)
    else:
        kvae.plots.save_picture(kvae.plots.grid(images, columns), path)
    click.echo(f"{out}: {count:,} new images from {model}, seed {seed}")


def layout(count: int | None, rows: int | None, columns: int | None) -> tuple[int, int | None]:
    """How many images, in how many columns; None leaves the columns to the grid."""
    if rows and columns:
        if count and count > rows * columns:
            raise click.UsageError(f"{count} images do not fit {rows} rows of {columns}.")
        return count or rows * columns, columns
    if rows:
        count = count or rows * rows
        return count, -(-count // rows)
    return count or (columns * columns if columns else 100), columns
