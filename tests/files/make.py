"""Writes small files of every kind, for `test_format.py` to open for ever.

Run it once for each backend when a format is released or a kind is new. What is there stays:

    KERAS_BACKEND=jax python tests/files/make.py

Each file holds a model that was trained for some steps, with its optimizer; beside it, in
`BACKEND.json`, stands what it answered. Archives are packed more tightly than Keras does; what they
hold is as Keras wrote it.
"""

import json
import pathlib
import zipfile

import keras
import numpy as np
from keras import ops

import kvae
from kvae.model.format import FORMAT

# A network, a likelihood, a prior and an objective each, and of a conditional model what it is
# conditional on; every kind at least once.
KINDS = {
    "mlp-bernoulli-flow": (
        ("mlp", {"width": 4, "depth": 1}),
        lambda: kvae.Bernoulli("threshold"),
        lambda: kvae.RealNVP(2, couplings=2, width=4, depth=1),
        lambda: kvae.ELBO(beta=2.0, warmup_steps=50),
    ),
    "conv-logistic-iwae": (
        ("conv", {"channels": 2, "width": 4}),
        kvae.DiscretizedLogistic,
        lambda: kvae.StandardNormal(2),
        lambda: kvae.ImportanceWeighted(samples=2),
    ),
    "spatial-mixture": (
        ("spatial", {"channels": 2}),
        lambda: kvae.LogisticMixture(2),
        lambda: kvae.StandardNormal(2),
        kvae.ELBO,
    ),
    "ladder-coupled": (
        ("ladder", {"groups": ((1, 1), (1, 1)), "channels": 2, "width": 4}),
        lambda: kvae.LogisticMixture(2),
        lambda: kvae.StandardNormal(2),
        kvae.ELBO,
    ),
    "ladder-blocks": (
        ("ladder", {"groups": ((1, 1), (2, 1)), "channels": 2, "width": 4}),
        lambda: kvae.Bernoulli("threshold"),
        lambda: kvae.Blockwise(
            [kvae.StandardNormal(1), kvae.RealNVP(4, couplings=2, width=4, depth=1)]
        ),
        lambda: kvae.ELBO(fine_beta=5.0, fine_steps=8, free_bits=0.01),
    ),
    "dense-gaussian-pixel-flow": (
        ("dense", {"widths": (4,)}),
        kvae.Gaussian,
        lambda: kvae.RealNVP(2, couplings=1, width=4, depth=1),
        lambda: kvae.ELBO(free_bits=0.1),
    ),
    "pooled-continuous-samples": (
        ("pooled", {"channels": (2,), "last_channels": 2, "widths": (4,)}),
        kvae.ContinuousBernoulli,
        lambda: kvae.StandardNormal(2),
        lambda: kvae.ELBO(samples=2),
    ),
    "resnet-gaussian-shared": (
        ("resnet", {"channels": (2, 2), "depth": 1}),
        lambda: kvae.Gaussian("shared"),
        lambda: kvae.StandardNormal(2),
        kvae.ELBO,
    ),
    "dense-gaussian-fixed-mean-of-draws": (
        ("dense", {"widths": (4,), "activation": "tanh"}),
        lambda: kvae.Gaussian(0.5),
        lambda: kvae.StandardNormal(2),
        lambda: kvae.ELBO(mean_of_draws=2),
    ),
    "dense-correlation": (
        ("dense", {"widths": (4,)}),
        lambda: kvae.Bernoulli("threshold"),
        lambda: kvae.StandardNormal(2),
        lambda: kvae.TotalCorrelation(beta=3.0, warmup_steps=50, samples=2),
    ),
    "dense-discrepancy": (
        ("dense", {"widths": (4,)}),
        lambda: kvae.Bernoulli("threshold"),
        lambda: kvae.StandardNormal(2),
        lambda: kvae.MeanDiscrepancy(beta=0.5, mmd_weight=20.0),
    ),
    "dense-capacity": (
        ("dense", {"widths": (4,)}),
        lambda: kvae.Bernoulli("threshold"),
        lambda: kvae.StandardNormal(2),
        lambda: kvae.Capacity(beta=10.0, warmup_steps=50, capacity=3.0),
    ),
    "dense-covariance": (
        ("dense", {"widths": (4,)}),
        lambda: kvae.Bernoulli("threshold"),
        lambda: kvae.StandardNormal(2),
        lambda: kvae.InferredPrior(covariance_of="draws", off_diagonal=2.0),
    ),
    "dense-mixture": (
        ("dense", {"widths": (4,)}),
        lambda: kvae.Bernoulli("threshold"),
        lambda: kvae.GaussianMixture(2, components=3),
        kvae.ELBO,
    ),
    "mlp-of-classes": (
        ("mlp", {"width": 4, "depth": 1}),
        lambda: kvae.Bernoulli("threshold"),
        lambda: kvae.RealNVP(2, couplings=2, width=4, depth=1, context_dim=3),
        kvae.ELBO,
        {"classes": 3},
    ),
    "dense-of-numbers": (
        ("dense", {"widths": (4,)}),
        kvae.ContinuousBernoulli,
        lambda: kvae.StandardNormal(2),
        kvae.ELBO,
        {"context_dim": 2},
    ),
    "dense-partly-labelled": (
        ("dense", {"widths": (4,)}),
        lambda: kvae.Bernoulli("threshold"),
        lambda: kvae.GaussianMixture(2, components=2, context_dim=3),
        kvae.ELBO,
        {"classes": 3, "partly_labelled": True},
    ),
}
HERE = pathlib.Path(__file__).parent


def images() -> np.ndarray:
    """The images that every model was asked about: (8, 8, 8, 1), uint8."""
    return np.random.RandomState(0).randint(0, 256, (8, 8, 8, 1)).astype("uint8")


def told(vae, unknown: bool = False) -> np.ndarray | None:
    """What a conditional model is told of the images: classes, some −1 if asked for, or numbers."""
    if vae.condition is None:
        return None
    if not vae.classes:
        return np.linspace(-1, 1, 16, dtype="float32").reshape(8, 2)
    return np.array([0, 1, 2, 0, -1, 2, -1, 1]) if unknown else np.arange(8) % 3


def answers(vae) -> dict:
    """What a model says of them: latents, images from fixed latents, and the loss; lists."""
    known = told(vae)
    some = None if known is None else known[:3]
    mean, log_variance = vae.encode(images(), classes=known)
    z = np.linspace(-1, 1, 3 * vae.latent_dim, dtype="float32").reshape(3, vae.latent_dim)
    vae.seed_generator.state.assign([5, 0])
    rows = told(vae, vae.partly_labelled)
    figures = vae.evaluate(images(), rows, batch_size=4, verbose=0, return_dict=True)
    drawn = vae.prior.from_noise(z, **kvae.priors.given(vae.rows(some, 3)))
    found = {
        "mean": mean,
        "log_variance": log_variance,
        "decoded": vae.decode(z, classes=some),
        "drawn": vae.decode(ops.convert_to_numpy(drawn), classes=some),
        **{name: np.float32(value) for name, value in figures.items()},
        "step": ops.convert_to_numpy(vae.step),
        "beta": ops.convert_to_numpy(vae.beta),
        "warmup_steps": ops.convert_to_numpy(vae.warmup_steps),
    }
    return {name: np.asarray(value, "float64").round(5).tolist() for name, value in found.items()}


def made(network, likelihood, prior, objective, condition=None) -> kvae.VAE:
    """A model of one kind, trained for a few steps."""
    keras.utils.set_random_seed(0)
    name, arguments = network
    likelihood, prior = likelihood(), prior()
    latents, each = prior.latent_dim, likelihood.parameters_per_value
    condition = dict(condition or {})
    size = condition.pop("context_dim", condition.get("classes"))
    vae = kvae.VAE(
        kvae.build_encoder((8, 8, 1), latents, name, size, **arguments),
        kvae.build_decoder((8, 8, 1), latents, name, each, size, **arguments),
        likelihood,
        prior,
        objective(),
        seed=1,
        card={"dataset": "noise"},
        **condition,
    )
    vae.compile(keras.optimizers.Adam(1e-2, global_clipnorm=10.0))
    rows = told(vae, vae.partly_labelled)
    vae.fit(images(), rows, batch_size=4, epochs=3, verbose=0)
    return vae


def pack(path: pathlib.Path) -> None:
    """Packs an archive more tightly."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)


def main() -> None:
    """Writes the files of the backend that Keras works with that are not there yet."""
    folder = HERE / f"format-{FORMAT}"
    folder.mkdir(exist_ok=True)
    backend = keras.backend.backend()
    known = folder / f"{backend}.json"
    said = json.loads(known.read_text()) if known.exists() else {}
    for name, parts in KINDS.items():
        path = folder / f"{backend}-{name}.keras"
        if path.exists():
            continue
        vae = made(*parts)
        vae.save(path)
        pack(path)
        said[name] = answers(vae)
    known.write_text(json.dumps(said))


if __name__ == "__main__":
    main()
