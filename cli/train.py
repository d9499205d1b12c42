"""`kvae train`."""

import json
import shlex
from typing import Any

import click

from .command import (
    Command,
    Count,
    FiniteRange,
    backend_option,
    ends_in,
    import_quietly,
    progress,
)
from .settings import settings_options

PRESETS = (
    "auto",
    "mlp",
    "conv",
    "conv-colour",
    "conv-large",
    "resnet-flow",
    "ladder",
    "ladder-colour",
    "ladder-large",
    "mlp-400",
    "mlp-200",
    "conv-pooled",
    "resnet",
    "binary-14",
)
# Options that change nothing of the model.
OF_THE_MOMENT = (
    *("backend", "data_dir", "cache_dir", "quiet", "out", "resume", "checkpoint_minutes"),
    "devices",
)
# The settings of a recipe that have an option, in the order of help; --epochs comes first.
SETTINGS = (
    "batch_size",
    "learning_rate",
    "optimizer",
    "latent_dim",
    "beta",
    "likelihood",
    "binarize",
    "scale",
    "prior",
    "components",
    "conditional",
    "samples",
    "objective",
    *("estimate", "mmd_weight", "capacity", "covariance_of", "off_diagonal"),
    "free_bits",
    "mean_of_draws",
    "seed",
    "precision",
    "image_size",
    "fit",
    "channels",
    "background",
    "flat",
    "skip_bad",
)
GROUPS = {
    "Most used options": ("dataset", "epochs", "preset", "out", "resume"),
    "Data": (
        *("data_dir", "image_size", "fit", "channels", "background", "flat", "skip_bad"),
        "cache_dir",
    ),
    "Model": (
        "latent_dim",
        "conditional",
        "likelihood",
        "binarize",
        "scale",
        "prior",
        "components",
    ),
    "Objective": (
        *("objective", "beta", "free_bits", "samples", "estimate", "mmd_weight", "capacity"),
        *("covariance_of", "off_diagonal", "mean_of_draws"),
    ),
    "Training": (
        *("batch_size", "learning_rate", "optimizer", "seed", "precision", "backend", "devices"),
    ),
    "Output": ("keep_optimizer", "checkpoint_minutes", "quiet"),
}


@click.command(cls=Command, groups=GROUPS)
@settings_options("epochs")
@click.option(
    "--dataset",
    help="Data set: a folder or an archive of images; a TensorFlow Datasets name (mnist, "
    "fashion_mnist, cifar10, …); an .npz file; a folder of IDX files; a .csv table of files and "
    "labels; or digits or shapes, which need no network.  [default: mnist if it is on disk or can "
    "be downloaded, else digits]",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False),
    help="Folder of TensorFlow Datasets.  [default: TFDS_DATA_DIR, else ~/tensorflow_datasets]",
)
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    default="auto",
    show_default=True,
    metavar="NAME",
    help="Named architecture and training settings; `kvae presets` lists them. auto: mlp for "
    "images of up to 16×16, conv for grey images of up to 32×32, conv-colour for all others, with "
    "smaller batches above 128×128.",
)
@settings_options(*SETTINGS)
@click.option(
    "--cache-dir",
    type=click.Path(file_okay=False),
    help="Folder for decoded images, so that the next run starts at once.  [default: "
    "~/.cache/kvae, only for images that do not fit in memory]",
)
@backend_option
@click.option(
    "--devices",
    type=Count(),
    default="auto",
    show_default=True,
    help="Number of devices that share each batch; auto: all devices of this machine. PyTorch "
    "needs a process per device: torchrun --nproc-per-node 2 -m kvae train …",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    default="saved_models/vae.keras",
    show_default=True,
    callback=ends_in(".keras"),
    help="File of the model. The history, curves and grids go to a folder of the same name.",
)
@click.option(
    "--keep-optimizer/--drop-optimizer",
    default=True,
    show_default=True,
    help="Save the optimizer's state, to train further. It is half of the file or more.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Resume the interrupted run of this --out. Its result is that of an uninterrupted run. "
    "Settings that are not given keep their values. If there is no such run, start a new one.",
)
@click.option(
    "--checkpoint-minutes",
    type=FiniteRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Minutes between checkpoints within an epoch. There is also one after each epoch.",
)
@click.option("--quiet", is_flag=True, help="Show no progress.")
@click.pass_context
def train(
    ctx: click.Context,
    dataset: str | None,
    data_dir: str | None,
    cache_dir: str | None,
    quiet: bool,
    out: str,
    preset: str,
    resume: bool,
    devices: str | int,
    **settings: Any,
) -> None:
    """Train a VAE on images and save it.

    The run also saves its history and curves, and grids of new and reconstructed images by epoch.

    Example: kvae train --epochs 10 --dataset mnist
    """
    import contextlib
    import sys

    import_quietly()
    import keras

    import kvae

    crew = kvae.training.team(devices)
    ctx.meta["kvae.processes"] = crew.processes > 1
    ctx.meta["kvae.others"] = crew.rank > 0
    with crew:
        former = kvae.training.Run(out).facts() if resume and not crew.rank else None
        former = json.loads(crew.told(json.dumps(former).encode()))
        recipe: Any = preset
        if former is not None:
            dataset = dataset or former["card"].get("origin") or former["card"].get("dataset")
            given = ctx.get_parameter_source("preset") == click.core.ParameterSource.COMMANDLINE
            recipe = preset if given else kvae.Recipe.from_card(former)
        wanted = kvae.presets.get("mlp" if recipe == "auto" else recipe).replaced(
            **{name: settings[name] for name in ("epochs", *SETTINGS)}
        )
        with progress("Reading images", quiet) as told:
            images = kvae.data.load(
                dataset, data_dir, cache_dir=cache_dir, progress=told, **wanted.reading
            )
        if images.notice:
            click.echo(images.notice, err=True)
        with contextlib.redirect_stdout(sys.stderr):
            command = command_line(ctx, images.name, keras.backend.backend())
            if former is not None:
                command = former["card"].get("command") or command
            vae = kvae.train(
                images,
                recipe,
                out=out,
                resume=resume,
                devices=devices,
                # A file has a line an epoch.
                verbose=0 if quiet else 1 if sys.stderr.isatty() else 2,
                notes={"command": command},
                **settings,
            )
        click.echo(figures("Train", vae.card["train"]))
        click.echo(figures("Test", vae.card["test"]))
        epochs, seconds = vae.card["epochs"], vae.card["fit_seconds"]
        click.echo(f"Fit: {epochs} epoch{'s' * (epochs != 1)} in {seconds:.0f} seconds")
        click.echo(f"Model: {out}")
        click.echo(f"History, curves and grids: {out.removesuffix('.keras')}/")


def command_line(ctx: click.Context, dataset: str, backend: str) -> str:
    """The command that trains this model once more: what was given, the data set and the backend.

    Where files are, and what is printed, is left out.
    """
    words = ["kvae train"] if ctx.params["dataset"] else [f"kvae train --dataset {dataset}"]
    for option in ctx.command.params:
        name = option.name or ""
        given = ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
        if given and name not in OF_THE_MOMENT:
            value = ctx.params[name]
            flag = max(option.opts if value is not False else option.secondary_opts, key=len)
            words.append(flag if isinstance(value, bool) else f"{flag} {shlex.quote(str(value))}")
    return " ".join([*words, f"--backend {backend}"])


def figures(part: str, card: dict) -> str:
    """The train or test figures of a card, in words."""
    from kvae.evaluation.text import with_error

    how = card["protocol"]
    if isinstance(how, dict):
        how = (
            f"{how['images']:,} images, {how['observation']}, one draw of z per image, "
            f"seed {how['seed']}"
        )
    bound = with_error(-card["elbo"], card.get("standard_error", {}).get("elbo"))
    lines = [
        f"{part}: -ELBO {bound} nats per image = reconstruction "
        f"{card['reconstruction']:.2f} + KL {card['kl']:.2f} ({how})"
    ]
    if "bits_per_dimension" in card and "8-bit" in how:
        lines.append(f"{part}: {card['bits_per_dimension']:.4f} bits per dimension")
    if "mean_squared_error" in card:
        lines.append(
            f"{part}: mean squared error {card['mean_squared_error']:.5f} per value in [0, 1]; "
            f"(65025 MSE + KL) / 400 = {card['squared_error_figure']:.4f}"
        )
    if "mean_of_draws" in card:
        loose = card["mean_of_draws"]
        lines.append(f"{part}: {-loose['elbo']:.2f} with {loose['protocol']}")
    return "\n".join(lines)
