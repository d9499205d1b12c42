"""Export: checks the request, runs a process that exports, and moves the file in place."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import keras

from kvae.exports.formats import Format, format_of
from kvae.exports.placing import check_place, place, staged
from kvae.markup import section, table
from kvae.model import VAE, check_part, found
from kvae.printable import printable

__all__ = ["Exported", "export"]

LONGEST = 300  # characters of a converter's message
NOT_THEIRS = ("keras", "kvae", "builtins")  # packages that every process can import
OUT_OF_MEMORY = -9  # exit code of a process that Linux kills for memory
ERRORS: dict[str, type[Exception]] = {"OSError": OSError, "ImportError": ImportError}


@dataclasses.dataclass(frozen=True)
class Exported:
    """The result of `export`: the file, and how close it is to the model.

    Attributes:
        path: Path of the file or folder.
        format: Its format.
        part: The part of the model.
        weights: "float32", "float16" or "int8".
        inputs: Shapes by name, with None for the batch, and the dtype if it is not float32.
        outputs: Shapes by name.
        difference: Largest difference of each output from the model's, in the runtime of the
            format; for values above 1, the relative difference.
        bytes: Size in bytes.
        bytes_of_float32: Size in bytes with float32 weights.
        nats: Cost of smaller weights in nats per image: the difference in −ELBO of 64 images that
            the model generates, with and without rounding the weights of the part. None with
            float32 weights, and for int8 in LiteRT, which rounds more than weights.

    Example:
        >>> import kvae
        >>> one = kvae.Exported(
        ...     path="a.onnx", format="onnx", part="decoder", weights="float32",
        ...     inputs={"latents": [None, 4]}, outputs={"images": [None, 8, 8, 1]},
        ...     difference={"images": 3e-7}, bytes=9_000, bytes_of_float32=9_000, nats=None,
        ... )
        >>> one.difference["images"] < 1e-4
        True
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
    nats: float | None

    def _repr_html_(self) -> str:
        """A table for a notebook."""
        size = f"{self.bytes:,} bytes"
        if self.weights != "float32":
            size += f"; with float32 weights {self.bytes_of_float32:,}"
        rows = [
            ("part", self.part),
            ("format", self.format),
            ("weights", self.weights),
            ("size", size),
            *(("input", described(*one)) for one in self.inputs.items()),
            *(
                ("output", f"{described(*one)}; {self.difference[one[0]]:.1e} from the model's")
                for one in self.outputs.items()
            ),
        ]
        if self.nats is not None:
            rows.append(("cost of the weights", f"{self.nats:+.3f} nats per image"))
        return section(self.path, table(rows))


def export(
    vae: VAE | str | os.PathLike,
    path: str | os.PathLike,
    format: str = "onnx",
    part: str = "generator",
    weights: str = "float32",
    custom_objects: dict[str, Any] | None = None,
) -> Exported:
    """Exports a part of a model to a file that runs without kvae, and checks the file.

    A separate process opens the model on the backend that can export it, runs the export in its own
    runtime, and compares its outputs with the model's. With float32 weights they must agree to
    1e-4, with float16 to 0.05 and with int8 to 0.25; otherwise nothing is written. A model of mixed
    precision is exported, and compared, in float32. Inputs and outputs have names, and batches any
    size: see `kvae.model.Graph`. The file contains the model's card as metadata.

    Args:
        vae: A model of any backend, the path of its file, or the name of a model that comes with
            kvae.
        path: The file to write; for "saved-model" a folder. A former export of kvae is replaced,
            but no other file.
        format: "onnx", "saved-model", "litert", "openvino", "torch", or "keras": a .keras file of
            Keras's own layers.
        part: "encoder", "decoder", "generator" or "vae".
        weights: "float32", or "float16" or "int8" for a smaller file whose outputs differ, as the
            result says. The weights become float32 again before they are used, except for int8 in
            LiteRT, which also rounds the values that they are multiplied with.
        custom_objects: Classes and functions of your own by name, as for `kvae.load`, in a module
            that can be imported. If `vae` is a model, its classes, and functions registered with
            Keras, are found without this.

    Returns:
        An `Exported` with inputs, outputs, largest differences and sizes.

    Raises:
        ValueError: If there is no such format or part, or the model cannot be exported to it.
        OSError: If the file cannot be written, or there is no such model.
        ImportError: If a package that writes or runs the format is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> import kvae
        >>> vae = kvae.VAE.from_preset("mlp-400", (8, 8, 1), latent_dim=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "generator"
        ...     exported = kvae.export(vae, path, format="saved-model")
        >>> exported.inputs, exported.outputs
        ({'noise': [None, 4]}, {'images': [None, 8, 8, 1]})
        >>> exported.difference["images"] < 1e-4
        True
    """
    kind, target = format_of(format, weights), pathlib.Path(path)
    check_part(part)
    if not isinstance(vae, (VAE, str, os.PathLike)):
        raise ValueError(
            f"`vae` must be a kvae.VAE, or the path of its file. Received: vae={vae!r}"
        )
    model = None if isinstance(vae, VAE) else found(vae).absolute()
    objects = places_of(vae, custom_objects or {})
    check_place(kind, target)
    kind.check_installed()
    with staged() as folder:
        if isinstance(vae, VAE):
            model = folder / "model.keras"
            save(vae, model, custom_objects or {})
        made = folder / "made"
        made.mkdir()
        task = {
            "model": str(model),
            "path": str(made / target.name),
            "name": format,
            "part": part,
            "weights": weights,
            "objects": objects,
            "safe_mode": not isinstance(vae, VAE),  # otherwise its code is loaded here already
        }
        result = run_worker(kind, folder, task)
        if "error" in result:
            reason = printable(result["error"], LONGEST)
            raise ERRORS.get(result["kind"], ValueError)(
                f"The {part} cannot be exported as {format}, and nothing was written: {reason}"
            )
        place(kind, made, target)
    return Exported(path=target, format=format, part=part, weights=weights, **result)


def described(name: str, shape: list[Any]) -> str:
    """Describes an input or output: None is the batch, and a dtype comes last."""
    return f"{name} ({', '.join('batch' if size is None else str(size) for size in shape)})"


def save(vae: VAE, path: pathlib.Path, custom_objects: dict[str, Any]) -> None:
    """Saves a model, without its optimizer if it can be copied; a Lambda layer cannot."""
    try:
        with keras.saving.custom_object_scope(custom_objects):
            copy = vae.uncompiled()
    except (TypeError, ValueError):  # of Keras
        copy = vae
    copy.save(path)


def places_of(vae: Any, custom_objects: dict[str, Any]) -> dict[str, list[str]]:
    """The module and name of each custom class and function, for another process.

    Args:
        vae: A model, whose custom classes are collected, or a path.
        custom_objects: Further objects by name.

    Raises:
        ValueError: If another process could not import one of them.
    """
    things = dict(custom_objects)
    if isinstance(vae, VAE):
        own = {keras.saving.get_registered_name(type(vae)): type(vae)}
        things = own | registered(vae.get_config()) | vae.custom_objects() | things
    places = {}
    for name, thing in things.items():
        module = getattr(thing, "__module__", None) or ""
        inside = getattr(thing, "__qualname__", "")
        if module.partition(".")[0] in NOT_THEIRS and name not in custom_objects:
            continue
        there = sys.modules.get(module)
        for part in inside.split("."):
            there = getattr(there, part, None)
        if module == "__main__" or there is not thing:
            raise ValueError(
                f"Another process exports the model, and cannot import {printable(name, 60)!r}, "
                "which is made in a script, a notebook or a function: put it into a module."
            )
        places[name] = [module, inside]
    return places


def registered(config: Any) -> dict[str, Any]:
    """The registered classes and functions that a configuration names."""
    if isinstance(config, (list, tuple)):
        return {name: thing for part in config for name, thing in registered(part).items()}
    if not isinstance(config, dict):
        return {}
    things = registered(list(config.values()))
    function = config.get("config") if config.get("class_name") == "function" else None
    for name in (config.get("registered_name"), function):
        thing = keras.saving.get_registered_object(name) if isinstance(name, str) else None
        if thing is not None:
            things[str(name)] = thing
    return things


def run_worker(kind: Format, folder: pathlib.Path, task: dict[str, Any]) -> dict[str, Any]:
    """Runs the process that exports, on the backend of the format; returns its result.

    Args:
        kind: The format.
        folder: Working folder of the process.
        task: Description of the task.
    """
    settings = {
        **os.environ,
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder)),
        "KERAS_BACKEND": kind.backend,
        "KERAS_TORCH_DEVICE": "cpu",
        "CUDA_VISIBLE_DEVICES": "-1",  # on a CPU, products are exact to 1e-4
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }
    (folder / "task.json").write_text(json.dumps(task))
    # -P: do not import from the current folder, which may contain a stranger's json.py.
    command = [sys.executable, "-P", "-W", "ignore", "-m", "kvae.exports.worker", str(folder)]
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            command, env=settings, stdin=subprocess.PIPE, stdout=output, stderr=output
        )
        try:
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            if process.stdin is not None:  # the worker ends when its stdin closes
                process.stdin.close()
    result = folder / "result.json"
    if not code and result.is_file():
        return json.loads(result.read_text())
    lines = (folder / "output.txt").read_text(errors="replace").splitlines()
    said = [line.strip() for line in lines if "Error" in line] or ["it said nothing"]
    if code == OUT_OF_MEMORY:
        said = ["it was killed, perhaps because memory was short"]
    return {"error": f"the process ended with {code}: {said[-1]}", "kind": "ValueError"}
