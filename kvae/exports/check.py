"""Compares the outputs of an export in its own runtime with those of the model."""

import pathlib
from typing import Any

import numpy as np
from keras import ops

from kvae.exports.formats import FORMATS
from kvae.model import VAE
from kvae.priors import given

__all__ = ["check_close", "differences", "example", "expected"]

COUNT = 5  # images: compared as one batch, and the first one alone
SEED = 0
# Largest allowed difference of an output from the model's.
LARGEST = {"float32": 1e-4, "float16": 0.05, "int8": 0.25}


def example(vae: VAE, count: int = COUNT) -> dict[str, Any]:
    """Makes typical inputs by name: new images, noise, and classes or None."""
    random = np.random.default_rng(SEED)
    noise = random.standard_normal((count, vae.latent_dim), "float32")
    classes: Any = None
    if vae.condition is not None and vae.condition.classes:
        classes = (np.arange(count) % vae.condition.classes).astype("int32")
    elif vae.condition is not None:
        classes = random.standard_normal((count, vae.condition.size), "float32")
    levels = np.rint(255 * vae.generate(count, seed=SEED, classes=classes))
    rows = vae.rows(classes, count)
    return {
        "images": (levels / 255).astype("float32"),
        "noise": noise,
        "latents": ops.convert_to_numpy(vae.prior.from_noise(noise, **given(rows))),
        "classes": classes,
    }


def expected(vae: VAE, part: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """The outputs of the model's own methods for these inputs: by name, float32."""
    classes = inputs["classes"]
    if part == "encoder":
        encoded = vae.encode(inputs["images"], classes=classes)
        return dict(zip(("mean", "log_variance"), encoded, strict=True))
    rows = vae.rows(classes, len(inputs["noise"]))
    if part != "vae":
        latents = inputs["latents"]
        if part == "generator":
            latents = vae.prior.from_noise(inputs["noise"], **given(rows))
        return {"images": vae.decode(latents, classes=classes)}
    observed = vae.likelihood.observe(inputs["images"])
    context = None if rows is None else ops.convert_to_tensor(rows)
    found = vae.infer(observed, inputs["noise"], context=context)
    mean, log_variance, _, parameters = map(ops.convert_to_numpy, found)
    images = ops.convert_to_numpy(vae.likelihood.mean(parameters))
    return {"reconstruction": images, "mean": mean, "log_variance": log_variance}


def differences(
    name: str, path: pathlib.Path, inputs: dict[str, np.ndarray], wanted: dict[str, np.ndarray]
) -> dict[str, float]:
    """The largest difference of each output, for the whole batch and the first row alone.

    For values above 1 it is the relative difference. It is infinity if an output is not finite.

    Args:
        name: Name of the format.
        path: Path of the file or folder.
        inputs: Inputs by name.
        wanted: Expected outputs by name.

    Raises:
        ValueError: If the outputs have other names or shapes.
    """
    run = FORMATS[name].load().run
    largest = dict.fromkeys(wanted, 0.0)
    for count in (None, 1):
        found = run(path, {one: value[:count] for one, value in inputs.items()})
        if found.keys() != wanted.keys():
            raise ValueError(f"it gives {', '.join(found)} where {', '.join(wanted)} should be")
        for output, values in wanted.items():
            if found[output].shape != values[:count].shape:
                raise ValueError(f"its {output} have the shape {found[output].shape}")
            apart = np.abs(found[output] - values[:count]) / np.maximum(1, np.abs(values[:count]))
            worst = float(np.max(apart))
            largest[output] = max(largest[output], worst if worst == worst else np.inf)
    return largest


def check_close(apart: dict[str, float], weights: str) -> None:
    """Raises a ValueError unless each output is close enough to the model's.

    Args:
        apart: The result of `differences`.
        weights: "float32", "float16" or "int8".
    """
    for output, largest in apart.items():
        if largest <= LARGEST[weights]:
            continue
        told = f" with {weights} weights" if weights != "float32" else ""
        if not np.isfinite(largest):
            raise ValueError(f"its {output}{told} are not finite numbers")
        raise ValueError(
            f"its {output}{told} differ from the model's by {largest:.2g}, and may by "
            f"{LARGEST[weights]:g}"
        )
