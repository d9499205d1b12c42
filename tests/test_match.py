"""Parts that a model can be made of, and one line on those that it cannot."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import kvae

SHAPE = (8, 8, 1)


def heads(**arguments):
    """An encoder's input, and its mean and log-variance."""
    inputs = keras.Input(SHAPE, **arguments)
    features = layers.Flatten()(inputs)
    return inputs, layers.Dense(2)(features), layers.Dense(2)(features)


def encoder(made_of=lambda mean, log_variance: [mean, log_variance], **arguments):
    inputs, mean, log_variance = heads(**arguments)
    return keras.Model(inputs, made_of(mean, log_variance))


def decoder(made_of=lambda parameters: parameters, latent_dim=2, first=None, **arguments):
    inputs = keras.Input((latent_dim,), **arguments)
    features = inputs if first is None else first(inputs)
    parameters = layers.Reshape(SHAPE)(layers.Dense(64)(features))
    return keras.Model(inputs, made_of(parameters))


def refused(what, *parts, **others):
    with pytest.raises(ValueError, match=what) as caught:
        kvae.VAE(*parts, **others)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "made_of, what",
    [
        (lambda m, v: {"mean": m, "log_variance": v}, "a dict of mean, log_variance"),
        (lambda m, v: m, "one output"),
        (lambda m, v: [m], "outputs of shape"),
        (lambda m, v: [m, v, v], "outputs of shape"),
        (lambda m, v: [[m], [v]], "a nest of lists"),
        (lambda m, v: [[m, v]], "a nest of lists"),
        (lambda m, v: {"both": [m, v]}, "a dict of both"),
        (lambda m, v: [m, layers.Dense(3)(v)], r"\(None, 2\), \(None, 3\)"),
        (lambda m, v: [layers.Reshape((1, 2))(each) for each in (m, v)], r"\(None, 1, 2\)"),
    ],
)
def test_an_encoder_gives_two_tensors_of_one_shape(made_of, what):
    refused(rf"`encoder` must give \[mean, log_variance\].*{what}", encoder(made_of), decoder())


@pytest.mark.parametrize("made_of", [lambda m, v: (m, v), lambda m, v: [v, m]])
def test_an_encoder_may_give_a_tuple_or_a_list(made_of):
    vae = kvae.VAE(encoder(made_of), decoder())
    assert vae.encode(np.zeros((3, *SHAPE), "uint8"))[0].shape == (3, 2)


@pytest.mark.parametrize(
    "made_of, what",
    [
        (lambda p: {"parameters": p}, "a dict of 1"),
        (lambda p: [p], "a list of 1"),
        (lambda p: [p, p], "a list of 2"),
        (lambda p: (p, layers.Flatten()(p)), "of 2"),
        (lambda p: layers.Flatten()(p), r"\(None, 8, 8, 1\).*\(None, 64\)"),
        (lambda p: layers.Concatenate()([p, p]), r"\(None, 8, 8, 1\).*\(None, 8, 8, 2\)"),
    ],
)
def test_a_decoder_gives_one_tensor(made_of, what):
    refused(f"`decoder` must give the parameters of Bernoulli.*{what}", encoder(), decoder(made_of))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
def test_inputs_that_would_cut_floats_to_integers_are_refused(dtype):
    refused(f"`encoder` must take floats.*{dtype}", encoder(dtype=dtype), decoder())
    refused(f"`decoder` must take floats.*{dtype}", encoder(), decoder(dtype=dtype))


def test_inputs_of_one_batch_size_are_refused():
    refused("`encoder` must take batches of any size", encoder(batch_size=4), decoder())
    refused("`decoder` must take batches of any size", encoder(), decoder(batch_size=4))


@pytest.mark.parametrize(
    "make", [lambda: keras.Sequential([layers.Dense(2)]), lambda: layers.Dense(2), lambda: None]
)
def test_parts_are_functional_models(make):
    refused("`encoder` must be a Keras Functional model", make(), decoder())
    refused("`decoder` must be a Keras Functional model", encoder(), make())


@pytest.mark.parametrize("name", ["likelihood", "prior", "objective"])
@pytest.mark.parametrize("value", ["bernoulli", kvae.Bernoulli, layers.Dense(2), 3], ids=str)
def test_other_parts_are_objects_of_their_class(name, value):
    refused(f"`{name}` must be an object of a class derived", encoder(), decoder(), **{name: value})


def test_parts_of_other_dtypes_are_cast(images):
    half = keras.Model(*_as_half(encoder())), keras.Model(*_as_half(decoder()))
    vae = kvae.VAE(*half, seed=1)
    vae.compile("adam")
    outputs = vae(images[:4])
    assert {keras.backend.standardize_dtype(each.dtype) for each in outputs.values()} == {"float32"}
    assert np.isfinite(vae.fit(images, verbose=0).history["loss"]).all()


def _as_half(model):
    """Inputs and outputs of a model, the outputs as float16."""
    outputs = model.output if isinstance(model.output, (list, tuple)) else [model.output]
    half = [layers.Activation("linear", dtype="float16")(output) for output in outputs]
    return model.inputs[0], half if len(half) > 1 else half[0]


# Parts that have something in common -------------------------------------------------------------


@keras.saving.register_keras_serializable("match")
class Tied(kvae.Bernoulli):
    """A likelihood with a layer, which may be another part's."""

    def __init__(self, layer=None, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer


@keras.saving.register_keras_serializable("match")
class TiedPrior(kvae.StandardNormal):
    def __init__(self, latent_dim=2, layer=None, **kwargs):
        super().__init__(latent_dim, **kwargs)
        self.layer = layer


@keras.saving.register_keras_serializable("match")
class TiedObjective(kvae.ELBO):
    def __init__(self, layer=None, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer


def with_layer(shared):
    """An encoder whose heads come after a layer of two to two."""
    return encoder(lambda mean, log_variance: [shared(mean), log_variance])


def test_encoder_and_decoder_with_a_layer_in_common_are_refused():
    shared = layers.Dense(2, name="shared")
    what = "`encoder` and `decoder` have the layer 'shared' in common"
    refused(what, with_layer(shared), decoder(first=shared))


def test_a_layer_within_nested_models_in_common_is_found():
    shared = layers.Dense(2, name="shared")
    inner, other = keras.Input((2,)), keras.Input((2,))
    one = keras.Model(inner, shared(inner), name="one")
    two = keras.Sequential([other, keras.Model(other, shared(other), name="two")])
    refused("layer '.*' in common", with_layer(one), decoder(first=two))
    refused("`encoder` and `decoder` have the layer", with_layer(one), decoder(first=one))


def test_one_model_cannot_be_both_parts():
    whole = encoder()
    refused("`decoder` must take what the encoder gives", whole, whole)


def test_an_encoder_within_the_decoder_is_found():
    inside = encoder()
    latents = keras.Input((2,))
    images = layers.Reshape(SHAPE)(layers.Dense(64)(latents))
    again = layers.Add()(inside(images))
    outside = keras.Model(latents, layers.Reshape(SHAPE)(layers.Dense(64)(again)))
    refused("`encoder` and `decoder` have the layer", inside, outside)


@pytest.mark.parametrize(
    "name, kind", [("likelihood", Tied), ("prior", TiedPrior), ("objective", TiedObjective)]
)
def test_other_parts_with_a_layer_of_the_decoder_are_refused(name, kind):
    shared = layers.Dense(2, name="shared")
    parts = {name: kind(layer=shared)}
    what = f"`decoder` and `{name}` have the layer 'shared' in common"
    refused(what, encoder(), decoder(first=shared), **parts)


def test_a_weight_in_common_is_refused():
    shared = layers.Dense(2, name="shared")
    shared.build((None, 2))
    prior = TiedPrior(2)
    prior._scale = shared.kernel
    refused(
        "`decoder` and `prior` have the weight 'kernel' in common",
        encoder(),
        decoder(first=shared),
        prior=prior,
    )


def test_a_layer_used_twice_within_a_part_is_no_trouble(images, tmp_path):
    shared = layers.Dense(2, name="shared")
    twice = encoder(lambda mean, log_variance: [shared(mean), shared(log_variance)])
    vae = kvae.VAE(twice, decoder(first=keras.Sequential([layers.Dense(2), layers.Dense(2)])))
    vae.compile("sgd")
    vae.train_on_batch(images)
    vae.save(tmp_path / "vae.keras")
    again = kvae.load(tmp_path / "vae.keras")
    assert len(again.weights) == len(vae.weights)
    np.testing.assert_allclose(again.encode(images)[0], vae.encode(images)[0], atol=1e-5)
    again.train_on_batch(images)


def test_a_decoder_may_begin_at_the_encoders_output(images):
    inputs, mean, log_variance = heads()
    first = keras.Model(inputs, [mean, log_variance])
    second = keras.Model(mean, layers.Reshape(SHAPE)(layers.Dense(64)(mean)))
    vae = kvae.VAE(first, second)
    vae.compile("sgd")
    assert np.isfinite(vae.train_on_batch(images)).all()


def test_parts_of_one_model_may_be_parts_of_another(images):
    """As when a model is made anew with another objective."""
    first = kvae.VAE(encoder(), decoder(), seed=1)
    second = kvae.VAE(first.encoder, first.decoder, first.likelihood, objective=kvae.ELBO(2.0))
    for vae in (first, second):
        vae.compile("sgd")
        vae.train_on_batch(images)
    np.testing.assert_array_equal(first.encode(images)[0], second.encode(images)[0])
    assert float(ops.convert_to_numpy(first.step)) == 1
