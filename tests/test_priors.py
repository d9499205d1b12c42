import keras
import numpy as np
import pytest
from flows import flow, mixture
from keras import ops

import kvae
from kvae import evaluation, priors
from kvae.priors import Blockwise, GaussianMixture, RealNVP, StandardNormal


def blocks(latent_dim):
    """A flow, and a standard normal for the rest; of two latents two of the latter."""
    if latent_dim < 3:
        return Blockwise([StandardNormal(1), StandardNormal(latent_dim - 1)])
    return Blockwise([flow(2), StandardNormal(latent_dim - 2)])


KINDS = pytest.mark.parametrize("make", [StandardNormal, flow, blocks, mixture])
INVERTIBLE = pytest.mark.parametrize("make", [StandardNormal, flow, blocks])


def gaussians(count=6, latent_dim=4):
    rng = np.random.default_rng(0)
    shape = (count, latent_dim)
    return rng.normal(0, 2, shape).astype("float32"), rng.normal(0, 1, shape).astype("float32")


def array(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def of(function, *arrays):
    """A function of tensors, of arrays."""
    return array(function(*(ops.convert_to_tensor(a.astype("float32")) for a in arrays)))


@pytest.mark.parametrize("prior", [StandardNormal(5), RealNVP(5)], ids=["standard", "flow"])
def test_kl_is_zero_for_the_prior_and_a_flow_begins_as_one(prior):
    zeros = np.zeros((3, 5), "float32")
    np.testing.assert_allclose(of(prior.kl, zeros, zeros, zeros + 0.7), np.zeros(3), atol=1e-6)


@KINDS
def test_kl_matches_monte_carlo(make):
    prior, (mean, log_variance) = make(4), gaussians()
    noise = np.random.default_rng(1).normal(size=(20_000, *mean.shape)).astype("float32")
    z = mean + np.exp(log_variance / 2) * noise
    log_q = -0.5 * (noise**2 + np.log(2 * np.pi) + log_variance).sum(-1)
    terms = log_q - of(prior.log_prob, z.reshape(-1, 4)).reshape(log_q.shape)
    error = terms.std(0) / np.sqrt(len(terms))
    same = np.broadcast_to(mean, z.shape).reshape(-1, 4)
    spread = np.broadcast_to(log_variance, z.shape).reshape(-1, 4)
    actual = of(prior.kl, same, spread, z.reshape(-1, 4)).reshape(log_q.shape).mean(0)
    assert (abs(actual - terms.mean(0)) < 5 * error).all()


def test_kl_keeps_its_digits_near_the_prior():
    small = np.full((1, 1), 1e-3, "float32")
    actual = float(of(StandardNormal(1).kl, 0 * small, small, small)[0])
    np.testing.assert_allclose(actual, 0.5 * (np.expm1(np.float64(small[0, 0])) - 1e-3), rtol=1e-2)


def test_kl_is_the_sum_over_latents():
    mean, log_variance = gaussians()
    prior = StandardNormal(4)
    each = of(prior.kl_per_latent, mean, log_variance)
    np.testing.assert_allclose(each.sum(1), of(prior.kl, mean, log_variance, mean), rtol=1e-6)


def test_kl_per_latent_of_a_flow_is_that_of_the_gaussian_that_fits_best():
    mean, log_variance = gaussians(count=50)
    each = of(flow(4).kl_per_latent, mean, log_variance).mean(0)
    # Standardised by moments, a latent has no better Gaussian than N(0, 1).
    centre = mean.mean(0)
    deviation = np.sqrt(np.square(mean - centre).mean(0) + np.exp(log_variance).mean(0))
    scaled = (mean - centre) / deviation, log_variance - 2 * np.log(deviation)
    expected = of(StandardNormal(4).kl_per_latent, *scaled).mean(0)
    np.testing.assert_allclose(each, expected, rtol=1e-4)
    other = (mean - centre - 0.1) / (1.1 * deviation), scaled[1] - 2 * np.log(1.1)
    assert (of(StandardNormal(4).kl_per_latent, *other).mean(0) > each).all()


@KINDS
def test_density_integrates_to_one(make):
    line = np.linspace(-12, 12, 401, dtype="float32")
    plane = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    density = np.exp(of(make(2).log_prob, plane))
    np.testing.assert_allclose(density.sum() * (line[1] - line[0]) ** 2, 1, rtol=1e-3)


@INVERTIBLE
def test_noise_becomes_latents_and_latents_noise(make):
    prior = make(5)
    noise = array(prior.noise(1000, seed=3))
    np.testing.assert_allclose(of(prior.to_noise, of(prior.from_noise, noise)), noise, atol=1e-4)
    z = 2 * array(prior.noise(1000, seed=4))
    np.testing.assert_allclose(of(prior.from_noise, of(prior.to_noise, z)), z, atol=1e-4)


@KINDS
def test_samples_follow_the_density_and_are_the_same_for_the_same_seed(make):
    prior = make(2)
    samples = array(prior.sample(20_000, seed=5))
    np.testing.assert_array_equal(samples, array(prior.sample(20_000, seed=5)))
    line = np.linspace(-12, 12, 401, dtype="float32")
    plane = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    density = np.exp(of(prior.log_prob, plane).astype("float64"))
    density /= density.sum()
    for moment in (plane, plane**2, plane[:, :1] * plane[:, 1:]):
        expected = density @ moment
        spread = np.sqrt(density @ (moment - expected) ** 2 / len(samples))
        drawn = {2: samples, 1: samples[:, :1] * samples[:, 1:]}[moment.shape[1]]
        drawn = samples**2 if moment is not plane and moment.shape[1] == 2 else drawn
        assert (abs(drawn.mean(0) - expected) < 5 * spread + 1e-3).all()


def test_every_latent_is_moved_by_a_coupling_and_the_volume_is_that_of_the_jacobian():
    prior = flow(latent_dim=3)
    z, step = np.array([[0.3, -0.5, 0.8]], "float64"), 1e-3
    columns = [
        of(prior.to_noise, z + move) - of(prior.to_noise, z - move) for move in step * np.eye(3)
    ]
    jacobian = np.concatenate(columns).astype("float64") / (2 * step)
    _, expected = np.linalg.slogdet(jacobian)
    noise = of(prior.to_noise, z)
    normal = of(StandardNormal(3).log_prob, noise)
    actual = of(prior.log_prob, z) - normal
    np.testing.assert_allclose(actual[0], expected, atol=1e-2)
    assert (abs(jacobian - np.eye(3)).max(axis=1) > 0.01).all()


def test_the_masks_of_a_file_are_those_of_all_files():
    first, second, third = priors.real_nvp.masks(6, 3)
    assert first.tolist() == [0, 1, 1, 0, 1, 0]
    np.testing.assert_array_equal(first + second, np.ones(6))
    assert third.sum() == 3 and third.tolist() not in (first.tolist(), second.tolist())


def test_the_gradient_is_zero_where_posterior_and_prior_agree(make_vae, images):
    """At its own optimum the path gradient has no noise: one step of descent moves nothing."""
    vae = make_vae(prior=RealNVP(3, couplings=2, width=8), optimizer=keras.optimizers.SGD(1.0))
    for name in ("mean", "raw_log_variance"):  # every posterior is N(0, I), as the prior is
        vae.encoder.get_layer(name).kernel.assign(np.zeros((16, 3)))
    vae.decoder.get_layer("values").kernel.assign(np.zeros((16, 64)))  # which ignores z
    before = [array(weight) for weight in vae.encoder.trainable_variables]
    vae.train_on_batch(images)
    for weight, was in zip(vae.encoder.trainable_variables, before, strict=True):
        np.testing.assert_allclose(array(weight), was, atol=1e-5)


@pytest.mark.parametrize(
    "arguments, what",
    [
        ({"latent_dim": 1}, "at least 2; for one, choose the prior standard-normal"),
        ({"latent_dim": 3, "couplings": 0}, "couplings=0"),
        ({"latent_dim": 3, "width": 0}, "width=0"),
    ],
)
def test_a_flow_refuses_what_cannot_be_one(arguments, what):
    with pytest.raises(ValueError, match=what):
        RealNVP(**arguments)


def test_a_prior_goes_by_its_name():
    assert isinstance(priors.get("real-nvp", 4, couplings=3), RealNVP)
    assert priors.get("mixture", 4, components=3).components == 3
    with pytest.raises(ValueError, match="no prior 'flow'; there are 'standard-normal', 'real"):
        priors.get("flow", 4)


def test_config_round_trip():
    assert StandardNormal.from_config(StandardNormal(7).get_config()).latent_dim == 7
    config = {"latent_dim": 6, "couplings": 3, "width": 5, "depth": 1, "bound": 1.5}
    again = RealNVP.from_config(RealNVP(**config).get_config()).get_config()
    assert {name: again[name] for name in config} == config


def test_blocks_are_independent_and_come_back_from_their_config():
    prior, (mean, log_variance) = blocks(4), gaussians()
    halves = [array[:, :2] for array in (mean, log_variance, mean)]
    rests = [array[:, 2:] for array in (mean, log_variance, mean)]
    kl = of(prior.priors[0].kl, *halves) + of(prior.priors[1].kl, *rests)
    np.testing.assert_allclose(of(prior.kl, mean, log_variance, mean), kl, rtol=1e-5)
    tensors = [ops.convert_to_tensor(array) for array in (mean, log_variance, mean)]
    for groups in ((2, 2), (2, 1, 1), (4,)):
        parts = [array(one) for one in prior.kl_by_group(*tensors, groups)]
        assert len(parts) == len(groups)
        np.testing.assert_allclose(sum(parts), kl, rtol=1e-5)
    with pytest.raises(ValueError, match="ties the latents of 2 groups together"):
        prior.kl_by_group(*tensors, (3, 1))
    with pytest.raises(ValueError, match="ties the latents of 2 groups together"):
        prior.kl_by_group(*tensors, (1, 3))
    again = Blockwise.from_config(prior.get_config())
    assert [type(one) for one in again.priors] == [RealNVP, StandardNormal]
    assert again.latent_dim == 4 and not again.closed_form
    assert Blockwise([StandardNormal(1), StandardNormal(2)]).closed_form


@pytest.mark.parametrize("given", [[], None, [StandardNormal(2), "flow"], [StandardNormal(2)] * 2])
def test_blocks_that_cannot_be_are_refused(given):
    with pytest.raises(ValueError, match="`priors` must be"):
        Blockwise(given)


def by_numpy(prior, context=None):
    """Weights, means and deviations of a mixture, of the first row of a context."""
    parts = prior.parameters(context)
    log_weights, means, log_variances = (array(part)[0].astype("float64") for part in parts)
    return np.exp(log_weights), means, np.exp(0.5 * log_variances)


@pytest.mark.parametrize("context_dim", [None, 2])
def test_the_density_of_a_mixture_is_the_sum_over_its_components(context_dim):
    prior, z = mixture(context_dim=context_dim), gaussians(latent_dim=3)[0]
    context = None if context_dim is None else np.tile(np.float32([0, 1]), (len(z), 1))
    weights, means, deviations = by_numpy(prior, context)
    squares = ((z[:, None] - means) / deviations) ** 2
    each = np.exp(-0.5 * squares) / (deviations * np.sqrt(2 * np.pi))
    expected = np.log((weights * each.prod(-1)).sum(-1))
    np.testing.assert_allclose(array(prior.log_prob(z, context)), expected, rtol=1e-4)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)
    assert weights.std() > 0.03


def test_each_class_has_a_mixture_of_its_own():
    prior, z = mixture(context_dim=3), gaussians(latent_dim=3)[0]
    each = np.stack([array(prior.log_prob(z, np.eye(3)[[i] * 6])) for i in range(3)])
    assert (abs(np.diff(each, axis=0)) > 1e-2).all()
    with pytest.raises(ValueError, match="needs a context, of shape \\(batch, 3\\)"):
        prior.log_prob(z)


@pytest.mark.parametrize("context_dim", [None, 2])
def test_latents_come_from_noise_that_a_mixture_made_of_them(context_dim):
    prior = mixture(5, context_dim=context_dim)
    context = [] if context_dim is None else [np.tile(np.float32([0, 1]), (1000, 1))]
    noise = array(prior.noise(1000, seed=3))
    for z in (of(prior.from_noise, noise, *context), 2 * noise):
        again = of(prior.from_noise, of(prior.to_noise, z, *context), *context)
        np.testing.assert_allclose(again, z, atol=1e-3)


def test_the_noise_of_draws_from_a_mixture_is_standard_normal():
    prior = mixture(3, scale=0.4)  # whose components overlap
    z = array(prior.sample(20_000, seed=6))
    likely = array(ops.softmax(prior.log_joint(z), axis=-1)).max(axis=1)
    assert (likely < 0.9).mean() > 0.8
    noise = of(prior.to_noise, z)
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.04)
    np.testing.assert_allclose(np.cov(noise.T), np.eye(3), atol=0.05)
    points = np.full_like(z, -np.inf)
    assert abs(evaluation.prior_gap_at_least(prior, z, points)) < 0.01
    assert evaluation.prior_gap_at_least(prior, z + 1.0, points) > 0.1


def test_cold_noise_becomes_the_means_each_as_often_as_its_weight():
    prior = mixture(2)
    weights, means, _ = by_numpy(prior)
    z = of(prior.from_noise, 1e-4 * array(prior.noise(20_000, seed=7)))
    apart = np.linalg.norm(z[:, None] - means, axis=-1)
    assert apart.min(axis=1).max() < 1e-2
    counts = np.bincount(apart.argmin(axis=1), minlength=4)
    np.testing.assert_allclose(counts / len(z), weights, atol=0.02)


def test_a_mixture_of_one_component_is_a_gaussian():
    prior, z = mixture(2, components=1), gaussians(latent_dim=2)[0]
    _, means, deviations = by_numpy(prior)
    noise = (z - means) / deviations
    expected = of(StandardNormal(2).log_prob, noise) - np.log(deviations).sum()
    np.testing.assert_allclose(of(prior.log_prob, z), expected, rtol=1e-4)
    np.testing.assert_allclose(of(prior.to_noise, z), noise, atol=1e-3)


@pytest.mark.parametrize(
    "arguments, what",
    [
        ({"latent_dim": 1}, "must be at least 2. Received: latent_dim=1"),
        ({"latent_dim": 3, "components": 0}, "components=0"),
        ({"latent_dim": 3, "context_dim": 0}, "context_dim=0"),
    ],
)
def test_a_mixture_refuses_what_cannot_be_one(arguments, what):
    with pytest.raises(ValueError, match=what):
        GaussianMixture(**arguments)


def test_a_mixture_comes_back_from_its_config():
    for config in ({"latent_dim": 6, "components": 3}, {"latent_dim": 2, "context_dim": 4}):
        again = GaussianMixture.from_config(GaussianMixture(**config).get_config()).get_config()
        assert {name: again[name] for name in config} == config


@pytest.mark.every_backend
def test_a_model_with_a_mixture_learns_it_and_is_saved(make_vae, images, tmp_path):
    vae = make_vae(prior=mixture(), optimizer=keras.optimizers.Adam(1e-2))
    before = [array(weight) for weight in vae.prior.trainable_variables]
    vae.fit(images, epochs=2, verbose=0)
    for weight, was in zip(vae.prior.trainable_variables, before, strict=True):
        assert (array(weight) != was).all(), weight.path
    assert vae.prior.weights and not vae.prior.invertible
    vae.save(tmp_path / "vae.keras")
    again = keras.saving.load_model(tmp_path / "vae.keras")
    np.testing.assert_allclose(again.generate(4, seed=1), vae.generate(4, seed=1), atol=1e-6)
    vae.generator().save(tmp_path / "generator.keras")
    noise = array(vae.prior.noise(4, seed=1))
    made = keras.saving.load_model(tmp_path / "generator.keras").predict(noise, verbose=0)
    np.testing.assert_allclose(made, vae.generate(4, seed=1), atol=1e-6)
    np.testing.assert_allclose(vae.decode(vae.prior.from_noise(noise)), made, atol=1e-5)


def test_what_would_be_trained_in_the_noise_refuses_a_mixture(make_vae):
    with pytest.raises(ValueError, match="such as standard-normal or real-nvp.*GaussianMixture"):
        make_vae(objective="mmd", prior=GaussianMixture(3))
    with pytest.raises(ValueError, match="latents are independent"):
        make_vae(objective="tc", prior=GaussianMixture(3))
    with pytest.raises(ValueError, match="standard-normal or real-nvp"):
        make_vae(objective="mmd", prior=Blockwise([mixture(2), StandardNormal(1)]))


def test_a_recipe_may_have_a_mixture():
    recipe = kvae.presets.get("mlp").replaced(prior="mixture", components=3, latent_dim=4)
    prior = kvae.VAE.from_preset(recipe, (8, 8, 1), classes=2).prior
    assert (type(prior), prior.components, prior.context_dim) == (GaussianMixture, 3, 2)
    assert recipe.replaced(prior="standard-normal").components is None
    ladder = kvae.presets.get("ladder").replaced(prior="mixture")
    latents = kvae.model.build.latents_of(ladder, (28, 28, 1))
    found = kvae.model.build.prior_of(ladder, (28, 28, 1), latents)
    assert [type(one) for one in found.priors] == [GaussianMixture, StandardNormal]
    with pytest.raises(ValueError, match="'real-nvp' has no argument `components`. .*: mixture"):
        kvae.VAE.from_preset(kvae.presets.get("mlp").replaced(components=3), (8, 8, 1))
