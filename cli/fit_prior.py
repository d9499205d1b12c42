"""`kvae fit-prior`."""

import pathlib

import click

from .command import Command, backend_option
from .inputs import MODEL, Images, dataset_options, open_model, out_option, seed_option


@click.command(cls=Command, name="fit-prior")
@click.argument("model", default=MODEL)
@out_option("saved_models/vae-prior.keras", ".keras")
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    help="Number of epochs of the prior. The training images are encoded once.",
)
@click.option(
    "--prior",
    type=click.Choice(["real-nvp", "mixture"]),
    default="real-nvp",
    show_default=True,
    help="Prior to fit. real-nvp: a flow; mixture: a mixture of Gaussians.",
)
@click.option(
    "--couplings",
    type=click.IntRange(1, 100),
    help="Number of coupling layers of the flow.  [default: 10]",
)
@click.option(
    "--components",
    type=click.IntRange(1, 10_000),
    help="Number of Gaussians of the mixture.  [default: 10]",
)
@click.option("--quiet", is_flag=True, help="Show no progress.")
@dataset_options
@seed_option
@backend_option
def fit_prior(
    model: str,
    out: str,
    epochs: int,
    prior: str,
    couplings: int | None,
    components: int | None,
    quiet: bool,
    dataset: str | None,
    data_dir: str | None,
    seed: int,
) -> None:
    """Fit a prior to the latents of a trained model: a flow, or a mixture of Gaussians.

    The encoder and the decoder do not change, and neither do reconstructions. New images come
    closer to the data. The result is written as a new model. MODEL is a .keras file, by default
    saved_models/vae.keras, or the name of a model that comes with kvae: mnist, mnist-ladder,
    mnist-conditional, shapes.

    Example: kvae fit-prior saved_models/vae.keras --out better.keras
    """
    import contextlib
    import sys

    vae = open_model(model)
    import kvae
    from kvae.evaluation.text import with_error
    from kvae.files import whole

    path = pathlib.Path(out)
    if path.is_file() and pathlib.Path(model).is_file() and path.samefile(model):
        raise click.UsageError("--out must differ from the file of MODEL.")
    check_place(path)
    given = {"couplings": couplings, "components": components}
    settings = {name: value for name, value in given.items() if value is not None}
    new = kvae.training.prior_to_fit(vae, prior, **settings)
    data = Images(vae, dataset, data_dir, "train").data
    with contextlib.redirect_stdout(sys.stderr):
        verbose = 0 if quiet else 1 if sys.stderr.isatty() else 2
        made = kvae.fit_prior(vae, data, new, epochs=epochs, seed=seed, verbose=verbose)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        made.save(partial)
    figures, nats = made.card["test"], made.card["fitted_prior"]["nats_of_validation"]
    bound = with_error(-figures["elbo"], figures["standard_error"]["elbo"])
    click.echo(
        f"-log p(z) of validation images: {nats['before']:.2f} before, {nats['after']:.2f} after"
    )
    if nats["after"] >= nats["before"]:
        click.echo("The new prior is no better than the former: try more --epochs.", err=True)
    click.echo(f"Test: -ELBO {bound} nats per image ({len(data.test):,} images)")
    click.echo(f"Model: {out}; compare both with `kvae evaluate {out} {model}`")


def check_place(path: pathlib.Path) -> None:
    """Raises an error if a file is there that this command did not write."""
    import kvae

    if not path.is_file():
        return
    try:
        known = "fitted_prior" in kvae.load(path, compile=False).card
    except (OSError, ValueError):
        known = False
    if not known:
        raise click.ClickException(
            f"{path} is there already, and has no fitted prior: choose another --out."
        )
