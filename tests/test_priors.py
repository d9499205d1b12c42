import numpy as np
from keras import ops

from kvae.priors import StandardNormal


def gaussians(count=6, latent_dim=4):
    rng = np.random.default_rng(0)
    shape = (count, latent_dim)
    return rng.normal(0, 2, shape).astype("float32"), rng.normal(0, 1, shape).astype("float32")


def test_kl_is_zero_for_the_prior():
    zeros = np.zeros((3, 5), "float32")
    np.testing.assert_array_equal(StandardNormal(5).kl(zeros, zeros, zeros), np.zeros(3))


def test_kl_matches_monte_carlo():
    mean, log_variance = gaussians()
    prior = StandardNormal(4)
    deviation = np.exp(log_variance / 2)
    noise = np.random.default_rng(1).normal(size=(100_000, *mean.shape))
    z = mean + deviation * noise
    log_q = -0.5 * (noise**2 + np.log(2 * np.pi) + log_variance).sum(-1)
    log_p = -0.5 * (z**2 + np.log(2 * np.pi)).sum(-1)
    terms = log_q - log_p
    error = terms.std(0) / np.sqrt(len(terms))
    actual = ops.convert_to_numpy(prior.kl(mean, log_variance, mean))
    assert (abs(actual - terms.mean(0)) < 5 * error).all()


def test_kl_keeps_its_digits_near_the_prior():
    small = np.full((1, 1), 1e-3, "float32")
    actual = float(StandardNormal(1).kl(0 * small, small, small)[0])
    np.testing.assert_allclose(actual, 0.5 * (np.expm1(np.float64(small[0, 0])) - 1e-3), rtol=1e-2)


def test_kl_is_the_sum_over_latents():
    mean, log_variance = gaussians()
    prior = StandardNormal(4)
    each = ops.convert_to_numpy(prior.kl_per_latent(mean, log_variance))
    np.testing.assert_allclose(each.sum(1), prior.kl(mean, log_variance, mean), rtol=1e-6)


def test_density_integrates_to_one():
    line = np.linspace(-8, 8, 2001, dtype="float32")
    plane = np.stack(np.meshgrid(line[::10], line[::10]), -1).reshape(-1, 2)
    step = float(line[10] - line[0])
    density = np.exp(ops.convert_to_numpy(StandardNormal(2).log_prob(plane)))
    np.testing.assert_allclose(density.sum() * step**2, 1, rtol=1e-4)


def test_samples_are_standard_normal_and_the_same_for_the_same_seed():
    prior = StandardNormal(3)
    samples = ops.convert_to_numpy(prior.sample(20_000, seed=5))
    assert samples.shape == (20_000, 3)
    assert abs(samples.mean(0)).max() < 5 / np.sqrt(20_000)
    assert abs(samples.std(0) - 1).max() < 5 / np.sqrt(40_000)
    np.testing.assert_array_equal(samples, ops.convert_to_numpy(prior.sample(20_000, seed=5)))


def test_config_round_trip():
    assert StandardNormal.from_config(StandardNormal(7).get_config()).latent_dim == 7
