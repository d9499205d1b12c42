"""Every argument of Keras's `compile`, `fit`, `evaluate` and `predict` is honoured or refused."""

import keras
import numpy as np
import pytest
from keras import ops

import kvae

pytestmark = pytest.mark.every_backend

LABELS = np.arange(64) % 3
WEIGHTS = np.random.default_rng(1).uniform(0.1, 3, 64).astype("float32")
CLASSES = {0: 1.0, 1: 2.0, 2: 0.5}
OF_CLASS = np.array([CLASSES[int(label)] for label in LABELS])
exhausted = pytest.mark.filterwarnings("ignore:Your input ran out of data")


@pytest.fixture(scope="module")
def make_certain(make_vae):
    """Models that draw nothing to speak of and learn nothing: their loss can be computed."""

    def make(optimizer=None):
        vae = make_vae(likelihood=kvae.Bernoulli("none"))
        head = vae.encoder.get_layer("raw_log_variance")
        head.kernel.assign(np.zeros(head.kernel.shape))
        head.bias.assign([-30.0] * 3)  # as good as no noise
        vae.compile(optimizer)
        return vae

    return make


@pytest.fixture(scope="module")
def certain(make_certain):
    """Such a model, trained by many tests: it stays as it is."""
    vae = make_certain(keras.optimizers.SGD(0.0))
    before = vae.get_weights()
    yield vae
    for one, other in zip(before, vae.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def untrained():
    """A model that refuses: one for many tests, since it stays as it is."""
    vae = kvae.VAE.from_preset("mlp", (8, 8, 1), latent_dim=3)
    vae.compile("sgd")
    yield vae
    assert float(ops.convert_to_numpy(vae.step)) == 0


def losses(vae, images):
    """The loss of each image."""
    terms = vae.terms(vae(images))
    return ops.convert_to_numpy(terms.reconstruction) + ops.convert_to_numpy(terms.kl)


def says(what, call, *given, kind=ValueError, **arguments):
    """Asserts that a call is refused in one line."""
    with pytest.raises(kind, match=what) as caught:
        call(*given, **arguments)
    assert "\n" not in str(caught.value)


# Sample weights ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights",
    [WEIGHTS, WEIGHTS[:, None], WEIGHTS.tolist(), WEIGHTS.astype("float64"), WEIGHTS > 1],
    ids=["plain", "column", "list", "float64", "bool"],
)
def test_weights_without_labels_multiply_each_image(certain, images, weights):
    expected = (losses(certain, images) * np.asarray(weights).reshape(-1)).mean()
    found = [
        certain.evaluate(images, sample_weight=weights, batch_size=32, verbose=0)[0],
        certain.test_on_batch(images, sample_weight=weights)[0],
        certain.train_on_batch(images, sample_weight=weights)[0],
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("labels", [None, LABELS], ids=["bare", "labelled"])
def test_weights_reach_loss_and_val_loss_of_fit(certain, images, labels):
    each = losses(certain, images) * WEIGHTS
    for given, parts in (
        ({"validation_data": (images, labels, WEIGHTS)}, (each, each)),
        ({"validation_data": [images, labels, WEIGHTS.tolist()]}, (each, each)),
        ({"validation_split": 0.25}, (each[:48], each[48:])),
    ):
        history = certain.fit(images, labels, 32, verbose=0, sample_weight=WEIGHTS, **given).history
        found = history["loss"] + history["val_loss"]
        np.testing.assert_allclose(found, [part.mean() for part in parts], rtol=2e-3)


def test_weights_given_by_position_count_too(certain, images):
    expected = (losses(certain, images) * WEIGHTS).mean()
    found = certain.evaluate(images, None, 32, 0, WEIGHTS, return_dict=True)["loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize(
    "weights, what",
    [
        (np.stack([WEIGHTS, WEIGHTS], 1), r"shape \(64,\).*\(64, 2\)"),
        (WEIGHTS[:5], r"shape \(64,\).*\(5,\)"),
        (WEIGHTS[:1], r"shape \(64,\).*\(1,\)"),
        (2.0, r"shape \(64,\).*\(\)"),
        ({"a": WEIGHTS}, r"shape \(64,\)"),
        (WEIGHTS * np.nan, "finite and at least 0"),
        (-WEIGHTS, "finite and at least 0.*from -"),
        (np.full(64, np.inf), "finite and at least 0"),
        (np.full(64, "a"), "be numbers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_weights_that_are_none_are_refused(untrained, images, weights, what):
    for call in (
        untrained.fit,
        untrained.evaluate,
        untrained.train_on_batch,
        untrained.test_on_batch,
    ):
        says(f"`sample_weight` must .*{what}", call, images, sample_weight=weights)
    says(what, untrained.fit, images, validation_data=(images, None, weights))


# Class weights -----------------------------------------------------------------------------------


def test_class_weights_multiply_the_images_of_a_class(certain, images):
    each = losses(certain, images)
    given = {"class_weight": CLASSES, "verbose": 0}
    found = certain.fit(images, LABELS, **given).history["loss"][0]
    np.testing.assert_allclose(found, (each * OF_CLASS).mean(), rtol=2e-3)
    history = certain.fit(images, np.eye(3)[LABELS], validation_split=0.25, **given).history
    np.testing.assert_allclose(history["loss"][0], (each * OF_CLASS)[:48].mean(), rtol=2e-3)
    np.testing.assert_allclose(history["val_loss"][0], each[48:].mean(), rtol=2e-3)
    found = certain.train_on_batch(images, LABELS, class_weight=CLASSES)[0]
    np.testing.assert_allclose(found, (each * OF_CLASS).mean(), rtol=1e-3)


def test_class_weights_without_what_they_need_are_refused(untrained, images):
    for call in (untrained.fit, untrained.train_on_batch):
        says("`class_weight` needs labels", call, images, class_weight=CLASSES)
        says("must be a dict", call, images, LABELS, class_weight=[1.0, 2.0, 3.0])
        says("finite", call, images, LABELS, class_weight={0: np.nan})
        both = {"class_weight": CLASSES, "sample_weight": WEIGHTS}
        says("cannot be given together", call, images, LABELS, **both)
    says("needs labels", untrained.fit, Batches(images), class_weight=CLASSES)
    says("together", untrained.fit, Batches(images, LABELS, WEIGHTS), class_weight=CLASSES)


# Forms of data -----------------------------------------------------------------------------------


class Batches(keras.utils.PyDataset):
    """Four batches of arrays, or of None."""

    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return 4

    def __getitem__(self, i):
        rows = slice(16 * i, 16 * i + 16)
        return tuple(None if array is None else array[rows] for array in self.arrays)


def generator(*arrays):
    return (Batches(*arrays)[i] for i in range(4))


def tf_data(*arrays):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(arrays).batch(16)


def torch_loader(*arrays):
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(*map(torch.from_numpy, arrays))
    return torch.utils.data.DataLoader(data, batch_size=16)


@exhausted
@pytest.mark.parametrize(
    "form", [Batches, generator, tf_data, pytest.param(torch_loader, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "labels", [pytest.param(None, marks=pytest.mark.slow), LABELS], ids=["bare", "labelled"]
)
def test_weights_of_a_data_set_count(certain, images, form, labels):
    if labels is None and form in (tf_data, torch_loader):
        pytest.skip("cannot hold None")
    expected = (losses(certain, images) * WEIGHTS).mean()
    arrays = (images, labels, WEIGHTS)
    history = certain.fit(
        form(*arrays), validation_data=form(*arrays), shuffle=False, verbose=0
    ).history
    found = [history["loss"][0], history["val_loss"][0]]
    found.append(certain.evaluate(form(*arrays), verbose=0)[0])
    np.testing.assert_allclose(found, expected, rtol=2e-3)


@pytest.mark.parametrize("form", [Batches, tf_data])
def test_class_weights_of_a_data_set_count(certain, images, form):
    expected = (losses(certain, images) * OF_CLASS).mean()
    data = form(images, LABELS)
    found = certain.fit(data, class_weight=CLASSES, shuffle=False, verbose=0).history["loss"][0]
    np.testing.assert_allclose(found, expected, rtol=2e-3)


@exhausted
@pytest.mark.parametrize("form", [Batches, generator])
def test_the_first_batch_of_a_data_set_is_looked_at(untrained, images, form):
    bright = images.astype("float32")
    for call in (untrained.fit, untrained.evaluate):
        given = {"verbose": 0} | ({"shuffle": False} if call == untrained.fit else {})
        says("Divide them by 255", call, form(bright), **given)
        says("must have shape", call, form(images[:, :7]), **given)
        says("Received: 4 parts", call, form(images, LABELS, WEIGHTS, WEIGHTS), **given)
        says("finite", call, form(images, LABELS, WEIGHTS * np.nan), **given)
        two = np.stack([WEIGHTS, WEIGHTS], 1)
        says("one value for each", call, form(images, LABELS, two), **given)


@pytest.mark.parametrize(
    "x",
    [None, "abc", 5, [], [[0.0]]]
    + [kind([np.zeros((2, 8, 8, 1), "uint8"), np.zeros(2)]) for kind in (list, tuple)],
    ids=lambda x: type(x).__name__,
)
def test_what_is_no_array_or_data_set_is_refused(untrained, x):
    for call in (untrained.fit, untrained.evaluate, untrained.predict):
        says("`x` must be an array of images, or a data set", call, x)
    for call in (untrained.train_on_batch, untrained.test_on_batch, untrained.predict_on_batch):
        says("`x` must be an array of images", call, x)


@pytest.mark.parametrize("wrap", [list, tuple])
def test_a_list_of_one_array_is_that_array(certain, images, wrap):
    expected = losses(certain, images).mean()
    np.testing.assert_allclose(certain.evaluate(wrap([images]), verbose=0)[0], expected, rtol=1e-3)
    assert certain.predict(wrap([images]), verbose=0)["z"].shape == (64, 3)


@pytest.mark.parametrize(
    "kind", ["float16", "float32", "float64", "uint16", "int16", "int32", "int64", "uint32"]
)
def test_images_of_every_kind_of_number_give_the_same_loss(certain, images, kind):
    given = (images / 255 if "float" in kind else images).astype(kind)
    found = certain.evaluate(given, verbose=0)[0], certain.test_on_batch(given)[0]
    np.testing.assert_allclose(found, losses(certain, images).mean(), rtol=2e-3)


@pytest.mark.parametrize("library", ["tensorflow", "torch"])
def test_tensors_of_every_library_are_images_and_weights(certain, images, library):
    tensor = getattr(pytest.importorskip(library), "constant", None) or (
        pytest.importorskip("torch").from_numpy
    )
    each = losses(certain, images) * WEIGHTS
    given = {"sample_weight": tensor(WEIGHTS), "validation_split": 0.25, "verbose": 0}
    history = certain.fit(tensor(images), **given).history
    found = history["loss"] + history["val_loss"]
    np.testing.assert_allclose(found, [each[:48].mean(), each[48:].mean()], rtol=2e-3)


@pytest.mark.parametrize(
    "images, what",
    [
        (np.full((4, 8, 8, 1), 2.0, "float32"), "floats in"),
        (np.full((4, 8, 8, 1), np.nan, "float32"), "floats in"),
        (np.full((4, 8, 8, 1), 300, "int32"), "integers in"),
        (np.zeros((4, 8, 7)), "must have shape"),
        (np.zeros((0, 8, 8, 1)), "must have shape"),
        (np.zeros((4, 8, 8, 3)), "must have shape"),
        (np.zeros((4, 8, 8, 1), "complex64"), "dtype complex64"),
    ],
    ids=str,
)
def test_batches_given_alone_are_looked_at_as_in_fit(untrained, images, what):
    for name in ("fit", "evaluate", "predict"):
        says(what, getattr(untrained, name), images)
        on_batch = {"fit": "train", "evaluate": "test", "predict": "predict"}[name] + "_on_batch"
        says(what, getattr(untrained, on_batch), images)


def test_labels_of_another_number_are_refused(untrained, images):
    for call in (
        untrained.fit,
        untrained.evaluate,
        untrained.train_on_batch,
        untrained.test_on_batch,
    ):
        says("`y` must have one label for each image, 64", call, images, LABELS[:5])
        says("`y` must be numbers", call, images, LABELS.astype(str))
    says("one label", untrained.fit, images, validation_data=(images, LABELS[:5]))


def test_labels_may_be_a_list(certain, images):
    expected = losses(certain, images).mean()
    np.testing.assert_allclose(
        certain.test_on_batch(images, LABELS.tolist())[0], expected, rtol=1e-3
    )
    found = certain.evaluate(images, LABELS.tolist(), verbose=0)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_data_sets_refuse_labels_and_weights_beside_them(untrained, images):
    for call in (untrained.fit, untrained.evaluate):
        says("should not be passed", call, Batches(images), LABELS)
        says("should not be passed", call, Batches(images), sample_weight=WEIGHTS)
    says(
        "`validation_split` is only supported", untrained.fit, Batches(images), validation_split=0.5
    )
    says("without a batch", untrained.fit, tf_data(images).take(0))


# The other arguments of fit, evaluate and predict ------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {name: value}
        for name, values in {
            "batch_size": (0, -1, 1.5, "a", True),
            "validation_batch_size": (0, "a"),
            "steps_per_epoch": (0, -1, 2.5),
            "validation_steps": (0, "all"),
            "epochs": (-1, 1.5, None, "two"),
            "initial_epoch": (-1, 0.5),
            "validation_freq": (0, "a", (1, 2), [0], None),
            "validation_split": (-0.5, 1.0, 2, "half", float("nan")),
            "shuffle": ("epoch", "yes"),
            "verbose": ("x", 3, None),
            "callbacks": (3, [None], ["a"], [keras.callbacks.Callback]),
        }.items()
        for value in values
    ],
    ids=str,
)
def test_arguments_that_mean_nothing_are_refused_before_the_first_step(
    untrained, images, arguments
):
    (name,) = arguments
    says(f"`{name}` must be .*Received: {name}=", untrained.fit, images, **arguments)
    if name in ("batch_size", "verbose", "callbacks"):
        says(f"`{name}` must be", untrained.evaluate, images, **arguments)
        says(f"`{name}` must be", untrained.predict, images, **arguments)


@pytest.mark.parametrize("steps", [0, -1, 1.5, "a"])
def test_steps_that_are_none_are_refused(untrained, images, steps):
    for call in (untrained.evaluate, untrained.predict):
        says("`steps` must be an integer", call, images, steps=steps)


def test_arguments_that_there_are_not_are_refused(untrained, images):
    for call in (untrained.fit, untrained.predict):
        says("foo", call, images, foo=3, kind=TypeError)
    says("foo", untrained.evaluate, images, foo=3)


class Counts(keras.callbacks.Callback):
    """Keeps what it was called for, in order."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(f"epoch {epoch}")

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(batch)

    def on_test_end(self, logs=None):
        self.seen.append("tested")

    def on_predict_batch_end(self, batch, logs=None):
        self.seen.append(f"predicted {batch}")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda vae, callback: callback,
        lambda vae, callback: [callback],
        lambda vae, callback: [[callback]],
        lambda vae, callback: keras.callbacks.CallbackList([callback], add_history=True, model=vae),
    ],
    ids=["alone", "list", "nest", "CallbackList"],
)
def test_callbacks_come_in_every_form_and_in_order(certain, images, wrap):
    counts = Counts()
    given = {"callbacks": wrap(certain, counts), "verbose": 0}
    certain.fit(images, batch_size=16, epochs=3, initial_epoch=2, **given)
    assert counts.seen == ["epoch 2", 0, 1, 2, 3]


def test_epochs_steps_and_validation_are_as_many_as_told(certain, images):
    counts = Counts()
    each = losses(certain, images)
    history = certain.fit(
        images,
        batch_size=np.int64(16),
        epochs=4,
        steps_per_epoch=2,
        shuffle=False,
        validation_data=images,
        validation_batch_size=8,
        validation_steps=3,
        validation_freq=[1, 4],
        callbacks=[counts],
        verbose=0,
    ).history
    epoch = [0, 1]
    assert counts.seen == [
        *("epoch 0", *epoch, "tested", "epoch 1", *epoch),
        *("epoch 2", *epoch, "epoch 3", *epoch, "tested"),
    ]
    np.testing.assert_allclose(history["val_loss"], [each[:24].mean()] * 2, rtol=2e-3)
    np.testing.assert_allclose(history["loss"][0], each[:32].mean(), rtol=2e-3)


def test_validation_has_the_batch_size_of_training(certain, images):
    given = {"validation_data": images, "validation_steps": 2, "batch_size": 16, "verbose": 0}
    found = certain.fit(images, **given).history["val_loss"][0]
    np.testing.assert_allclose(found, losses(certain, images)[:32].mean(), rtol=2e-3)


class FailsLater(Batches):
    """Batches that can be had so many times, of which one is to look at them."""

    def __init__(self, images, times):
        super().__init__(images)
        self.times = times

    def __getitem__(self, i):
        self.times -= 1
        if self.times < 0:
            raise OSError("the disk is gone")
        return super().__getitem__(i)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("verb", ["fit", "evaluate", "predict"])
def test_what_ends_early_leaves_the_model_whole(make_vae, images, verb, times):
    vae = make_vae()
    before = vae.encode(images)[0]
    with pytest.raises(OSError, match="the disk is gone"):
        getattr(vae, verb)(FailsLater(images, times), verbose=0)
    if verb != "fit":
        np.testing.assert_allclose(vae.encode(images)[0], before, rtol=1e-5)
    assert np.isfinite(vae.evaluate(images, verbose=0)).all()
    assert np.isfinite(vae.fit(images, verbose=0).history["loss"][0])


@pytest.mark.parametrize("shuffle", [False, True, "batch", None])
def test_every_image_is_seen_once_an_epoch_in_any_order(certain, images, shuffle):
    given = {"sample_weight": WEIGHTS, "shuffle": shuffle, "batch_size": 16, "verbose": 0}
    found = certain.fit(images, **given).history["loss"][0]
    np.testing.assert_allclose(found, (losses(certain, images) * WEIGHTS).mean(), rtol=2e-3)


def test_no_epochs_are_no_steps(certain, images):
    assert certain.fit(images, epochs=0, verbose=0).history == {}


@pytest.mark.parametrize("verbose", [0, 1, 2, "auto"])
def test_verbose_says_as_much_as_told(certain, images, capsys, verbose):
    certain.evaluate(images, verbose=verbose)
    certain.predict(images, verbose=verbose)
    assert bool(capsys.readouterr().out) == (verbose != 0)


def test_evaluate_and_predict_make_the_steps_told(certain, images):
    counts = Counts()
    expected = (losses(certain, images) * WEIGHTS)[:32].mean()
    given = {"steps": 2, "batch_size": 16, "verbose": 0, "callbacks": [counts]}
    figures = certain.evaluate(images, sample_weight=WEIGHTS, **given)
    named = certain.evaluate(images, sample_weight=WEIGHTS, return_dict=True, **given)
    np.testing.assert_allclose(figures[0], expected, rtol=1e-3)
    named = [named[name] for name in ("loss", "reconstruction", "kl", "elbo")]
    np.testing.assert_allclose(figures, named, rtol=1e-3)  # as good as no noise, but not none
    assert certain.predict(images, **given)["mean"].shape == (32, 3)
    assert counts.seen == ["tested", "tested", "predicted 0", "predicted 1"]
    assert certain.predict_on_batch(images[:5])["mean"].shape == (5, 3)


# compile -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"loss": "mse"},
        {"loss": ""},
        {"loss": keras.losses.MeanSquaredError()},
        {"metrics": ["mse"]},
        {"metrics": np.array([1, 2])},
        {"weighted_metrics": ["mse"]},
        {"loss_weights": [1.0]},
        {"loss_weights": 0},
    ],
)
def test_losses_and_metrics_of_compile_are_refused(untrained, arguments):
    (name,) = arguments
    says(f"`{name}` has no meaning here", untrained.compile, "adam", **arguments)


def test_no_loss_and_no_metrics_are_none(make_vae, images):
    vae = make_vae()
    for nothing in (None, [], {}):
        vae.compile("sgd", metrics=nothing, loss=nothing, loss_weights=nothing)
        assert len(vae.test_on_batch(images)) == 4


@pytest.mark.parametrize("steps", [0, -1, 1.5, None, "auto"])
def test_steps_per_execution_that_are_none_are_refused(untrained, steps):
    compile = untrained.compile
    says("`steps_per_execution` must be an integer", compile, steps_per_execution=steps)


def test_what_compile_does_not_know_is_refused(untrained):
    says("Could not interpret optimizer", untrained.compile, "sdg")
    says("foo", untrained.compile, foo=3, kind=TypeError)


def test_an_optimizer_comes_in_every_form(make_vae, images):
    vae = make_vae()
    config = {"class_name": "SGD", "config": {"learning_rate": 1e-3}}
    for optimizer in ("sgd", keras.optimizers.SGD(1e-3), config):
        vae.compile(optimizer)
        before = [ops.convert_to_numpy(weight).copy() for weight in vae.trainable_weights]
        vae.train_on_batch(images)
        assert type(vae.optimizer).__name__ == "SGD"
        moved = zip(before, vae.trainable_weights, strict=True)
        assert any((old != ops.convert_to_numpy(new)).any() for old, new in moved)


def test_without_an_optimizer_a_model_is_evaluated_and_not_trained(make_certain, images, tmp_path):
    vae = make_certain(None)
    expected = losses(vae, images).mean()
    np.testing.assert_allclose(vae.evaluate(images, verbose=0)[0], expected, rtol=1e-3)
    for call in (vae.fit, vae.train_on_batch):
        says("compiled with optimizer=None", call, images)
    vae.save(tmp_path / "vae.keras")
    again = kvae.load(tmp_path / "vae.keras")
    assert again.compiled and again.optimizer is None


def test_what_is_not_compiled_says_so(make_vae, images):
    vae = make_vae().uncompiled()
    for call in (vae.fit, vae.evaluate, vae.train_on_batch, vae.test_on_batch):
        says(r"must call `compile\(\)`", call, images)
    assert vae.predict(images, verbose=0)["z"].shape == (64, 3)


# Frozen parts ------------------------------------------------------------------------------------


def moved(vae, images):
    """The parts that a step changes."""
    parts = {"encoder": vae.encoder, "decoder": vae.decoder}
    before = {name: [np.array(w) for w in part.get_weights()] for name, part in parts.items()}
    vae.fit(images, batch_size=32, verbose=0)
    return {
        name
        for name, part in parts.items()
        for old, new in zip(before[name], part.get_weights(), strict=True)
        if (old != new).any()
    }


@pytest.mark.parametrize(
    "again",
    [True, pytest.param(False, marks=pytest.mark.slow)],
    ids=["before compile", "after compile"],
)
@pytest.mark.parametrize("frozen, other", [("encoder", "decoder"), ("decoder", "encoder")])
def test_a_frozen_part_stays_and_stays_frozen_in_its_file(
    make_vae, images, tmp_path, frozen, other, again
):
    vae = make_vae()
    getattr(vae, frozen).trainable = False
    if again:
        vae.compile("sgd")
    assert moved(vae, images) == {other}
    vae.save(tmp_path / "vae.keras")
    vae = kvae.load(tmp_path / "vae.keras")
    assert not getattr(vae, frozen).trainable
    assert moved(vae, images) == {other}


def test_a_frozen_layer_stays(make_vae, images):
    vae = make_vae()
    layer = vae.encoder.get_layer("raw_log_variance")
    layer.trainable = False
    vae.compile("sgd")
    before = [np.array(weight) for weight in layer.get_weights()]
    assert moved(vae, images) == {"encoder", "decoder"}
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_what_is_frozen_between_two_fits_asks_for_compile(make_vae, images):
    vae = make_vae()
    vae.fit(images, verbose=0)
    for trainable in (False, True):
        vae.encoder.trainable = trainable
        if not trainable:
            for call in (vae.fit, vae.train_on_batch):
                says("`trainable` of .* has changed.*`compile` again", call, images)
            vae.compile("sgd")
            assert moved(vae, images) == {"decoder"}
        else:
            says("`trainable` of .* has changed", vae.fit, images)


@exhausted
def test_any_iterator_of_batches_is_taken_and_looked_at(make_vae, images):
    vae = make_vae()
    batches = map(lambda start: images[start : start + 32], (0, 32))
    assert np.isfinite(vae.fit(batches, shuffle=False, verbose=0).history["loss"][0])
    says("(?i)images", vae.fit, iter([images[:, :7]]), shuffle=False, verbose=0)


def test_a_single_weight_frozen_between_two_fits_asks_for_compile(make_vae, images):
    vae = make_vae()
    vae.fit(images, verbose=0)
    next(iter(vae.encoder.trainable_variables)).trainable = False
    says("`trainable` of .* has changed.*`compile` again", vae.fit, images)


@pytest.mark.parametrize("moment", ["on_epoch_begin", "on_train_batch_begin", "on_epoch_end"])
def test_what_a_callback_freezes_stays_or_is_refused(make_vae, images, moment):
    """On TensorFlow and JAX no step would see it; on PyTorch each does."""

    class Freezes(keras.callbacks.Callback):
        pass

    def freeze(self, number, logs=None):
        if number == 1:
            self.model.decoder.trainable = False
            self.kept = [np.array(weight) for weight in self.model.decoder.get_weights()]

    setattr(Freezes, moment, freeze)
    vae, freezes = make_vae(), Freezes()
    arguments = {"epochs": 3, "batch_size": 16, "callbacks": [freezes], "verbose": 0}
    if keras.backend.backend() != "torch":
        return says("`trainable` of .* has changed", vae.fit, images, **arguments)
    vae.fit(images, **arguments)
    for old, new in zip(freezes.kept, vae.decoder.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_model_that_is_all_frozen_is_evaluated_and_not_trained(make_certain, images):
    vae = make_certain()
    vae.trainable = False
    vae.compile("sgd")
    expected = losses(vae, images).mean()
    np.testing.assert_allclose(vae.evaluate(images, verbose=0)[0], expected, rtol=1e-3)
    for call in (vae.fit, vae.train_on_batch):
        says("no trainable weights", call, images)


# Subclasses --------------------------------------------------------------------------------------


class Squared(kvae.VAE):
    """A loss of its own, without `training` as Keras allows it, and a metric of its own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.spread = keras.metrics.Mean(name="spread")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        self.spread.update_state(ops.std(y_pred["mean"]))
        return ops.mean(ops.square(y_pred["parameters"]))


class OwnStep(kvae.VAE):
    """A training step of its own, which trains nothing and says so."""

    def train_step(self, *given):
        logs = {"steps": 1.0}
        return (logs, given[0]) if keras.backend.backend() == "jax" else logs


class Halved(kvae.VAE):
    """A pass of its own."""

    def call(self, images, training=False):
        outputs = super().call(images, training=training)
        return {**outputs, "parameters": 0.0 * outputs["parameters"]}


def own(kind, vae):
    """The model as one of a subclass."""
    own = kind(vae.encoder, vae.decoder, kvae.Bernoulli("none"), seed=2)
    own.compile("adam")
    return own


def test_a_subclass_may_have_its_own_loss_and_metrics(make_vae, images):
    vae = own(Squared, make_vae())
    history = vae.fit(images, validation_data=images, epochs=2, verbose=0).history
    assert {"loss", "spread", "val_loss", "val_spread"} <= history.keys()
    assert history["val_loss"][-1] < history["val_loss"][0]
    expected = vae.predict(images, verbose=0)["mean"].std()
    np.testing.assert_allclose(history["val_spread"][-1], expected, rtol=0.2)


def test_a_subclass_may_have_its_own_step(make_vae, images):
    vae = own(OwnStep, make_vae())
    assert vae.fit(images, batch_size=32, verbose=0).history["steps"] == [1.0]
    assert float(ops.convert_to_numpy(vae.step)) == 0


def test_a_subclass_may_have_its_own_pass(make_vae, images):
    vae = own(Halved, make_vae())
    figures = vae.evaluate(images, verbose=0, return_dict=True)
    np.testing.assert_allclose(figures["reconstruction"], 64 * np.log(2), rtol=1e-4)


def test_sample_weights_spare_the_penalties_of_layers(make_certain, images):
    vae = make_certain()
    layer = vae.decoder.layers[-2] if hasattr(vae.decoder.layers[-2], "kernel") else None
    layer = layer or next(each for each in vae.decoder.layers[::-1] if hasattr(each, "kernel"))
    layer.kernel_regularizer = keras.regularizers.L2(0.5)
    layer.kernel.regularizer = layer.kernel_regularizer
    vae.compile("sgd")
    penalty = 0.5 * (ops.convert_to_numpy(layer.kernel) ** 2).sum()
    found = vae.test_on_batch(images, sample_weight=WEIGHTS)[0]
    np.testing.assert_allclose(found, (losses(vae, images) * WEIGHTS).mean() + penalty, rtol=1e-3)
