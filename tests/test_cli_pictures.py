"""The commands that draw pictures of a trained model, on a tiny one."""

import pathlib
import shutil

import keras
import numpy as np
import pytest
from commands import assert_refused, call
from marks import once
from matplotlib.image import imread
from PIL import Image

import kvae

pytestmark = once


@pytest.fixture(scope="module")
def made(images, make_vae, tmp_path_factory):
    """A model with a card; its folder, its data set with labels, its run's folder, image files."""
    folder = tmp_path_factory.mktemp("made")
    labels = np.arange(64) % 3
    arrays = {"x_train": images, "y_train": labels, "x_test": images[:30], "y_test": labels[:30]}
    np.savez(folder / "bars.npz", **arrays)
    vae = make_vae(card={"origin": "bars.npz", "dataset": "bars"})
    (folder / "saved_models" / "vae").mkdir(parents=True)
    vae.save(folder / "saved_models" / "vae.keras")
    (folder / "saved_models" / "vae" / "history.csv").write_text(
        "epoch,updates,loss,reconstruction,kl\n1,4,9,8,1\n"
    )
    kvae.plots.save_image(images[0], folder / "bar.png")
    kvae.plots.save_image(np.ones((16, 16, 3)) * [0.2, 0.2, 0.3], folder / "colour.png")
    return vae, folder


@pytest.fixture
def model(made, tmp_path, monkeypatch):
    """That model, which stays as it is, in a copy of its folder."""
    vae, folder = made
    monkeypatch.chdir(shutil.copytree(folder, tmp_path, dirs_exist_ok=True))
    return vae


@pytest.mark.parametrize(
    "arguments, out",
    [
        (["reconstruct"], "reconstructions.png: 30 bars test images over their reconstructions"),
        (["reconstruct", "--split", "train", "--count", "4"], "reconstructions.png: 4 bars train"),
        (["reconstruct", "bar.png", "test:2", "5"], "reconstructions.png: 3 images"),
        (["interpolate", "--rows", "4", "--steps", "3"], "interpolation.png: 4 linear paths"),
        (["interpolate", "--path", "spherical", "--out", "i.gif"], "i.gif: 15 spherical paths"),
        (["interpolate", "--start", "1", "--end", "bar.png"], "interpolation.png: 1 linear path: "),
        (["latent", "--count", "20"], "latent.png: tsne of 20 bars test images"),
        (["latent", "--show", "pca"], "latent.png: pca of 30 bars test images"),
        (["latent", "--show", "manifold", "--size", "3"], "latent.png: manifold of 30"),
        (["latent", "--show", "traversals", "--latents", "2"], "latent.png: traversals of 30"),
        (["curves"], "curves.png: all of saved_models/vae"),
        (["curves", "--show", "terms", "--out", "new/terms.png"], "new/terms.png: terms of"),
        (["generate", "--like", "test:0", "--count", "4"], "grid.png: 4 new images like test:0"),
        (["generate", "--class", "2", "--out", "x.npz"], "x.npz: 100 new images of class 2"),
        (["generate", "--class", "2", "--class", "0"], "grid.png: 20 new images of class 2, 0"),
        (["generate", "--class", "all", "--count", "3"], "grid.png: 9 new images of class 0, 1, 2"),
    ],
)
def test_a_picture_is_written_and_said_in_one_line(model, arguments, out):
    result = call(*arguments)
    assert result.stdout.startswith(out) and len(result.stdout.splitlines()) == 1
    assert result.stderr == ""
    path = pathlib.Path(out.split(":")[0])
    if path.suffix != ".npz":
        with Image.open(path) as opened:
            opened.load()


def test_generate_like_an_image_at_no_temperature_is_its_reconstruction(model, images):
    call("generate", "--like", "bar.png", "--temperature", 0, "--count", 2, "--out", "x.npz")
    expected = model.reconstruct(images[:1]).repeat(2, 0)
    np.testing.assert_allclose(np.load("x.npz")["images"], expected, atol=1e-5)


def test_generate_of_a_class_is_what_the_function_draws(model, images):
    call("generate", "--class", "1", "--count", 3, "--seed", 5, "--out", "x.npz")
    expected = kvae.like(model, images[1:30:3], 3, seed=5)
    np.testing.assert_allclose(np.load("x.npz")["images"], expected, atol=1e-5)


def test_separate_writes_a_file_for_each_draw_a_pixel_for_a_pixel(model):
    result = call("generate", "--count", 3, "--seed", 1, "--separate", "--out", "new/x.png")
    assert result.stdout.startswith("new/x-001.png to x-003.png: 3 new images")
    names = sorted(path.name for path in pathlib.Path("new").iterdir())
    assert names == ["x-001.png", "x-002.png", "x-003.png"]
    expected = np.rint(255 * model.generate(3, seed=1))
    for name, image in zip(names, expected, strict=True):
        np.testing.assert_allclose(np.rint(imread(f"new/{name}") * 255), image[..., 0], atol=1)


def test_images_of_another_size_are_resized_with_a_notice(model, images):
    kvae.plots.save_image(images[0].repeat(2, 0).repeat(2, 1), "large.png")
    result = call("reconstruct", "large.png", "large.png")
    assert result.stderr == "Images of 16×16 pixels are resized to 8×8, the size of the model.\n"


def test_colours_become_grey_for_a_grey_model_with_a_notice(model):
    result = call("reconstruct", "colour.png")
    assert result.stderr.splitlines() == [
        "Images of 16×16 pixels are resized to 8×8, the size of the model.",
        "Colour images are converted to grey, which the model expects.",
    ]


def test_another_data_set_can_be_looked_at(model):
    result = call("latent", "--show", "pca", "--dataset", "digits", "--count", 50)
    assert "50 digits test images" in result.stdout


def test_every_path_goes_to_another_class(model, monkeypatch):
    ends = []
    draw = kvae.interpolate
    monkeypatch.setattr(
        kvae, "interpolate", lambda vae, *given: (ends.extend(given[:2]), draw(vae, *given))[1]
    )
    call("interpolate", "--rows", 20, "--steps", 2)
    with np.load("bars.npz") as data:
        label = {
            image.tobytes(): y for image, y in zip(data["x_test"], data["y_test"], strict=True)
        }
    starts, others = ([label[image.tobytes()] for image in side] for side in ends)
    assert len(starts) == 20 and all(a != b for a, b in zip(starts, others, strict=True))


@pytest.mark.parametrize(
    "arguments, code, what",
    [
        (["reconstruct", "--model", "no.keras"], 1, "There is no model at no.keras."),
        (["reconstruct", "nothing.png"], 1, "There is no image nothing.png"),
        (["reconstruct", "bars.npz"], 1, "An image must be a file of .png"),
        (["reconstruct", "test:30"], 1, "There is no image test:30: bars has 30"),
        (["reconstruct", "--dataset", "nowhere.npz"], 1, "nowhere.npz"),
        (["reconstruct", "--out", "x.jpg"], 2, "must end in .png"),
        (["interpolate", "--start", "1"], 2, "--start and --end go in pairs"),
        (["interpolate", "--start", "1", "--end", "9"], 1, "bars has no class 9"),
        (["interpolate", "--steps", "1"], 2, "1 is not in the range"),
        (["latent", "--show", "plane"], 1, "The plane needs 2 latents"),
        (["latent", "--show", "umap"], 2, "'umap' is not one of"),
        (["curves", "--show", "latents"], 1, "nothing to draw for 'latents'"),
        (["curves", "--model", "no.keras"], 1, "There is no history at no/history.csv"),
        (["generate", "--class", "all", "--rows", "2"], 2, "leave out --rows"),
        (["generate", "--class", "9"], 1, "bars has no class 9. Its classes: 0, 1, 2"),
        (["generate", "--class", "1", "--like", "test:1"], 2, "exclude each other"),
        (["generate", "--separate", "--out", "x.npz"], 2, "--separate writes .png files"),
    ],
)
def test_a_refusal_is_one_line_and_writes_nothing(model, arguments, code, what):
    assert_refused(arguments, code, what)


def test_a_model_that_does_not_name_its_data_set_says_so(model, make_vae, images):
    make_vae(card={"dataset": "arrays", "origin": ""}).save("saved_models/vae.keras")
    result = call("latent", code=1)
    assert result.stderr == (
        "Error: The model's card does not name its data set. Name one with --dataset.\n"
    )


def test_a_card_downloads_nothing_that_the_user_has_not_named(model, make_vae, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(pathlib.Path("nothing").absolute()))
    make_vae(card={"dataset": "x", "origin": "cifar10"}).save("saved_models/vae.keras")
    result = call("latent", code=1)
    assert "'cifar10' is not in" in result.stderr and "not downloaded unasked" in result.stderr
    assert "name one with --dataset" in result.stderr and not pathlib.Path("nothing").exists()


def test_a_data_set_that_has_moved_is_said_to_be_the_models(model):
    pathlib.Path("bars.npz").unlink()
    result = call("latent", code=1)
    assert "Cannot read the data set of the model; name one with --dataset" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_data_without_labels_have_no_classes(model, images):
    np.savez("plain.npz", images)
    result = call("generate", "--class", "1", "--dataset", "plain.npz", code=1)
    assert "plain has no labels" in result.stderr
    assert call("latent", "--dataset", "plain.npz", "--show", "pca").stderr == ""
    assert call("interpolate", "--dataset", "plain.npz", "--split", "train").stderr == ""


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    """A conditional model, and its file."""
    keras.utils.set_random_seed(0)
    vae = kvae.VAE(
        kvae.build_encoder((8, 8, 1), 3, context_dim=3, width=8, depth=1),
        kvae.build_decoder((8, 8, 1), 3, context_dim=3, width=8, depth=1),
        card={"origin": "bars.npz", "dataset": "bars", "class_names": ["a", "b", "c"]},
        classes=3,
        seed=0,
    )
    path = tmp_path_factory.mktemp("conditional") / "c.keras"
    vae.save(path)
    return vae, path


@pytest.fixture
def of_classes(conditional, made, tmp_path, monkeypatch):
    """That model, which stays as it is; its file lies in the folder of the other's data set."""
    vae, path = conditional
    monkeypatch.chdir(shutil.copytree(made[1], tmp_path, dirs_exist_ok=True))
    shutil.copy(path, tmp_path)
    return vae


@pytest.mark.parametrize(
    "arguments, what",
    [
        (["generate", "--class", "b"], "grid.png: 100 new images of class b from"),
        (["generate", "--class", "a", "--class", "c", "--columns", "4"], "8 new images of class a"),
        (["generate", "--class", "all", "--same-style"], "grid.png: 30 new images of class all, "),
        (["generate"], "grid.png: 100 new images from c.keras"),
        (["generate", "--like", "test:0", "--count", "4"], "grid.png: 4 new images like test:0"),
        (["reconstruct", "--count", "4"], "4 bars test images over their reconstructions"),
        (["reconstruct", "bar.png"], "reconstructions.png: 1 image over its"),
        (["interpolate", "--hold", "style", "--rows", "2"], "each of the style of its start"),
        (["interpolate", "--path", "spherical", "--hold", "class"], "each of the class of its"),
        (["latent", "--show", "manifold", "--size", "3", "--class", "c"], "manifold of 30"),
        (["latent", "--show", "traversals", "--latents", "2"], "traversals of 30"),
        (["latent", "--show", "pca"], "pca of 30 bars test images"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_pictures_of_a_conditional_model(of_classes, arguments, what):
    assert what in call(*arguments, "--model", "c.keras").output


def test_a_class_of_a_conditional_model_is_drawn_as_that(of_classes):
    call("generate", "--model", "c.keras", "--class", "b", "--count", "4", "--seed", "1",
         "--out", "x.npz")  # fmt: skip
    with np.load("x.npz") as file:
        expected = of_classes.generate(4, seed=1, classes=1)
        np.testing.assert_allclose(file["images"], expected, atol=1e-6)


@pytest.mark.parametrize(
    "arguments, code, what",
    [
        (["generate", "--class", "d"], 1, "The model has no class d. Its classes: a, b, c."),
        (["generate", "--same-style"], 2, "--same-style needs --class"),
        (
            ["latent", "--class", "a"],
            2,
            "--class needs --show manifold or clusters",
        ),
    ],
)
def test_what_a_conditional_model_does_not_know_is_refused(of_classes, arguments, code, what):
    assert_refused([*arguments, "--model", "c.keras"], code, what)


@pytest.mark.parametrize(
    "arguments, what",
    [
        (
            ["generate", "--class", "1", "--same-style"],
            "--same-style needs a model trained with",
        ),
        (["interpolate", "--hold", "class"], "--hold needs a model trained with --conditional"),
    ],
)
def test_what_only_a_conditional_model_has_is_refused(model, arguments, what):
    assert_refused(arguments, 2, what)
