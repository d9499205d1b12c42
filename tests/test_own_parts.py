"""Parts as users write them: each trains, is saved, loaded, generates and is evaluated."""

import pathlib
import re

import keras
import numpy as np
import pytest
from keras import layers, ops

import kvae

GUIDE = pathlib.Path(kvae.__file__).with_name("README.md").read_text()
SECTION = GUIDE.partition("\n## Parts of your own")[2].partition("\n## ")[0]
SNIPPETS = dict(re.findall(r"```python\n(?=# (\w+))(.*?)```", SECTION, re.S))


@keras.saving.register_keras_serializable(package="own")
class Laplace(kvae.Likelihood):
    """Laplace pixels of one fixed scale."""

    measure = "density"

    def __init__(self, scale=0.2, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def log_prob(self, observed, parameters):
        distance = ops.abs(observed - ops.sigmoid(parameters)) / self.scale
        return -ops.sum(distance + np.log(2 * self.scale), axis=(1, 2, 3))

    def mean(self, parameters):
        return ops.sigmoid(parameters)

    def sample(self, parameters, seed=None):
        noise = keras.random.uniform(ops.shape(parameters), -0.4999, 0.4999, seed=seed)
        return self.mean(parameters) - self.scale * ops.sign(noise) * ops.log1p(-2 * ops.abs(noise))

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable(package="own")
class Affine(kvae.Prior):
    """A learned scale and shift of standard normal noise, in a stock layer."""

    def __init__(self, latent_dim, **kwargs):
        super().__init__(latent_dim, **kwargs)
        self.shift = keras.Sequential(
            [keras.Input((latent_dim,)), layers.Normalization(mean=0.5, variance=4.0)]
        )

    def log_prob(self, z, context=None):
        log_scale = self.latent_dim * np.log(2.0)
        return kvae.StandardNormal(self.latent_dim).log_prob(self.to_noise(z)) - log_scale

    def to_noise(self, z, context=None):
        return self.shift(z)

    def from_noise(self, noise, context=None):
        return 2.0 * noise + 0.5


@keras.saving.register_keras_serializable(package="own")
class Capacity(kvae.Objective):
    """Reconstruction, and the distance of the KL from a capacity, which is a metric too."""

    shown = ("distance",)

    def __init__(self, capacity=1.0, **kwargs):
        super().__init__(**kwargs)
        self.capacity = capacity

    def loss(self, terms, training=True):
        distance = ops.abs(terms.mean_of(terms.kl) - self.capacity)
        terms.shown["distance"] = distance
        return terms.mean_of(terms.reconstruction) + self.kl_weight(training) * distance

    def get_config(self):
        return {**super().get_config(), "capacity": self.capacity}


def features(images, units=8):
    return layers.Dense(units, "relu")(layers.Flatten()(images))


def parameters(latents, shape, units=8):
    hidden = layers.Dense(units, "relu")(latents)
    return layers.Reshape(shape, dtype="float32")(layers.Dense(int(np.prod(shape)))(hidden))


PARTS = {
    "likelihood": lambda: Laplace(0.3),
    "prior": lambda: Affine(3),
    "objective": lambda: Capacity(2.0, beta=0.5, warmup_steps=3),
    "network": lambda: kvae.Network(features, parameters),
}


@pytest.mark.parametrize(
    "own",
    [
        tuple(PARTS),
        *(pytest.param((name,), marks=pytest.mark.slow) for name in PARTS),
    ],
    ids=" ".join,
)
def test_parts_of_the_users_own_go_all_the_way(own, images, tmp_path):
    given = {name: PARTS[name]() for name in own}
    network = given.pop("network", "mlp")
    size = {"units": 12} if network != "mlp" else {"width": 8, "depth": 1}
    vae = kvae.VAE(
        kvae.build_encoder((8, 8, 1), 3, network, **size),
        kvae.build_decoder((8, 8, 1), 3, network, **size),
        **given,
        seed=0,
    )
    vae.compile(keras.optimizers.Adam(1e-2))
    losses = vae.fit(images, epochs=8, batch_size=64, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    vae.save(tmp_path / "vae.keras")
    again = kvae.load(tmp_path / "vae.keras")
    for name in ("likelihood", "prior", "objective"):
        assert getattr(again, name).get_config() == getattr(vae, name).get_config()
    np.testing.assert_allclose(again.generate(4, seed=1), vae.generate(4, seed=1), atol=1e-5)
    dataset = kvae.data.from_arrays(images)
    found, same = (
        kvae.evaluate(model, dataset, samples=0, importance_samples=5) for model in (vae, again)
    )
    assert np.isfinite(found.per_image["nll"]).all()
    np.testing.assert_allclose(same.per_image["nll"], found.per_image["nll"], rtol=1e-4)
    assert kvae.diagnose(vae, dataset, count=20).finding("gradients").severity != "problem"


def test_a_new_objective_is_the_loss(images, make_vae):
    vae = make_vae(objective=Capacity(2.0, beta=0.5), likelihood=kvae.Bernoulli("threshold"))
    found = vae.evaluate(images, batch_size=64, verbose=0, return_dict=True)
    expected = found["reconstruction"] + 0.5 * abs(found["kl"] - 2.0)
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(found["distance"], abs(found["kl"] - 2.0), rtol=1e-5)


def test_networks_may_have_a_context_as_a_second_input():
    encoder = kvae.build_encoder((8, 8, 1), 3, context_dim=5, width=8, depth=1)
    decoder = kvae.build_decoder((8, 8, 1), 3, context_dim=5, width=8, depth=1)
    images, z, context = np.zeros((2, 8, 8, 1)), np.zeros((2, 3)), np.eye(5)[:2]
    assert [tuple(head.shape) for head in encoder([images, context])] == [(2, 3)] * 2
    one, other = ops.convert_to_numpy(decoder([z, context]))
    assert abs(one - other).max() > 1e-6
    assert kvae.VAE(encoder, decoder).condition.size == 5


@pytest.mark.parametrize("prior", [kvae.StandardNormal(3), kvae.RealNVP(3, couplings=1)])
def test_priors_take_a_context_and_do_not_need_one(prior):
    z, context = np.ones((2, 3), "float32"), np.zeros((2, 5), "float32")
    for method in (prior.log_prob, prior.to_noise, prior.from_noise):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(method(z, context)), ops.convert_to_numpy(method(z))
        )


@pytest.mark.every_backend
@pytest.mark.parametrize("name, figure", [("context", "kl"), ("objective", "val_weight"),
                                          ("metric", "val_squared_error")])  # fmt: skip
def test_what_the_guide_says_of_parts_of_your_own_runs(name, figure, tmp_path, monkeypatch):
    """As it stands there, but with less of everything."""
    assert SNIPPETS[name].count("\n") < 40
    digits = kvae.data.load("digits")
    some = kvae.data.from_arrays(digits.train[:64])
    monkeypatch.setattr(kvae.data, "load", lambda name: some)
    small = kvae.presets.get("mlp").replaced(network_arguments={"width": 8, "depth": 1})
    scope = {"small": small}
    short = SNIPPETS[name].replace("epochs=30", "epochs=2, verbose=0").replace('"mlp"', "small")
    exec(short, scope)
    vae, history = scope["vae"], scope["history"].history
    assert np.isfinite(history[figure]).all()
    vae.save(tmp_path / "vae.keras")
    again = kvae.load(tmp_path / "vae.keras")
    told = {"classes": [[0.3]]} if name == "context" else {}
    np.testing.assert_allclose(
        again.generate(2, seed=0, **told), vae.generate(2, seed=0, **told), atol=1e-5
    )
    assert type(again.prior) is type(vae.prior) and type(again.objective) is type(vae.objective)
    if name == "context":
        assert scope["little"].shape == (8, 8, 1)
        vae.generator()  # of stock layers
    if name == "objective":
        assert history["weight"][0] < 1 == history["val_weight"][0]
    if name == "metric":
        found = vae.evaluate(some.validation, verbose=0, return_dict=True)
        assert 0 < found["squared_error"] < 64
