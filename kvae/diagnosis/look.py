"""Look: what a diagnosis is made from: a pass over images, gradients, and figures of both."""

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
PIXELS = 200_000  # so many values make a histogram


def sampled(
    dataset: Dataset, part: str, count: int, seed: int, vae: VAE
) -> tuple[np.ndarray, np.ndarray | None]:
    """So many images at random, of the model's size; and of a conditional one their classes."""
    images, labels = getattr(dataset, part), getattr(dataset, f"{part}_labels")
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    classes = vae.known(labels, dataset.class_names)
    if classes is not None:
        classes = vae.condition.checked(classes, len(images))[chosen] if vae.condition else None
    found = fitted(read_rows(images, chosen), vae.image_shape)
    return found, vae.filled(classes, found)


def capacity_of(vae: VAE) -> float | None:
    """Nats at which the objective holds the KL; None of any other objective."""
    return vae.objective.capacity if isinstance(vae.objective, Capacity) else None


def white(images: np.ndarray) -> float:
    """What white is."""
    return 1.0 if images.dtype.kind == "f" else 255.0


def some(values: np.ndarray, seed: int) -> np.ndarray:
    """Values at random, enough for a histogram."""
    values = values.reshape(-1)
    if len(values) <= PIXELS:
        return values
    return np.random.default_rng(seed).choice(values, PIXELS)


def looked_at(
    vae: VAE, images: np.ndarray, seed: int, batch: int = BATCH, classes: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """One pass over images, with one draw of z for each, or `samples`; the draws start from `seed`.

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
    """A copy whose loss is −ELBO, with as many draws of z; here all classes are known."""
    copy = vae.uncompiled(ELBO(beta, samples=vae.objective.samples))
    if copy.condition is not None:
        copy.condition.partly_labelled = False
    return copy


def look(
    vae: VAE, seed: int, images: np.ndarray, classes: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """What `looked_at` returns, of one batch."""
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
        with contextlib.suppress(ValueError):  # of a prior that ties groups together
            for i, kl in enumerate(terms.kl_by_group):
                values[f"kl_of_group_{i + 1}"] = kl
    if learns_scale(vae.likelihood):
        scale = vae.likelihood.location_and_scale(parameters)[1]
        levels = 255.0 if isinstance(vae.likelihood, DiscretizedLogistic) else 1.0
        values["scale"] = ops.broadcast_to(scale / levels, ops.shape(values["draws"]))
    return {name: ops.convert_to_numpy(value) for name, value in values.items()}


def measured(vae: VAE, own: Mapping[str, np.ndarray], seed: int) -> dict[str, float]:
    """What posteriors say of the latents and of the prior, in nats, and how wide they spread.

    Without `active` of one image, without `moment_gap` where there are too few, and without that
    and `information` where latents come in groups, whose posterior is no Gaussian.
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
    """The variables by part and path, numbered where several have the same."""
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
    """The gradient of each weight on one batch, by the name of the variable.

    A copy of the model takes one step of plain gradient descent, on whatever backend; how far each
    weight went is its gradient. The steps are long, so that no digit of a small gradient is lost.
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
