"""`kvae explore`."""

import click

from .command import Command, backend_option
from .inputs import MODEL, Images, dataset_options, folder_of, open_model, out_option, seed_option


@click.command(cls=Command)
@click.argument("model", default=MODEL)
@dataset_options
@click.option(
    "--count",
    type=click.IntRange(3, 10_000),
    default=1000,
    show_default=True,
    help="Number of test images on the map, drawn at random; fewer if the page would exceed 5 MB.",
)
@click.option(
    "--weights",
    type=click.Choice(["int16", "int8"]),
    help="Precision of the weights in the page. int8 halves their size and may change pixels by "
    "some hundredths.  [default: int16; int8 if the page would exceed 5 MB]",
)
@out_option("explorer.html", ".html")
@seed_option
@backend_option
def explore(
    model: str,
    dataset: str | None,
    data_dir: str | None,
    count: int,
    weights: str | None,
    out: str,
    seed: int,
) -> None:
    """Write an HTML page in which the model runs.

    The page is one file. It needs a browser, but no server and no network. Drag over a map of the
    test images to decode latents, move single latents, generate new images, and draw your own.
    MODEL is a .keras file, by default saved_models/vae.keras, or the name of a model that comes
    with kvae: mnist, mnist-ladder, mnist-conditional, shapes. The history is read from the folder
    beside the file.

    Example: kvae explore mnist --out explorer.html
    """
    vae = open_model(model)
    import kvae

    images = Images(vae, dataset, data_dir, "test")
    data = images.data
    images.tell(data.test.shape[1:3])
    folder, history = folder_of(model), None
    if (folder / "history.csv").is_file():
        history, _ = kvae.charts.read_run(folder)
    title = data.name if folder.name == data.name else f"{data.name}, {folder.name}"
    explorer = kvae.explore(vae, data, count, history, title, weights, seed)
    explorer.save(out)
    for note in explorer.notes:
        click.echo(note, err=True)
    click.echo(f"{out}: {explorer.size / 1e6:.1f} MB; open it in a browser")
