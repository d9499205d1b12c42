import math

import keras
import numpy as np
import pytest
from keras import ops

from kvae.noise import normal, uniform

COUNT = 100_000


def draws(seed, shape=(COUNT // 100, 10, 10, 1)):
    return ops.convert_to_numpy(uniform(shape, seed)).astype("float64").ravel()


def excess(values, cells):
    """Chi-square of equally likely cells, as deviations from what chance would give."""
    expected = len(values) / cells
    chi = ((np.bincount(values, minlength=cells) - expected) ** 2 / expected).sum()
    return (chi - cells + 1) / np.sqrt(2 * (cells - 1))


def standard_scores(noise):
    """Mean, neighbours at several distances, single values and pairs: each about N(0, 1)."""
    centred = noise - 0.5
    scores = [centred.mean() * np.sqrt(12 * len(noise))]
    for lag in (1, 2, 10, 100, 784, 65536):
        products = centred[lag:] * centred[:-lag]
        scores.append(12 * products.sum() / np.sqrt(len(products)))
    scores.append(excess((noise * 256).astype(int), 256))
    scores.append(excess((noise * 4096).astype(int), 4096))
    coarse = (noise * 64).astype(int)
    scores.append(excess(64 * coarse[:-1:2] + coarse[1::2], 4096))
    return scores


def test_noise_is_uniform_and_neighbours_are_independent():
    scores = np.array([standard_scores(draws(seed)) for seed in range(30)])
    assert abs(scores).max() < 5
    np.testing.assert_allclose((scores**2).mean(), 1, atol=0.25)


def test_successive_draws_of_a_generator_are_independent():
    generator = keras.random.SeedGenerator(3)
    noise = np.stack([draws(generator) for _ in range(8)]) - 0.5
    correlation = 12 * (noise @ noise.T) / COUNT
    assert abs(correlation - np.eye(8)).max() < 5 / np.sqrt(COUNT) + 0.01
    assert abs(correlation[~np.eye(8, dtype=bool)]).max() < 5 / np.sqrt(COUNT)


@pytest.mark.parametrize("bit", range(24))
def test_each_bit_is_one_half_of_the_time(bit):
    ones = (draws(bit) * 2**24).astype(int) >> bit & 1
    assert abs(ones.mean() - 0.5) < 2.5 / np.sqrt(COUNT)


def test_the_same_seed_gives_the_same_noise_of_any_shape():
    np.testing.assert_array_equal(draws(7), draws(7))
    np.testing.assert_array_equal(draws(7, (COUNT,)), draws(7))
    assert (draws(7) != draws(8)).mean() > 0.999


def test_normal_noise_has_its_distribution_and_no_memory():
    generator = keras.random.SeedGenerator(2**31 - 1)
    noise = np.stack([ops.convert_to_numpy(normal((COUNT // 20, 20), generator)) for _ in range(4)])
    flat = np.sort(noise.ravel().astype("float64"))
    cumulative = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in flat[::40]])
    assert abs(cumulative - np.arange(0, len(flat), 40) / len(flat)).max() < 2.2 / len(flat) ** 0.5
    columns = np.moveaxis(noise, 2, 0).reshape(80, -1)
    for values in (columns, columns**2):
        correlation = np.corrcoef(values)
        assert abs(correlation - np.eye(80)).max() < 6 / columns.shape[1] ** 0.5


def test_every_backend_draws_the_same():
    noise = ops.convert_to_numpy(uniform((2, 2), 2**32 - 5)).ravel()
    np.testing.assert_array_equal(noise * 2**24, [1337680, 11271337, 2304041, 6050662])
    generator = keras.random.SeedGenerator(5)
    generator.next()
    noise = ops.convert_to_numpy(normal((3,), generator))
    np.testing.assert_allclose(noise, [1.60576034, -0.55223322, 0.41288707], rtol=1e-5)
