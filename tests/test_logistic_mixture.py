"""The mixture of discretised logistics: a probability of each colour, by hand and by sums."""

import keras
import numpy as np
import pytest
from keras import ops
from test_likelihoods import EXTREME, gradient_of_log_prob

import kvae
from kvae.likelihoods import DiscretizedLogistic, LogisticMixture

pytestmark = pytest.mark.every_backend


def raw(locations, scales, weights):
    """Raw parameters of one pixel of one channel: (1, 1, 1, 3 · components)."""
    likelihood = LogisticMixture(len(locations), coupled=False, floor=False)
    values = np.array(locations, "float64") - 0.5 - likelihood.spread
    scales = 1 + np.log(np.expm1(np.array(scales, "float64") - likelihood.min_scale))
    parts = np.concatenate([values, scales, np.log(weights)])
    return likelihood, parts.astype("float32").reshape(1, 1, 1, -1)


def probabilities(likelihood, parameters):
    """Of all 256 levels, under the parameters of one pixel of one channel."""
    levels = (np.arange(256) / 255).astype("float32").reshape(-1, 1, 1, 1)
    nats = likelihood.log_prob(levels, np.repeat(parameters, 256, axis=0))
    return np.exp(ops.convert_to_numpy(nats).astype("float64"))


def test_it_is_the_sum_of_its_logistics_weighted():
    locations, scales, weights = [0.1, 0.5, 0.9], [0.02, 0.1, 0.01], [0.2, 0.3, 0.5]
    likelihood, parameters = raw(locations, scales, weights)
    edges = (np.arange(1, 256) - 0.5) / 255
    expected = np.zeros(256)
    for location, scale, weight in zip(locations, scales, weights, strict=True):
        below = 1 / (1 + np.exp(-(edges - location) / scale))
        expected += weight * np.diff(np.concatenate([[0], below, [1]]))
    found = probabilities(likelihood, parameters)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-12)
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-5)


def test_one_component_is_the_discretised_logistic():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 4, 3, 3)).astype("uint8")
    parameters = rng.normal(size=(5, 4, 3, 9)).astype("float32")
    one, plain = LogisticMixture(1, coupled=False, floor=False), DiscretizedLogistic()
    observed = one.observe(images)
    np.testing.assert_allclose(
        ops.convert_to_numpy(one.log_prob(observed, parameters)),
        ops.convert_to_numpy(plain.log_prob(observed, parameters[..., :6])),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(one.mean(parameters)),
        ops.convert_to_numpy(plain.mean(parameters[..., :6])),
        atol=1e-6,
    )
    parameters[..., 3:6] -= 3  # sharp, where training is eased
    mixed = gradient_of_log_prob(one, observed, parameters)[..., :6]
    alone = gradient_of_log_prob(plain, observed, parameters[..., :6])
    np.testing.assert_allclose(mixed, alone, rtol=1e-4, atol=1e-4)


def test_all_colours_of_two_channels_sum_to_one_and_channels_depend_on_each_other():
    rng = np.random.default_rng(1)
    parameters = rng.normal(size=(1, 1, 1, 18)).astype("float32")
    parameters[..., :6] = [-0.4, 0.4, 0.0, 0.0, 0.4, -0.4]  # two channels by three components
    parameters[..., 6:12] = -3
    pairs = np.stack(np.meshgrid(*[np.arange(256)] * 2, indexing="ij"), axis=-1) / 255
    pairs = pairs.astype("float32").reshape(-1, 1, 1, 2)
    nats = LogisticMixture(3, coupled=False, floor=False).log_prob(
        pairs, np.repeat(parameters, len(pairs), axis=0)
    )
    joint = np.exp(ops.convert_to_numpy(nats).astype("float64")).reshape(256, 256)
    np.testing.assert_allclose(joint.sum(), 1, rtol=1e-4)
    alone = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    assert abs(joint - alone).sum() > 0.3


def coupled(locations, scale, couplings):
    """One component of channels that move each other, and its raw parameters of one pixel."""
    likelihood = LogisticMixture(1, floor=False)
    count = len(locations)
    scales = np.full(count, 1 + np.log(np.expm1(scale - likelihood.min_scale)))
    parts = [np.array(locations) - 0.5, scales, np.zeros(count), np.array(couplings)]
    return likelihood, np.concatenate(parts).astype("float32").reshape(1, 1, 1, -1)


def test_a_channel_moves_the_next_by_what_it_is_beyond_its_location():
    likelihood, parameters = coupled([0.5, 0.4], 0.05, [7.0, 0.8])
    pairs = np.stack(np.meshgrid(*[np.arange(256)] * 2, indexing="ij"), axis=-1)
    levels = (pairs / 255).astype("float32").reshape(-1, 1, 1, 2)
    nats = likelihood.log_prob(levels, np.repeat(parameters, len(levels), axis=0))
    joint = np.exp(ops.convert_to_numpy(nats).astype("float64")).reshape(256, 256)
    np.testing.assert_allclose(joint.sum(), 1, rtol=1e-4)
    edges = (np.arange(1, 256) - 0.5) / 255
    for first in (0, 100, 180):
        location = 0.4 + 0.8 * (first / 255 - 0.5)
        below = 1 / (1 + np.exp(-(edges - location) / 0.05))
        expected = np.diff(np.concatenate([[0], below, [1]]))
        np.testing.assert_allclose(joint[first] / joint[first].sum(), expected, atol=1e-5)


def test_the_mean_of_coupled_channels_is_that_of_their_draws_which_go_together():
    likelihood, parameters = coupled([0.5, 0.4, 0.6], 0.03, [0.0, 0.9, -0.7])
    draws = likelihood.sample(np.repeat(parameters, 20_000, axis=0), seed=0)
    draws = ops.convert_to_numpy(draws).reshape(-1, 3)
    mean = ops.convert_to_numpy(likelihood.mean(parameters)).reshape(3)
    np.testing.assert_allclose(mean, draws.mean(axis=0), atol=3e-3)
    correlation = np.corrcoef(draws.T)
    assert correlation[0, 1] > 0.5 and correlation[1, 2] < -0.5
    likelihood, parameters = coupled([0.97, 0.5], 0.05, [0.0, 1.0])  # the first is cut at white
    draws = likelihood.sample(np.repeat(parameters, 20_000, axis=0), seed=0)
    mean = ops.convert_to_numpy(likelihood.mean(parameters)).reshape(2)
    np.testing.assert_allclose(mean, ops.convert_to_numpy(draws).reshape(-1, 2).mean(0), atol=5e-3)


@pytest.mark.parametrize("value", [1, None, "yes"])
@pytest.mark.parametrize("name", ["coupled", "floor"])
def test_what_is_a_truth_is_no_other_value(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be True or False"):
        LogisticMixture(**{name: value})


def test_no_scale_lies_below_the_floor():
    likelihood = LogisticMixture(1, coupled=False)
    parameters = np.zeros((1, 1, 2, 3), "float32")
    parameters[..., 1] = [-20.0, 1.0]
    for raw_floor, floor in ((0.0, 0.05), (-0.5, 0.05 * np.exp(-2)), (-50.0, 1 / 2048)):
        likelihood.raw_floor.assign(raw_floor)
        scales = ops.convert_to_numpy(likelihood.split(parameters)[1]).reshape(2) / 255
        np.testing.assert_allclose(scales, [floor, np.log(2) + 1 / 2048], rtol=1e-5)


def test_each_pixel_has_its_own_parameters():
    rng = np.random.default_rng(2)
    images = (rng.integers(0, 256, (2, 3, 4, 3)) / 255).astype("float32")
    parameters = rng.normal(size=(2, 3, 4, 36)).astype("float32")
    likelihood = LogisticMixture()
    each = likelihood.log_prob(images.reshape(-1, 1, 1, 3), parameters.reshape(-1, 1, 1, 36))
    np.testing.assert_allclose(
        ops.convert_to_numpy(likelihood.log_prob(images, parameters)),
        ops.convert_to_numpy(each).reshape(2, -1).sum(axis=1),
        rtol=1e-5,
    )
    means = ops.convert_to_numpy(likelihood.mean(parameters.reshape(-1, 1, 1, 36)))
    found = ops.convert_to_numpy(likelihood.mean(parameters))
    np.testing.assert_allclose(found.reshape(-1, 3), means.reshape(-1, 3), atol=1e-6)


def test_its_mean_is_that_of_its_levels_and_draws_have_its_probabilities():
    likelihood, parameters = raw([0.05, 0.6, 0.98], [0.01, 0.05, 0.02], [0.3, 0.5, 0.2])
    found = probabilities(likelihood, parameters)
    mean = float(ops.convert_to_numpy(likelihood.mean(parameters))[0, 0, 0, 0])
    np.testing.assert_allclose(mean, found @ np.arange(256) / 255, atol=2e-3)
    draws = likelihood.sample(np.repeat(parameters, 20_000, axis=0), seed=0)
    draws = ops.convert_to_numpy(draws).reshape(-1)
    likelihood.check(draws.reshape(-1, 1, 1, 1).astype("float32"), (1, 1, 1))
    counts = np.bincount(np.rint(255 * draws).astype(int), minlength=256) / len(draws)
    assert abs(counts.cumsum() - found.cumsum()).max() < 0.015  # Kolmogorov: beyond 1e-3 by chance


def test_components_begin_apart_and_have_the_mean_that_is_asked_for():
    likelihood = LogisticMixture(3)
    mean = np.linspace(0.1, 0.9, 24).reshape(1, 4, 2, 3)
    parameters = likelihood.parameters_of(mean)
    assert parameters.shape == (1, 4, 2, 36)
    np.testing.assert_allclose(ops.convert_to_numpy(likelihood.mean(parameters)), mean, atol=1e-4)
    locations, *_ = likelihood.split(parameters)
    assert (np.diff(ops.convert_to_numpy(locations), axis=1) > 10).all()


@pytest.mark.parametrize("floor", [True, False])
def test_log_prob_and_gradient_are_finite_for_extreme_parameters(floor):
    likelihood = LogisticMixture(2, coupled=False, floor=floor)
    one, other = np.meshgrid(EXTREME, EXTREME)
    one, other = one.reshape(-1), other.reshape(-1)
    parameters = np.stack([one, -other, other, one, one, other], axis=-1)
    parameters = parameters.reshape(-1, 1, 1, 6).astype("float32")
    for x in (0.0, 128 / 255, 1.0):
        observed = np.full((len(parameters), 1, 1, 1), x, "float32")
        assert np.isfinite(ops.convert_to_numpy(likelihood.log_prob(observed, parameters))).all()
        assert np.isfinite(gradient_of_log_prob(likelihood, observed, parameters)).all()
        for draw in (likelihood.mean(parameters), likelihood.sample(parameters, seed=0)):
            draw = ops.convert_to_numpy(draw)
            assert np.isfinite(draw).all() and draw.min() >= 0 and draw.max() <= 1


def test_its_mean_is_a_picture_to_the_last_bit():
    """Weights add up to a little more than 1 where rounding will have it."""
    likelihood = LogisticMixture(3, coupled=False, floor=False)
    parameters = np.random.default_rng(0).normal(size=(50, 16, 16, 9)).astype("float32")
    parameters[..., :3] += 300  # white
    mean = ops.convert_to_numpy(likelihood.mean(parameters))
    assert mean.max() <= 1 and mean.min() > 0.99
    likelihood.check(mean, (16, 16, 1))


@pytest.mark.parametrize("components", [0, -1, 1.5, True, "3"])
def test_a_number_of_components_is_at_least_one(components):
    with pytest.raises(ValueError, match="`components`"):
        LogisticMixture(components)


def test_it_survives_a_file_and_says_what_it_is():
    likelihood = LogisticMixture(5, min_scale=0.01, max_slope=None, coupled=False, floor=False)
    config = keras.saving.serialize_keras_object(likelihood)
    again = keras.saving.deserialize_keras_object(config)
    assert config["registered_name"] == "kvae>LogisticMixture"
    assert (again.components, again.min_scale, again.coupled) == (5, 0.01, False)
    assert again.max_slope is None
    assert again.protocol == "8-bit values, mixture of 5 discretised logistics"
    assert again.measure == "probability"
    config["config"].pop("coupled")  # as in files that knew no couplings
    config["config"].pop("floor")
    former = keras.saving.deserialize_keras_object(config)
    assert not former.coupled and not former.floor
    assert LogisticMixture.from_config(LogisticMixture().get_config()).coupled
    assert "channels coupled" in LogisticMixture().protocol


@pytest.mark.slow
def test_a_model_with_it_trains_and_opens_again(tmp_path):
    data = kvae.data.from_arrays(
        np.random.default_rng(0).integers(0, 256, (200, 8, 8, 3)).astype("uint8")
    )
    out = tmp_path / "vae.keras"
    small = {"network_arguments": {"width": 16, "depth": 1}, "latent_dim": 4, "couplings": 2}
    vae = kvae.train(
        data, "mlp", likelihood="logistic-mixture", epochs=1, out=out, verbose=0, **small
    )
    assert "bits_per_dimension" in vae.card["test"]
    assert float(ops.convert_to_numpy(vae.likelihood.raw_floor)) != 0
    again = kvae.load(out)
    np.testing.assert_array_equal(again.reconstruct(data.test), vae.reconstruct(data.test))
