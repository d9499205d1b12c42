"""Export: checks what is asked for, lets a process of its own do it, and puts it in its place."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from kvae.exports.formats import Format, format_of
from kvae.model import GRAPHS, VAE
from kvae.printable import printable
from kvae.shipped import SHIPPED, path_of

__all__ = ["Exported", "export"]

LONGEST = 300  # characters of what a converter says


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was exported, and how near it is to the model.

    Attributes:
        path: Of the file or folder.
        format: Its format.
        part: The part of the model.
        weights: "float32", "float16" or "int8".
        inputs: Shapes by name, None for the batch, and the dtype where that is not float32.
        outputs: Shapes by name.
        difference: Of each output, the largest from the model's, as run in the format's runtime;
            of values above 1 that of their ratio to 1.
        bytes: Its size.
        bytes_of_float32: Its size with float32 weights.
    """

    path: pathlib.Path
    format: str
    part: str
    weights: str
    inputs: dict[str, list[Any]]
    outputs: dict[str, list[Any]]
    difference: dict[str, float]
    bytes: int
    bytes_of_float32: int


def export(
    vae: VAE | str | os.PathLike,
    path: str | os.PathLike,
    format: str = "onnx",
    part: str = "generator",
    weights: str = "float32",
) -> Exported:
    """Writes a part of a model as a file that runs without kvae and Keras, and checks it there.

    A process of its own opens the model on the backend that can export it, runs the export in its
    own runtime, and compares it with what the model gives: it must be the same to 1e-4. Otherwise
    nothing is written. Inputs and outputs have names, and a batch any size: see `kvae.model.Graph`.
    The model's card goes along as metadata.

    Args:
        vae: A model, of whatever backend; or the path of its file, or the name of one that comes
            with kvae.
        path: The file to write; for "saved-model" a folder.
        format: "onnx", "saved-model", "litert", "openvino" or "torch".
        part: "encoder", "decoder", "generator" or "vae".
        weights: "float32"; "float16" or "int8" make a smaller file whose images differ, by as much
            as what is returned says. They are float32 again before they are used.

    Returns:
        What was written: inputs, outputs, largest differences, bytes.

    Raises:
        ValueError: If there is no such format or part, or the model cannot be exported to it.
        OSError: If the file cannot be written, or there is no such model.
        ImportError: If what writes or runs the format is not installed.
    """
    kind = format_of(format, weights)
    if part not in GRAPHS:
        raise ValueError(f"`part` must be one of {', '.join(GRAPHS)}. Received: part={part!r}")
    target = pathlib.Path(path)
    kind.check_path(target)
    kind.check_installed()
    with staged(target) as folder:
        model = file_of(vae, folder)
        modules = own_modules(vae) if isinstance(vae, VAE) else []
        made = folder / "made" / target.name
        made.parent.mkdir()
        task = {"model": str(model), "path": str(made), "name": format, "part": part}
        said = worked(kind, {**task, "weights": weights, "modules": modules})
        if "error" in said:
            what = f"The {part} cannot be exported as {format}, and nothing was written: "
            raise ValueError(what + printable(said["error"], LONGEST))
        place(made.parent, target)
    return Exported(path=target, format=format, part=part, weights=weights, **said)


def file_of(vae: VAE | str | os.PathLike, folder: pathlib.Path) -> pathlib.Path:
    """The file of a model; of one in memory a new one in this folder.

    Raises:
        FileNotFoundError: If there is none.
    """
    if isinstance(vae, VAE):
        path = folder / "model.keras"
        vae.save(path)
        return path
    path = pathlib.Path(vae)
    if str(vae) in SHIPPED and not path.exists():
        path = path_of(str(vae))
    if not path.exists():
        raise FileNotFoundError(
            f"There is no model at {path}. Those that come with kvae: {', '.join(SHIPPED)}."
        )
    return path.absolute()


def own_modules(vae: VAE) -> list[str]:
    """The modules of the user's that a model's classes are from; what runs as a script is none."""
    found = {type(layer).__module__ for layer in vae._flatten_layers()}
    ours = ("keras", "kvae", "__main__")
    return sorted(name for name in found if name.partition(".")[0] not in ours)


def worked(kind: Format, task: dict[str, Any]) -> dict[str, Any]:
    """What the process says that does the work, on the backend of the format."""
    settings = {
        **os.environ,
        "KERAS_BACKEND": kind.backend,
        "CUDA_VISIBLE_DEVICES": "-1",  # where products are exact to 1e-4
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "kvae.exports.worker", json.dumps(task)],
        env=settings,
        capture_output=True,
        text=True,
        errors="replace",
    )
    lines = process.stdout.splitlines()
    if process.returncode or not lines:
        last = (process.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        return {"error": f"the process ended with {process.returncode}: {last}"}
    return json.loads(lines[-1])


@contextlib.contextmanager
def staged(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder beside the target, to make it in; it is gone afterwards.

    Raises:
        OSError: If nothing can be written there.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError("it is read-only")
        folder = tempfile.TemporaryDirectory(prefix=".partial-export-", dir=target.parent)
    except OSError as error:
        raise OSError(f"{target} cannot be written: {error.strerror or error}.") from error
    with folder as name:
        yield pathlib.Path(name).absolute()


def place(folder: pathlib.Path, target: pathlib.Path) -> None:
    """Moves what lies in a folder to its place, the target itself last."""
    for made in sorted(folder.iterdir(), key=lambda one: one.name == target.name):
        there = target.with_name(made.name)
        if there.is_dir():
            shutil.move(there, folder.parent / "former")
        made.replace(there)
