import functools

import numpy as np
import pytest
from keras import ops

import kvae
from kvae import evaluation, shipped

every_model = pytest.mark.parametrize("name", shipped.SHIPPED)
loaded = functools.cache(kvae.load)


@every_model
def test_a_shipped_model_loads_by_its_name_and_draws(name):
    vae = loaded(name)
    images = vae.generate(4, seed=0)
    assert images.shape == (4, 28, 28, 1)
    assert images.std() > 0.1
    assert shipped.path_of(name).stat().st_size < 10e6
    assert not vae.compiled


@every_model
def test_its_card_says_how_to_make_it_and_what_it_was_trained_on(name):
    card = loaded(name).card
    assert card["command"].startswith("kvae train --")
    assert "--dataset mnist" in card["command"]
    assert card["images"]["train"] == 55_000
    assert card["test"]["protocol"]["images"] == 10_000


@pytest.mark.slow
def test_some_images_score_about_as_the_card_says(mnist):
    vae = kvae.load("mnist")
    elbo = evaluation.terms(vae, evaluation.posterior(vae, mnist.test[:500])).elbo
    error = elbo.std() / np.sqrt(len(elbo))
    assert error < 2
    assert abs(elbo.mean() - vae.card["test"]["elbo"]) < 4 * error


@pytest.mark.slow
@every_model
def test_its_figures_are_those_of_its_file(name, mnist):
    vae = kvae.load(name)
    of = evaluation.posterior(vae, mnist.test)
    assert of.observed_hash == vae.card["test"]["protocol"]["observed_hash"]
    elbo = evaluation.terms(vae, of).elbo.mean()
    np.testing.assert_allclose(elbo, vae.card["test"]["elbo"], atol=2e-3)


@every_model
def test_noise_becomes_latents_and_latents_noise(name):
    prior = loaded(name).prior
    noise = ops.convert_to_tensor(np.random.default_rng(0).standard_normal((1000, 40), "float32"))
    again = prior.to_noise(prior.from_noise(noise))
    np.testing.assert_allclose(ops.convert_to_numpy(again), ops.convert_to_numpy(noise), atol=1e-4)


def test_a_file_comes_before_a_shipped_model(make_vae, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_vae().save("mnist.keras")
    (tmp_path / "mnist.keras").rename("mnist")
    with pytest.raises(ValueError, match="name of a model's file ends in .keras"):
        kvae.load("mnist")


def test_a_name_that_is_none_is_told_those_that_there_are():
    with pytest.raises(FileNotFoundError, match="no model at minst.*mnist, mnist-conv-large"):
        kvae.load("minst")
