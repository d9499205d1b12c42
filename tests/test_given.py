"""What people have goes into `fit` and the verbs, or is refused in a line that says what to do."""

import tempfile

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image
from streams import (
    LABELS,
    Batches,
    Iterable,
    beside,
    exhausted,
    fours,
    generator,
    in_unit,
    says,
)

import kvae
from kvae.data.values import PIECE, as_array
from kvae.limits import pieces

pytestmark = pytest.mark.every_backend


# Labels ------------------------------------------------------------------------------------------


class Labelled(kvae.VAE):
    """A model of the user's own that makes something of labels."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return 0.0 * loss + ops.mean(ops.cast(y, "float32"))


@exhausted
@pytest.mark.parametrize("form", [Batches, Iterable])
def test_a_subclass_gets_the_labels(make_vae, images, form):
    vae = make_vae()
    vae = Labelled(vae.encoder, vae.decoder)
    vae.compile("sgd")
    batches = [(batch, LABELS[:16]) for batch in fours(images)]
    for given, labels in (
        ((images, LABELS), LABELS),
        (({"image": images, "label": LABELS},), LABELS),
        ((form(batches),), LABELS[:16]),
    ):
        history = vae.fit(*given, batch_size=16, verbose=0).history
        np.testing.assert_allclose(history["loss"][0], labels.mean(), rtol=1e-4)


def test_images_as_labels_are_not_fed(make_vae, images):
    fed = []

    class Notes(kvae.VAE):
        def fed(self, given, shuffle=False):
            given = super().fed(given, shuffle)
            fed.append(given)
            return given

    Notes.__module__ = "kvae.tests"
    vae = make_vae()
    vae = Notes(vae.encoder, vae.decoder)
    vae.compile("adam")
    history = vae.fit(images, images, validation_data=(images, images), verbose=0).history
    assert np.isfinite(history["val_loss"][0])
    assert len(fed[0]["x"].arrays) == 1
    vae.evaluate(list(images), list(images), verbose=0)
    assert fed[-1].get("y") is None


@exhausted
@pytest.mark.parametrize("form", [Batches, Iterable, generator])
def test_classes_of_every_stream_can_be_weighed(make_vae, images, form):
    vae = make_vae(likelihood=kvae.Bernoulli("threshold"), optimizer=keras.optimizers.SGD(0.0))
    vae.encoder.get_layer("raw_log_variance").bias.assign([-30.0] * 3)
    batches = [
        (batch, LABELS[start : start + 16])
        for start, batch in zip(range(0, 64, 16), fours(images), strict=True)
    ]
    given = {"class_weight": {0: 0.0, 1: 0.0, 2: 2.0}, "verbose": 0}
    found = vae.fit(form(batches), **given).history["reconstruction"][0]
    expected = vae.fit(images, LABELS, shuffle=False, batch_size=16, **given).history[
        "reconstruction"
    ][0]
    np.testing.assert_allclose(found, expected, rtol=1e-2)
    says("`class_weight` needs labels", vae.fit, form([(b, b) for b in fours(images)]), **given)


# Arrays ------------------------------------------------------------------------------------------


ARRAYS = {
    "grey": lambda x: x[..., 0],
    "lists of numbers": lambda x: x.tolist(),
    "lists of images": list,
    "lists of grey images": lambda x: list(x[..., 0]),
    "tuples of images": tuple,
    "pictures": lambda x: [Image.fromarray(image[..., 0]) for image in x],
    "bool": lambda x: x > 127,
    "backward": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "big endian": lambda x: in_unit(x).astype(">f4"),
    "tensor": lambda x: ops.convert_to_tensor(x),
    "grey tensor": lambda x: ops.convert_to_tensor(x[..., 0]),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_images_of_every_form_are_taken_by_fit_and_by_the_verbs(used, images, name):
    given = ARRAYS[name](images)
    vae = used
    expected = vae.encode(images)
    for found in (vae.encode(given), vae.predict(given, verbose=0)):
        found = found if isinstance(found, tuple) else (found["mean"], found["log_variance"])
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(vae.reconstruct(given), vae.reconstruct(images), atol=1e-5)
    np.testing.assert_allclose(vae.kl_per_latent(given), vae.kl_per_latent(images), rtol=1e-4)
    assert np.isfinite(vae.evaluate(given, verbose=0)).all()
    assert np.isfinite(vae.train_on_batch(given)[0]) and np.isfinite(vae.test_on_batch(given)[0])
    assert vae.predict_on_batch(given)["mean"].shape == (64, 3)
    history = vae.fit(given, validation_data=given, batch_size=24, verbose=0).history
    assert np.isfinite(history["loss"] + history["val_loss"]).all()
    vae.fit(given, validation_split=0.25, verbose=0)


def test_a_dict_holds_images_and_their_labels(make_vae, images):
    vae = make_vae()
    for given in ({"image": images, "label": LABELS}, {"images": images[..., 0]}):
        history = vae.fit(given, validation_data=given, verbose=0).history
        assert np.isfinite(history["val_loss"][0])
        assert np.isfinite(vae.train_on_batch(given)[0])
        assert vae.predict(given, verbose=0)["z"].shape == (64, 3)
    weights = {"class_weight": {0: 1.0, 2: 2.0}, "verbose": 0}
    assert np.isfinite(vae.fit({"image": images, "label": LABELS}, **weights).history["loss"][0])
    says("needs labels", vae.fit, {"image": images}, **weights)


@pytest.mark.parametrize(
    "library", [pytest.param(name, marks=beside(name)) for name in ("tensorflow", "torch", "jax")]
)
@pytest.mark.parametrize("name", ["uint8", "float32", "bfloat16"])
def test_the_verbs_take_tensors_of_every_library(make_vae, images, library, name):
    module = pytest.importorskip(library)
    given = images if name == "uint8" else in_unit(images)
    make = {"tensorflow": "constant", "torch": "from_numpy", "jax": "numpy"}[library]
    make = getattr(module, make)
    tensor = getattr(make, "asarray", make)(given)
    if name == "bfloat16":
        tensor = (
            module.cast(tensor, "bfloat16")
            if library == "tensorflow"
            else tensor.to(module.bfloat16).requires_grad_()
            if library == "torch"
            else tensor.astype("bfloat16")
        )
    vae = make_vae(likelihood=kvae.Bernoulli("none"))
    expected = vae.encode(given)[0]
    np.testing.assert_allclose(
        vae.encode(tensor)[0], expected, atol=0.1 if name == "bfloat16" else 1e-4
    )
    assert vae.reconstruct(tensor).shape == images.shape
    np.testing.assert_allclose(
        vae.decode(module.stack([module.ones(3)]) if library == "torch" else [[1.0, 1.0, 1.0]]),
        vae.decode(np.ones((1, 3))),
    )
    if name != "bfloat16":
        assert np.isfinite(vae.fit(tensor, verbose=0).history["loss"][0])


def test_colour_images_of_rank_three_are_no_grey_ones():
    says("must have shape", kvae.Bernoulli().check, np.zeros((5, 8, 8), "uint8"), (8, 8, 3))
    assert kvae.Bernoulli().check(np.zeros((8, 8, 8), "uint8"), (8, 8, 1)).shape == (8, 8, 8, 1)


@pytest.mark.parametrize(
    "shape, image_shape, cure",
    [
        ((5, 3, 8, 8), (8, 8, 3), r"numpy.moveaxis\(images, 1, -1\)"),
        ((5, 3, 6, 9), (6, 9, 3), r"numpy.moveaxis\(images, 1, -1\)"),
        ((5, 1, 6, 9), (6, 9, 1), r"numpy.moveaxis\(images, 1, -1\)"),
        ((5, 3, 32, 32), (6, 9, 3), r"numpy.moveaxis\(images, 1, -1\)"),
        ((3, 6, 9), (6, 9, 3), r"numpy.moveaxis\(image, 0, -1\)\[numpy.newaxis\]"),
        ((6, 9, 3), (6, 9, 3), r"images\[numpy.newaxis\]"),
        ((6, 9), (6, 9, 1), r"images\[numpy.newaxis\]"),
        ((5, 54), (6, 9, 1), r"images.reshape\(-1, 6, 9, 1\)"),
        ((5, 162), (6, 9, 3), r"images.reshape\(-1, 6, 9, 3\)"),
        ((5, 7, 9, 3), (6, 9, 3), r"\(5, 7, 9, 3\).$"),
        ((0, 6, 9, 3), (6, 9, 3), r"\(0, 6, 9, 3\).$"),
    ],
)
def test_images_of_another_shape_are_told_the_way(shape, image_shape, cure):
    what = rf"must have shape \(count, {image_shape[0]}, .*Received: shape .*{cure}"
    says(what, kvae.Gaussian().check, np.zeros(shape, "uint8"), image_shape)


@pytest.mark.parametrize(
    "low, high, dtype, cure",
    [
        (0, 255, "float32", "Divide them by 255, or pass them as uint8"),
        (0, 2, "float64", "Divide them by 255"),
        (0, 4095, "float32", "Divide them by the greatest value"),
        (0, 65535, "uint16", "Divide them by the greatest value"),
        (-1, 1, "float32", r"\(images \+ 1\) / 2"),
        (-0.5, 0.9, "float16", r"\(images \+ 1\) / 2"),
        (-0.4242, 2.8215, "float32", r"Undo the standardisation: images \* std"),
        (-2.1, 2.6, "float64", "Undo the standardisation"),
        (-0.02, 1.04, "float32", r"images.clip\(0, 1\)"),
        (0, 1.0001, "float64", r"images.clip\(0, 1\)"),
        (-128, 127, "int8", "to 0…255"),
        (0, np.inf, "float32", "numpy.isfinite"),
        (np.nan, 0.5, "float32", "numpy.isfinite"),
    ],
)
@pytest.mark.parametrize("place", ["first", "last"])
def test_values_out_of_range_are_told_the_way(low, high, dtype, cure, place):
    images = np.zeros((3, 512, 1024, 4), dtype)  # of more than one piece
    assert len(list(pieces(images, PIECE))) > 1
    images[0 if place == "first" else -1].flat[:2] = low, high
    says(f"Received: {dtype} from .*{cure}", kvae.Gaussian().check, images, (512, 1024, 4))


def test_lists_of_images_of_several_sizes_and_what_is_no_image_are_refused(make_vae, images):
    vae = make_vae()
    mixed = [*images[:3], np.zeros((9, 8, 1), "uint8")]
    for call in (vae.fit, vae.encode, vae.reconstruct):
        says(r"of one shape. Received: shapes \(8, 8, 1\) and \(9, 8, 1\)", call, mixed)
    says("rows of a list must all be of one length", vae.encode, [[[[0.0]]], [[[0.0, 1.0]]]])
    for nothing in ({"image": images}, 5, Batches([images]), iter([images])):
        says("an array, a tensor or a list of images. Received: ", vae.encode, nothing)
    for nothing in ([], [None], [images[0], "abc"]):
        says("must have shape|of one shape", vae.encode, nothing)


@pytest.mark.parametrize(
    "form", [str, lambda path: path, lambda path: [path], lambda path: [path, str(path)]]
)
def test_the_verbs_take_paths_of_pictures(make_vae, tmp_path, form):
    """Of any size and mode; they become what training made of pictures."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 31, 4)).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    given = form(tmp_path / "photo.png")
    recipe = kvae.presets.get("mlp-400").replaced(fit="pad", background="#102030")
    vae = make_vae((8, 8, 3), likelihood=kvae.Gaussian(), card={"recipe": recipe.as_dict()})
    assert vae.fitting.fit == "pad"
    images = kvae.data.read_pictures([tmp_path / "photo.png"], vae.fitting)
    assert images[0, 0].tolist() == [[16, 32, 48]] * 8  # what is padded
    count = 2 if isinstance(given, list) and len(given) > 1 else 1
    images = images.repeat(count, axis=0)
    np.testing.assert_array_equal(vae.taken(given), images)
    np.testing.assert_allclose(vae.encode(given)[0], vae.encode(images)[0], rtol=1e-5)
    np.testing.assert_allclose(vae.reconstruct(given), vae.reconstruct(images), rtol=1e-5)
    np.testing.assert_allclose(
        vae.score(given, draws=3).log_prob, vae.score(images, draws=3).log_prob, rtol=1e-5
    )
    assert vae.surprise(given, draws=2).shape == (count, 8, 8)
    near = [kvae.like(vae, one, count=2, seed=0) for one in (given, images)]
    np.testing.assert_allclose(*near, rtol=1e-5)
    kvae.reconstruct(vae, given)


def test_a_path_that_is_no_picture_is_refused(make_vae, tmp_path):
    vae = make_vae()
    with pytest.raises(FileNotFoundError, match="abc cannot be read: No such file"):
        vae.encode("abc")
    (tmp_path / "x.png").write_bytes(b"x")
    says(r"x\.png cannot be read: save it anew", vae.encode, tmp_path / "x.png")
    says("must be a regular file, and is a folder", vae.encode, tmp_path)


def test_a_palette_is_looked_up():
    picture = Image.new("P", (2, 2), 1)
    picture.putpalette([0, 0, 0, 255, 128, 0])
    np.testing.assert_array_equal(as_array([picture])[0, 0, 0], [255, 128, 0])


# Memory ------------------------------------------------------------------------------------------


def test_arrays_are_neither_copied_nor_read_more_than_need_be(images):
    for given in (images, in_unit(images), images[::2], images > 127):
        found = kvae.Gaussian().check(given, (8, 8, 1))
        assert found is given or np.shares_memory(found, given)
    assert np.shares_memory(kvae.Gaussian().check(images[..., 0], (8, 8, 1)), images)
    assert np.shares_memory(kvae.DiscretizedLogistic().check(images, (8, 8, 1)), images)


@pytest.fixture
def vast():
    """Images of 1 TB, in a file of holes: whoever copies or reads them does not come back."""
    with tempfile.TemporaryFile() as file:
        count = 10**12 // 2**20
        file.truncate(count * 2**20)
        yield np.memmap(file, "uint8", "r", shape=(count, 512, 512, 4))


def test_bytes_of_a_file_are_not_read(vast):
    for likelihood in (kvae.Bernoulli(), kvae.DiscretizedLogistic()):
        assert likelihood.check(vast, (512, 512, 4)).shape == vast.shape


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"shuffle": False},
        {"validation_split": 0.5, "validation_steps": 1},
        {"steps_per_epoch": 2, "shuffle": False},
        {"validation_data": True, "validation_steps": 2},
    ],
    ids=str,
)
def test_fit_reads_of_a_file_what_a_step_needs(make_vae, images, arguments):
    with tempfile.TemporaryFile() as file:
        count = 2**20
        file.truncate(count * 64 * 2**10)  # 64 GB
        mapped = np.memmap(file, "uint8", "r", shape=(count, 128, 128, 4))
        vae = make_vae((128, 128, 4))
        stops = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: setattr(vae, "stop_training", True)
        )
        x = np.zeros((4, 128, 128, 4), "uint8") if "validation_data" in arguments else mapped
        if "validation_data" in arguments:
            arguments = arguments | {"validation_data": (mapped, mapped)}
        given = {"batch_size": 2, "callbacks": [stops], "verbose": 0}
        history = vae.fit(x, x, **given, **arguments).history
        assert np.isfinite(history["loss"][0])
        assert np.isfinite(vae.evaluate(mapped, batch_size=2, steps=2, verbose=0)).all()


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
def test_images_of_a_file_train_as_those_in_memory(make_vae, images, kind, tmp_path):
    images = images if kind == "uint8" else (images / 255).astype(kind)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    losses = []
    for given in (images, mapped):
        vae = make_vae()
        history = vae.fit(
            given, batch_size=24, epochs=2, validation_data=(given,), verbose=0
        ).history
        losses.append(history["loss"] + history["val_loss"])
        losses[-1].append(vae.encode(given)[0].mean())
        losses[-1].extend(vae.predict(given, batch_size=24, verbose=0)["mean"].mean(0))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_what_was_changed_of_a_mapped_file_stays_changed(make_vae, images, tmp_path):
    np.save(tmp_path / "images.npy", images.astype("float32"))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="c")
    mapped /= 255
    vae = make_vae()
    vae.fit(mapped, verbose=0)
    vae.encode(mapped)
    np.testing.assert_array_equal(mapped, images.astype("float32") / 255)
