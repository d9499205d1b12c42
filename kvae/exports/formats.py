"""Formats: what each is called, who writes and runs it, what it needs, which weights it can have.

A format has a file of its own here, with two functions:

- `write(graph, path, metadata, weights)` writes a `kvae.model.Graph`, with a text that goes along;
- `run(path, inputs)` gives the outputs by name as its users get them, without kvae.
"""

import dataclasses
import importlib
import importlib.util
from typing import Any

__all__ = ["FORMATS", "WEIGHTS", "Format", "format_of"]

WEIGHTS = ("float32", "float16", "int8")


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of files that models are exported to.

    Attributes:
        name: Its name.
        suffix: What the name of a file ends in; empty where the export is a folder.
        backend: The backend of Keras that writes it.
        modules: What must be installed, as Python imports it.
        file: The file of `kvae.exports` that writes and runs it.
        extra: The extra of kvae that installs it.
        weights: The kinds of weights that it can have.
        beside: The suffixes of files that it writes beside the one that is named.
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
        """Its file, which imports what writes it: in a process of that backend alone."""
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
    """The format of this name.

    Raises:
        ValueError: If there is none, or it cannot have such weights.
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
