"""A prior that is fitted to the latents of a trained model."""

import dataclasses

import numpy as np
import pytest
from commands import assert_refused, call
from keras import ops

import kvae
from kvae.training.fit_prior import encoded, nats

pytestmark = pytest.mark.every_backend


@pytest.fixture(scope="module")
def data(images):
    labels = np.arange(64) % 2
    return kvae.data.from_arrays(
        images, validation=images[:32], test=images[32:], train_labels=labels,
        validation_labels=labels[:32], test_labels=labels[32:], name="bars",
    )  # fmt: skip


def numpy(variables):
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


def test_the_prior_comes_nearer_and_all_else_stays(make_vae, data):
    vae = make_vae(likelihood=kvae.Bernoulli("threshold"))
    for weight in vae.encoder.weights[-4:]:  # posteriors that are far from N(0, I)
        weight.assign(1.0 + ops.convert_to_numpy(weight))
    before = numpy(vae.variables)
    made = kvae.fit_prior(vae, data, epochs=20, batch_size=32, learning_rate=1e-2)
    for was, now in zip(before, numpy(vae.variables), strict=True):
        np.testing.assert_array_equal(was, now)
    for part in ("encoder", "decoder"):
        pairs = (numpy(getattr(one, part).weights) for one in (vae, made))
        for one, other in zip(*pairs, strict=True):
            np.testing.assert_array_equal(one, other)
    found = made.card["fitted_prior"]["nats_of_validation"]
    assert found["after"] < found["before"] - 0.1
    bounds = [kvae.evaluation.test_figures(one, data.test, 0) for one in (vae, made)]
    assert bounds[1]["reconstruction"] == pytest.approx(bounds[0]["reconstruction"], abs=1e-3)
    assert bounds[1]["kl"] < bounds[0]["kl"]
    assert made.card["test"]["elbo"] == bounds[1]["elbo"]


def test_the_nats_are_those_of_a_normal_distribution(make_vae, data):
    vae = make_vae()
    mean, log_variance = encoded(vae, data, "validation", 0)
    second = mean**2 + np.exp(log_variance)
    expected = 0.5 * (second + np.log(2 * np.pi)).sum(axis=1).mean()
    many = tuple(np.repeat(part, 400, axis=0) for part in (mean, log_variance))
    assert nats(vae.prior, many, 0) == pytest.approx(expected, rel=0.02)


def test_of_a_conditional_model_it_is_conditional(data):
    vae = kvae.VAE(
        kvae.build_encoder((8, 8, 1), 3, context_dim=2, width=8, depth=1),
        kvae.build_decoder((8, 8, 1), 3, context_dim=2, width=8, depth=1),
        classes=2,
    )
    made = kvae.fit_prior(vae, data, epochs=1)
    assert made.prior.context_dim == 2 and made.classes == 2


def test_classes_are_matched_by_their_names(data):
    """In the data set class 0 is what the model knows as class 1."""
    vae = kvae.VAE(
        kvae.build_encoder((8, 8, 1), 3, context_dim=2, width=8, depth=1),
        kvae.build_decoder((8, 8, 1), 3, context_dim=2, width=8, depth=1),
        classes=2,
        card={"class_names": ["one", "two"]},
    )
    turned = dataclasses.replace(data, class_names=("two", "one"))
    *_, rows = encoded(vae, turned, "validation", 0)
    np.testing.assert_array_equal(rows.argmax(axis=1), 1 - data.validation_labels)
    with pytest.raises(ValueError, match="The model knows no class 'cat'; it knows one, two"):
        kvae.fit_prior(vae, dataclasses.replace(data, class_names=("one", "cat")), epochs=1)


def test_the_card_says_what_was_fitted(make_vae, data):
    recipe = kvae.Recipe(latent_dim=3, prior="standard-normal").as_dict()
    vae = make_vae(card={"recipe": recipe, "train": {"elbo": -50.0}})
    for prior, name, settings in (
        (None, "real-nvp", (10, None)),
        (kvae.GaussianMixture(3, components=4), "mixture", (None, 4)),
    ):
        made = kvae.fit_prior(vae, data, prior, epochs=1)
        assert made.card["fitted_prior"]["prior"] == type(made.prior).__name__
        again = kvae.Recipe.from_card(made.card)
        assert (again.prior, again.couplings, again.components) == (name, *settings)
        assert "train" not in made.card and vae.card["recipe"] == recipe
        assert type(kvae.VAE.from_preset(again, (8, 8, 1)).prior) is type(made.prior)
    with pytest.raises(ValueError, match="`prior` must have weights to fit. Received: StandardN"):
        kvae.fit_prior(vae, data, kvae.StandardNormal(3))


def test_latents_in_groups_are_refused(data):
    vae = kvae.VAE.from_preset(
        kvae.Recipe(
            network="ladder", network_arguments={"groups": ((1, 3), (2, 1)), "channels": 4}
        ),
        (8, 8, 1),
    )
    with pytest.raises(ValueError, match="one group, and this model has 2"):
        kvae.fit_prior(vae, data)


def test_the_command_writes_another_model(make_vae, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("bars.npz", x_train=images, x_test=images[:30])
    make_vae(card={"origin": "bars.npz", "dataset": "bars"}).save("a.keras")
    said = call("fit-prior", "a.keras", "--out", "b.keras", "--epochs", 1, "--quiet").output
    assert "-log p(z) of validation images: " in said and "Model: b.keras" in said
    assert isinstance(kvae.load("b.keras").prior, kvae.RealNVP)
    assert_refused(["fit-prior", "a.keras", "--out", "a.keras"], 2, "must differ from the file")
    # Over its own file of before, and over no other.
    more = ["--prior", "mixture", "--components", 3, "--epochs", 1, "--quiet"]
    call("fit-prior", "a.keras", "--out", "b.keras", *more)
    assert kvae.load("b.keras").prior.components == 3
    before = (tmp_path / "a.keras").read_bytes()
    said = call("fit-prior", "b.keras", "--out", "a.keras", code=1).stderr
    assert "a.keras is there already, and has no fitted prior: choose another --out" in said
    assert (tmp_path / "a.keras").read_bytes() == before
    said = call("fit-prior", "a.keras", "--out", "c.keras", "--components", 3, code=1).stderr
    assert "'real-nvp' has no argument `components`. Those that have it: mixture." in said
