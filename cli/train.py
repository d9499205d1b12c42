"""`kvae train`."""

import click

from .command import Command, backend_option, import_quietly


@click.command(cls=Command)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="Passes over the training images.  [default: 10; on a small data set, as many as make "
    "5,000 updates]",
)
@click.option(
    "--dataset",
    help="A TensorFlow Datasets name (mnist, fashion_mnist, cifar10, …); a folder of images or of "
    "IDX files; an .npz file; or digits, which needs no network.  [default: mnist where it is "
    "at hand or can be downloaded, else digits]",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False),
    help="Where TensorFlow Datasets keeps its data.  [default: TFDS_DATA_DIR, or "
    "~/tensorflow_datasets]",
)
@click.option("--preset", default="mlp", show_default=True, help="The model: mlp or conv.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Images in one update.  [default: the preset's: mlp 64, conv 128]",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Of Adam, at its highest.  [default: the preset's: 0.002]",
)
@click.option(
    "--latent-dim",
    type=click.IntRange(min=1),
    help="The number of latents.  [default: the preset's: 40]",
)
@click.option(
    "--beta",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="The weight of the KL term.",
)
@click.option(
    "--binarize",
    type=click.Choice(["dynamic", "threshold", "none"]),
    help="How grey pixels are observed: drawn anew at each step, white from one half on, or as "
    "soft targets.  [default: the preset's: dynamic]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Of weights, shuffling and draws.",
)
@backend_option
@click.option(
    "--precision",
    type=click.Choice(["float32", "mixed_bfloat16", "mixed_float16"]),
    default="float32",
    show_default=True,
    help="Of the arithmetic; losses are in float32 always.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    default="saved_models/vae.keras",
    show_default=True,
    help="The model's file; history, curves and grids go into a folder of the same name.",
)
@click.option("--quiet", is_flag=True, help="Print the results only.")
def train(
    dataset: str | None, data_dir: str | None, precision: str, quiet: bool, out: str, **settings
) -> None:
    """Train a VAE; save the model, its history, and pictures of what it learns.

    Example: kvae train --epochs 10 --dataset mnist
    """
    import contextlib
    import sys

    import_quietly()
    import keras

    import kvae

    images = kvae.data.load(dataset, data_dir)
    if images.notice:
        click.echo(images.notice, err=True)
    keras.config.set_dtype_policy(precision)
    with contextlib.redirect_stdout(sys.stderr):
        vae = kvae.train(images, out=out, verbose=0 if quiet else "auto", **settings)
    test = vae.card["test"]
    click.echo(
        f"Test: -ELBO {-test['elbo']:.2f} nats per image = reconstruction "
        f"{test['reconstruction']:.2f} + KL {test['kl']:.2f} ({test['images']:,} images, "
        f"{test['protocol']})"
    )
    click.echo(f"Fit: {vae.card['epochs']} epochs in {vae.card['fit_seconds']:.0f} seconds")
    click.echo(f"Model: {out}")
    click.echo(f"History, curves and grids: {out.removesuffix('.keras')}/")
