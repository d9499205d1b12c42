"""Worker: a process of its own, on the backend that can, that writes an export and checks it.

It reads what to do as JSON from its argument, and writes what came of it as a last line of JSON.
"""

import importlib
import json
import pathlib
import sys
from typing import Any

from kvae.exports.check import difference, example, expected
from kvae.exports.runtimes import write
from kvae.model import Graph, load
from kvae.version import __version__

__all__ = ["made"]

LARGEST = 1e-4  # difference from the model


def made(
    model: str, path: str, name: str, part: str, weights: str, modules: list[str]
) -> dict[str, Any]:
    """Writes a part of a model, runs it in its own runtime, and says how far it is from the model.

    Args:
        model: The path of a `.keras` file.
        path: Where to write.
        name: Of the format.
        part: Of the model.
        weights: "float32", "float16" or "int8".
        modules: To import first: those that the model's own classes are from.

    Raises:
        ValueError: If the export differs from the model.
    """
    for module in modules:
        importlib.import_module(module)
    vae = load(model, compile=False)
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
    text = json.dumps(metadata, allow_nan=False, default=str)
    target = pathlib.Path(path)
    write(name, graph, target, text, "float32")
    apart = difference(name, target, inputs, wanted)
    for output, largest in apart.items():
        if not largest <= LARGEST:
            raise ValueError(
                f"its {output} differ from the model's by {largest:.2g}, and may by {LARGEST:g}"
            )
    size = size_of(target)
    if weights != "float32":
        write(name, graph, target, text, weights)
        apart = difference(name, target, inputs, wanted)
    return {
        "inputs": metadata["inputs"],
        "outputs": metadata["outputs"],
        "difference": apart,
        "bytes": size_of(target),
        "bytes_of_float32": size,
    }


def described(spec: Any) -> list[Any]:
    """A shape, with its dtype where that is not float32."""
    return [*spec.shape, *([] if spec.dtype == "float32" else [spec.dtype])]


def size_of(path: pathlib.Path) -> int:
    """The bytes of a file and of what belongs to it, or of all in a folder."""
    files = path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.stem}.*")
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    try:
        said: dict[str, Any] = made(**json.loads(sys.argv[1]))
    except Exception as error:  # whatever a converter or a runtime meets
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = {"error": f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__}
        if isinstance(error, ValueError) and lines:
            said = {"error": lines[0]}
    print(json.dumps(said))
