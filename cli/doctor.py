"""`kvae doctor`."""

import json

import click

from .command import Command, backend_option
from .inputs import MODEL, Images, dataset_options, folder_of, open_model, out_option, seed_option


@click.command(cls=Command)
@click.argument("model", default=MODEL)
@dataset_options
@click.option(
    "--count",
    type=click.IntRange(min=2),
    default=2000,
    show_default=True,
    help="Number of training and of validation images to use, drawn at random.",
)
@out_option("doctor.png", ".png")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@seed_option
@backend_option
def doctor(
    model: str,
    dataset: str | None,
    data_dir: str | None,
    count: int,
    out: str,
    as_json: bool,
    seed: int,
) -> None:
    """Diagnose a model, and suggest options that help.

    The findings are printed, and drawn with the plots that show them. MODEL is a .keras file, by
    default saved_models/vae.keras, or the name of a model that comes with kvae: mnist,
    mnist-ladder, mnist-conditional, shapes. The history is read from the folder beside the file.

    Example: kvae doctor saved_models/vae.keras
    """
    vae = open_model(model)
    import kvae

    data = Images(vae, dataset, data_dir, "validation").data
    folder = folder_of(model)
    history, latents = None, None
    if (folder / "history.csv").is_file():
        history, latents = kvae.charts.read_run(folder)
    diagnosis = kvae.diagnose(vae, data, history, latents, count=count, seed=seed, what=model)
    click.echo(json.dumps(diagnosis.as_dict()) if as_json else diagnosis.text())
    kvae.plots.save_picture(diagnosis.figure(), out)
    if not as_json:
        click.echo(f"{out}: the findings and their plots")
