"""Formats: what each is called, who writes it, what it needs, and which weights it can have."""

import dataclasses
import importlib.util
import pathlib

__all__ = ["FORMATS", "WEIGHTS", "Format", "format_of"]

WEIGHTS = ("float32", "float16", "int8")


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of files that models are exported to.

    Attributes:
        name: Its name.
        suffix: What the name of a file ends in; empty where the export is a folder.
        backend: The backend of Keras that writes it.
        runtime: The package that runs it, as pip calls it.
        modules: What must be installed, as Python imports it.
        extra: The extra of kvae that installs it.
        weights: The kinds of weights that it can have.
    """

    name: str
    suffix: str
    backend: str
    runtime: str
    modules: tuple[str, ...]
    extra: str = "export"
    weights: tuple[str, ...] = ("float32",)

    def check_installed(self) -> None:
        """Raises an ImportError that says what to install, if anything is missing."""
        missing = [name for name in self.modules if importlib.util.find_spec(name) is None]
        if missing:
            raise ImportError(
                f"The format {self.name} needs {', '.join(missing)}: "
                f"pip install 'keras-vae[{self.extra}]'"
            )

    def check_path(self, path: pathlib.Path) -> None:
        """Raises a ValueError unless a file or folder of the format may have this path."""
        if not self.suffix:
            if path.exists() and not (path / "saved_model.pb").is_file():
                raise ValueError(f"{path} exists, and is no folder that holds a SavedModel.")
        elif path.suffix != self.suffix:
            raise ValueError(f"A file of the format {self.name} ends in {self.suffix}: {path}")
        elif path.exists() and not path.is_file():
            raise ValueError(f"{path} exists, and is no file.")


ONNX = ("onnx", "tf2onnx", "onnxruntime")
FORMATS = {
    one.name: one
    for one in (
        Format("onnx", ".onnx", "tensorflow", "onnxruntime", ONNX, weights=WEIGHTS),
        Format("saved-model", "", "tensorflow", "tensorflow", ("tensorflow",)),
        Format(
            "litert",
            ".tflite",
            "tensorflow",
            "ai-edge-litert",
            ("tensorflow", "ai_edge_litert"),
            weights=WEIGHTS,
        ),
        Format(
            "openvino",
            ".xml",
            "tensorflow",
            "openvino",
            (*ONNX[:2], "openvino"),
            weights=("float32", "float16"),
        ),
        Format("torch", ".pt2", "torch", "torch", ("torch",), extra="torch"),
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
