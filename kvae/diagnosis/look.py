"""The measurements of a diagnosis: a pass over images, gradients, and their figures."""

import collections
import contextlib
import functools
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from kvae.data import Dataset, fitted
from kvae.diagnosis.pixels import learns_scale
from kvae.evaluation import active_units, information_within, prior_gap_at_least
from kvae.likelihoods import DiscretizedLogistic
from kvae.limits import read_rows
from kvae.model import VAE, in_batches
from kvae.objectives import ELBO, Capacity

__all__ = [
    "capacity_of",
    "gradients_of",
    "looked_at",
    "measured",
    "sampled",
    "size",
    "some",
    "weights_of",
    "white",
]

BATCH = 200
PIXELS = 200_000  # number of values in a histogram


def sampled(
    dataset: Dataset, part: str, count: int, seed: int, vae: VAE
) -> tuple[np.ndarray, np.ndarray | None]:
    """Draws images at random, in the model's size; for a conditional model also their classes."""
    images, labels = getattr(dataset, part), getattr(dataset, f"{part}_labels")
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    classes = vae.known(labels, dataset.class_names)
    if classes is not None:
        classes = vae.condition.checked(classes, len(images))[chosen] if vae.condition else None
    found = fitted(read_rows(images, chosen), vae.image_shape, vae.fitting)
    return found, vae.filled(classes, found)


def capacity_of(vae: VAE) -> float | None:
    """The nats at which the objective holds the KL; None for other objectives."""
    return vae.objective.capacity if isinstance(vae.objective, Capacity) else None


def white(images: np.ndarray) -> float:
    """The value of white."""
    return 1.0 if images.dtype.kind == "f" else 255.0


def some(values: np.ndarray, seed: int) -> np.ndarray:
    """Draws enough values at random for a histogram."""
    values = values.reshape(-1)
    if len(values) <= PIXELS:
        return values
    return np.random.default_rng(seed).choice(values, PIXELS)


def looked_at(
    vae: VAE, images: np.ndarray, seed: int, batch: int = BATCH, classes: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Runs one pass over images, with as many draws of z as the objective, from `seed`.

    Returns:
        (count, …) arrays: `mean`, `log_variance`, `kl`; `noise`, what the prior makes z of; `loss`,
        −ELBO; `context` of a conditional model; `draws`, an image drawn from p(x|z) for each;
        `scale`, in [0, 1], where the likelihood learns one; and `kl_of_group_1` and so on, where
        latents come in groups.
    """
    images = vae.taken(images)
    copy = with_elbo(vae)
    copy.seed_generator.state.assign([seed, 0])
    return in_batches(functools.partial(look, copy, seed), images, batch, classes)


def with_elbo(vae: VAE, beta: float = 1.0) -> VAE:
    """Copies a model with the loss −ELBO and as many draws of z; all classes are known here."""
    copy = vae.uncompiled(ELBO(beta, samples=vae.objective.samples))
    if copy.condition is not None:
        copy.condition.partly_labelled = False
    return copy


def look(
    vae: VAE, seed: int, images: np.ndarray, classes: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Returns the result of `looked_at` for one batch."""
    given = images if classes is None else (images, classes)
    outputs = {name: ops.convert_to_tensor(v) for name, v in vae.predict_on_batch(given).items()}
    terms = vae.terms(outputs)
    first = slice(None, None, vae.objective.samples)
    parameters = outputs["parameters"][first]
    values = {
        "mean": terms.mean[first],
        "log_variance": terms.log_variance[first],
        "noise": vae.prior.to_noise(terms.z, **terms.given)[first],
        "kl": terms.kl,
        "loss": terms.reconstruction + terms.kl,
        **({"context": outputs["context"]} if terms.given else {}),
        "draws": vae.likelihood.sample(parameters, seed),
    }
    if len(vae.groups) > 1:
        with contextlib.suppress(ValueError):  # if groups depend on each other in the prior
            for i, kl in enumerate(terms.kl_by_group):
                values[f"kl_of_group_{i + 1}"] = kl
    if learns_scale(vae.likelihood):
        scale = vae.likelihood.location_and_scale(parameters)[1]
        levels = 255.0 if isinstance(vae.likelihood, DiscretizedLogistic) else 1.0
        values["scale"] = ops.broadcast_to(scale / levels, ops.shape(values["draws"]))
    return {name: ops.convert_to_numpy(value) for name, value in values.items()}


def measured(vae: VAE, own: Mapping[str, np.ndarray], seed: int) -> dict[str, float]:
    """Computes figures of latents and prior from posteriors, in nats, and their spread.

    `active` is left out for one image, and `moment_gap` for too few. Both `moment_gap` and
    `information` are left out if latents come in groups, whose posterior is not Gaussian.
    """
    mean, log_variance = own["mean"], own["log_variance"]
    found = {
        "kl": float(own["kl"].mean()),
        "active": int(active_units(mean).sum()) if len(mean) > 1 else None,
    }
    noise = np.split(own["noise"], np.cumsum(vae.groups)[:-1], axis=1)
    spreads = [float(np.sqrt(np.square(one).mean())) for one in noise]
    if len(vae.groups) > 1:
        found |= {f"spread_of_group_{i + 1}": spread for i, spread in enumerate(spreads)}
    else:
        found["spread"] = spreads[0]
        rows = own.get("context")
        found["information"], _ = information_within(mean, log_variance, seed, rows)
        found["moment_gap"] = prior_gap_at_least(vae.prior, mean, log_variance, seed, rows)
    return {name: value for name, value in found.items() if value is not None}


def weights_of(vae: VAE) -> dict[str, keras.Variable]:
    """The variables by part and path, numbered if several have the same."""
    found: dict[str, keras.Variable] = {}
    seen: collections.Counter[str] = collections.Counter()
    for part in ("encoder", "decoder", "likelihood", "prior"):
        for variable in getattr(vae, part).weights:
            name = f"{part}/{variable.path}"
            seen[name] += 1
            found[name if seen[name] == 1 else f"{name} ({seen[name]})"] = variable
    return found


def gradients_of(
    vae: VAE, images: np.ndarray, classes: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Computes the gradient of each weight on one batch, by the name of the variable.

    A copy of the model takes one step of plain gradient descent, on any backend; the change of each
    weight gives its gradient. The step is long, so that small gradients keep their digits.
    """
    rate = 1e6
    beta = float(ops.convert_to_numpy(vae.beta))
    copy = with_elbo(vae, beta)
    copy.compile(keras.optimizers.SGD(rate), auto_scale_loss=False, jit_compile=False)
    weights = {name: v for name, v in weights_of(copy).items() if v.trainable}
    before = [np.array(ops.convert_to_numpy(v), "float64") for v in weights.values()]
    copy.train_on_batch(images, classes)
    return {
        name: (start - np.array(ops.convert_to_numpy(weights[name]), "float64")) / rate
        for name, start in zip(weights, before, strict=True)
    }


def size(gradient: np.ndarray) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.square(gradient).mean()))
