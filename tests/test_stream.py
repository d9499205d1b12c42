"""Streams of batches: each batch is looked at, in whatever form it comes."""

import types

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image
from streams import (
    ANEW,
    BACKEND,
    LABELS,
    Batches,
    Iterable,
    every_form,
    every_form_anew,
    exhausted,
    fours,
    generator,
    in_unit,
    needs,
    processes,
    says,
    steps_of,
    with_third,
)

import kvae
from kvae.model.forms import Look

pytestmark = pytest.mark.every_backend


WRONG = {
    "range": (lambda x: 255 * x, "from 0 to 255. Divide them by 255"),
    "negative": (lambda x: 2 * x - 1, r"from -1 to 1. Rescale them: \(images \+ 1\) / 2"),
    "nan": (lambda x: np.where(x > 0.5, np.nan, x), "from nan to nan. numpy.isfinite"),
}


@every_form
@pytest.mark.parametrize("fault", WRONG)
def test_a_later_batch_that_is_wrong_is_named(used, images, form, fault):
    spoil, what = WRONG[fault]
    grey = in_unit(images)
    grey[32:48].flat[0], grey[32:48].flat[1] = 0, 1
    batches = with_third(grey, spoil(grey[32:48]).astype("float32"))
    vae, begun = used, steps_of(used)
    what = f"^Batch 3 of `x`: Images must be .*{what}"
    says(what, vae.fit, form(batches), shuffle=False, verbose=0)
    assert steps_of(vae) <= begun + 2  # those before it, or fewer that are made at a time
    says(what, vae.evaluate, form(batches), verbose=0)
    says(what, vae.predict, form(batches), verbose=0)
    what = what.replace("x", "validation_data")
    says(what, vae.fit, images, validation_data=form(batches), verbose=0)
    assert np.isfinite(vae.evaluate(images, verbose=0)).all()
    assert np.isfinite(vae.fit(images, verbose=0).history["loss"][0])


@pytest.mark.usefixtures("graphs")
@every_form
@pytest.mark.parametrize("steps", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_later_batch_is_named_in_compiled_steps_too(make_vae, images, form, steps):
    if steps > 1 and BACKEND == "torch":
        pytest.skip("makes one step at a time")
    vae = make_vae()
    vae.compile("adam", steps_per_execution=steps)
    batches = with_third(in_unit(images), images[32:48].astype("float32"))
    says("^Batch 3 of `x`: .*Divide", vae.fit, form(batches), shuffle=False, verbose=0)
    assert np.isfinite(vae.evaluate(images, verbose=0)).all()


@pytest.mark.parametrize("form", [f for f in [*ANEW, generator] if f is not ANEW[3]])
def test_a_later_batch_of_another_shape_or_kind_is_named(used, images, form):
    grey = in_unit(images)
    for batches, what in (
        (with_third(images, images[32:48, :7]), r"shape .count, 8, 8, 1.. Received: .*16, 7, 8, 1"),
        (with_third(images, grey[32:48]), "one kind of number. Received: floats after integers"),
        (with_third(grey, images[32:48]), "one kind of number. Received: integers after floats"),
        (with_third(images, images[32:32]), "must have shape"),
        (with_third(images, "abc"), "must be an array of images"),
    ):
        if not isinstance(batches[2], str) or form is not ANEW[4].values[0]:
            says(f"^Batch 3 of `x`: .*{what}", used.fit, form(batches), shuffle=False, verbose=0)


@every_form
def test_weights_of_a_later_batch_are_looked_at(used, images, form):
    batches = [(batch, np.zeros(16), np.ones(16, "float32")) for batch in fours(images)]
    batches[2][2][3] = np.nan
    says("^Batch 3 of `x`: `sample_weight` must be finite", used.fit, form(batches))


def test_a_batch_is_named_by_its_place_in_the_data_set_however_it_is_shuffled(used, images):
    batches = with_third(in_unit(images), images[32:48].astype("float32"))
    for _ in range(3):
        says("^Batch 3 of `x`: .*Divide", used.fit, Batches(batches), verbose=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:os.fork")  # JAX warns of it, and these processes do without JAX
def test_a_batch_that_another_process_made_is_looked_at(make_vae, images):
    batches = with_third(in_unit(images), images[32:48].astype("float32"))
    says("^Batch 3 of `x`: .*Divide", make_vae().fit, processes(batches), shuffle=False, verbose=0)
    history = make_vae().fit(processes(fours(images)), epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_a_data_set_that_goes_wrong_in_a_later_epoch_is_refused_then(make_vae, images):
    class Worse(Batches):
        def __getitem__(self, i):
            return in_unit(images[:16]) * (1 if self.told.count("begin") < 2 else 255)

    vae = make_vae()
    data = Worse(fours(images))
    says("Divide them by 255", vae.fit, data, epochs=3, verbose=0, shuffle=False)
    assert data.told.count("begin") == 2 and steps_of(vae) == 4


@every_form
def test_the_first_batch_is_looked_at_before_training_begins(used, images, form):
    wrong = fours(images.astype("float32"))
    begun = []
    callback = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: begun.append(1))
    given = {"callbacks": [callback], "verbose": 0}
    says("^Batch 1 of `x`: .*Divide", used.fit, form(wrong), **given)
    says("^Batch 1 of `val.*Divide", used.fit, images, validation_data=form(wrong), **given)
    assert not begun


@every_form
def test_what_a_stream_raises_itself_comes_out_of_fit(used, images, form):
    class Mine(Exception):
        pass

    def batches():
        yield from fours(in_unit(images))[:2]
        raise Mine("the disk is gone")

    class Raises(list):
        def __iter__(self):
            return batches()

        def __getitem__(self, i):
            if i == 2:
                raise Mine("the disk is gone")
            return super().__getitem__(i)

    if form is ANEW[3].values[0]:
        pytest.skip("TensorFlow's own generators raise TensorFlow's own errors")
    with pytest.raises(Mine, match="the disk is gone"):
        used.fit(form(Raises(fours(in_unit(images)))), shuffle=False, verbose=0)


@exhausted
@every_form_anew
def test_a_data_set_begins_anew_in_each_epoch_and_keeps_its_length(make_vae, images, form):
    batches = fours(images)
    batches[-1] = batches[-1][:5]  # a short last one
    vae, told = make_vae(), []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: told.append(callback.params["steps"]),
        on_train_batch_end=lambda batch, logs: told.append(batch),
    )
    data, other = form(batches), form(fours(images))
    history = vae.fit(
        data, validation_data=other, epochs=3, callbacks=[callback], verbose=0, shuffle=False
    ).history
    steps = 4 if hasattr(data, "__len__") else None
    assert told == [steps, 0, 1, 2, 3] + 2 * [told[5], 0, 1, 2, 3]
    assert steps_of(vae) == 12 and len(history["val_loss"]) == 3
    assert np.isfinite(history["loss"] + history["val_loss"]).all()
    if isinstance(data, Batches):
        assert data.told.count("begin") == 3 and data.told.count("end") >= 3


@exhausted
@pytest.mark.usefixtures("graphs")
def test_the_end_of_a_stream_is_no_step(make_vae, images):
    vae = make_vae()
    vae.fit(Iterable(fours(images)), epochs=2, verbose=0)
    assert steps_of(vae) == 8 == int(ops.convert_to_numpy(vae.optimizer.iterations))


@exhausted
@pytest.mark.parametrize("form", [iter, generator])
def test_an_iterator_gives_each_batch_once_the_first_among_them(make_vae, images, form):
    class Mean(kvae.VAE):
        """Its loss is the mean of the images."""

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.mean(y_pred["observed"]) + 0 * ops.mean(y_pred["parameters"])

    def model():
        vae = make_vae()
        vae = Mean(vae.encoder, vae.decoder, kvae.Bernoulli("none"))
        vae.compile("sgd")
        return vae

    found = model().fit(form(fours(images)), verbose=0).history["loss"][0]
    np.testing.assert_allclose(found, images.mean() / 255, rtol=1e-4)
    left = iter(fours(images))
    history = model().fit(left, epochs=2, steps_per_epoch=2, verbose=0).history["loss"]
    expected = [images[:32].mean() / 255, images[32:].mean() / 255]
    np.testing.assert_allclose(history, expected, rtol=1e-4)
    assert next(left, None) is None


@needs("torch")
def test_a_loader_shuffles_as_it_does(make_vae, images):
    torch = pytest.importorskip("torch")
    seen = []

    class Notes(torch.utils.data.Dataset):
        def __len__(self):
            return 64

        def __getitem__(self, i):
            seen.append(i)
            return torch.from_numpy(images[i])

    loader = torch.utils.data.DataLoader(Notes(), batch_size=16, shuffle=True)
    make_vae().fit(loader, epochs=2, verbose=0)
    orders = seen[-128:-64], seen[-64:]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(64))
    assert orders[0] != orders[1] != list(range(64))
    assert len(seen) == 128  # no batch is made only to be looked at


@needs("tensorflow")
def test_tensorflow_looks_at_bytes_by_their_dtype_alone(make_vae, images):
    tf = pytest.importorskip("tensorflow")
    if BACKEND != "tensorflow":
        pytest.skip("only TensorFlow takes its data sets as they are")
    vae = make_vae()
    data = tf.data.Dataset.from_tensor_slices(images).batch(16)
    look = Look(vae.border(), "x")
    assert vae.stream(data, look).get_tf_dataset() is data
    floats = tf.data.Dataset.from_tensor_slices(in_unit(images)).batch(16)
    assert vae.stream(floats, look).get_tf_dataset() is not floats
    assert vae.stream(floats, look).num_batches == 4


# Forms of batches --------------------------------------------------------------------------------


def of_dicts(images):
    words = np.array(["bar"] * 16)
    return [{"image": batch, "label": LABELS[:16], "id": words} for batch in fours(images)]


FORMS = {
    "arrays": fours,
    "tuples": lambda x: [(batch,) for batch in fours(x)],
    "lists of one": lambda x: [[batch] for batch in fours(x)],
    "labelled": lambda x: [(batch, LABELS[:16]) for batch in fours(x)],
    "autoencoder": lambda x: [(batch, batch) for batch in fours(x)],
    "lists": lambda x: [[batch, LABELS[:16]] for batch in fours(x)],
    "words": lambda x: [(batch, ["a bar"] * 16) for batch in fours(x)],
    "dicts": of_dicts,
    "dicts of images": lambda x: [{"images": batch} for batch in fours(x)],
    "dicts and labels": lambda x: [({"image": batch}, LABELS[:16]) for batch in fours(x)],
    "grey": lambda x: fours(x[..., 0]),
    "lists of one grey": lambda x: [[batch[..., 0]] for batch in fours(x)],
    "lists of images": lambda x: [list(batch) for batch in fours(x)] + [list(x[:2])],
    "lists of grey images": lambda x: [list(batch[..., 0]) for batch in fours(x)],
    "pictures": lambda x: [[Image.fromarray(i[..., 0]) for i in batch] for batch in fours(x)],
}


@exhausted
@pytest.mark.parametrize("name", FORMS)
def test_batches_of_every_form_are_taken(used, images, name):
    for form in (Batches, generator):
        found = used.predict(form(FORMS[name](images)), verbose=0)["mean"]
        np.testing.assert_allclose(found[:64], used.encode(images)[0], rtol=1e-4, atol=1e-5)
        batches = FORMS[name](images)
        assert np.isfinite(
            used.fit(form(batches), validation_data=form(batches), verbose=0).history["val_loss"]
        ).all()


@needs("tensorflow")
@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("form", ["bare", "dict", "words", "autoencoder", "grey", "unknown"])
def test_data_sets_of_tensorflow_are_taken_in_every_form(make_vae, images, form, kind):
    tf = pytest.importorskip("tensorflow")
    images = images if kind == "uint8" else in_unit(images)
    vae = make_vae(likelihood=kvae.Bernoulli("threshold"))
    words = np.array(["bar"] * 64)
    given = {
        "bare": images,
        "dict": {"image": images, "label": LABELS, "id": words},
        "words": (images, words),
        "autoencoder": (images, images),
        "grey": images[..., 0],
        "unknown": images,
    }[form]
    data = tf.data.Dataset.from_tensor_slices(given).batch(24)
    if form == "unknown":  # of any shape, as a function of Python's gives them
        kind = images.dtype
        data = data.map(lambda batch: tf.numpy_function(lambda array: array, [batch], kind))
    history = vae.fit(data, validation_data=data, epochs=2, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"] + history["val_loss"]).all() and steps_of(vae) == 6
    found = vae.predict(data, verbose=0)["mean"]
    np.testing.assert_allclose(found, vae.encode(images)[0], rtol=1e-4, atol=1e-5)


@needs("torch")
def test_loaders_of_torch_are_taken_in_every_form(make_vae, images):
    torch = pytest.importorskip("torch")
    vae = make_vae(likelihood=kvae.Bernoulli("threshold"))
    tensor = torch.from_numpy(images)
    for data in (
        torch.utils.data.TensorDataset(tensor),
        torch.utils.data.TensorDataset(tensor, tensor),
        torch.utils.data.TensorDataset(tensor[..., 0]),
        list(tensor),
        [{"image": image, "label": "bar"} for image in tensor],
    ):
        loader = torch.utils.data.DataLoader(data, batch_size=24)
        history = vae.fit(loader, validation_data=loader, epochs=2, shuffle=False, verbose=0)
        assert np.isfinite(history.history["val_loss"]).all()
        found = vae.predict(loader, verbose=0)["mean"]
        np.testing.assert_allclose(found, vae.encode(images)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "element",
    [
        np.zeros((8, 8, 1), "uint8"),
        np.zeros((8, 8), "uint8"),
        (np.zeros((8, 8, 1), "uint8"), 3),
        (np.zeros((8, 8, 1), "uint8"), np.zeros((8, 8, 1), "uint8")),
        {"image": np.zeros((8, 8, 1), "uint8"), "label": 3},
        Image.fromarray(np.zeros((8, 8), "uint8")),
        (Image.fromarray(np.zeros((8, 8), "uint8")), 3),
    ],
    ids=["image", "grey", "labelled", "autoencoder", "dict", "picture", "labelled picture"],
)
def test_a_data_set_without_batches_is_told_to_make_them(used, element):
    for call in (used.fit, used.evaluate, used.predict):
        says(r"^Batch 1 of `x`: .*come in batches, as `.batch\(32\)`", call, Iterable([element]))


@needs("tensorflow")
@pytest.mark.parametrize("form", ["image", "grey", "labelled", "dict"])
def test_a_data_set_of_tensorflow_without_batches_is_told_so(used, images, form):
    tf = pytest.importorskip("tensorflow")
    data = {
        "image": images,
        "grey": images[..., 0],
        "labelled": (images, LABELS),
        "dict": {"image": images, "label": LABELS},
    }[form]
    data = tf.data.Dataset.from_tensor_slices(data)
    says(r"`.batch\(32\)`.*Received: one image, of shape \(8, 8", used.fit, data)


@pytest.mark.parametrize(
    "batch, what",
    [
        ({"pixels": np.zeros(2)}, "hold its images as 'image'. Received: 'pixels'"),
        ({}, "hold its images as 'image'. Received: no keys"),
        ((1, 2, 3, 4), "Received: 4 parts"),
        ({"image": None}, "must be an array of images"),
        (None, "must be an array of images"),
        (np.zeros((4, 8, 8, 3), "uint8"), r"shape \(count, 8, 8, 1\)"),
        (np.zeros((4, 1, 8, 8), "uint8"), r"numpy.moveaxis\(images, 1, -1\)"),
    ],
    ids=str,
)
def test_batches_of_something_else_are_refused(used, batch, what):
    says(what, used.fit, Iterable([batch]))


def test_what_gives_no_batches_is_refused(used, images):
    torch_like = types.SimpleNamespace(__len__=lambda: 3)
    for x in (torch_like, {1, 2}, object(), iter):
        says("`x` must be an array of images, or a data set of batches", used.fit, x)
    for x in (Iterable([]), iter([]), Batches([])):
        says("`x` is a data set without a batch", used.fit, x)
    says(
        "hold its images as 'image'. Received: 'train', 'test'",
        used.fit,
        {"train": 1, "test": 2},
    )
