"""What people have goes into `fit` and the verbs, or is refused in a line that says what to do."""

import tempfile
import types

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image

import kvae
from kvae.data.values import PIECE, as_array
from kvae.limits import pieces
from kvae.model.forms import Look

pytestmark = pytest.mark.every_backend

BACKEND = keras.backend.backend()
LABELS = np.arange(64) % 3
exhausted = pytest.mark.filterwarnings("ignore:Your input ran out of data")


def says(what, call, *given, **arguments):
    """Asserts that a call is refused in one line."""
    with pytest.raises(ValueError, match=what) as caught:
        call(*given, **arguments)
    assert "\n" not in str(caught.value)


def steps_of(vae):
    return int(ops.convert_to_numpy(vae.step))


def in_unit(images):
    return (images / 255).astype("float32")


# Streams of batches ------------------------------------------------------------------------------


class Batches(keras.utils.PyDataset):
    """Batches, one after the other, which counts how often it is told of an epoch."""

    def __init__(self, batches, **kwargs):
        super().__init__(**kwargs)
        self.batches = batches
        self.told = []

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        return self.batches[i]

    def on_epoch_begin(self):
        self.told.append("begin")

    def on_epoch_end(self):
        self.told.append("end")


def threads(batches):
    return Batches(batches, workers=2)


def processes(batches):
    return Batches(batches, workers=2, use_multiprocessing=True)


class Iterable:
    """What gives batches anew, and knows no more of itself."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def generator(batches):
    return (batch for batch in batches)


def tf_data(batches):
    tf = pytest.importorskip("tensorflow")
    parts = batches[0] if isinstance(batches[0], tuple) else batches[:1]
    specs = [tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in parts]
    specs = tuple(specs) if isinstance(batches[0], tuple) else specs[0]
    data = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=specs)
    return data.apply(tf.data.experimental.assert_cardinality(len(batches)))


def torch_loader(batches):
    torch = pytest.importorskip("torch")

    class Data(torch.utils.data.Dataset):
        def __len__(self):
            return len(batches)

        def __getitem__(self, i):
            return batches[i]

    return torch.utils.data.DataLoader(Data(), batch_size=None)


def beside(backend):
    """Marks what imports another framework than the one in use."""
    return [] if BACKEND == backend else [pytest.mark.slow]


def needs(backend):
    """The same, of a whole test."""
    return pytest.mark.slow if BACKEND != backend else lambda test: test


ANEW = [  # what begins anew in each epoch
    Batches,
    pytest.param(threads, marks=pytest.mark.slow),
    Iterable,
    pytest.param(tf_data, marks=beside("tensorflow")),
    pytest.param(torch_loader, marks=beside("torch")),
]
every_form = pytest.mark.parametrize("form", [*ANEW, generator])
every_form_anew = pytest.mark.parametrize("form", ANEW)


def fours(images):
    """Four batches of 16."""
    return [images[start : start + 16] for start in range(0, 64, 16)]


def with_third(images, third):
    """Four batches, of which the third is another."""
    return [*fours(images)[:2], third, fours(images)[3]]


WRONG = {
    "range": (lambda x: 255 * x, "from 0 to 255. Divide them by 255"),
    "negative": (lambda x: 2 * x - 1, r"from -1 to 1. Rescale them: \(images \+ 1\) / 2"),
    "nan": (lambda x: np.where(x > 0.5, np.nan, x), "from nan to nan. numpy.isfinite"),
}


@every_form
@pytest.mark.parametrize("fault", WRONG)
def test_a_later_batch_that_is_wrong_is_named(make_vae, images, form, fault):
    spoil, what = WRONG[fault]
    grey = in_unit(images)
    grey[32:48].flat[0], grey[32:48].flat[1] = 0, 1
    batches = with_third(grey, spoil(grey[32:48]).astype("float32"))
    vae = make_vae()
    what = f"^Batch 3 of `x`: Images must be .*{what}"
    says(what, vae.fit, form(batches), shuffle=False, verbose=0)
    assert steps_of(vae) <= 2  # those before it, or fewer that are made at a time
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
def test_a_later_batch_of_another_shape_or_kind_is_named(make_vae, images, form):
    vae, grey = make_vae(), in_unit(images)
    for batches, what in (
        (with_third(images, images[32:48, :7]), r"shape .count, 8, 8, 1.. Received: .*16, 7, 8, 1"),
        (with_third(images, grey[32:48]), "one kind of number. Received: floats after integers"),
        (with_third(grey, images[32:48]), "one kind of number. Received: integers after floats"),
        (with_third(images, images[32:32]), "must have shape"),
        (with_third(images, "abc"), "must be an array of images"),
    ):
        if not isinstance(batches[2], str) or form is not ANEW[4].values[0]:
            says(f"^Batch 3 of `x`: .*{what}", vae.fit, form(batches), shuffle=False, verbose=0)


@every_form
def test_weights_of_a_later_batch_are_looked_at(make_vae, images, form):
    batches = [(batch, np.zeros(16), np.ones(16, "float32")) for batch in fours(images)]
    batches[2][2][3] = np.nan
    says("^Batch 3 of `x`: `sample_weight` must be finite", make_vae().fit, form(batches))


def test_a_batch_is_named_by_its_place_in_the_data_set_however_it_is_shuffled(make_vae, images):
    batches = with_third(in_unit(images), images[32:48].astype("float32"))
    for _ in range(3):
        says("^Batch 3 of `x`: .*Divide", make_vae().fit, Batches(batches), verbose=0)


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
def test_the_first_batch_is_looked_at_before_training_begins(make_vae, images, form):
    wrong = fours(images.astype("float32"))
    begun = []
    callback = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: begun.append(1))
    given = {"callbacks": [callback], "verbose": 0}
    says("^Batch 1 of `x`: .*Divide", make_vae().fit, form(wrong), **given)
    says("^Batch 1 of `val.*Divide", make_vae().fit, images, validation_data=form(wrong), **given)
    assert not begun


@every_form
def test_what_a_stream_raises_itself_comes_out_of_fit(make_vae, images, form):
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
        make_vae().fit(form(Raises(fours(in_unit(images)))), shuffle=False, verbose=0)


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
def test_batches_of_every_form_are_taken(make_vae, images, name):
    vae = make_vae(likelihood=kvae.Bernoulli("threshold"))
    for form in (Batches, generator):
        found = vae.predict(form(FORMS[name](images)), verbose=0)["mean"]
        np.testing.assert_allclose(found[:64], vae.encode(images)[0], rtol=1e-4, atol=1e-5)
        batches = FORMS[name](images)
        assert np.isfinite(
            vae.fit(form(batches), validation_data=form(batches), verbose=0).history["val_loss"]
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
def test_a_data_set_without_batches_is_told_to_make_them(make_vae, element):
    vae = make_vae()
    for call in (vae.fit, vae.evaluate, vae.predict):
        says(r"^Batch 1 of `x`: .*come in batches, as `.batch\(32\)`", call, Iterable([element]))


@needs("tensorflow")
@pytest.mark.parametrize("form", ["image", "grey", "labelled", "dict"])
def test_a_data_set_of_tensorflow_without_batches_is_told_so(make_vae, images, form):
    tf = pytest.importorskip("tensorflow")
    data = {
        "image": images,
        "grey": images[..., 0],
        "labelled": (images, LABELS),
        "dict": {"image": images, "label": LABELS},
    }[form]
    data = tf.data.Dataset.from_tensor_slices(data)
    says(r"`.batch\(32\)`.*Received: one image, of shape \(8, 8", make_vae().fit, data)


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
def test_batches_of_something_else_are_refused(make_vae, batch, what):
    says(what, make_vae().fit, Iterable([batch]))


def test_what_gives_no_batches_is_refused(make_vae, images):
    torch_like = types.SimpleNamespace(__len__=lambda: 3)
    for x in (torch_like, {1, 2}, object(), iter):
        says("`x` must be an array of images, or a data set of batches", make_vae().fit, x)
    for x in (Iterable([]), iter([]), Batches([])):
        says("`x` is a data set without a batch", make_vae().fit, x)
    says(
        "hold its images as 'image'. Received: 'train', 'test'",
        make_vae().fit,
        {"train": 1, "test": 2},
    )


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
def test_images_of_every_form_are_taken_by_fit_and_by_the_verbs(make_vae, images, name):
    given = ARRAYS[name](images)
    vae = make_vae(likelihood=kvae.Bernoulli("threshold"))
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
    for nothing in ("abc", {"image": images}, 5, Batches([images]), iter([images])):
        says("an array, a tensor or a list of images. Received: ", vae.encode, nothing)
    for nothing in ([], ["abc"], [None]):
        says("must have shape", vae.encode, nothing)


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
