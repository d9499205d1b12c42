"""Small models that tests export, and what goes in and comes out."""

import importlib
import importlib.util
import os
import pathlib

import keras
import numpy as np
import pytest
from flows import flow
from marks import once

import kvae
from kvae.exports import FORMATS
from kvae.model import Graph

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def needs(name):
    """Skips where a runtime is missing, and fails where .ci/run has installed all."""
    missing = [one for one in FORMATS[name].modules if importlib.util.find_spec(one) is None]
    if missing and os.environ.get("KVAE_RUNTIMES") == "all":
        pytest.fail(f"{', '.join(missing)} should be installed")
    if missing:
        pytest.skip(f"{missing[0]} is not installed: pip install 'keras-vae[export,torch]'")


def converts(test):
    """A test that writes exports in this process: converters have warnings of their own."""
    for mark in (once, pytest.mark.slow, pytest.mark.filterwarnings("ignore")):
        test = mark(test)
    return test


def path_of(name, stem="a"):
    return pathlib.Path(stem + FORMATS[name].suffix)


def moved(vae, by=0.1):
    """The same model, no weight of it where it began, so that none is 0."""
    random = np.random.default_rng(0)
    for weight in vae.weights:
        if weight.dtype == "float32" and "moving" not in weight.path:
            noise = by * random.standard_normal(weight.shape)
            weight.assign(keras.ops.convert_to_numpy(weight) + noise.astype("float32"))
    return vae


def small(preset="mlp-400", shape=(8, 8, 1), latent_dim=3, **arguments):
    return moved(kvae.VAE.from_preset(preset, shape, latent_dim=latent_dim, **arguments))


def ladder(classes=None):
    shape = {"groups": ((1, 3), (2, 2)), "channels": 4, "width": 16, "context_dim": classes}
    count = 3 + 2 * 4
    encoder = kvae.build_encoder((8, 8, 1), count, "ladder", **shape)
    decoder = kvae.build_decoder((8, 8, 1), count, "ladder", 1, **shape)
    return moved(kvae.VAE(encoder, decoder, classes=classes))


def sharp():
    """A model whose logistics are so narrow that exp(x / scale) is infinite."""
    vae = small(likelihood=kvae.DiscretizedLogistic())
    vae.decoder.weights[-1].assign(np.tile(np.array([0.2, -30], "float32"), 64))
    return vae


KINDS = {
    "plain": small,
    "binarised": lambda: small(likelihood=kvae.Bernoulli("threshold")),
    "classes": lambda: small(classes=3),
    "partly labelled": lambda: small(classes=3, partly_labelled=True),
    "numbers": lambda: small(context_dim=2),
    "flow": lambda: small(prior=flow()),
    "conv": lambda: small("conv"),
    "ladder": ladder,
    "ladder of classes": lambda: ladder(3),
    "continuous": lambda: small(likelihood=kvae.ContinuousBernoulli()),
    "gaussian": lambda: small(likelihood=kvae.Gaussian()),
    "mixture": lambda: small(shape=(8, 8, 3), likelihood=kvae.LogisticMixture()),
    "sharp": sharp,
}


def feeds(vae, part, count=3):
    """Inputs of a graph by name, in its order."""
    random = np.random.default_rng(1)
    found = {
        "images": np.rint(255 * random.random((count, *vae.image_shape))).astype("float32") / 255,
        "noise": random.standard_normal((count, vae.latent_dim), "float32"),
        "classes": classes_of(vae, count),
    }
    found["latents"] = found["noise"]
    return {name: found[name] for name in Graph(vae, part).input_specs}


def classes_of(vae, count=3):
    if vae.condition is None:
        return None
    if vae.condition.classes:
        return (np.arange(count) % vae.condition.classes).astype("int32")
    return np.random.default_rng(2).standard_normal((count, vae.condition.size), "float32")


def outputs_of(graph, inputs):
    return {name: keras.ops.convert_to_numpy(value) for name, value in graph(inputs).items()}


OWN_PARTS = """
import keras
import kvae

class Scaled(keras.layers.Layer):
    def call(self, x):
        return 0.5 * x

@keras.saving.register_keras_serializable(package="mine")
class Moved(kvae.StandardNormal):
    def from_noise(self, noise, context=None):
        return noise + 1.0

@keras.saving.register_keras_serializable(package="mine")
def bent(x):
    return keras.ops.maximum(x, 0.1 * x)

def tripled(x):
    return 3.0 * x
"""


def own_model(folder, monkeypatch):
    """A model with a layer, a prior and activations from a module of the user's."""
    (folder / "my_own_parts.py").write_text(OWN_PARTS)
    monkeypatch.syspath_prepend(folder)
    own = importlib.import_module("my_own_parts")
    x = latents = keras.Input((3,))
    for activation in (own.bent, own.tripled):
        x = keras.layers.Dense(8, activation=activation)(x)
    x = keras.layers.Dense(64)(own.Scaled()(x))
    decoder = keras.Model(latents, keras.layers.Reshape((8, 8, 1))(x))
    encoder = kvae.build_encoder((8, 8, 1), 3, width=16, depth=1)
    return kvae.VAE(encoder, decoder, prior=own.Moved(3)), own
