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


@click.command(cls=Command)
@click.argument("model", default=MODEL)
@click.option(
    "--format",
    "name",
    type=click.Choice(list(FORMATS)),
    default="onnx",
    show_default=True,
    help="The format: an ONNX file, a folder with a SavedModel of TensorFlow, a LiteRT file, "
    "OpenVINO's two files, a program of PyTorch, or a .keras file of Keras's own layers.",
)
@click.option(
    "--part",
    type=click.Choice(["encoder", "decoder", "generator", "vae"]),
    default="generator",
    show_default=True,
    help="The part: images to mean and log-variance, latents to images, noise to new images, or "
    "images and noise to reconstructions.",
)
@click.option(
    "--out",
    type=click.Path(),
    help="The file to write, or for saved-model the folder.  [default: MODEL-PART with the ending "
    "of the format]",
)
@click.option(
    "--weights",
    type=click.Choice(["float32", "float16", "int8"]),
    default="float32",
    show_default=True,
    help="The weights in the file: float16 and int8 make it smaller and change images a little.",
)
def export(model: str, name: str, part: str, out: str | None, weights: str) -> None:
    """Write a part of a model as a file that runs without kvae, and mostly without Keras.

    MODEL is a .keras file, by default saved_models/vae.keras, or one that comes with kvae. The file
    is run in its own runtime (ONNX Runtime, TensorFlow, LiteRT, OpenVINO, PyTorch, Keras), and kept
    only if it gives what the model gives: to 1e-4 with float32 weights; with smaller ones to 0.05
    (float16) or 0.25 (int8), and the command says by how much.

    Example: kvae export mnist --format onnx --part generator --out mnist.onnx
    """
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


@contextlib.contextmanager
def told_if_slow(what: str) -> Iterator[None]:
    """Says on stderr what is being done, where it takes longer than two seconds."""
    timer = threading.Timer(2, lambda: click.echo(what, err=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def cost_of(exported: Any) -> str:
    """What smaller weights save and cost, in a line."""
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
