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
    assert images.shape == ((4, 64, 64, 3) if name == "shapes" else (4, 28, 28, 1))
    assert images.std() > 0.02
    assert shipped.path_of(name).stat().st_size < 10e6
    assert not vae.compiled


@every_model
def test_its_card_says_how_to_make_it_and_what_it_was_trained_on(name):
    card = loaded(name).card
    assert card["command"].startswith("kvae train --")
    assert f"--dataset {name.split('-')[0]}" in card["command"]
    counts = (6_000, 1_000) if name == "shapes" else (55_000, 10_000)
    assert (card["images"]["train"], card["test"]["protocol"]["images"]) == counts


@pytest.mark.slow
def test_some_images_score_about_as_the_card_says(mnist):
    vae = kvae.load("mnist")
    elbo = evaluation.terms(vae, evaluation.posterior(vae, mnist.test[:500])).elbo
    error = elbo.std() / np.sqrt(len(elbo))
    assert error < 2
    assert abs(elbo.mean() - vae.card["test"]["elbo"]) < 4 * error


@pytest.mark.slow
@every_model
def test_its_figures_are_those_of_its_file(name, request):
    vae = kvae.load(name)
    data = kvae.data.load(name) if name == "shapes" else request.getfixturevalue("mnist")
    of = evaluation.posterior(vae, data.test, classes=vae.known(data.test_labels))
    assert of.observed_hash == vae.card["test"]["protocol"]["observed_hash"]
    elbo = evaluation.terms(vae, of).elbo.mean()
    np.testing.assert_allclose(elbo, vae.card["test"]["elbo"], rtol=3e-5)


@every_model
def test_noise_becomes_latents_and_latents_noise(name):
    prior, condition = loaded(name).prior, loaded(name).condition
    rows = [] if condition is None else [condition.spread(None, 1000)]
    noise = ops.convert_to_tensor(
        np.random.default_rng(0).standard_normal((1000, loaded(name).latent_dim), "float32")
    )
    again = prior.to_noise(prior.from_noise(noise, *rows), *rows)
    np.testing.assert_allclose(ops.convert_to_numpy(again), ops.convert_to_numpy(noise), atol=1e-4)


def test_a_file_comes_before_a_shipped_model(make_vae, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_vae().save("mnist.keras")
    (tmp_path / "mnist.keras").rename("mnist")
    with pytest.raises(ValueError, match="name of a model's file ends in .keras"):
        kvae.load("mnist")


def test_a_name_that_is_none_is_told_those_that_there_are():
    with pytest.raises(FileNotFoundError, match="no model at minst.*mnist-conditional, shapes"):
        kvae.load("minst")
