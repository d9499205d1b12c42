"""`kvae export`."""

import contextlib
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import click

from .command import Command, import_quietly
from .inputs import MODEL, hinted

FORMATS = {
    "onnx": ".onnx",
    "saved-model": "",
    "litert": ".tflite",
    "openvino": ".xml",
    "torch": ".pt2",
    "keras": ".keras",
}


PAGES = "kvae explore writes pages: kvae explore MODEL --out explorer.html"


class FormatChoice(click.Choice):
    """The formats; for pages, the error names the command that writes them."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Returns the name of a format."""
        if value == "html":
            self.fail(PAGES)
        return super().convert(value, param, ctx)


@click.command(cls=Command)
@click.argument("model", default=MODEL)
@click.option(
    "--format",
    "name",
    type=FormatChoice(list(FORMATS)),
    help="File format. onnx: ONNX; saved-model: a folder with a TensorFlow SavedModel; litert: "
    "LiteRT; openvino: two OpenVINO files; torch: a PyTorch exported program; keras: a .keras file "
    "of Keras's own layers.  [default: by the suffix of --out, else onnx]",
)
@click.option(
    "--part",
    type=click.Choice(["encoder", "decoder", "generator", "vae"]),
    default="generator",
    show_default=True,
    help="Part of the model. encoder: images to mean and log-variance; decoder: latents to images; "
    "generator: noise to new images; vae: images and noise to reconstructions.",
)
@click.option(
    "--out",
    type=click.Path(),
    help="File to write; with saved-model, a folder.  [default: MODEL-PART, with the suffix of "
    "the format]",
)
@click.option(
    "--weights",
    type=click.Choice(["float32", "float16", "int8"]),
    default="float32",
    show_default=True,
    help="Precision of the weights. float16 and int8 make the file smaller and change images a "
    "little.",
)
def export(model: str, name: str | None, part: str, out: str | None, weights: str) -> None:
    """Export a part of a model to ONNX, LiteRT and other formats.

    The file runs without kvae, and all but the format keras without Keras. The command runs it in
    its own runtime (ONNX Runtime, TensorFlow, LiteRT, OpenVINO, PyTorch, Keras) and compares its
    outputs with the model's. It keeps the file only if they differ by at most 1e-4 with float32
    weights, 0.05 with float16, or 0.25 with int8. MODEL is a .keras file, by default
    saved_models/vae.keras, or the name of a model that comes with kvae: mnist, mnist-ladder,
    mnist-conditional, shapes.

    Example: kvae export mnist --format onnx --part generator --out mnist.onnx
    """
    name = name or format_of(out)
    path = pathlib.Path(out or f"{pathlib.Path(model).stem}-{part}{FORMATS[name]}")
    import_quietly()
    import kvae

    with hinted(model), told_if_slow(f"Writing {path}, running it and comparing it …"):
        exported = kvae.export(model, path, format=name, part=part, weights=weights)
    if weights != "float32":
        click.echo(cost_of(exported))
    worst = max(exported.difference.values())
    click.echo(
        f"{path}: {part}, {shown(exported.inputs)} → {shown(exported.outputs)}, "
        f"{exported.bytes:,} bytes; differs from the model by {worst:.1e} at most"
    )


def format_of(out: str | None) -> str:
    """The format to which the suffix of a file belongs; else onnx."""
    suffix = pathlib.Path(out or "").suffix
    if suffix in (".html", ".htm"):
        raise click.UsageError(PAGES)
    return next((name for name, own in FORMATS.items() if own and own == suffix), "onnx")


@contextlib.contextmanager
def told_if_slow(what: str) -> Iterator[None]:
    """Prints on stderr what is being done, if it takes longer than two seconds."""
    timer = threading.Timer(2, lambda: click.echo(what, err=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def cost_of(exported: Any) -> str:
    """The savings and costs of smaller weights, in one line."""
    line = (
        f"{exported.weights} weights: {exported.bytes:,} bytes, with float32 "
        f"{exported.bytes_of_float32:,}"
    )
    for output in {"images", "reconstruction"} & exported.difference.keys():
        line += f"; pixels in [0, 1] differ by {exported.difference[output]:.1e} at most"
    if exported.nats is not None:
        line += f"; −ELBO by {exported.nats:+.3f} nats per image"
    return line


def shown(tensors: dict) -> str:
    """Names and shapes in a line."""
    return ", ".join(
        f"{name} ({', '.join('batch' if size is None else str(size) for size in shape)})"
        for name, shape in tensors.items()
    )
