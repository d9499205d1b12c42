"""Saving, loading and copying: what Keras takes is honoured, or refused in one line."""

import copy
import functools
import pathlib
import pickle
import shutil

import keras
import numpy as np
import pytest
from keras import layers, ops

import kvae

SHAPE = (8, 8, 1)
unbuilt = pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
pytestmark = [pytest.mark.every_backend, unbuilt]  # most models here have made no step


class Plain(layers.Layer):
    """A layer of one's own that is not registered."""

    def call(self, inputs):
        return 1.0 * inputs


@keras.saving.register_keras_serializable("file")
class Registered(Plain):
    """One that is."""


class PlainVAE(kvae.VAE):
    """A model of one's own that is not registered."""


@keras.saving.register_keras_serializable("file")
class RegisteredVAE(kvae.VAE):
    """One that is, with an argument of its own."""

    def __init__(self, *args, note="", **kwargs):
        super().__init__(*args, **kwargs)
        self.note = note

    def get_config(self):
        return {**super().get_config(), "note": self.note}


def squashed(inputs):
    """An activation of one's own."""
    return ops.tanh(inputs)


def model(layer=None, kind=kvae.VAE, **arguments):
    """A small model, with a layer in its encoder."""
    inputs = keras.Input(SHAPE)
    features = layers.Flatten()(inputs)
    features = features if layer is None else layer(features)
    encoder = keras.Model(inputs, [layers.Dense(2)(features), layers.Dense(2)(features)])
    vae = kind(encoder, kvae.build_decoder(SHAPE, 2, width=8, depth=1), **arguments)
    vae.compile("adam")
    return vae


def alike(one, other, images):
    """Asserts that two models answer alike."""
    np.testing.assert_allclose(one.encode(images)[0], other.encode(images)[0], atol=1e-5)
    np.testing.assert_allclose(one.generate(2, seed=0), other.generate(2, seed=0), atol=1e-5)


def says(what, call, *given, kind=ValueError, **arguments):
    """Asserts that a call is refused in one line."""
    with pytest.raises(kind, match=what) as caught:
        call(*given, **arguments)
    assert "\n" not in str(caught.value)


# Classes of one's own ----------------------------------------------------------------------------

OWN = {
    "layer": (lambda: model(Plain()), "class", Plain),
    "model": (lambda: model(kind=PlainVAE), "class", PlainVAE),
    "function": (lambda: model(layers.Activation(squashed)), "function", squashed),
}


@pytest.mark.parametrize(
    ("own", "zipped"), [*((own, True) for own in OWN), ("layer", False)], ids=str
)
def test_what_is_not_registered_is_named_with_the_way_out(own, zipped, images, tmp_path):
    make, what, it = OWN[own]
    name, path = it.__name__, tmp_path / ("vae.keras" if zipped else "vae")
    vae = make()
    vae.save(path, zipped=zipped)
    wanted = f"the {what} '{name}' is not known.*register_keras_serializable.*custom_objects="
    says(wanted, kvae.load, path)
    says(wanted, kvae.load, path, custom_objects={"Other": it})
    alike(kvae.load(path, custom_objects={name: it}), vae, images)
    with keras.saving.custom_object_scope({name: it}):
        alike(kvae.load(path), vae, images)


@pytest.mark.parametrize("make", [lambda: model(Registered()), lambda: model(kind=RegisteredVAE)])
def test_what_is_registered_is_loaded_as_it_is(make, images, tmp_path):
    vae = make()
    vae.save(tmp_path / "vae.keras")
    again = kvae.load(tmp_path / "vae.keras")
    assert type(again) is type(vae)
    alike(again, vae, images)


def test_arguments_of_a_subclass_are_saved(tmp_path):
    model(kind=RegisteredVAE, note="hello").save(tmp_path / "vae.keras")
    assert kvae.load(tmp_path / "vae.keras").note == "hello"


def test_a_lambda_layer_is_loaded_by_those_who_trust_it(images, tmp_path):
    path = tmp_path / "vae.keras"
    vae = model(layers.Lambda(lambda inputs: 1.0 * inputs, output_shape=(64,)))
    vae.save(path)
    says("holds a Lambda layer.*safe_mode=False", kvae.load, path)
    says("holds a Lambda layer.*safe_mode=False", kvae.load, path, safe_mode=True)
    alike(kvae.load(path, safe_mode=False), vae, images)


# Files -------------------------------------------------------------------------------------------


def test_compile_is_as_told(make_vae, images, tmp_path):
    vae = make_vae(optimizer="adam")
    vae.fit(images, verbose=0)
    vae.save(tmp_path / "vae.keras")
    compiled, bare = (kvae.load(tmp_path / "vae.keras", compile=told) for told in (True, False))
    assert compiled.compiled and not bare.compiled
    assert int(ops.convert_to_numpy(compiled.optimizer.iterations)) == 2
    compiled.train_on_batch(images)
    says(r"call `compile\(\)`", bare.fit, images)


@pytest.mark.parametrize(
    ("form", "zipped"), [(str, None), (pathlib.Path, True), (str, False), (pathlib.Path, False)]
)
def test_files_and_folders_are_loaded(fixed_vae, images, tmp_path, form, zipped):
    path = form(tmp_path / ("vae" if zipped is False else "vae.keras"))
    fixed_vae.save(path, zipped=zipped)
    alike(kvae.load(path), fixed_vae, images)
    alike(keras.saving.load_model(path), fixed_vae, images)


def test_what_is_no_file_of_a_model_is_refused(fixed_vae, tmp_path):
    fixed_vae.save(tmp_path / "vae.keras")
    shutil.copy(tmp_path / "vae.keras", tmp_path / "vae.zip")
    fixed_vae.encoder.save(tmp_path / "encoder.keras")
    (tmp_path / "empty").mkdir()
    says("is not a model of kvae", kvae.load, tmp_path / "encoder.keras")
    says("ends in .keras", kvae.load, tmp_path / "vae.zip")
    says("There is no model at", kvae.load, tmp_path / "empty", kind=FileNotFoundError)
    says("There is no model at", kvae.load, tmp_path / "none", kind=FileNotFoundError)
    for path in (None, 5, b"vae.keras"):
        says("`path` must be the path of a file", kvae.load, path)
    says(
        "`custom_objects` must be a dict",
        kvae.load,
        tmp_path / "vae.keras",
        custom_objects=[fixed_vae],
    )


def test_names_that_kvae_does_not_read_are_not_written(fixed_vae, tmp_path):
    says("HDF5", fixed_vae.save, tmp_path / "vae.h5")
    says("extension", fixed_vae.save, tmp_path / "vae")
    assert not list(tmp_path.iterdir())


def test_a_file_is_kept_where_the_user_says_so(make_vae, tmp_path, monkeypatch):
    path = tmp_path / "vae.keras"
    vae = make_vae()
    vae.save(path)
    before = path.read_bytes()
    monkeypatch.setattr("builtins.input", lambda *given: "n")
    vae.save(path, overwrite=False)
    assert path.read_bytes() == before
    monkeypatch.setattr("builtins.input", lambda *given: "y")
    vae.card = {"note": "another"}
    vae.save(path, overwrite=False)
    assert kvae.load(path).card["note"] == "another"


@pytest.mark.parametrize(
    "arguments",
    [
        {"run_eagerly": True},
        {"jit_compile": False},
        {"jit_compile": "auto"},
        pytest.param(
            {"steps_per_execution": 2},
            marks=pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has none"),
        ),
        {"optimizer": keras.optimizers.AdamW(3e-4, weight_decay=0.1, clipnorm=1.0)},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_how_a_model_was_compiled_is_saved(make_vae, images, tmp_path, arguments):
    vae = make_vae()
    vae.compile(**{"optimizer": "adam"} | arguments)
    vae.save(tmp_path / "vae.keras")
    again = kvae.load(tmp_path / "vae.keras")
    for name in ("run_eagerly", "jit_compile", "steps_per_execution"):
        assert getattr(again, name) == getattr(vae, name)
    assert type(again.optimizer).__name__ == type(vae.optimizer).__name__
    assert again.optimizer.get_config() == vae.optimizer.get_config()
    assert again.get_compile_config() == vae.get_compile_config()


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="there it takes a compiler of C++")
def test_xla_that_was_asked_for_is_saved_for_this_backend_alone(make_vae, images, tmp_path):
    vae = make_vae()
    vae.compile("adam", jit_compile=True)
    vae.save(tmp_path / "vae.keras")
    assert kvae.load(tmp_path / "vae.keras").jit_compile
    config = {**vae.get_compile_config(), "backend": "another"}
    vae.compile_from_config(config)
    auto = vae.jit_compile
    vae.compile("adam")
    assert vae.jit_compile == auto


@pytest.mark.parametrize("scaled", [True, False])
def test_whether_losses_are_scaled_is_saved_with_the_optimizers_state(images, tmp_path, scaled):
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        vae = model()
        vae.compile("adam", auto_scale_loss=scaled)
        vae.train_on_batch(images)
    finally:
        keras.config.set_dtype_policy(former)
    vae.save(tmp_path / "vae.keras")
    again = kvae.load(tmp_path / "vae.keras")
    assert type(again.optimizer) is type(vae.optimizer)
    for one, other in zip(again.optimizer.variables, vae.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))


# Weights -----------------------------------------------------------------------------------------


def test_weights_come_back_from_files_of_weights_and_of_a_model(make_vae, images, tmp_path):
    vae, other = make_vae(), make_vae()
    for name, save in {
        "a.weights.h5": vae.save_weights,
        "a.weights.json": functools.partial(vae.save_weights, max_shard_size=1),
        "vae.keras": vae.save,
    }.items():
        vae.decoder.set_weights([weight + 0.1 for weight in vae.decoder.get_weights()])
        save(tmp_path / name)
        assert (other.generate(2, seed=0) != vae.generate(2, seed=0)).any()
        other.load_weights(tmp_path / name)
        alike(other, vae, images)


@pytest.mark.filterwarnings("ignore")
def test_weights_that_do_not_fit_are_refused_or_skipped(make_vae, images, tmp_path):
    vae, wide = make_vae(), make_vae(latent_dim=4)
    vae.decoder.set_weights([weight + 0.1 for weight in vae.decoder.get_weights()])
    vae.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match="could not be loaded"):
        wide.load_weights(tmp_path / "a.weights.h5")
    wide.load_weights(tmp_path / "a.weights.h5", skip_mismatch=True)
    last, first = wide.decoder.weights[-1], vae.decoder.weights[-1]
    np.testing.assert_array_equal(ops.convert_to_numpy(last), ops.convert_to_numpy(first))


def test_weights_by_another_name_are_refused(fixed_vae, tmp_path):
    says("must end in `.weights.h5`", fixed_vae.save_weights, tmp_path / "a.h5")
    says("foo", fixed_vae.load_weights, tmp_path / "a.weights.h5", foo=1)


# Copies ------------------------------------------------------------------------------------------


def test_a_copy_is_the_model_with_its_optimizer_and_trains_alone(make_vae, images):
    vae = make_vae(optimizer="adam")
    vae.fit(images, batch_size=32, verbose=0)
    before = np.array(ops.convert_to_numpy(vae.weights[0]))
    for copied in (copy.copy, copy.deepcopy, lambda vae: pickle.loads(pickle.dumps(vae))):
        other = copied(vae)
        alike(other, vae, images)
        other.train_on_batch(images)
        assert (ops.convert_to_numpy(other.weights[0]) != before).any()
        np.testing.assert_array_equal(ops.convert_to_numpy(vae.weights[0]), before)
        assert int(ops.convert_to_numpy(other.optimizer.iterations)) == 3
        assert float(ops.convert_to_numpy(other.step)) == 3
    vae.train_on_batch(images)


@pytest.mark.parametrize("own", ["layer", "model"])
def test_a_copy_needs_no_registration(own, images):
    vae = OWN[own][0]()
    other = copy.deepcopy(vae)
    assert type(other) is type(vae)
    alike(other, vae, images)


def test_a_clone_is_a_model_of_new_weights(fixed_vae, images):
    clone = keras.models.clone_model(fixed_vae)
    assert [w.shape for w in clone.weights] == [w.shape for w in fixed_vae.weights]
    assert not {id(w) for w in clone.weights} & {id(w) for w in fixed_vae.weights}
    assert (clone.encode(images)[0] != fixed_vae.encode(images)[0]).any()
    clone.set_weights(fixed_vae.get_weights())
    alike(clone, fixed_vae, images)
    other = keras.models.clone_model(model(kind=PlainVAE))
    assert type(other) is PlainVAE


@pytest.mark.parametrize(
    "arguments",
    [
        {"clone_function": lambda layer: layer},
        {"input_tensors": [0]},
        {"call_function": lambda layer, *given: layer(*given)},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_what_clones_functional_models_alone_is_refused(fixed_vae, arguments):
    says("only supported for", keras.models.clone_model, fixed_vae, **arguments)


def test_a_configuration_as_text_makes_the_model_again(fixed_vae):
    again = keras.models.model_from_json(fixed_vae.to_json())
    assert type(again) is kvae.VAE and again.card == fixed_vae.card
    assert [w.shape for w in again.weights] == [w.shape for w in fixed_vae.weights]


def test_the_folder_of_a_run_is_no_model_and_hides_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mnist", "vae"):
        (tmp_path / name).mkdir()  # as `kvae train --out mnist.keras` leaves it
    assert kvae.load("mnist", compile=False).card["preset"] == "conv"
    with pytest.raises(FileNotFoundError, match="no model at vae"):
        kvae.load("vae")


@keras.saving.register_keras_serializable("keras_extra")
class OfAnotherPackage(kvae.VAE):
    """Its name only begins as Keras's does."""


def test_a_model_of_a_package_that_is_called_like_keras_opens(make_vae, tmp_path):
    vae = make_vae()
    parts = (vae.encoder, vae.decoder, vae.likelihood, vae.prior)
    OfAnotherPackage(*parts).save(tmp_path / "vae.keras")
    assert type(kvae.load(tmp_path / "vae.keras")) is OfAnotherPackage


@pytest.mark.parametrize("number", ["1", None, 1.0, True, -1])
def test_a_format_that_is_no_number_is_said_to_be_damage(fixed_vae, number):
    config = fixed_vae.get_config()
    with pytest.raises(ValueError, match="The file is damaged: its format is"):
        kvae.VAE.from_config({**config, "format": number})


def test_an_unknown_objective_of_format_0_is_named(make_vae):
    with pytest.raises(ValueError, match="format 0 has no objective 'foo'"):
        kvae.VAE.from_config({"objective": "foo"})


class Dense(keras.layers.Dense):
    """Called like Keras's, registered nowhere, and another thing."""

    def call(self, inputs):
        return 3 * super().call(inputs)


def test_copies_keep_classes_that_are_called_like_keras_s(make_vae, images):
    stock = make_vae()
    inputs = keras.Input((8, 8, 1))
    hidden = Dense(4)(keras.layers.Flatten()(inputs))
    hidden = keras.layers.Dense(5)(hidden)
    heads = [keras.layers.Dense(3)(hidden), keras.layers.Dense(3)(hidden)]
    vae = kvae.VAE(keras.Model(inputs, heads), stock.decoder)
    expected = vae.encode(images)[0]
    for copied in (vae.uncompiled(), copy.deepcopy(vae)):
        kinds = [type(layer) for layer in copied.encoder.layers]
        assert kinds == [type(layer) for layer in vae.encoder.layers]
        np.testing.assert_allclose(copied.encode(images)[0], expected, rtol=1e-5)


def test_two_classes_of_one_name_are_told_apart_by_registering(make_vae):
    another = type("Dense", (keras.layers.Dense,), {})
    inputs = keras.Input((8, 8, 1))
    hidden = another(5)(Dense(4)(keras.layers.Flatten()(inputs)))
    heads = [keras.layers.Dense(3)(hidden), keras.layers.Dense(3)(hidden)]
    vae = kvae.VAE(keras.Model(inputs, heads), make_vae().decoder)
    with pytest.raises(ValueError, match="Two classes of the model are called 'Dense'"):
        vae.uncompiled()
