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
    help="The two terms of the bound against weight updates; loss, or the log-likelihood of the "
    "reconstruction, of train and validation; the KL of each latent; or all that was recorded.",
)
@out_option("curves.png", ".png")
@model_option
@backend_option
def curves(show: str, out: str, model: str) -> None:
    """Draw how the training of a model went, from the folder beside its file.

    Example: kvae curves --show terms
    """
    import_quietly()
    import kvae

    folder = folder_of(model)
    kvae.plots.save_picture(kvae.curves(folder, show=show), out)
    click.echo(f"{out}: {show} of {folder}")
