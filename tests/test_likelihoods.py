import itertools

import keras
import numpy as np
import pytest
from keras import ops

from kvae.likelihoods import Bernoulli


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
        (np.zeros((5, 4, 4), "uint8"), r"shape \(5, 4, 4\)"),
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


def test_config_round_trip():
    likelihood = Bernoulli.from_config(Bernoulli("threshold").get_config())
    assert likelihood.binarize == "threshold"
