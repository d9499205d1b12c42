"""`kvae export`."""

import pathlib

import click

from .command import Command, import_quietly
from .inputs import MODEL

FORMATS = {
    "onnx": ".onnx",
    "saved-model": "",
    "litert": ".tflite",
    "openvino": ".xml",
    "torch": ".pt2",
}


@click.command(cls=Command)
@click.argument("model", default=MODEL)
@click.option(
    "--format",
    "name",
    type=click.Choice(list(FORMATS)),
    default="onnx",
    show_default=True,
    help="The format: ONNX, a folder for TensorFlow and TensorFlow Serving, LiteRT, OpenVINO, or a "
    "program of PyTorch.",
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
    help="How weights are kept: float16 and int8 make a smaller file and change images a little.",
)
def export(model: str, name: str, part: str, out: str | None, weights: str) -> None:
    """Write a part of a model as a file that runs without Keras and without kvae.

    MODEL is a .keras file, by default saved_models/vae.keras, or one that comes with kvae. The file
    is run in its own runtime (ONNX Runtime, TensorFlow, LiteRT, OpenVINO, PyTorch), and written
    only if it gives what the model gives, to 1e-4.

    Example: kvae export mnist --format onnx --part generator --out mnist.onnx
    """
    path = pathlib.Path(out or f"{pathlib.Path(model).stem}-{part}{FORMATS[name]}")
    import_quietly()
    import kvae

    made = kvae.export(model, path, format=name, part=part, weights=weights)
    worst = max(made.difference.values())
    if weights != "float32":
        click.echo(
            f"{weights} weights: {made.bytes:,} bytes, with float32 {made.bytes_of_float32:,}"
        )
    click.echo(
        f"{path}: {part}, {shown(made.inputs)} → {shown(made.outputs)}, {made.bytes:,} bytes; "
        f"differs from the model by {worst:.1e} at the most"
    )


def shown(tensors: dict) -> str:
    """Names and shapes in a line."""
    return ", ".join(
        f"{name} ({', '.join('batch' if size is None else str(size) for size in shape)})"
        for name, shape in tensors.items()
    )
