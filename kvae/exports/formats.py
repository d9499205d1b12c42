"""Formats: the file formats of exports, with their requirements and weights.

Each format has a module here, with two functions:

- `write(graph, path, metadata, weights)` writes a `kvae.model.Graph` with a text of metadata;
- `run(path, inputs)` returns the outputs by name, as users get them, without kvae.
"""

import dataclasses
import importlib
import importlib.util
from typing import Any

__all__ = ["FORMATS", "WEIGHTS", "Format", "format_of"]

WEIGHTS = ("float32", "float16", "int8")


@dataclasses.dataclass(frozen=True)
class Format:
    """A file format to which models are exported.

    Attributes:
        name: Name of the format.
        suffix: Suffix of the file; empty if the export is a folder.
        backend: Keras backend that writes the format.
        modules: Modules that must be installed, by their import names.
        file: Module of `kvae.exports` that writes and runs the format.
        extra: Extra of kvae that installs the modules.
        weights: Kinds of weights that the format supports.
        beside: Suffixes of further files that it writes beside the named one.
    """

    name: str
    suffix: str
    backend: str
    modules: tuple[str, ...]
    file: str
    extra: str = "export"
    weights: tuple[str, ...] = ("float32",)
    beside: tuple[str, ...] = ()

    def check_installed(self) -> None:
        """Raises an ImportError that says what to install, if anything is missing."""
        missing = [name for name in self.modules if importlib.util.find_spec(name) is None]
        if missing:
            raise ImportError(
                f"The format {self.name} needs {', '.join(missing)}: "
                f"pip install 'keras-vae[{self.extra}]'"
            )

    def load(self) -> Any:
        """Imports the module of the format, in a process of its backend only."""
        return importlib.import_module(f"kvae.exports.{self.file}")


ONNX = ("onnx", "tf2onnx")
LITERT = ("tensorflow", "ai_edge_litert")
FORMATS = {
    one.name: one
    for one in (
        Format(
            "onnx", ".onnx", "tensorflow", (*ONNX, "onnxruntime"), "onnx_format", weights=WEIGHTS
        ),
        Format("saved-model", "", "tensorflow", ("tensorflow",), "saved_model_format"),
        Format("litert", ".tflite", "tensorflow", LITERT, "litert_format", weights=WEIGHTS),
        Format(
            "openvino",
            ".xml",
            "tensorflow",
            (*ONNX, "openvino"),
            "openvino_format",
            weights=WEIGHTS[:2],
            beside=(".bin",),
        ),
        Format("torch", ".pt2", "torch", ("torch",), "torch_format", extra="torch"),
        Format("keras", ".keras", "tensorflow", ("keras",), "keras_format"),
    )
}


def format_of(name: str, weights: str = "float32") -> Format:
    """Returns the format of this name.

    Raises:
        ValueError: If there is no such format, or it does not support such weights.
    """
    if name not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(FORMATS)}. Received: format={name!r}")
    if weights not in WEIGHTS:
        raise ValueError(
            f"`weights` must be one of {', '.join(WEIGHTS)}. Received: weights={weights!r}"
        )
    found = FORMATS[name]
    if weights not in found.weights:
        others = [one.name for one in FORMATS.values() if weights in one.weights]
        raise ValueError(
            f"The format {name} cannot have {weights} weights; {' and '.join(others)} can."
        )
    return found
