"""What a page computes, beside what Keras does, in a Chromium where there is one."""

import keras
import numpy as np
import pytest
from explorers import reader_of, vae_of
from keras import layers, ops
from marks import once

import kvae
from kvae.explorer import OPERATIONS, Tensors, graph_of, runnable
from kvae.explorer.runnable import mean_of
from kvae.priors import given

pytestmark = once


@pytest.fixture(scope="module")
def reader(browser):
    """A page with the engine alone."""
    page = reader_of(browser)
    yield page
    page.close()


def exact():
    """Tensors that stay float32, so that a difference is a mistake."""
    tensors = Tensors()
    tensors.add = lambda array: tensors.packed(np.asarray(array, "float32"))
    return tensors


def run(reader, graph, tensors, *inputs, plain=False):
    """The values of all nodes, by WebAssembly where the browser has it, or without."""
    return reader.evaluate(
        """([graph, entries, weights, inputs, plain]) => {
            const memory = new Memory(plain), tensors = new Tensors(entries, fromBase64(weights));
            const made = new Graph(graph, tensors, memory);
            for (let again = 0; again < 2; again++) made.run(...inputs.map(floats));
            return { values: made.values.map(list), simd: Boolean(memory.tile) };
        }""",
        [graph, tensors.entries, tensors.text(), [np.ravel(x).tolist() for x in inputs], plain],
    )


def assert_near(found, expected, at_most=1e-4, what=""):
    found, expected = np.ravel(found), np.ravel(ops.convert_to_numpy(expected))
    assert found.shape == expected.shape, what
    assert np.abs(found - expected).max() < at_most * max(1, abs(expected).max()), what


def shake(model):
    """Weights far from their first values, so that none may be forgotten."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        away = 0.3 * rng.standard_normal(weight.shape)
        weight.assign(abs(away) + 0.5 if "variance" in weight.name else away)


@pytest.mark.parametrize("kind", ["int16", "int8"])
def test_a_page_reads_the_numbers_that_were_packed(reader, kind):
    """Large and small ones, a few that stay float32, and those that are no numbers."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((30, 21)) * 10.0**scale for scale in (4, 0, -6)]
    arrays += [rng.standard_normal(5), np.full((30, 21), np.inf)]
    tensors = Tensors(kind)
    for number in [tensors.add(array) for array in arrays]:
        found = reader.evaluate(
            "([entries, text, n]) => list(new Tensors(entries, fromBase64(text)).get(n))",
            [tensors.entries, tensors.text(), number],
        )
        np.testing.assert_array_equal(np.float32(found), tensors.array(number).ravel())


IMAGE, ROW = (6, 5, 3), (7,)
CASES = {
    "a silu": (ROW, lambda: layers.Activation("silu")),
    "batch normalisation": (IMAGE, lambda: layers.BatchNormalization()),
    "batch normalisation alone": (
        IMAGE,
        lambda: layers.BatchNormalization(scale=False, center=False),
    ),
    "convolution": (IMAGE, lambda: layers.Conv2D(4, 3)),
    "convolution without bias": (
        IMAGE,
        lambda: layers.Conv2D(9, 3, padding="same", use_bias=False),
    ),
    "even kernel, strides": (IMAGE, lambda: layers.Conv2D(8, 4, strides=2, padding="same")),
    "oblong kernel": (IMAGE, lambda: layers.Conv2D(17, (1, 3), strides=(1, 2), activation="relu")),
    "cropping": (IMAGE, lambda: layers.Cropping2D(((1, 2), (0, 1)))),
    "cropping of rows": ((6, 3), lambda: layers.Cropping1D((2, 1))),
    "dense": (ROW, lambda: layers.Dense(5, activation="elu")),
    "dense at each place": (IMAGE, lambda: layers.Dense(11, activation="softmax")),
    "dropout": (ROW, lambda: layers.Dropout(0.5)),
    "flattening": (IMAGE, lambda: layers.Flatten()),
    "identity": (ROW, lambda: layers.Identity()),
    "leaky": (ROW, lambda: layers.LeakyReLU(negative_slope=0.1)),
    "leaky as a function": (ROW, lambda: layers.Activation("leaky_relu")),
    "maximum": (IMAGE, lambda: layers.MaxPooling2D((3, 2), strides=(1, 2))),
    "mean": (IMAGE, lambda: layers.AveragePooling2D(2)),
    "mean of all": (IMAGE, lambda: layers.GlobalAveragePooling2D()),
    "padding": (IMAGE, lambda: layers.ZeroPadding2D(((1, 0), (2, 1)))),
    "padding of rows": ((6, 3), lambda: layers.ZeroPadding1D((1, 2))),
    "permutation": (IMAGE, lambda: layers.Permute((3, 1, 2))),
    "repetition": (ROW, lambda: layers.RepeatVector(4)),
    "rescaling": (ROW, lambda: layers.Rescaling([*range(7)], 0.5)),
    "reshaping": (IMAGE, lambda: layers.Reshape((5, 18))),
    "root mean square": (IMAGE, lambda: layers.RMSNormalization()),
}
for name in ("tanh", "sigmoid", "softplus", "exponential", "linear"):
    CASES[name] = (ROW, lambda name=name: layers.Activation(name))
TWO = {"sum": layers.Add, "product": layers.Multiply, "one behind the other": layers.Concatenate}


@pytest.mark.parametrize("plain", [False, True], ids=["simd", "plain"])
def test_each_layer_gives_what_keras_gives(reader, plain):
    seen, rng = set(), np.random.default_rng(0)
    for name, (shape, make) in CASES.items():
        model = keras.Sequential([keras.Input(shape), make()])
        seen |= {type(layer) for layer in model.layers}
        shake(model)
        x, tensors = rng.standard_normal((1, *shape)).astype("float32"), exact()
        graph = graph_of(model, tensors)
        found = run(reader, graph, tensors, x, plain=plain)
        assert found["simd"] != plain, "this browser has no WebAssembly with SIMD"
        assert_near(found["values"][graph["outputs"][0]], model(x), what=name)
    for name, layer in TWO.items():
        inputs = [keras.Input(IMAGE) for _ in range(3)]
        model, tensors = keras.Model(inputs, layer()(inputs)), exact()
        seen.add(layer)
        x = [rng.standard_normal((1, *IMAGE)).astype("float32") for _ in range(3)]
        found = run(reader, graph_of(model, tensors), tensors, *x, plain=plain)
        assert_near(found["values"][-1], model(x), what=name)
    assert {*OPERATIONS} == seen


def shared_at_two_sizes():
    x = keras.Input((8, 6, 2))
    conv = layers.Conv2D(2, 3, strides=2, padding="same")
    y = conv(x)
    z = conv(y)
    return keras.Model(x, [y, z])


def shared_model_twice():
    inner_input = keras.Input((5,))
    inner = keras.Model(inner_input, layers.Dense(5, "tanh")(inner_input))
    x = keras.Input((5,))
    first = inner(x)
    return keras.Model(x, [first, inner(first), inner(inner(first))])


def blocks_within_blocks():
    block = keras.Sequential([layers.Dense(6, "relu"), keras.Sequential([layers.Dense(4)])])
    x = keras.Input((3,))
    return keras.Model(x, layers.Add()([block(x), layers.Dense(4)(x)]))


class Named(keras.Model):
    """A Functional model with a constructor of its own, and no config that tells its layers."""

    def __init__(self, width):
        x = keras.Input((4,))
        super().__init__(x, layers.Dense(width)(x))


@pytest.mark.parametrize(
    "make", [shared_at_two_sizes, shared_model_twice, blocks_within_blocks, lambda: Named(3)]
)
def test_a_graph_follows_the_calls_of_a_model(reader, make):
    model, tensors = make(), exact()
    shake(model)
    x = np.random.default_rng(0).standard_normal((1, *model.inputs[0].shape[1:])).astype("float32")
    graph = graph_of(model, tensors)
    found = run(reader, graph, tensors, x)["values"]
    expected = model(x)
    expected = expected if isinstance(expected, list) else [expected]
    assert len(graph["outputs"]) == len(expected)
    for number, values in zip(graph["outputs"], expected, strict=True):
        assert_near(found[number], values)


LIKELIHOODS = {
    "bernoulli": lambda: kvae.Bernoulli(),
    "continuous": lambda: kvae.ContinuousBernoulli(),
    "gaussian": lambda: kvae.Gaussian(),
    "logistic": lambda: kvae.DiscretizedLogistic(),
    "mixture": lambda: kvae.LogisticMixture(),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_expected_image_is_that_of_the_likelihood(reader, name):
    likelihood = LIKELIHOODS[name]()
    rng = np.random.default_rng(0)
    for scale in (0.3, 3.0):
        shape = (1, 4, 5, 3 * likelihood.parameters_per_value)
        parameters = (scale * rng.standard_normal(shape)).astype("float32")
        found = reader.evaluate(
            "([x, told]) => Array.from(MEANS[told.kind](Float32Array.from(x), told, 3))",
            [parameters.ravel().tolist(), mean_of(likelihood)],
        )
        expected = ops.convert_to_numpy(likelihood.mean(parameters)).ravel()
        assert np.abs(np.array(found) - expected).max() < 1e-4


def ask(reader, vae, tensors, verb, rows, told):
    """What the model in a page gives for each row."""
    model, notes = runnable(vae, tensors)
    assert notes == []
    return reader.evaluate(
        """([description, weights, verb, rows, told]) => {
            const model = new Model(description, fromBase64(weights));
            return rows.map((row, i) => {
                const found = model[verb](floats(row), floats(told[i]));
                return (verb === "encode" ? found.slice(0, 2) : [found]).map(list);
            });
        }""",
        [{**model, "tensors": tensors.entries}, tensors.text(), verb, rows.tolist(), told],
    )


def compare(reader, vae, make=exact, at_most=1e-3, count=2):
    """Asserts that pixels are as Keras has them, and posteriors and draws of the prior nearly."""
    rng = np.random.default_rng(0)
    told, rows = [[]] * count, None
    if vae.condition is not None:
        rows = np.eye(vae.condition.size, dtype="float32")[
            np.arange(1, count + 1) % vae.condition.size
        ]
        told = rows.tolist()
    noise = rng.standard_normal((count, vae.latent_dim)).astype("float32")
    z = ops.convert_to_numpy(vae.prior.from_noise(noise, **given(rows)))
    images = rng.integers(0, 256, (count, *vae.image_shape)).astype("uint8")
    pixels = ask(reader, vae, make(), "decode", z, told)
    assert np.abs(np.ravel(pixels) - vae.decode_told(z, rows).ravel()).max() < at_most
    encoded = np.stack(vae.encode_told(images, rows), axis=1)
    assert_near(
        ask(reader, vae, make(), "encode", images.reshape(count, -1) / 255, told),
        encoded,
        5 * at_most,
    )
    assert_near(ask(reader, vae, make(), "fromNoise", noise, told), z, 5 * at_most)


def with_a_flow(vae):
    """A flow begins as the identity, and this one is not."""
    rng = np.random.default_rng(0)
    for weight in vae.prior.weights:
        weight.assign(0.1 * rng.standard_normal(weight.shape))
    return vae


@pytest.mark.parametrize("preset", ["conv", "ladder"])
def test_a_page_decodes_encodes_and_draws_as_keras_does(reader, preset):
    """Of models that are told a class: any other is told nothing."""
    compare(reader, with_a_flow(kvae.VAE.from_preset(preset, (16, 16, 1), classes=3)))


MIXTURES = {
    "a class": ("mlp", {"prior": "mixture", "classes": 3}),
    "nothing": ("mlp", {"prior": "mixture", "latent_dim": 4}),
    "one group": ("ladder", {"prior": "mixture"}),
}


@pytest.mark.parametrize("told", MIXTURES)
def test_a_page_draws_of_mixtures(reader, told):
    preset, arguments = MIXTURES[told]
    recipe = kvae.presets.get(preset).replaced(components=4, prior=arguments.pop("prior"))
    vae = with_a_flow(kvae.VAE.from_preset(recipe, (16, 16, 1), **arguments))
    compare(reader, vae, count=12)


SLOW = {
    "mlp": {"latent_dim": 4},
    "conv-pooled": {"likelihood": kvae.Gaussian},
    "resnet": {"likelihood": kvae.DiscretizedLogistic},
    "conv-colour": {"shape": (16, 12, 3)},
    "ladder-colour": {"shape": (16, 16, 3)},
}


@pytest.mark.slow
@pytest.mark.parametrize("preset", SLOW)
def test_so_does_one_of_every_family(reader, preset):
    arguments = dict(SLOW[preset])
    shape = arguments.pop("shape", (16, 16, 1))
    if "likelihood" in arguments:
        arguments["likelihood"] = arguments["likelihood"]()
    compare(reader, with_a_flow(kvae.VAE.from_preset(preset, shape, **arguments)))


@pytest.mark.slow
@pytest.mark.parametrize("name", kvae.shipped.SHIPPED)
def test_pixels_of_shipped_models_are_within_half_a_thousandth(reader, name):
    """Trained, and with the weights that `kvae explore` writes."""
    compare(reader, kvae.load(name, compile=False), Tensors, at_most=5e-4, count=20)


@pytest.mark.parametrize(
    "prior",
    [
        lambda: kvae.RealNVP(4, couplings=2, context_dim=3),
        lambda: kvae.GaussianMixture(4, components=5, context_dim=3),
        lambda: kvae.GaussianMixture(4, components=5),
    ],
    ids=["flow", "mixture of a class", "mixture"],
)
def test_how_likely_an_image_is_of_a_class(reader, prior):
    """As Keras has it, of the same draws."""
    vae = with_a_flow(vae_of("mlp", classes=3, prior=prior()))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 2, (1, 12, 12, 1)).astype("float32")
    noise = rng.standard_normal((5, 4)).astype("float32")
    row = np.eye(3, dtype="float32")[[1]]
    mean, log_variance = vae.encode_told(image, row)
    z = mean + np.exp(log_variance / 2) * noise
    rows = row.repeat(5, axis=0)
    parameters = vae.decoded(z, rows)
    log_prob = vae.likelihood.log_prob(image.repeat(5, axis=0), parameters)
    log_prior = vae.prior.log_prob(z, context=rows) + 2 * np.log(2 * np.pi)
    log_posterior = -0.5 * (noise**2 + log_variance).sum(axis=1)
    weights = ops.convert_to_numpy(log_prob) + ops.convert_to_numpy(log_prior) - log_posterior
    expected = np.log(np.mean(np.exp(weights - weights.max()))) + weights.max()
    tensors = exact()
    model, _ = runnable(vae, tensors)
    found = reader.evaluate(
        """([description, weights, image, row, noises]) =>
            new Model(description, fromBase64(weights))
                .logProb(floats(image), floats(row), noises.map(floats))""",
        [
            {**model, "tensors": tensors.entries},
            tensors.text(),
            image.ravel().tolist(),
            row.ravel().tolist(),
            noise.tolist(),
        ],
    )
    assert found == pytest.approx(expected, abs=0.02)
