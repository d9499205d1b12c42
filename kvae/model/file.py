"""Loads a model file of kvae, or says in one line why it cannot."""

import inspect
import numbers
import os
import pathlib
import re
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.model.archive import Archive, no_more_weights_than
from kvae.model.vae import VAE
from kvae.printable import printable
from kvae.shipped import SHIPPED, path_of

__all__ = ["found", "load"]

# Keras's message about a class or function of the user, at any depth.
FAILED = re.compile(r"message for object (.+?):\s*\n+(.+?)\s*(?:\n\n|$)", re.DOTALL)
BROKEN = re.compile(r"<class '[\w.]*?(\w+)'> could not be deserialized")
DEEPEST = re.compile(
    r"^(?:Exception encountered|Error when deserializing .*?): *(.*)$", re.MULTILINE
)
LONGEST = 300  # characters of Keras's message
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
SPARE = 1_000  # weights and values that a file may lack, such as settings
UNKNOWN = re.compile(r"Could not locate (class|function) '([^']+)'")


def load(
    path: str | os.PathLike,
    compile: bool = True,
    custom_objects: dict[str, Any] | None = None,
    safe_mode: bool = True,
) -> VAE:
    """Loads a model that kvae saved, like `keras.saving.load_model`, with one-line errors.

    Args:
        path: A `.keras` file; the name of a model that comes with kvae, "mnist", "mnist-ladder",
            "mnist-conditional" or "shapes" (a file of that name takes precedence); or the address
            of a model on the Hugging Face Hub, "hf://user/digits".
        compile: Whether to load the optimizer too, to train the model further.
        custom_objects: Classes and functions of your own by name, if they are not registered with
            Keras.
        safe_mode: Whether to refuse files that contain code, such as a Lambda layer.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a model of kvae, is damaged, contains unknown classes, or
            cannot be downloaded.

    Example:
        >>> import kvae
        >>> kvae.load("mnist").image_shape
        (28, 28, 1)
    """
    path = found(path)
    if not isinstance(custom_objects, (dict, type(None))):
        raise ValueError(
            "`custom_objects` must be a dict of names to classes or functions. "
            f"Received: {type(custom_objects).__name__}"
        )
    if not (path.is_dir() or path.suffix == ".keras"):
        raise ValueError(f"The name of a model's file ends in .keras. Received: {path}")
    with Archive(path) as archive:
        kind = registered_name(archive.config)
        if is_kerass(kind):
            raise ValueError(not_ours(path, kind))
        values, arrays = archive.weights()
    try:
        with no_more_weights_than(2 * values + SPARE, 2 * arrays + SPARE):
            model = keras.saving.load_model(
                path, custom_objects=custom_objects, compile=compile, safe_mode=safe_mode
            )
    except Exception as error:  # a damaged archive may raise any error in Keras
        raise ValueError(f"{path} cannot be loaded: {reason_of(error)}") from error
    if not isinstance(model, VAE):
        raise ValueError(not_ours(path, kind))
    check_finite(model, path)
    check_numbers(model, path)
    return model


def found(path: str | os.PathLike) -> pathlib.Path:
    """The file of a model, or that of a name that comes with kvae if no such file exists.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no path, or an address from which nothing can be downloaded.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"`path` must be the path of a file. Received: path={path!r}")
    if isinstance(path, str) and "://" in path:
        return downloaded(path)
    if str(path) in SHIPPED and not is_there(pathlib.Path(path)):
        path = path_of(str(path))
    path = pathlib.Path(path)
    if not is_there(path):
        raise FileNotFoundError(
            f"There is no model at {path}. Those that come with kvae: {', '.join(SHIPPED)}."
        )
    return path


def downloaded(address: str) -> pathlib.Path:
    """The folder of a model on the Hugging Face Hub, which it keeps on this machine.

    Raises:
        ValueError: If the address is of another kind, or nothing can be downloaded.
    """
    kind, _, name = address.partition("://")
    if kind != "hf" or not HUB_NAME.fullmatch(name):
        raise ValueError(
            "Of addresses kvae opens models on the Hugging Face Hub alone, hf://user/name; "
            f"download others first. Received: {printable(address)}"
        )
    try:
        import huggingface_hub
    except ImportError:
        raise ValueError(f"To open {address}: pip install huggingface_hub") from None
    try:
        return pathlib.Path(huggingface_hub.snapshot_download(repo_id=name))
    except Exception as error:  # of the network, and of names that are not there
        reason = printable(" ".join(str(error).split()))[:LONGEST]
        raise ValueError(f"{address} cannot be downloaded: {reason}") from error


def is_there(path: pathlib.Path) -> bool:
    """Whether there is a file, or a folder that holds a model: a run's own folder does not."""
    return path.is_file() or (path / "config.json").is_file()


def check_finite(model: VAE, path: pathlib.Path) -> None:
    """Checks that all weights are finite.

    Raises:
        ValueError: If a weight is NaN or infinite.
    """
    for variable in model.variables:
        value = ops.convert_to_numpy(variable).astype("float32")
        if not np.isfinite(value).all():
            raise ValueError(
                f"{path} cannot be used: {printable(variable.path)} has values that are NaN or "
                "infinite."
            )


def check_numbers(model: VAE, path: pathlib.Path) -> None:
    """Checks that Keras layers have numbers where they need them; Keras takes anything.

    Raises:
        ValueError: If a setting is not a number.
    """
    layers = model._flatten_layers(include_self=False)
    for layer in (one for one in layers if type(one).__module__.startswith("keras.")):
        for name, parameter in inspect.signature(type(layer).__init__).parameters.items():
            value = getattr(layer, name, None)
            fraction = isinstance(parameter.default, float) and not hasattr(value, "dtype")
            if fraction and not isinstance(value, (numbers.Real, type(None))):
                raise ValueError(
                    f"{path} cannot be used: `{name}` of the layer {printable(layer.name)} must be "
                    f"a number. Found: {printable(value, 60)}"
                )


def registered_name(config: dict[str, Any]) -> str:
    """The class of a model: such as "kvae>VAE", or "keras" where it is one of Keras's own."""
    return printable(config.get("registered_name") or config.get("module") or "")


def is_kerass(kind: str) -> bool:
    """Whether a class is one of Keras's own, or unknown."""
    return kind.partition(">")[0].partition(".")[0] in ("keras", "")


def not_ours(path: pathlib.Path, kind: str) -> str:
    """The message about a file of another model."""
    named = "another Keras model" if is_kerass(kind) else kind
    return f"{path} is not a model of kvae, but {named}; keras.saving.load_model may open it."


def reason_of(error: Exception) -> str:
    """The reason why Keras failed, in one line."""
    text = " ".join(str(error).split())
    unknown = UNKNOWN.search(text)
    if unknown:
        kind, name = unknown.groups()
        return (
            f"the {kind} {name!r} is not known. Import what defines it, if it is registered with "
            "keras.saving.register_keras_serializable, or give it: "
            f"custom_objects={{{name!r}: {name}}}."
        )
    if "arbitrary code" in text:
        return (
            "it holds a Lambda layer, which runs Python code of the file. If you trust where it "
            "comes from, load it with safe_mode=False."
        )
    deepest = DEEPEST.findall(str(error))
    if deepest and deepest[-1]:
        kinds = BROKEN.findall(str(error))
        return printable(": ".join([*kinds[-1:], deepest[-1]]), LONGEST)
    failed = FAILED.search(str(error))
    if failed:
        return printable(f"{failed[1]}: {failed[2]}", LONGEST)
    first = next(iter(str(error).splitlines()), "")
    return printable(first, LONGEST) or type(error).__name__
