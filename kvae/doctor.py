"""The doctor: looks at a trained model, its images and its history; says what is wrong."""

import collections
import dataclasses
import functools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae import charts, checks
from kvae.checks import Finding
from kvae.data import Dataset, fitted
from kvae.evaluation import active_units, mutual_information, prior_gap_at_least
from kvae.likelihoods import DiscretizedLogistic
from kvae.model import VAE, in_batches
from kvae.priors import StandardNormal

__all__ = ["Diagnosis", "diagnose"]

BATCH = 200
WIDTH = 100  # of a line of text, in letters
PIXELS = 200_000  # so many values make a histogram


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found, worst first; as text, as a page to print, or as plain values.

    Attributes:
        what: The model and the images that were looked at, in words.
        findings: One for each check.
        numbers: What was measured, by name; nats per image where it is no count or share.
        drawings: What the panels of the page show, by name.
    """

    what: str
    findings: list[Finding]
    numbers: dict[str, float]
    drawings: dict[str, Any] = dataclasses.field(repr=False)

    @property
    def verdict(self) -> str:
        """How many problems and warnings, in words."""
        counts = {
            severity: sum(finding.severity == severity for finding in self.findings)
            for severity in ("problem", "warning")
        }
        words = [f"{n} {severity}{'s' * (n != 1)}" for severity, n in counts.items() if n]
        return ", ".join(words) or "nothing wrong"

    def finding(self, name: str) -> Finding:
        """The finding of this name."""
        return next(finding for finding in self.findings if finding.name == name)

    def text(self) -> str:
        """The page in words; each finding ends in what helps."""
        lines = [f"{self.what}: {self.verdict}"]
        for finding in self.findings:
            start = f"{finding.severity:<9}{finding.name:<15}"
            for text, first in ((finding.seen, start), (finding.remedy, " " * len(start) + "→ ")):
                if text:
                    lines += textwrap.wrap(
                        text,
                        WIDTH,
                        initial_indent=first,
                        subsequent_indent=" " * len(first),
                        break_on_hyphens=False,
                    )
        return "\n".join(lines)

    def figure(self) -> charts.Chart:
        """The page: the findings, and below them what they were seen in."""
        rows = [
            (finding.severity, finding.name, finding.seen, finding.remedy)
            for finding in self.findings
        ]
        panels = [
            functools.partial(draw, **self.drawings[name])
            for name, draw in charts.DIAGNOSIS.items()
            if name in self.drawings
        ]
        return charts.page(f"{self.what}: {self.verdict}", rows, panels)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "what": self.what,
            "verdict": self.verdict,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "numbers": self.numbers,
        }


def diagnose(
    vae: VAE,
    dataset: Dataset,
    history: Mapping[str, Sequence[float]] | None = None,
    latents: Mapping[str, Sequence[float]] | None = None,
    *,
    count: int = 2000,
    seed: int = 0,
    what: str = "The model",
) -> Diagnosis:
    """Looks at a model for what commonly goes wrong.

    The model stays as it is: its weights, its stream of random numbers, its optimizer.

    Args:
        vae: A trained model.
        dataset: The images that it was trained on, and others; of any size.
        history: Columns by name, one value an epoch, as `fit(...).history` has them; None: what
            needs one says so.
        latents: The KL of each latent by epoch, as `kvae.LatentKL` keeps it.
        count: So many train and validation images are looked at, drawn at random; all if there are
            fewer.
        seed: Of all that is drawn.
        what: What the headline calls the model.

    Example:
        >>> import kvae
        >>> dataset = kvae.data.load("digits")
        >>> vae = kvae.VAE.from_preset("mlp", dataset.image_shape, latent_dim=4)
        >>> diagnosis = kvae.diagnose(vae, dataset, count=100)  # of a model that saw no image yet
        >>> diagnosis.finding("gradients").severity
        'ok'
    """
    train, validation = (
        sampled(images, count, seed, vae) for images in (dataset.train, dataset.validation)
    )
    history, latents = dict(history or {}), dict(latents or {})
    beta, warmup = (float(ops.convert_to_numpy(getattr(vae, n))) for n in ("beta", "warmup_steps"))
    facts = checks.pixel_facts(validation)
    epochs, kl = kl_over_time(history, latents if vae.prior.closed_form else {})
    found = [
        checks.check_likelihood(facts, vae.likelihood),
        checks.check_kl_over_time(kl, epochs, beta, warmup),
    ]
    drawings: dict[str, Any] = {
        "over_time": {"epochs": epochs, "kl": kl},
        "terms": {"history": history},
    }
    numbers = {f"pixels_{name}": float(value) for name, value in facts.items()}
    broken = [
        name
        for name, variable in weights_of(vae).items()
        if not np.isfinite(ops.convert_to_numpy(variable)).all()
    ]
    if broken:
        found += [
            checks.check_gradients({}, broken),
            checks.check_overfitting(history.get("val_loss", ())),
        ]
    else:
        batch = min(BATCH, len(train), len(validation))  # of one size, so compiled once
        seen = {
            name: looked_at(vae, images, seed, batch)
            for name, images in (("train", train), ("validation", validation))
        }
        own = seen["validation"]
        posterior = (ops.convert_to_tensor(own[name]) for name in ("mean", "log_variance"))
        own["kl_per_latent"] = ops.convert_to_numpy(vae.prior.kl_per_latent(*posterior))
        gradients = gradients_of(vae, train[:BATCH])
        if not float(
            ops.convert_to_numpy(vae.step)
        ):  # a flow begins as the identity, which hides its first layers
            gradients = {n: g for n, g in gradients.items() if not n.startswith("prior/")}
        numbers |= measured(vae, own, seed) | {
            f"{split}_loss": float(values["loss"].mean()) for split, values in seen.items()
        }
        found += [
            checks.check_latents(
                own["kl_per_latent"].mean(axis=0),
                beta,
                warmup,
                int(numbers["active"]),
                numbers["kl"],
            ),
            checks.check_prior_gap(
                numbers["kl"],
                numbers["information"],
                numbers["moment_gap"],
                len(validation),
                vae.latent_dim,
                numbers["spread"],
                beta,
                not isinstance(vae.prior, StandardNormal),
            ),
            checks.check_overfitting(
                history.get("val_loss", ()), seen["train"]["loss"], own["loss"]
            ),
            checks.check_gradients(gradients),
        ]
        drawings |= pictured(vae, own, validation, gradients, seed)
        if "scale" in own:
            numbers["at_bound"] = float((own["scale"] < 1.1 * vae.likelihood.min_scale).mean())
            found.append(checks.check_scale(numbers["at_bound"], vae.likelihood))
    found.sort(key=rank)
    looked = f"{what}, {len(train):,} train and {len(validation):,} validation images"
    return Diagnosis(f"{looked} of {dataset.name}", found, numbers, drawings)


def pictured(
    vae: VAE,
    own: Mapping[str, np.ndarray],
    validation: np.ndarray,
    gradients: Mapping[str, np.ndarray],
    seed: int,
) -> dict[str, Any]:
    """What the panels show of one pass over validation images."""
    gap = prior_gap_at_least(vae.prior, own["mean"], own["log_variance"], seed)
    noise = ops.convert_to_numpy(vae.prior.noise(len(own["noise"]), seed))
    drawings: dict[str, Any] = {
        "latents": {"kl": own["kl_per_latent"].mean(axis=0)},
        "prior": {
            "posterior": np.linalg.norm(own["noise"], axis=1),
            "prior": np.linalg.norm(noise, axis=1),
            "gap": checks.beyond_chance(gap, *own["mean"].shape),
        },
        "pixels": {
            "images": some(validation.astype("float32") / white(validation), seed),
            "draws": some(own["draws"], seed),
        },
    }
    if "scale" in own:
        bound = vae.likelihood.min_scale
        return drawings | {"scale": {"scale": some(own["scale"], seed), "bound": bound}}
    return drawings | {"gradients": {"sizes": {name: size(g) for name, g in gradients.items()}}}


def rank(finding: Finding) -> tuple[int, int]:
    """Where a finding stands: the worst first, those alike in a fixed order."""
    return -checks.SEVERITIES.index(finding.severity), checks.NAMES.index(finding.name)


def sampled(images: np.ndarray, count: int, seed: int, vae: VAE) -> np.ndarray:
    """So many images at random, of the model's size."""
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    return fitted(images[chosen], vae.image_shape)


def white(images: np.ndarray) -> float:
    """What white is."""
    return 1.0 if images.dtype.kind == "f" else 255.0


def some(values: np.ndarray, seed: int) -> np.ndarray:
    """Values at random, enough for a histogram."""
    values = values.reshape(-1)
    if len(values) <= PIXELS:
        return values
    return np.random.default_rng(seed).choice(values, PIXELS)


def kl_over_time(
    history: Mapping[str, Sequence[float]], latents: Mapping[str, Sequence[float]]
) -> tuple[list[float], list[float]]:
    """Epochs, and the KL after each: of validation images, of train images where there are none."""
    for name in ("val_kl", "kl"):
        if name in history:
            return list(range(1, len(history[name]) + 1)), list(history[name])
    columns = [latents[name] for name in latents if name != "epoch"]
    return list(latents.get("epoch", ())), list(np.sum(columns, axis=0)) if columns else []


def looked_at(vae: VAE, images: np.ndarray, seed: int, batch: int = BATCH) -> dict[str, np.ndarray]:
    """One pass over images, with one draw of z for each, or `samples`; the draws start from `seed`.

    Returns:
        (count, …) arrays: `mean`, `log_variance`, `kl`; `noise`, what the prior makes z of; `loss`,
        −ELBO; `draws`, an image drawn from p(x|z) for each; and `scale`, in [0, 1], where the
        likelihood learns one.
    """
    stream, draws = (np.array(ops.convert_to_numpy(v)) for v in state(vae))
    vae.seed_generator.state.assign([seed, 0])
    vae.mean_of_draws.assign(1)
    try:
        images = vae.likelihood.check(images, vae.image_shape)
        return in_batches(functools.partial(look, vae, seed), images, batch)
    finally:
        vae.seed_generator.state.assign(stream)
        vae.mean_of_draws.assign(draws)


def state(vae: VAE) -> tuple:
    """The variables that a look moves."""
    return vae.seed_generator.state, vae.mean_of_draws


def look(vae: VAE, seed: int, images: np.ndarray) -> dict[str, np.ndarray]:
    """What `looked_at` returns, of one batch."""
    outputs = {name: ops.convert_to_tensor(v) for name, v in vae.predict_on_batch(images).items()}
    observed, mean, log_variance = (
        vae.repeated(outputs[name]) for name in ("observed", "mean", "log_variance")
    )
    parameters, z = outputs["parameters"], outputs["z"]
    kl = vae.prior.kl(mean, log_variance, z)
    loss = kl - vae.likelihood.log_prob(observed, parameters)
    first = slice(None, None, vae.samples)
    own = outputs["mean"], outputs["log_variance"]
    values = {
        "mean": own[0],
        "log_variance": own[1],
        "noise": vae.prior.to_noise(z[first]),
        "kl": vae.averaged(kl),
        "loss": vae.averaged(loss),
        "draws": vae.likelihood.sample(parameters[first], seed),
    }
    if checks.learns_scale(vae.likelihood):
        scale = vae.likelihood.location_and_scale(parameters[first])[1]
        levels = 255.0 if isinstance(vae.likelihood, DiscretizedLogistic) else 1.0
        values["scale"] = ops.broadcast_to(scale / levels, ops.shape(values["draws"]))
    return {name: ops.convert_to_numpy(value) for name, value in values.items()}


def measured(vae: VAE, own: Mapping[str, np.ndarray], seed: int) -> dict[str, float]:
    """What posteriors say of the latents and of the prior, in nats, and how wide they spread."""
    mean, log_variance = own["mean"], own["log_variance"]
    return {
        "kl": float(own["kl"].mean()),
        "active": int(active_units(mean).sum()),
        "information": mutual_information(mean, log_variance, seed),
        "moment_gap": prior_gap_at_least(vae.prior, mean, log_variance, seed),
        "spread": float(np.sqrt(np.square(own["noise"]).mean())),
    }


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


def gradients_of(vae: VAE, images: np.ndarray) -> dict[str, np.ndarray]:
    """The gradient of each weight on one batch, by the name of the variable.

    A copy of the model takes one step of plain gradient descent, on whatever backend; how far each
    weight went is its gradient. The steps are long, so that no digit of a small gradient is lost.
    """
    rate = 1e6
    copy = vae.uncompiled()
    copy.objective, copy.free_bits = "elbo", 0.0
    copy.warmup_steps.assign(0)
    copy.compile(keras.optimizers.SGD(rate), auto_scale_loss=False, jit_compile=False)
    weights = {name: v for name, v in weights_of(copy).items() if v.trainable}
    before = [np.array(ops.convert_to_numpy(v), "float64") for v in weights.values()]
    copy.train_on_batch(images)
    return {
        name: (start - np.array(ops.convert_to_numpy(weights[name]), "float64")) / rate
        for name, start in zip(weights, before, strict=True)
    }


def size(gradient: np.ndarray) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.square(gradient).mean()))
