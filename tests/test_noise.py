import keras
import numpy as np
import pytest
from keras import ops

from kvae.noise import uniform

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
