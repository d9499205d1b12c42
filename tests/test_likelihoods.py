import itertools

import keras
import numpy as np
import pytest
from keras import ops

import kvae
from kvae.likelihoods import (
    Bernoulli,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    bits_per_dimension,
)
from kvae.steps import TrainStep

pytestmark = pytest.mark.every_backend

LIKELIHOODS = {
    "Bernoulli": Bernoulli(),
    "ContinuousBernoulli": ContinuousBernoulli(),
    "Gaussian pixel": Gaussian("pixel"),
    "Gaussian shared": Gaussian("shared"),
    "Gaussian fixed": Gaussian(0.1),
    "DiscretizedLogistic": DiscretizedLogistic(),
}
every_likelihood = pytest.mark.parametrize("likelihood", LIKELIHOODS.values(), ids=LIKELIHOODS)
EXTREME = [0.0, 1e-20, 1e-4, 0.3999, 0.4, 1.0, 30.0, 1e4]
EXTREME = [-value for value in EXTREME] + EXTREME
LOGITS = [0.0, 1e-4, -1e-4, 0.39, -0.41, 1.0, -3.0, 30.0, -30.0, 300.0]
LEVELS = np.arange(256).reshape(256, 1, 1, 1)


class Values(TrainStep):
    """The parameters themselves as the weights: `train_on_batch` descends on −log p."""

    def __init__(self, likelihood, values):
        super().__init__()
        self.likelihood = likelihood
        self.values = self.add_weight(shape=values.shape, initializer="zeros", dtype="float32")
        self.values.assign(values)
        self.built = True

    def call(self, images, training=False):
        return images

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        values = ops.broadcast_to(self.values, (ops.shape(y_pred)[0], *self.values.shape[1:]))
        return ops.sum(-self.likelihood.log_prob(y_pred, values))


def gradient_of_log_prob(likelihood, observed, values):
    """What one step of gradient descent at rate one changes, on any backend."""
    model = Values(likelihood, values)
    model.likelihood.trainable = False
    model.compile(keras.optimizers.SGD(1.0))
    model.train_on_batch(observed)
    model.likelihood.trainable = True
    return ops.convert_to_numpy(model.values) - values


def parameters_of(likelihood, locations, raw_scales=0.0):
    """Parameters of one image a row, each of one value: (batch, 1, 1, parameters_per_value)."""
    rows = np.broadcast_arrays(np.asarray(locations, "float32"), np.float32(raw_scales))
    columns = np.stack(rows, -1).reshape(-1, 1, 1, 2)
    return columns[..., : likelihood.parameters_per_value]


def probabilities(likelihood, values, parameters):
    """exp(log p) of each value, under the same parameters, in double precision."""
    observed = np.asarray(values, "float32").reshape(-1, 1, 1, 1)
    parameters = np.repeat(parameters, len(observed), 0)
    log_prob = ops.convert_to_numpy(likelihood.log_prob(observed, parameters))
    return np.exp(log_prob.astype("float64"))


def gauss_legendre(low, high, pieces, degree=8):
    """Nodes and weights of piecewise quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(degree)
    edges = np.linspace(low, high, pieces + 1)
    half = np.diff(edges)[:, None] / 2
    return ((edges[:-1, None] + half) + half * nodes).ravel(), (half * weights).ravel()


def test_probabilities_of_all_images_sum_to_one():
    everything = np.array(list(itertools.product([0, 1], repeat=4)), "float32")
    everything = everything.reshape(16, 2, 2, 1)
    logits = np.random.default_rng(0).normal(0, 3, (1, 2, 2, 1)).repeat(16, 0).astype("float32")
    total = np.exp(ops.convert_to_numpy(Bernoulli().log_prob(everything, logits))).sum()
    np.testing.assert_allclose(total, 1, rtol=1e-5)


def test_log_prob_is_the_textbook_formula_summed_over_values():
    rng = np.random.default_rng(0)
    x = rng.random((5, 3, 4, 2)).astype("float32")
    logits = rng.normal(0, 2, x.shape).astype("float32")
    p = 1 / (1 + np.exp(-logits.astype("float64")))
    expected = (x * np.log(p) + (1 - x) * np.log(1 - p)).sum((1, 2, 3))
    actual = ops.convert_to_numpy(Bernoulli().log_prob(x, logits))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("size", [50.0, 1e4])
def test_confident_logits_cost_nothing_when_right_and_finitely_much_when_wrong(size):
    white = np.ones((1, 2, 2, 1), "float32")
    assert abs(float(Bernoulli().log_prob(white, size * white)[0])) < 1e-6
    np.testing.assert_allclose(float(Bernoulli().log_prob(white, -size * white)[0]), -4 * size)


def test_dynamic_binarisation_is_white_as_often_as_the_pixel_is_bright():
    images = np.full((4000, 1, 1, 1), 51, "uint8")
    observed = ops.convert_to_numpy(Bernoulli("dynamic").observe(images, seed=0))
    assert set(np.unique(observed)) == {0, 1}
    assert abs(observed.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 4000)


def test_dynamic_binarisation_leaves_black_and_white_alone():
    images = np.array([0, 255], "uint8").reshape(1, 1, 2, 1).repeat(1000, 0)
    observed = ops.convert_to_numpy(Bernoulli("dynamic").observe(images, seed=0))
    np.testing.assert_array_equal(observed, images / 255)


def test_dynamic_binarisation_draws_anew_from_a_generator():
    images = np.full((8, 4, 4, 1), 128, "uint8")
    generator = keras.random.SeedGenerator(0)
    first, second = (
        ops.convert_to_numpy(Bernoulli("dynamic").observe(images, generator)) for _ in range(2)
    )
    assert (first != second).any()


@pytest.mark.parametrize("binarize, expected", [("threshold", [0, 0, 1]), ("none", [0, 0.2, 1])])
def test_observation_of_uint8_and_of_float_is_the_same(binarize, expected):
    images = np.array([0, 51, 255], "uint8").reshape(1, 1, 3, 1)
    for form in (images, (images / 255).astype("float32")):
        observed = ops.convert_to_numpy(Bernoulli(binarize).observe(form, seed=0))
        np.testing.assert_allclose(observed.ravel(), expected, atol=1e-6)


def test_without_a_seed_dynamic_binarisation_is_the_threshold():
    images = np.arange(256, dtype="uint8").reshape(1, 16, 16, 1)
    dynamic, threshold = (
        ops.convert_to_numpy(Bernoulli(kind).observe(images)) for kind in ("dynamic", "threshold")
    )
    np.testing.assert_array_equal(dynamic, threshold)


def test_samples_have_the_mean():
    logits = np.full((4000, 1, 1, 1), 1.0, "float32")
    mean = float(Bernoulli().mean(logits)[0, 0, 0, 0])
    samples = ops.convert_to_numpy(Bernoulli().sample(logits, seed=0))
    assert abs(samples.mean() - mean) < 4 * np.sqrt(mean * (1 - mean) / 4000)


@pytest.mark.parametrize(
    "images, what",
    [
        (np.zeros((5, 4, 5), "uint8"), r"shape \(5, 4, 5\)"),
        (np.zeros((5, 4, 5, 1), "uint8"), r"shape \(5, 4, 5, 1\)"),
        (np.zeros((0, 4, 4, 1), "uint8"), r"shape \(0, 4, 4, 1\)"),
        (np.zeros((5, 4, 4, 1), "complex64"), "dtype complex64"),
        (np.full((5, 4, 4, 1), np.nan, "float32"), "from nan"),
        (np.full((5, 4, 4, 1), 255.0, "float32"), "Divide them by 255"),
        (np.full((5, 4, 4, 1), -1.0, "float32"), "from -1 to -1"),
        (np.full((5, 4, 4, 1), 256, "int32"), "from 256 to 256"),
    ],
)
def test_images_that_it_does_not_support_are_refused(images, what):
    with pytest.raises(ValueError, match=what):
        Bernoulli().check(images, (4, 4, 1))


def test_an_unknown_binarisation_names_those_there_are():
    with pytest.raises(ValueError, match="'dynamic', 'threshold', 'none'.*'sometimes'"):
        Bernoulli("sometimes")


@pytest.mark.parametrize("logit", LOGITS)
def test_the_continuous_bernoulli_integrates_to_one_and_has_its_mean(logit):
    likelihood = ContinuousBernoulli()
    parameters = parameters_of(likelihood, logit)
    values, weights = gauss_legendre(0, 1, 200)
    density = probabilities(likelihood, values, parameters)
    np.testing.assert_allclose(density @ weights, 1, rtol=2e-5)
    mean = float(likelihood.mean(parameters)[0, 0, 0, 0])
    np.testing.assert_allclose(mean, (values * density) @ weights, rtol=2e-5)


def test_the_continuous_bernoulli_mirrors_when_black_and_white_change_places():
    logits = np.array(EXTREME, "float32").reshape(-1, 1, 1, 1)
    likelihood = ContinuousBernoulli()
    for x in (0.0, 0.25, 0.5):
        np.testing.assert_allclose(
            likelihood.log_prob(np.full_like(logits, x), logits),
            likelihood.log_prob(np.full_like(logits, 1 - x), -logits),
            rtol=1e-5,
            atol=1e-6,
        )


def test_the_gradient_of_the_continuous_bernoulli_is_observed_minus_mean():
    """It is an exponential family: so it is exactly, at zero too, where the formula is 0/0."""
    logits = np.array(EXTREME, "float32").reshape(1, 1, -1, 1)
    likelihood = ContinuousBernoulli()
    for x in (0.0, 0.5, 1.0):
        gradient = gradient_of_log_prob(likelihood, np.full_like(logits, x), logits)
        expected = x - ops.convert_to_numpy(likelihood.mean(logits))
        # float32 logits of size l can only be seen to move in steps of 1e-7 l
        np.testing.assert_allclose(gradient, expected, atol=1e-5 + 1e-7 * abs(logits).max())
        inner = abs(logits) < 2
        np.testing.assert_allclose(gradient[inner], expected[inner], atol=2e-6)


@pytest.mark.parametrize("raw_scale", [-20.0, -3.0, 0.0, 3.0])
@pytest.mark.parametrize("location", [0.0, 0.7, -3.0])
def test_the_gaussian_integrates_to_one_and_has_its_mean(location, raw_scale):
    likelihood = Gaussian()
    scale = np.log1p(np.exp(raw_scale - 1)) + 1 / 256
    values, weights = gauss_legendre(location - 8 * scale, location + 8 * scale, 50)
    density = probabilities(likelihood, values, parameters_of(likelihood, location, raw_scale))
    np.testing.assert_allclose(density @ weights, 1, rtol=1e-4)
    np.testing.assert_allclose((values * density) @ weights, location, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(((values - location) ** 2 * density) @ weights, scale**2, rtol=1e-3)


def test_a_gaussian_of_fixed_scale_is_the_squared_error():
    rng = np.random.default_rng(0)
    x, location = rng.random((2, 5, 3, 4, 2)).astype("float32")
    actual = ops.convert_to_numpy(Gaussian(0.5).log_prob(x, location))
    squared_error = ((x - location).astype("float64") ** 2).sum((1, 2, 3))
    constant = 24 * np.log(0.5 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(-actual, squared_error / (2 * 0.5**2) + constant, rtol=1e-5)


def test_a_shared_scale_is_trained_to_the_deviation_of_the_data():
    images = np.random.default_rng(0).normal(0.5, 0.1, (64, 4, 4, 1)).astype("float32")
    likelihood = Gaussian("shared")
    model = Values(likelihood, np.full((1, 4, 4, 1), 0.5, "float32"))
    assert any(weight is likelihood.raw_scale for weight in model.trainable_weights)
    model.values.trainable = False
    model.compile(keras.optimizers.Adam(0.1))
    for _ in range(120):
        model.train_on_batch(images)
    _, scale = likelihood.location_and_scale(images)
    deviation = np.sqrt(np.mean((images - 0.5) ** 2))
    np.testing.assert_allclose(ops.convert_to_numpy(scale), deviation, rtol=0.02)


def test_the_mean_of_a_gaussian_is_a_picture():
    mean = Gaussian("shared").mean(np.array([-1, 0.3, 2], "float32").reshape(3, 1, 1, 1))
    np.testing.assert_allclose(ops.convert_to_numpy(mean).ravel(), [0, 0.3, 1], rtol=1e-6)


@pytest.mark.parametrize("raw_scale", [-1e4, -20.0, -4.0, 0.0, 4.0, 1e4])
@pytest.mark.parametrize("location", [-1e4, -0.5, -0.1234, 0.0, 0.3, 0.5, 2.0, 1e4])
def test_the_256_levels_of_the_logistic_sum_to_one_and_have_its_mean(location, raw_scale):
    likelihood = DiscretizedLogistic()
    parameters = parameters_of(likelihood, location, raw_scale)
    levels = ops.convert_to_numpy(likelihood.observe(LEVELS.astype("uint8"))).ravel()
    mass = probabilities(likelihood, levels, parameters)
    np.testing.assert_allclose(mass.sum(), 1, rtol=2e-5)
    rounding = 0.5 / 255 if raw_scale < -4 else 2e-3 if raw_scale == 1e4 else 1e-4
    mean = float(likelihood.mean(parameters)[0, 0, 0, 0])
    np.testing.assert_allclose(mean, mass @ (LEVELS.ravel() / 255), atol=rounding)


def test_the_logistic_of_a_level_is_the_difference_of_its_edges():
    likelihood = DiscretizedLogistic()
    parameters = parameters_of(likelihood, 0.1, -2.0)
    scale = np.log1p(np.exp(-3.0)) + 1 / 2048
    edges = (np.arange(1, 256) - 0.5) / 255
    cumulative = np.concatenate([[0], 1 / (1 + np.exp(-(edges - 0.6) / scale)), [1]])
    actual = probabilities(likelihood, LEVELS / 255, parameters)
    np.testing.assert_allclose(actual, np.diff(cumulative), rtol=1e-4)


def test_the_least_scale_is_an_eighth_of_a_bin_and_gives_the_likeliest_level_its_limit():
    likelihood = DiscretizedLogistic()
    mass = probabilities(
        likelihood, [0, 100 / 255, 1], parameters_of(likelihood, 100 / 255 - 0.5, -50)
    )
    np.testing.assert_allclose(mass, [0, np.tanh(2048 / 255 / 4), 0], atol=1e-5)


def test_a_location_that_is_known_to_a_level_does_not_drown_the_others_in_training():
    eased, as_is = DiscretizedLogistic(max_slope=0.2), DiscretizedLogistic(max_slope=None)
    parameters = parameters_of(eased, np.array([0.1, 0.1]), np.array([-5.0, -0.5]))
    observed = np.full((2, 1, 1, 1), 100 / 255, "float32")
    np.testing.assert_array_equal(
        eased.log_prob(observed, parameters), as_is.log_prob(observed, parameters)
    )
    actual = gradient_of_log_prob(eased, observed, parameters)[:, 0, 0]
    expected = gradient_of_log_prob(as_is, observed, parameters)[:, 0, 0].copy()
    scale = 255 * (np.log1p(np.exp(-6.0)) + 1 / 2048)
    expected[0, 0] *= 0.2 * scale
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    assert abs(actual[0, 0]) < 0.2 * 255 + 1e-3 < abs(expected[0, 0] / (0.2 * scale))


@pytest.mark.parametrize("max_slope", [0, -1.0, True, "0.2", float("nan"), float("inf")])
def test_a_largest_slope_is_positive_or_none(max_slope):
    with pytest.raises(ValueError, match="`max_slope` must be a positive number, or None"):
        DiscretizedLogistic(max_slope=max_slope)


@every_likelihood
def test_log_prob_is_the_sum_over_values(likelihood):
    rng = np.random.default_rng(0)
    x = (rng.integers(0, 256, (3, 2, 3, 2)) / 255).astype("float32")
    shape = (*x.shape, likelihood.parameters_per_value)
    parameters = rng.normal(0, 1, shape).astype("float32")
    together = np.concatenate(np.moveaxis(parameters, -1, 0), axis=-1)  # locations, then scales
    actual = ops.convert_to_numpy(likelihood.log_prob(x, together))
    each = likelihood.log_prob(x.reshape(-1, 1, 1, 1), parameters.reshape(-1, 1, 1, shape[-1]))
    each = ops.convert_to_numpy(each).reshape(3, -1)
    assert actual.dtype == "float32"
    np.testing.assert_allclose(actual, each.sum(1), rtol=1e-5)


@every_likelihood
def test_log_prob_and_gradient_are_finite_for_extreme_parameters(likelihood):
    locations, raw_scales = np.meshgrid(EXTREME, EXTREME)
    parameters = parameters_of(likelihood, locations, raw_scales)
    for x in (0.0, 128 / 255, 1.0):
        observed = np.full((len(parameters), 1, 1, 1), x, "float32")
        log_prob = ops.convert_to_numpy(likelihood.log_prob(observed, parameters))
        assert np.isfinite(log_prob).all()
        gradient = gradient_of_log_prob(likelihood, observed, parameters)
        assert np.isfinite(gradient).all()
        for draw in (likelihood.mean(parameters), likelihood.sample(parameters, seed=0)):
            assert np.isfinite(ops.convert_to_numpy(draw)).all()


@every_likelihood
@pytest.mark.parametrize("location, raw_scale", [(0.0, 0.0), (0.3, -5.0), (0.45, -8.0), (0.2, 1.0)])
def test_draws_have_the_mean_and_the_support(likelihood, location, raw_scale):
    parameters = parameters_of(likelihood, location, raw_scale).repeat(4000, 0)
    draws = ops.convert_to_numpy(likelihood.sample(parameters, seed=0)).astype("float64")
    mean = float(likelihood.mean(parameters[:1])[0, 0, 0, 0])
    rounding = 0.5 / 255 if isinstance(likelihood, DiscretizedLogistic) else 0
    assert draws.shape == (4000, 1, 1, 1)
    assert 0 < draws.std()
    assert abs(draws.mean() - mean) < 5 * draws.std() / np.sqrt(4000) + rounding
    if not isinstance(likelihood, Gaussian):
        likelihood.check(draws.astype("float32"), (1, 1, 1))


@every_likelihood
def test_raw_parameters_of_a_mean_have_that_mean(likelihood):
    mean = np.linspace(0.15, 0.85, 24).reshape(1, 4, 2, 3)
    parameters = likelihood.parameters_of(mean)
    assert parameters.shape == (1, 4, 2, 3 * likelihood.parameters_per_value)
    np.testing.assert_allclose(ops.convert_to_numpy(likelihood.mean(parameters)), mean, atol=1e-5)
    extremes = likelihood.parameters_of(np.array([0.0, 1.0]).reshape(1, 1, 2, 1))
    assert abs(extremes).max() <= 8
    assert np.ptp(ops.convert_to_numpy(likelihood.mean(extremes))) > 0.74


@pytest.mark.parametrize("logit", [-1e3, -30.0, -2.0, 0.0, 0.1, 5.0])
def test_draws_of_the_continuous_bernoulli_follow_its_distribution(logit):
    """Kolmogorov and Smirnov: the distance is above 2.2/√n once in 10,000 times."""
    parameters = parameters_of(ContinuousBernoulli(), logit).repeat(4000, 0)
    draws = ops.convert_to_numpy(ContinuousBernoulli().sample(parameters, seed=0)).ravel()
    draws = np.sort(draws.astype("float64"))
    cumulative = np.expm1(logit * draws) / np.expm1(logit) if logit else draws
    assert abs(cumulative - np.arange(4000) / 4000).max() < 2.2 / np.sqrt(4000)


@every_likelihood
def test_grey_values_are_observed_alike_from_uint8_and_float(likelihood):
    images = np.array([0, 51, 255], "uint8").reshape(1, 1, 3, 1)
    for form in (images, (images / 255).astype("float32")):
        likelihood.check(form, (1, 3, 1))
        observed = ops.convert_to_numpy(likelihood.observe(form))
        assert observed.dtype == "float32"
        if not isinstance(likelihood, Bernoulli):
            np.testing.assert_allclose(observed.ravel(), [0, 0.2, 1], atol=1e-6)


def test_what_figures_are_of_is_the_same_to_the_bit_on_every_backend():
    levels = LEVELS.astype("uint8")
    observed = DiscretizedLogistic().observe_once(levels, np.random.default_rng(0))
    np.testing.assert_array_equal(observed, levels.astype("float32") / np.float32(255))


@pytest.mark.parametrize("binarize", ["dynamic", "threshold", "none"])
def test_figures_of_truths_are_of_black_and_white(binarize):
    images = np.eye(4, dtype=bool).reshape(1, 4, 4, 1)
    observed = kvae.Bernoulli(binarize).observe_once(images, np.random.default_rng(0))
    np.testing.assert_array_equal(observed, images.astype("float32"))


@every_likelihood
def test_every_likelihood_refuses_what_is_out_of_range(likelihood):
    with pytest.raises(ValueError, match="from 0 to 255. Divide them by 255") as caught:
        likelihood.check(np.array([0.0, 255.0], "float32").reshape(1, 1, 2, 1), (1, 2, 1))
    assert likelihood.support in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_discretised_logistic_refuses_values_between_levels(dtype):
    between = (LEVELS / 255).astype(dtype)
    DiscretizedLogistic().check(between, (1, 1, 1))
    between[7] = 0.3014
    with pytest.raises(ValueError, match=f"{dtype} with 0.3014. Pass them as uint8") as caught:
        DiscretizedLogistic().check(between, (1, 1, 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", ["each", 0, -1.0, np.inf, np.nan, None, True])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(ValueError, match="`scale` must be 'pixel', 'shared' or a positive number"):
        Gaussian(scale)


@pytest.mark.parametrize("kind", [Gaussian, DiscretizedLogistic])
@pytest.mark.parametrize("min_scale", [0, -1.0, np.nan, "small"])
def test_a_least_scale_that_is_not_positive_is_refused(kind, min_scale):
    with pytest.raises(ValueError, match="`min_scale` must be a positive number"):
        kind(min_scale=min_scale)


@pytest.mark.parametrize(
    "likelihood, protocol",
    [
        (Bernoulli("threshold"), "binarize threshold"),
        (ContinuousBernoulli(), "grey values, continuous Bernoulli"),
        (Gaussian(), "grey values, Gaussian with a learned scale a value"),
        (Gaussian("shared", min_scale=0.01), "grey values, Gaussian with one learned scale"),
        (Gaussian(0.1), "grey values, Gaussian with scale 0.1"),
        (DiscretizedLogistic(min_scale=0.01), "8-bit values, discretised logistic"),
    ],
)
def test_config_round_trip_and_protocol(likelihood, protocol):
    config = keras.saving.serialize_keras_object(likelihood)
    again = keras.saving.deserialize_keras_object(config)
    assert config["registered_name"] == f"kvae>{type(likelihood).__name__}"
    assert again.get_config() == likelihood.get_config()
    assert again.protocol == likelihood.protocol == protocol
    for argument in ("binarize", "scale", "min_scale"):
        assert getattr(again, argument, None) == getattr(likelihood, argument, None)


@pytest.mark.slow
@every_likelihood
def test_a_model_with_it_trains_and_opens_again(likelihood, images, tmp_path):
    keras.utils.set_random_seed(0)
    likelihood = type(likelihood).from_config(likelihood.get_config())
    encoder = kvae.build_encoder((8, 8, 1), 3, width=16, depth=1)
    decoder = kvae.build_decoder(
        (8, 8, 1), 3, "mlp", likelihood.parameters_per_value, width=16, depth=1
    )
    vae = kvae.VAE(encoder, decoder, likelihood, seed=0)
    vae.compile(keras.optimizers.Adam(0.01))
    before = [ops.convert_to_numpy(weight) for weight in vae.trainable_weights]
    losses = vae.fit(images, epochs=3, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for weight, former in zip(vae.trainable_weights, before, strict=True):
        assert (ops.convert_to_numpy(weight) != former).any(), weight.path
    vae.save(tmp_path / "vae.keras")
    again = kvae.load(tmp_path / "vae.keras")
    parameters = vae.decoder(np.ones((64, 3), "float32"))
    observed = vae.likelihood.observe(images)
    np.testing.assert_allclose(
        ops.convert_to_numpy(again.likelihood.log_prob(observed, parameters)),
        ops.convert_to_numpy(vae.likelihood.log_prob(observed, parameters)),
    )


def test_a_uniform_guess_of_8_bit_values_costs_8_bits_a_value():
    guess = np.full(3, 4 * 5 * 3 * np.log(256))
    np.testing.assert_allclose(bits_per_dimension(guess, (4, 5, 3)), [8, 8, 8])
