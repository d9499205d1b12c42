"""Very few images: every figure is a sensible one, or absent, or it is said how many it takes."""

import json
import pathlib
import warnings

import numpy as np
import pytest
from click.testing import CliRunner
from kvae_cli import main
from kvae_cli.evaluate import sentence
from kvae_cli.interpolate import pairs
from marks import once

import kvae
from kvae import diagnosis


def drawn(count, kind="grey", shape=(8, 8)):
    """So many images of a kind."""
    values = np.random.default_rng(0).integers(0, 256, (count, *shape)).astype("uint8")
    values[0].flat[0] = 255  # so that they are no black and white
    return {
        "grey": values,
        "float": values / 255,
        "bool": values > 127,
        "black": 0 * values,
    }[kind]


def run(*words):
    """What a command printed; a warning is an error, and so is a figure that is none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=RuntimeWarning)
        result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exception is None, (words, result.stderr, result.exception)
    printed = result.stdout.replace(",", " ").replace("[", " ").replace("]", " ").lower().split()
    assert not {"nan", "inf", "-inf", "infinity", "nan%"} & set(printed), result.stdout
    return result.stdout


@once
def test_three_images_go_through_every_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("few.npz", x_train=drawn(3))
    words = ["train", "--dataset", "few.npz", "--preset", "mlp-400", "--epochs", 1, "--quiet"]
    said = run(*words, "--latent-dim", 2, "--out", "vae.keras")
    assert "±" not in said  # one test image
    printed = run("evaluate", "vae.keras", "vae.keras", "-k", 2, "--quiet")
    assert "±" not in printed and "needs more than one image" in printed
    figures = json.loads(run("evaluate", "vae.keras", "-k", 2, "--json", "--quiet"))
    (found,) = figures["models"].values()
    assert found["bound"]["standard_error"]["elbo"] is None and found["latents"]["active"] is None
    run("evaluate", "vae.keras", "-k", 2, "--split", "train", "--samples", 1, "--quiet")
    assert "±" not in run("doctor", "vae.keras")
    run("curves", "--model", "vae.keras", "--show", "terms")
    run("generate", "--model", "vae.keras", "--like", "test:0", "--count", 1)
    run("reconstruct", "--model", "vae.keras")
    run("score", "test:0", "--model", "vae.keras", "-k", 2, "--map", "map.png")
    run("outliers", "--model", "vae.keras", "-k", 2, "--complexity")
    run("latent", "--model", "vae.keras", "--show", "traversals")


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 5])
def test_few_images_of_a_learned_prior_have_figures_or_none(count, make_vae, make_flow):
    data = kvae.data.from_arrays(drawn(count))
    vae = make_vae(prior=make_flow(3))
    evaluation = kvae.evaluate(vae, data, importance_samples=2)
    json.dumps(evaluation.as_dict(), allow_nan=False)
    latents = evaluation.figures["latents"]
    assert latents["prior_gap_at_least"] is None and latents["kl_per_latent"] is None
    assert "inf" not in f"{evaluation}".split() and "too few images" in f"{evaluation}"
    found = kvae.diagnose(vae, data)
    json.dumps(found.as_dict(), allow_nan=False)
    assert "needs 2 validation images" in found.finding("latents").seen
    assert "moment_gap" not in found.numbers and "latents" not in found.drawings
    found.figure()


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, shape",
    [("float", (5, 9, 3)), ("bool", (8, 8, 1)), ("black", (8, 8, 1)), ("grey", (1, 1, 1))],
)
def test_images_of_any_kind_have_figures(kind, shape, make_vae):
    data = kvae.data.from_arrays(drawn(4, kind, shape), train_labels=np.arange(4) % 2)
    vae = make_vae(image_shape=shape)
    with np.errstate(all="raise", under="ignore"):
        evaluation = kvae.evaluate(vae, data, importance_samples=2)
        found = kvae.diagnose(vae, data)
    json.dumps([evaluation.as_dict(), found.as_dict()], allow_nan=False)
    assert "2 neighbours" in f"{evaluation}" and "±" not in f"{evaluation}{found.text()}"


def test_the_difference_of_one_image_has_no_interval(make_vae):
    data = kvae.data.from_arrays(drawn(3))
    one, other = (kvae.evaluate(make_vae(latent_dim=n), data, importance_samples=2) for n in (2, 3))
    difference = kvae.compare(one, other)
    assert difference["nll"]["low"] is None and difference["nll"]["difference"] != 0
    assert "interval" not in sentence(difference) and "nats per image" in sentence(difference)


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_images_are_refused(count, tmp_path):
    np.save(tmp_path / "few.npy", drawn(count))
    words = ["train", "--dataset", str(tmp_path / "few.npy"), "--out", str(tmp_path / "vae.keras")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1 and "At least 3 train images" in result.stderr


def test_neighbours_stand_in_their_own_rows(make_vae, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("few.npy", drawn(4))  # two to train on
    make_vae().save("vae.keras")
    seen = []
    monkeypatch.setattr(kvae.plots, "grid", lambda cells, columns: seen.append((cells, columns)))
    monkeypatch.setattr(kvae.plots, "save_picture", lambda picture, path: None)
    words = ["evaluate", "vae.keras", "--dataset", "few.npy", "-k", 1, "--neighbours", "n.png"]
    assert "beside the 2 training images" in run(*words, "--samples", 0)
    ((cells, columns),) = seen
    assert len(cells) == 30 and columns == 3


def test_no_path_leads_from_an_image_to_itself():
    images = np.arange(3)
    for count in range(1, 8):
        (starts, ends), _ = pairs(images, None, None, count)
        assert len(starts) == count and (starts != ends).all()


def test_a_path_takes_two_images(make_vae, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("few.npy", drawn(3))
    make_vae().save("vae.keras")
    words = ["interpolate", "--model", "vae.keras", "--dataset", "few.npy"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1 and "needs at least 2" in result.stderr
    assert not pathlib.Path("interpolation.png").exists()


def test_a_plane_of_components_takes_three_images(make_vae, images):
    with pytest.raises(ValueError, match="at least 3 images. Received: 2"):
        kvae.manifold(make_vae(), images[:2], 2)


def test_samples_say_how_many_they_take(make_vae, images):
    data = kvae.data.from_arrays(images[:20])
    figures = kvae.evaluation.sample_quality(make_vae(), data, count=3)
    assert figures["left_out"].startswith("It takes 6 or more") and "here are 2" in str(figures)


def test_few_draws_of_a_learned_prior_show_no_gap(make_flow):
    mean = np.zeros((6, 3), "float32")
    assert kvae.evaluation.prior_gap_at_least(make_flow(3), mean, mean) is None
    found = diagnosis.check_prior_gap(8.0, 1.0, None, images=6, latents=3, learned=True)
    assert found.severity == "ok" and "more than 6 validation images" in found.seen


def test_one_image_has_no_chance_to_tell_from():
    one, other = np.array([90.0]), np.array([140.0])
    found = diagnosis.check_overfitting((), one, other)
    assert found.severity == "ok" and "±" not in found.seen and "2 images of each" in found.seen


def test_one_image_says_nothing_of_variance():
    facts = diagnosis.pixel_facts(np.full((1, 8, 8, 1), 100, "uint8"))
    assert "noise" not in facts and "constant" not in facts
    assert "is noise" not in diagnosis.check_likelihood(facts, kvae.Bernoulli()).seen
    information = kvae.evaluation.mutual_information(np.ones((1, 3)), np.zeros((1, 3)))
    assert 0 <= information < 1e-6
