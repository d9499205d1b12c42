"""`kvae curves`."""

import click

from .command import Command, backend_option, import_quietly
from .inputs import folder_of, model_option, out_option


@click.command(cls=Command)
@click.option(
    "--show",
    type=click.Choice(["all", "terms", "loss", "reconstruction", "latents"]),
    default="all",
    show_default=True,
    help="Curves to draw. terms: reconstruction and KL over weight updates; loss: training and "
    "validation loss; reconstruction: log-likelihood of the reconstruction; latents: KL of each "
    "latent; all: everything that was recorded.",
)
@out_option("curves.png", ".png")
@model_option
@backend_option
def curves(show: str, out: str, model: str) -> None:
    """Draw the training curves of a model.

    The history is read from the folder beside the file of the model.

    Example: kvae curves --show terms
    """
    import_quietly()
    import kvae

    folder = folder_of(model)
    kvae.plots.save_picture(kvae.curves(folder, show=show), out)
    click.echo(f"{out}: {show} of {folder}")
