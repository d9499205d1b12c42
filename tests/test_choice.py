"""What images ask for, where the user names nothing: a preset and a likelihood."""

import sys

import numpy as np
import pytest
from marks import not_on_jax, once

import kvae
from kvae import Recipe
from kvae.training.choice import likelihood_for, preset_for

RNG = np.random.default_rng(0)


def data(*shape, low=0, high=256):
    return kvae.data.from_arrays(RNG.integers(low, high, (12, *shape)).astype("uint8"))


def strokes(*shape):
    return kvae.data.from_arrays((RNG.random((12, *shape)) < 0.2).astype("uint8") * 255)


@pytest.mark.parametrize(
    "shape, preset",
    [
        ((8, 8, 1), "mlp"),
        ((16, 16, 3), "mlp"),
        ((17, 16, 1), "conv"),
        ((28, 28, 1), "conv"),
        ((40, 20, 1), "conv"),
        ((28, 28, 3), "conv-colour"),
        ((32, 32, 3), "conv-colour"),
        ((64, 64, 1), "conv-colour"),
        ((32, 33, 1), "conv-colour"),
    ],
)
def test_the_preset_goes_by_the_size(shape, preset):
    assert preset_for(data(*shape))[0] == preset


@pytest.mark.parametrize("asked, batch_size", [(None, 16), (64, 64)])
def test_large_images_come_in_smaller_batches_unless_the_user_says(asked, batch_size):
    images = data(128, 512, 3)
    recipe, why = sys.modules["kvae.training.train"].chosen(images, "auto", {"batch_size": asked})
    assert recipe.batch_size == batch_size
    assert ("batches of 16 for the memory that such images take" in why) == (asked is None)


def test_strokes_are_bernoulli_and_pictures_are_not():
    assert likelihood_for(Recipe(), strokes(8, 8, 1))[0] == "bernoulli"
    assert likelihood_for(Recipe(), kvae.data.load("digits"))[0] == "bernoulli"
    assert likelihood_for(Recipe(), data(8, 8, 1))[0] == "logistic-mixture"
    assert likelihood_for(Recipe(), strokes(8, 8, 3))[0] == "logistic-mixture"


@once
def test_mnist_is_bernoulli(mnist):
    assert likelihood_for(Recipe(), mnist)[0] == "bernoulli"
    assert preset_for(mnist)[0] == "conv"


def test_floats_that_are_no_levels_have_a_density():
    floats = RNG.random((12, 8, 8, 3)).astype("float32")
    assert likelihood_for(Recipe(), kvae.data.from_arrays(floats))[0] == "gaussian"
    levels = (data(8, 8, 3).train / 255).astype("float32")
    assert likelihood_for(Recipe(), kvae.data.from_arrays(levels))[0] == "logistic-mixture"


def test_what_belongs_to_a_likelihood_asks_for_it():
    assert likelihood_for(Recipe(binarize="threshold"), data(8, 8, 3))[0] == "bernoulli"
    assert likelihood_for(Recipe(scale="shared"), data(8, 8, 3))[0] == "gaussian"


@not_on_jax
def test_a_run_says_what_was_chosen_and_why_and_its_recipe_has_it(tmp_path, capsys):
    dataset = data(8, 8, 3)
    out = tmp_path / "vae.keras"
    vae = kvae.train(dataset, epochs=1, latent_dim=2, batch_size=4, out=out)
    said = capsys.readouterr().out
    assert "preset mlp for small images, likelihood logistic-mixture for pictures" in said
    recipe = Recipe.from_card(vae.card)
    assert (recipe.preset, recipe.likelihood) == ("mlp", "logistic-mixture")
    assert isinstance(kvae.load(out).likelihood, kvae.LogisticMixture)


@not_on_jax
def test_what_the_user_names_is_taken(tmp_path):
    settings = {"epochs": 1, "latent_dim": 2, "batch_size": 4, "verbose": 0}
    out = tmp_path / "vae.keras"
    vae = kvae.train(data(8, 8, 3), "mlp-400", out=out, likelihood="gaussian", **settings)
    assert isinstance(vae.likelihood, kvae.Gaussian) and vae.card["preset"] == "mlp-400"
    vae = kvae.train(data(8, 8, 3), "mlp-400", out=out, **settings)
    assert isinstance(vae.likelihood, kvae.Bernoulli), "a published model is as it was published"


def test_without_images_the_channels_decide():
    shapes = {(8, 8, 1): kvae.Bernoulli, (8, 8, 3): kvae.LogisticMixture}
    for shape, kind in shapes.items():
        assert isinstance(kvae.VAE.from_preset("mlp", shape).likelihood, kind)
