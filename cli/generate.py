"""`kvae generate`."""

import pathlib
from typing import Any

import click

from .command import Command, FiniteRange, backend_option, ends_in
from .inputs import MODEL, Images, data_options, model_option, numbers_of_classes, open_model

SHIPPED = "mnist"  # where nothing was trained yet
GROUPS = {
    "Most used options": ("model", "out", "count", "class_names", "seed"),
    "Sampling": ("temperature", "like", "same_style"),
    "Output": ("rows", "columns", "beside", "separate"),
    "Data of --like and --class": ("dataset", "split", "data_dir"),
}


class Temperature(FiniteRange):
    """A number of at least 0, or several with commas between them."""

    name = "numbers"

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or a list of numbers."""
        words = str(value).split(",")
        if not all(words):
            self.fail(f"{value!r} must be a number, or several such as 1,0.7,0.7.", param, ctx)
        numbers = [super(Temperature, self).convert(word, param, ctx) for word in words]
        return numbers if len(numbers) > 1 else numbers[0]


@click.command(cls=Command, groups=GROUPS)
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    default="grid.png",
    show_default=True,
    callback=ends_in(".png", ".npz"),
    help="File to write: a grid of images (.png), or arrays (.npz).",
)
@model_option
@click.option(
    "--beside",
    multiple=True,
    metavar="MODEL",
    help="Another model, whose images of the same seed are drawn to the right. Can be repeated.  "
    "[default: none]",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    help="Number of images; with several classes, per class.  [default: 100; 10 per class]",
)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    help="Number of rows of the grid; with --count, the maximum.",
)
@click.option("--columns", type=click.IntRange(min=1), help="Number of columns of the grid.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    help="Random seed. The same seed gives the same images.  [default: a new one each time]",
)
@click.option(
    "--temperature",
    type=Temperature(),
    default="1",
    show_default=True,
    metavar="NUMBER[,NUMBER]...",
    help="Factor on the random noise of the latents: below 1 for more typical images, above 1 for "
    "more varied ones. A model with groups of latents takes one number for each, such as "
    "1,0.7,0.7.",
)
@click.option(
    "--like",
    metavar="IMAGE",
    help="Sample from the posterior of this image: a file, or an index such as test:7.  [default: "
    "sample from the prior]",
)
@click.option(
    "--class",
    "class_names",
    multiple=True,
    help="Class of the images, or all. Repeat it for several classes; each has a row of the grid. "
    "A model trained without --conditional samples from the average posterior of the class in the "
    "split.  [default: none; with a conditional model, each class in turn]",
)
@click.option(
    "--same-style",
    is_flag=True,
    help="With --class and a conditional model: use the same latents, one style, per column.",
)
@click.option(
    "--separate",
    is_flag=True,
    help="Write a .png file for each image in its own size: NAME-001.png, NAME-002.png, ….",
)
@data_options
@backend_option
def generate(
    out: str,
    model: str,
    beside: tuple[str, ...],
    count: int | None,
    rows: int | None,
    columns: int | None,
    seed: int | None,
    temperature: float | list[float],
    like: str | None,
    class_names: tuple[str, ...],
    same_style: bool,
    separate: bool,
    dataset: str | None,
    data_dir: str | None,
    split: str,
) -> None:
    """Generate new images from a trained model.

    By default they are samples from the prior: a grid of 100 images. If there is no trained model
    yet, a model that comes with kvae is used.

    Example: kvae generate --rows 4 --columns 8 --out grid.png

    Of two classes: kvae generate --class 7 --class 3
    """
    path = pathlib.Path(out)
    if like is not None and class_names:
        raise click.UsageError("--like and --class exclude each other.")
    if separate and path.suffix != ".png":
        raise click.UsageError(f"--separate writes .png files. Received: --out {out}")
    if beside and (like is not None or class_names or separate or path.suffix != ".png"):
        raise click.UsageError("--beside needs a .png grid of samples from the prior.")
    if same_style and not class_names:
        raise click.UsageError("--same-style needs --class, such as --class all.")
    if len(class_names) > 1 or "all" in class_names:
        if rows:
            raise click.UsageError("Several classes have a row each: leave out --rows.")
        count = columns = count or columns or 10
    count, columns = layout(count, rows, columns)
    model = or_shipped(model)
    vae = open_model(model)
    import random

    import numpy as np

    import kvae

    of_classes = vae.condition is not None and bool(vae.condition.classes)
    if same_style and not of_classes:
        raise click.UsageError(
            f"--same-style needs a model trained with --conditional. Received: {model}"
        )
    seed = random.randrange(2**31) if seed is None else seed
    source, what = Images(vae, dataset, data_dir, split), "new images"
    if like is not None:
        known = source.class_of(like)
        images = kvae.like(vae, source.image(like), count, seed, temperature, known)
        what += f" like {like}"
    elif class_names and of_classes and (dataset or data_dir):
        raise click.UsageError(
            "A conditional model needs no data set for --class: leave out --dataset and --data-dir."
        )
    elif class_names and of_classes:
        numbers = numbers_of_classes(vae, class_names)
        if same_style:
            images = kvae.styles(vae, numbers, count, seed, temperature)
            images = images.reshape(-1, *vae.image_shape)
        else:
            rows_of = np.repeat(numbers, count)
            images = vae.generate(len(rows_of), seed, temperature, classes=rows_of)
        what += f" of class {', '.join(class_names)}{', each column one style' * same_style}"
    elif class_names:
        names = source.classes(class_names)
        of_class = (kvae.like(vae, source.of_class(n), count, seed, temperature) for n in names)
        images = np.concatenate(list(of_class))
        what += f" of class {', '.join(names)}"
    else:
        images = vae.generate(count, seed, temperature)
    others = [open_model(name).generate(count, seed, temperature) for name in beside]
    models = (model, *beside)
    written = write(path, [images, *others], columns, separate, models)
    click.echo(f"{written}: {len(images):,} {what} from {', '.join(models)}, seed {seed}")


def or_shipped(model: str) -> str:
    """Loads the model, or one that comes with kvae if none is named and none was trained."""
    source = click.get_current_context().get_parameter_source("model")
    if source != click.core.ParameterSource.DEFAULT or pathlib.Path(MODEL).is_file():
        return model
    click.echo(
        f"There is no {MODEL} yet: using the model {SHIPPED} that comes with kvae. "
        "Run `kvae train` to train your own.",
        err=True,
    )
    return SHIPPED


def write(
    path: pathlib.Path,
    sheets: list[Any],
    columns: int | None,
    separate: bool,
    models: tuple[str, ...],
) -> str:
    """Writes the images of one model, or of several side by side; returns what was written."""
    import numpy as np

    from kvae import plots
    from kvae.files import whole

    images = sheets[0]
    if separate:
        files = [path.with_stem(f"{path.stem}-{i + 1:03}") for i in range(len(images))]
        for image, file in zip(images, files, strict=True):
            plots.save_image(image, file)
        return f"{files[0]} to {files[-1].name}"
    if path.suffix == ".npz":
        with whole(path) as partial:
            np.savez_compressed(partial, images=images)
    elif len(sheets) > 1:
        if len({sheet.shape for sheet in sheets}) > 1:
            raise click.ClickException("The models of --beside must have images of one size.")
        picture = plots.side_by_side([plots.grid(sheet, columns) for sheet in sheets])
        names = [pathlib.Path(name).stem for name in models]
        title = f"{len(images)} new images of each model"
        plots.save_picture(plots.framed(picture, title, columns=names), path)
    else:
        plots.save_picture(plots.grid(images, columns), path)
    return str(path)


def layout(count: int | None, rows: int | None, columns: int | None) -> tuple[int, int | None]:
    """The number of images and columns; None leaves the columns to the grid."""
    if rows and columns:
        if count and count > rows * columns:
            raise click.UsageError(f"{count} images do not fit {rows} rows of {columns}.")
        return count or rows * columns, columns
    if rows:
        count = count or rows * rows
        return count, -(-count // rows)
    return count or (columns * columns if columns else 100), columns
