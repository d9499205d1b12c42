"""The commands that judge single images: score and outliers."""

import json
import pathlib

import numpy as np
import pytest
from commands import assert_refused, call
from PIL import Image
from test_scores import NAMES, noise

import kvae

pytestmark = pytest.mark.every_backend


@pytest.fixture
def model(images, make_vae, tmp_path, monkeypatch):
    """A model with a card, its data set with labels, an image file."""
    monkeypatch.chdir(tmp_path)
    labels = np.arange(64) % 3
    np.savez("bars.npz", x_train=images, y_train=labels, x_test=images[:30], y_test=labels[:30])
    vae = make_vae(card={"origin": str(tmp_path / "bars.npz"), "dataset": "bars"})
    pathlib.Path("saved_models").mkdir()
    vae.save("saved_models/vae.keras")
    kvae.plots.save_image(images[4], "bar.png")
    kvae.plots.save_image(noise()[0], "noise.png")
    kvae.plots.save_image(np.ones((8, 8, 3)) * [0.2, 0.2, 0.3], "colour.png")
    return vae


def test_score_says_what_the_model_says(model, images):
    result = call("score", "bar.png", "test:7", "2", "--draws", 9, "--json")
    found = json.loads(result.stdout)
    scores = model.score(images[[4, 7, 2]], draws=9)
    for i, (name, row) in enumerate(zip(("bar.png", "test:7", "2"), found["images"], strict=True)):
        assert row["image"] == name
        for figure in NAMES:
            assert abs(row[figure] - getattr(scores, figure)[i]) < 1e-2, figure
        assert row["bits_per_dimension"] > 0
    protocol = found["protocol"]
    assert (protocol["draws"], protocol["seed"], protocol["measure"]) == (9, 0, "probability")
    known = np.load("bars.npz")["x_train"]
    assert (protocol["training_images"], protocol["training_images_of"]) == (58, "bars")
    assert len(known) == 64  # of which some are for validation
    ranks = [row["likelier_training_images"] for row in found["images"]]
    order = np.argsort([row["log_prob"] for row in found["images"]])
    assert np.all(np.diff(np.array(ranks)[order]) <= 0) and 0 <= min(ranks) <= max(ranks) <= 1


def test_score_prints_a_line_an_image_and_draws_a_map(model):
    result = call("score", "bar.png", "noise.png", "--draws", 5, "--map", "new/map.png")
    head, *rows, unit, ranks, drawn = result.stdout.splitlines()
    assert head.split() == [
        "image", "−log", "p(x)", "−ELBO", "reconstruction", "KL", "bits/dim", "likelier"
    ]  # fmt: skip
    assert [row.split()[0] for row in rows] == ["bar.png", "noise.png"]
    assert unit.startswith("nats per image; −log p(x): upper bound from 5 draws of z")
    assert "58 training images of bars" in ranks and drawn.startswith("new/map.png: 2 images")
    with Image.open("new/map.png") as opened:
        opened.load()
    assert result.stderr == ""
    bare = call("score", "bar.png", "--draws", 2, "--training-images", 0).stdout
    assert "likelier" not in bare and "%" not in bare


def test_without_the_data_set_files_are_scored_all_the_same(model):
    pathlib.Path("bars.npz").rename("moved.npz")
    result = call("score", "bar.png", "--draws", 2)
    assert "likelier" not in result.stdout and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("The images are not ranked among training images.")
    result = call("score", "bar.png", "--draws", 2, "--dataset", "moved.npz")
    assert "58 training images of moved" in result.stdout


def test_the_rank_is_among_the_models_own_training_images(model, images):
    np.savez("others.npz", x_train=255 - images)
    result = call("score", "test:0", "--draws", 2, "--dataset", "others.npz")
    assert "58 training images of bars" in result.stdout


def test_outliers_lists_and_draws(model):
    result = call("outliers", "--count", 4, "--draws", 3)
    head, *rows, drawn = result.stdout.splitlines()
    assert head.split() == ["image", "class", "−log", "p(x)"] and len(rows) == 4
    nats = [float(row.split()[-1]) for row in rows]
    assert nats == sorted(nats, reverse=True) and all(row.startswith("test:") for row in rows)
    assert drawn.startswith("outliers.png: the 4 least likely of 30 bars test images")
    with Image.open("outliers.png") as opened:
        opened.load()
    first = rows[0].split()
    again = call("score", first[0], "--draws", 3, "--training-images", 0).stdout.splitlines()[1]
    assert abs(float(again.split()[1]) - nats[0]) < 0.02
    assert int(first[1]) == int(first[0].removeprefix("test:")) % 3


def test_outliers_subtracts_complexity_as_json(model):
    arguments = ("--count", 99, "--images", 8, "--draws", 2, "--json", "--split", "train")
    result = call("outliers", "--complexity", "--out", "new/x.png", *arguments)
    found = json.loads(result.stdout)
    assert len(found["images"]) == found["protocol"]["images"] == 8
    assert found["protocol"]["ordered_by"] == "score"
    for row in found["images"]:
        assert abs(-row["log_prob"] - row["complexity"] - row["score"]) < 1e-3
    values = [row["score"] for row in found["images"]]
    assert values == sorted(values, reverse=True)
    assert "new/x.png: the 8 least likely of 8" in result.stderr


@pytest.mark.parametrize(
    "arguments, code, what",
    [
        (["score"], 2, "Missing argument"),
        (["score", "nothing.png"], 1, "There is no image nothing.png"),
        (["score", "test:30"], 1, "There is no image test:30: bars has 30"),
        (["score", "colour.png", "--model", "no.keras"], 1, "There is no model at no.keras."),
        (["score", "bar.png", "--draws", "0"], 2, "0 is not in the range"),
        (["score", "bar.png", "--draws", "1000000000000"], 1, "of memory"),
        (["score", "bar.png", "--map", "x.jpg"], 2, "must end in .png"),
        (["score", "bar.png", "--dataset", "nowhere.npz", "test:1"], 1, "nowhere.npz"),
        (["outliers", "--dataset", "nowhere.npz"], 1, "nowhere.npz"),
        (["outliers", "--count", "0"], 2, "0 is not in the range"),
        (["outliers", "--out", "x.jpg"], 2, "must end in .png"),
        (["outliers", "--draws", "1000000000000"], 1, "of memory"),
    ],
)
def test_a_refusal_is_one_line_and_writes_nothing(model, arguments, code, what):
    assert_refused(arguments, code, what)
