"""Worker: a separate process that writes an export, on the right backend, and checks it.

Its argument is a folder with the task in `task.json`; it writes the result to `result.json` there.
It ends when the process that started it ends, and then removes the folder.
"""

import importlib
import json
import math
import os
import pathlib
import shutil
import sys
import threading
from typing import Any

import keras

from kvae.exports.check import check_close, differences, example, expected
from kvae.exports.formats import FORMATS
from kvae.exports.rounding import cost_in_nats
from kvae.model import VAE, Graph, load
from kvae.version import __version__

__all__ = ["convert", "write_and_check"]

IMAGES = 64  # images that the model generates, to measure rounding
KINDS = (OSError, ImportError)  # errors that are not about the model


def convert(
    model: str,
    path: str,
    name: str,
    part: str,
    weights: str = "float32",
    objects: dict[str, list[str]] | None = None,
    safe_mode: bool = True,
) -> dict[str, Any]:
    """Exports a part of a model, runs it in its own runtime, and compares it with the model.

    Args:
        model: The path of a `.keras` file.
        path: Path of the export, in a folder of its own.
        name: Name of the format.
        part: Part of the model.
        weights: "float32", "float16" or "int8".
        objects: Custom classes and functions of the model by name: the module of each, and its name
            there.
        safe_mode: As for `kvae.load`.

    Returns:
        The attributes of `kvae.Exported`, except the place and the request.

    Raises:
        ValueError: If the export differs from the model.
    """
    custom_objects = {one: located(*place) for one, place in (objects or {}).items()}
    vae = load(model, compile=False, custom_objects=custom_objects, safe_mode=safe_mode)
    with keras.saving.custom_object_scope(custom_objects):
        vae = vae.in_float32()
    return write_and_check(vae, pathlib.Path(path), name, part, weights)


def write_and_check(
    vae: VAE, path: pathlib.Path, name: str, part: str, weights: str
) -> dict[str, Any]:
    """Like `convert`, for a model object; the other arguments are those of `convert`."""
    graph = Graph(vae, part)
    everything = example(vae)
    wanted = expected(vae, part, everything)
    inputs = {one: everything[one] for one in graph.input_specs}
    metadata = {
        "card": vae.card,
        "part": part,
        "weights": weights,
        "inputs": {one: described(spec) for one, spec in graph.input_specs.items()},
        "outputs": {one: [None, *wanted[one].shape[1:]] for one in graph.output_names},
        "exported_by": f"kvae {__version__}",
    }
    text = json.dumps(plain(metadata), allow_nan=False)
    write = FORMATS[name].load().write
    write(graph, path, text, "float32")
    apart, size, nats = differences(name, path, inputs, wanted), size_of(path.parent), None
    check_close(apart, "float32")
    if weights != "float32":
        write(graph, path, text, weights)
        apart = differences(name, path, inputs, wanted)
        check_close(apart, weights)
        if not (name == "litert" and weights == "int8"):  # rounds more than weights
            some = example(vae, IMAGES)
            nats = cost_in_nats(vae, graph.sources, weights, some["images"], some["classes"])
    return {
        "inputs": metadata["inputs"],
        "outputs": metadata["outputs"],
        "difference": apart,
        "bytes": size_of(path.parent),
        "bytes_of_float32": size,
        "nats": nats,
    }


def located(module: str, name: str) -> Any:
    """The object of this name, which may have dots, in a module."""
    found: Any = importlib.import_module(module)
    for one in name.split("."):
        found = getattr(found, one)
    return found


def described(spec: Any) -> list[Any]:
    """A shape, and its dtype if that is not float32."""
    return [*spec.shape, *([] if spec.dtype == "float32" else [spec.dtype])]


def plain(value: Any) -> Any:
    """Converts a value to JSON types: None for NaN and infinity, text for unknown types."""
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):  # NumPy's
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


def size_of(folder: pathlib.Path) -> int:
    """The bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def end_with_parent(folder: pathlib.Path) -> None:
    """Waits until the parent process has ended; then removes the folder and ends."""
    os.read(0, 1)  # stdin is a pipe without a writer; this returns when it closes
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def result_of(task: dict[str, Any]) -> dict[str, Any]:
    """Carries out a task; returns its result, or the reason of a failure in one line."""
    try:
        return convert(**task)
    except Exception as error:  # converters and runtimes raise many kinds of errors
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        kinds = [kind.__name__ for kind in KINDS if isinstance(error, kind)]
        reason = lines[0] if lines else type(error).__name__
        if lines and not kinds and not isinstance(error, ValueError):
            reason = f"{type(error).__name__}: {reason}"
        return {"error": reason, "kind": kinds[0] if kinds else "ValueError"}


if __name__ == "__main__":
    place = pathlib.Path(sys.argv[1])
    threading.Thread(target=end_with_parent, args=(place,), daemon=True).start()
    found = result_of(json.loads((place / "task.json").read_text()))
    (place / "result.json").write_text(json.dumps(found))
