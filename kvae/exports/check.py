"""Check: what an export gives in its own runtime, beside what the model itself gives."""

import pathlib
from typing import Any

import numpy as np
from keras import ops

from kvae.exports.runtimes import run
from kvae.model import VAE
from kvae.priors import given

__all__ = ["difference", "example", "expected"]

COUNT = 5  # images; a batch of them, and one of the first alone
SEED = 0


def example(vae: VAE) -> dict[str, Any]:
    """Inputs by name, as use would have them: new images, noise; and classes, or None."""
    random = np.random.default_rng(SEED)
    noise = random.standard_normal((COUNT, vae.latent_dim), "float32")
    classes: Any = None
    if vae.condition is not None and vae.condition.classes:
        classes = (np.arange(COUNT) % vae.condition.classes).astype("int32")
    elif vae.condition is not None:
        classes = random.standard_normal((COUNT, vae.condition.size), "float32")
    levels = np.rint(255 * vae.generate(COUNT, seed=SEED, classes=classes))
    rows = vae.rows(classes, COUNT)
    return {
        "images": (levels / 255).astype("float32"),
        "noise": noise,
        "latents": ops.convert_to_numpy(vae.prior.from_noise(noise, **given(rows))),
        "classes": classes,
    }


def expected(vae: VAE, part: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """What the verbs of the model give for such inputs: by name, float32."""
    classes = inputs["classes"]
    if part == "encoder":
        encoded = vae.encode(inputs["images"], classes=classes)
        return dict(zip(("mean", "log_variance"), encoded, strict=True))
    rows = vae.rows(classes, COUNT)
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


def difference(
    name: str, path: pathlib.Path, inputs: dict[str, np.ndarray], wanted: dict[str, np.ndarray]
) -> dict[str, float]:
    """The largest difference of each output, of a batch and of one image alone.

    Of values above 1 it is that of their ratio to 1.

    Args:
        name: Of the format.
        path: Of the file or folder.
        inputs: By name.
        wanted: What the outputs should be, by name.

    Raises:
        ValueError: If its outputs have other names or shapes.
    """
    largest = dict.fromkeys(wanted, 0.0)
    for count in (COUNT, 1):
        found = run(name, path, {one: value[:count] for one, value in inputs.items()})
        if found.keys() != wanted.keys():
            raise ValueError(f"it gives {', '.join(found)} where {', '.join(wanted)} should be")
        for output, values in wanted.items():
            if found[output].shape != values[:count].shape:
                raise ValueError(f"its {output} have the shape {found[output].shape}")
            apart = np.abs(found[output] - values[:count]) / np.maximum(1, np.abs(values[:count]))
            worst = float(np.max(apart))
            largest[output] = max(largest[output], worst if worst == worst else np.inf)
    return largest
