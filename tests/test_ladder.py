"""Latents in groups: the ladder's parts, the pass through both, and every verb."""

import math

import keras
import numpy as np
import pytest
from commands import assert_refused, call
from flows import flow
from keras import ops
from marks import not_on_jax, once

import kvae
from kvae.data.values import as_array
from kvae.diagnosis import Finding, check_groups
from kvae.diagnosis.look import looked_at
from kvae.networks.ladder import groups_of
from kvae.training.callbacks.watching import Warnings

pytestmark = pytest.mark.every_backend

ARGUMENTS = {"groups": ((1, 3), (2, 2), (4, 1)), "channels": 4, "width": 16}
SIZES = (3, 8, 16)


def ladder(likelihood=None, image_shape=(8, 8, 1), objective=None, **arguments):
    arguments = {**ARGUMENTS, **arguments}
    count = sum(group.size for group in groups_of(image_shape, arguments["groups"]))
    likelihood = likelihood or kvae.Bernoulli("threshold")
    each = likelihood.parameters_per_value
    vae = kvae.VAE(
        kvae.build_encoder(image_shape, count, "ladder", **arguments),
        kvae.build_decoder(image_shape, count, "ladder", each, **arguments),
        likelihood,
        objective=objective,
        seed=0,
    )
    vae.compile(keras.optimizers.Adam(3e-3))
    return vae


@pytest.fixture(scope="module")
def vae(images, with_graphs):
    """A ladder that has learned the bars a little; tests leave it as it is."""
    with with_graphs():
        keras.utils.set_random_seed(0)
        vae = ladder()
        vae.fit(images, epochs=20, batch_size=16, verbose=0)
    return vae


def observed_of(vae, images):
    return ops.convert_to_numpy(vae.likelihood.observe(images))


def numbers(tensors):
    """The same as float64 arrays; PyTorch's tensors may be in a graph."""
    return [as_array(tensor).astype("float64") for tensor in tensors]


@pytest.mark.parametrize(
    "image_shape, groups, shapes",
    [
        ((28, 28, 1), ((1, 4), (8, 2)), [(1, 1, 4), (7, 7, 2)]),
        ((64, 48, 3), ((1, 4), (16, 1)), [(1, 1, 4), (16, 12, 1)]),
        ((40, 100, 3), ((1, 4), (4, 3), (4, 1)), [(1, 2, 4), (3, 7, 3), (3, 7, 1)]),
        ((9, 5, 2), ((2, 1),), [(3, 2, 1)]),
        ((8, 8, 1), ((2, 1), (8, 2)), [(2, 2, 1)]),
        ((6, 8, 1), ((8, 4), (16, 2)), [(3, 4, 4)]),
    ],
)
def test_groups_lie_on_grids_and_images_of_any_shape_come_out(image_shape, groups, shapes):
    found = groups_of(image_shape, groups)
    assert [group.shape for group in found] == shapes
    vae = ladder(kvae.Gaussian(0.1), image_shape, groups=groups)
    assert vae.groups == tuple(math.prod(shape) for shape in shapes)
    assert vae.image_shape == image_shape
    assert vae.generate(2, seed=0).shape == (2, *image_shape)


@pytest.mark.parametrize("shape", [(30, 30, 1), (29, 45, 1), (28, 28, 1)])
@pytest.mark.parametrize("arguments", [{"patch": 4}, {"patch": 8}, {"squeeze": 0}, {"depth": 0}])
def test_what_one_half_halves_the_other_doubles(shape, arguments):
    vae = ladder(kvae.Gaussian(0.1), shape, groups=((1, 2), (4, 1)), channels=4, **arguments)
    assert vae.generate(2, seed=0).shape == (2, *shape)
    features = vae.encoder.get_layer("bottom_up")(np.zeros((1, *shape), "float32"))
    grid = tuple(keras.tree.flatten(features)[1].shape[1:3])
    assert grid == (-(-shape[0] // 8), -(-shape[1] // 8))


@pytest.mark.parametrize("patch", [2, 4, 8])
def test_a_place_has_a_say_on_the_pixels_that_it_sees(patch):
    """Images of 30 pixels are those of 32 that lack two at the right and at the bottom."""
    arguments = {"groups": ((4, 1),), "channels": 2, "depth": 0, "patch": patch}
    rng = np.random.default_rng(0)
    images = np.full((1, 32, 32, 1), 0.5, "float32")  # what padding is taken for
    images[:, :30, :30] = rng.uniform(size=(1, 30, 30, 1))
    z = rng.normal(size=(1, 16)).astype("float32")
    found, weights = [], None
    for side in (30, 32):
        encoder = kvae.build_encoder((side, side, 1), 16, "ladder", **arguments)
        decoder = kvae.build_decoder((side, side, 1), 16, "ladder", **arguments)
        if weights is not None:
            encoder.set_weights(weights[0])
            decoder.set_weights(weights[1])
        weights = encoder.get_weights(), decoder.get_weights()
        mean = as_array(encoder(images[:, :side, :side])[0]).reshape(4, 4)
        found.append((mean[:2, :2], as_array(decoder(z))[:, :16, :16]))  # away from the borders
    for one, other in zip(*found, strict=True):
        assert np.abs(one).max() > 1e-3
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("side, normed", [(128, False), (136, True)])
def test_only_features_of_large_images_are_normalised(side, normed):
    latents = 16 if side == 128 else 9
    encoder = kvae.build_encoder((side, side, 1), latents, "ladder", groups=((4, 1),), channels=2)
    names = [layer.name for layer in encoder.get_layer("posterior_1").layers]
    assert ("norm" in names) == normed


@pytest.mark.parametrize("patch", [0, 1, 3, 6])
def test_a_patch_that_is_no_power_of_two_is_refused(patch):
    with pytest.raises(ValueError, match="`patch` must be a power of two"):
        kvae.build_encoder((28, 28, 1), 27, "ladder", **{**ARGUMENTS, "patch": patch})


@pytest.mark.parametrize("groups", [(), ((3, 1),), ((4, 1), (2, 1)), ((0, 1),)])
def test_groups_that_cannot_be_are_refused(groups):
    with pytest.raises(ValueError, match="`groups` must be pairs"):
        groups_of((8, 8, 1), groups)


def test_what_does_not_fit_a_ladder_is_refused():
    with pytest.raises(ValueError, match=r"3 \+ 8 \+ 16 = 27 latents. Received: latent_dim=40"):
        kvae.build_decoder((8, 8, 1), 40, "ladder", **ARGUMENTS)
    encoder = kvae.build_encoder((8, 8, 1), 27, "ladder", **ARGUMENTS)
    with pytest.raises(ValueError, match="must be a ladder's"):
        kvae.VAE(encoder, kvae.build_decoder((8, 8, 1), 27, "mlp"))
    with pytest.raises(ValueError, match="for latents in one group"):
        ladder(objective=kvae.ELBO(mean_of_draws=2))


def test_a_recipe_of_a_ladder_has_the_latents_of_its_groups():
    recipe = kvae.Recipe(network="ladder", network_arguments=ARGUMENTS)
    vae = kvae.VAE.from_preset(recipe, (8, 8, 1))
    assert vae.groups == SIZES and vae.prior.latent_dim == 27
    with pytest.raises(ValueError, match="= 27 latents. Received: latent_dim=5"):
        kvae.VAE.from_preset(recipe.replaced(latent_dim=5), (8, 8, 1))


def test_the_pass_through_both_is_that_of_the_stock_models(vae, images):
    """What is drawn group by group is what encoder and decoder say of the draws at once."""
    observed = (images[:5] > 127).astype("float32")
    noise = np.random.default_rng(0).normal(size=(5, 27)).astype("float32")
    mean, log_variance, z, parameters = vae.infer(observed, noise)
    np.testing.assert_allclose(as_array(vae.decoder(z)), as_array(parameters), atol=1e-4)
    states = [vae.decoder.get_layer("stage_1")([z[:, :3]])]
    states.append(vae.decoder.get_layer("stage_2")([states[0], z[:, 3:11]]))
    again = vae.encoder([ops.convert_to_tensor(observed), *states])
    for one, other in zip(numbers(again), numbers([mean, log_variance]), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    mean, log_variance, z = numbers([mean, log_variance, z])
    np.testing.assert_allclose(z, mean + np.exp(log_variance / 2) * noise, atol=1e-4)


def test_a_group_sees_those_before_it_and_no_later_one(vae, images):
    observed = (images[:4] > 127).astype("float32")
    noise = np.zeros((4, 27), "float32")
    first = numbers(vae.infer(observed, noise))[0]
    for start, stop in ((0, 3), (3, 11), (11, 27)):
        moved = noise.copy()
        moved[:, start:stop] = 3
        found = numbers(vae.infer(observed, moved))[0]
        np.testing.assert_allclose(found[:, :stop], first[:, :stop], atol=1e-6)
        assert stop == 27 or abs(found[:, stop:] - first[:, stop:]).max() > 1e-3


def test_an_images_draws_follow_each_other(vae, images):
    observed = (images[:3] > 127).astype("float32")
    noise = np.random.default_rng(0).normal(size=(6, 27)).astype("float32")
    several = numbers(vae.infer(observed, noise, 2))
    single = numbers(vae.infer(observed.repeat(2, axis=0), noise))
    for one, other in zip(several, single, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_scores_are_those_of_the_formula(vae, images):
    """By NumPy, from the densities of the draws."""
    scores = vae.score(images[:4], draws=6)
    (of,) = vae.posteriors(images[:4], 6, 0)
    noise = of.noise(0, 4, 6).reshape(24, 27)
    found = numbers(vae.infer(of.observed, noise, 6))
    mean, log_variance, z, logits = found
    constant = math.log(2 * math.pi)
    log_posterior = -0.5 * (noise.astype("float64") ** 2 + log_variance + constant).sum(1)
    log_prior = -0.5 * (z**2 + constant).sum(1)
    x = of.observed.repeat(6, axis=0)
    log_likelihood = (x * logits - np.logaddexp(0, logits)).sum(axis=(1, 2, 3))
    weights = (log_likelihood + log_prior - log_posterior).reshape(4, 6)
    expected = np.log(np.exp(weights - weights.max(1, keepdims=True)).mean(1)) + weights.max(1)
    np.testing.assert_allclose(scores.log_prob, expected, atol=1e-3)
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(1)
    np.testing.assert_allclose(scores.kl, kl.reshape(4, 6).mean(1), rtol=1e-4)
    np.testing.assert_allclose(
        scores.reconstruction, -log_likelihood.reshape(4, 6).mean(1), rtol=1e-4, atol=1e-4
    )
    maps = vae.surprise(images[:4], draws=6)
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), scores.reconstruction, rtol=1e-3)


def test_it_learns_in_all_its_groups_and_every_verb_knows_them(vae, images):
    figures = vae.evaluate(images, verbose=0, return_dict=True)
    assert figures["loss"] < 0.7 * 64 * math.log(2)  # untrained it is 0.95 and more
    mean, log_variance = vae.encode(images)
    assert mean.shape == log_variance.shape == (64, 27)
    np.testing.assert_allclose(vae.reconstruct(images), vae.decode(mean), atol=1e-6)
    assert vae.kl_per_latent(images).shape == (27,)
    seed = vae.generate(3, seed=4)
    stock = vae.generator()
    noise = ops.convert_to_numpy(vae.prior.noise(3, 4))
    np.testing.assert_allclose(stock.predict(noise, verbose=0), seed, atol=1e-5)
    assert kvae.interpolate(vae, images[:1], images[1:2], steps=3).shape == (1, 3, 8, 8, 1)
    assert kvae.like(vae, images[0], count=2, seed=0).shape == (2, 8, 8, 1)


def test_groups_are_reconstructed_and_drawn_by_themselves(vae, images):
    mean, _ = vae.encode(images[:4])
    for count, size in enumerate((0, *np.cumsum(SIZES))):
        kept = np.where(np.arange(27) < size, mean, 0)
        found = vae.reconstruct(images[:4], groups=count)
        np.testing.assert_allclose(found, vae.decode(kept), atol=1e-6)
    for wrong in (4, -1, True, 1.5):
        with pytest.raises(ValueError, match="`groups` must be an integer in 0…3"):
            vae.reconstruct(images[:4], groups=wrong)
    same = vae.generate(4, seed=1, temperature=[1, 1, 1])
    np.testing.assert_array_equal(same, vae.generate(4, seed=1))
    cold = vae.generate(4, seed=1, temperature=(0, 0, 0))
    np.testing.assert_allclose(cold, vae.decode(np.zeros((4, 27))), atol=1e-6)
    assert abs(vae.generate(4, seed=1, temperature=[1, 0, 0]) - same).max() > 0
    with pytest.raises(ValueError, match="one for each of 3 groups. Received: 2"):
        vae.generate(4, temperature=[1, 1])
    with pytest.raises(ValueError, match="temperature"):
        vae.generate(4, temperature=[1, -1, 1])


def test_it_opens_from_a_file_and_goes_on(vae, images, tmp_path):
    vae.save(tmp_path / "ladder.keras")
    again = kvae.load(tmp_path / "ladder.keras")
    assert again.groups == SIZES
    for one, other in zip(again.encode(images), vae.encode(images), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again.generate(3, seed=1), vae.generate(3, seed=1))
    assert np.isfinite(again.fit(images, verbose=0).history["loss"][0])
    vae.generator().save(tmp_path / "generator.keras")
    stock = keras.saving.load_model(tmp_path / "generator.keras")
    assert stock.predict(np.zeros((2, 27)), verbose=0).shape == (2, 8, 8, 1)
    vae.save_weights(tmp_path / "w.weights.h5")
    again.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_array_equal(again.generate(3, seed=1), vae.generate(3, seed=1))


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize(
    "objective",
    [
        lambda: kvae.ELBO(samples=2, free_bits=0.2),
        lambda: kvae.ImportanceWeighted(3),
    ],
    ids=["free bits", "iwae"],
)
def test_objectives_of_several_draws(images, objective):
    vae = ladder(objective=objective())
    history = vae.fit(images, epochs=2, batch_size=16, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    figures = vae.evaluate(images, verbose=0, return_dict=True)
    assert figures["loss"] <= figures["reconstruction"] + figures["kl"] + 1e-3


def test_weights_of_images_count(vae, images):
    weights = np.zeros(64, "float32")
    weights[:16] = 4
    vae.seed_generator.state.assign([7, 0])
    found = vae.evaluate(images, sample_weight=weights, batch_size=64, verbose=0, return_dict=True)
    assert found["loss"] > 0 and np.isfinite(found["elbo"])


def blockwise(**arguments):
    """The model above with a flow over its first group."""
    one = ladder()
    prior = kvae.Blockwise([flow(3), kvae.StandardNormal(24)])
    vae = kvae.VAE(one.encoder, one.decoder, one.likelihood, prior, kvae.ELBO(**arguments))
    vae.compile("adam")
    return vae


@pytest.mark.parametrize("free_bits", [0, 0.5])
def test_fine_groups_cost_more_at_first_and_open_one_after_the_other(images, free_bits):
    """By NumPy, from the KL of each group."""
    vae = blockwise(beta=2, fine_beta=5, fine_steps=10, free_bits=free_bits)
    outputs = vae(images[:6], training=True)
    terms = vae.terms(outputs, training=True)
    each = np.array([as_array(kl).mean() for kl in terms.kl_by_group])
    np.testing.assert_allclose(each.sum(), as_array(terms.kl).mean(), rtol=1e-5)
    counted = np.maximum(each, free_bits * np.array(SIZES))
    reconstruction = as_array(terms.reconstruction).mean()
    for step, weights in ((1, (1, 4.2, 4.6)), (4, (1, 1.8, 3.4)), (5, (1, 1, 3)), (20, (1, 1, 1))):
        vae.step.assign(step)
        expected = reconstruction + 2 * counted @ weights
        found = float(as_array(vae.objective.loss(terms)))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    vae.step.assign(0)
    at_test_time = float(as_array(vae.objective.loss(terms, training=False)))
    np.testing.assert_allclose(at_test_time, reconstruction + 2 * each.sum(), rtol=1e-5)


def test_a_flow_over_several_groups_has_no_kl_of_each():
    one = ladder()
    for objective in (kvae.ELBO(fine_beta=5, fine_steps=10), kvae.ELBO(free_bits=0.1)):
        with pytest.raises(ValueError, match="ties the latents of 3 groups together"):
            kvae.VAE(one.encoder, one.decoder, one.likelihood, kvae.RealNVP(27), objective)


def test_a_preset_takes_a_flow_over_all_groups():
    less = {"groups": ((1, 8), (4, 1)), "channels": 4}
    recipe = kvae.presets.get("ladder-colour").replaced(network_arguments=less)
    vae = kvae.VAE.from_preset(recipe, (8, 8, 1), prior=kvae.RealNVP(24, couplings=2))
    terms = vae.terms(vae(np.zeros((2, 8, 8, 1), "uint8"), training=True), training=True)
    assert np.isfinite(float(as_array(vae.objective.loss(terms))))


@pytest.mark.parametrize("fine_steps, warned", [(1000, False), (0, True)])
def test_a_group_that_is_yet_to_open_is_not_warned_of(images, monkeypatch, fine_steps, warned):
    monkeypatch.setattr("kvae.training.callbacks.watching.SETTLING", 0)
    dead = Finding("groups", "problem", "Nothing is in any group.", "Wait.")
    monkeypatch.setattr("kvae.training.callbacks.watching.check_groups", lambda *_: dead)
    vae = ladder(objective=kvae.ELBO(fine_beta=100, fine_steps=fine_steps))
    latents = kvae.LatentKL(images)
    warnings = Warnings(latents)
    vae.fit(images, epochs=2, batch_size=32, verbose=0, callbacks=[latents, warnings])
    assert [finding.name for finding in warnings.findings] == ["groups"] * warned


@not_on_jax
def test_a_preset_has_a_flow_over_its_first_group(tmp_path, images, capsys):
    less = {"groups": ((1, 8), (4, 1)), "channels": 4, "depth": 1, "patch": 2}
    slowly = {"fine_beta": 10, "fine_warmup": 0.5}
    recipe = kvae.presets.get("ladder").replaced(
        network_arguments=less, couplings=2, epochs=2, **slowly
    )
    data = kvae.data.from_arrays(images)
    vae = kvae.train(data, recipe, out=tmp_path / "vae.keras", verbose=2)
    said = capsys.readouterr().out
    assert "24 latents in 2 groups" in said and "prior RealNVP, then StandardNormal" in said
    assert [type(prior).__name__ for prior in vae.prior.priors] == ["RealNVP", "StandardNormal"]
    assert [prior.latent_dim for prior in vae.prior.priors] == [8, 16] == list(vae.groups)
    assert vae.objective.fine_beta == 10 and vae.objective.fine_steps > 0
    assert vae.card["recipe"]["latent_dim"] is None and vae.card["latent_dim"] == 24
    other = kvae.VAE.from_preset(kvae.Recipe.from_card(vae.card), (8, 16, 1))
    assert other.groups == (16, 32)
    again = kvae.load(tmp_path / "vae.keras")
    assert again.objective.fine_steps == vae.objective.fine_steps
    np.testing.assert_array_equal(again.generate(3, seed=1), vae.generate(3, seed=1))
    stock = vae.generator()
    noise = ops.convert_to_numpy(vae.prior.noise(3, 1))
    found = stock.predict(noise, verbose=0)
    np.testing.assert_allclose(found, vae.generate(3, seed=1), atol=1e-5)
    _, latents = kvae.charts.read_run(tmp_path / "vae")
    assert list(latents) == ["epoch", "group 1", "group 2"]
    report = kvae.evaluate(vae, data, importance_samples=5, samples=0).figures["latents"]
    each = report["kl_per_latent"]
    np.testing.assert_allclose(report["kl_per_group"], [sum(each[:8]), sum(each[8:])], atol=1e-2)
    assert report["mutual_information"] is None and report["prior_gap_at_most"] is None
    iwae = kvae.train(data, recipe, objective="iwae", out=tmp_path / "i.keras", verbose=0)
    assert type(iwae.objective) is kvae.ImportanceWeighted


def test_pictures_know_of_groups(vae, images, tmp_path):
    picture = kvae.by_group(vae, images[:4])
    assert [label.get_text() for label in picture.axes[0].get_xticklabels()] == [
        *("image", "0", "+3", "+8", "+16")
    ]
    whole = kvae.interpolate(vae, images[:1], images[1:2], steps=3)
    np.testing.assert_allclose(whole[0, 0], vae.reconstruct(images[:1])[0], atol=1e-6)
    top = kvae.interpolate(vae, images[:1], images[1:2], steps=3, groups=1)
    np.testing.assert_allclose(top[0, 2], vae.reconstruct(images[1:2], groups=1)[0], atol=1e-6)
    title = kvae.latent(vae, images, method="pca").axes[0].get_title()
    assert title == "Principal components of the 3 latents of the first group of 64 images"
    plane = kvae.manifold(vae, images, 2).axes[0].images[0].get_array()
    assert plane.ndim == 3 and len(np.unique(plane)) > 2
    rows = kvae.traversals(vae, images, 27).axes[0].get_yticklabels()
    assert {row.get_text().split(":")[0] for row in rows} >= {
        "latent 1 (group 1)", "latent 4 (group 2)", "latent 27 (group 3)"
    }  # fmt: skip
    cold = kvae.like(vae, images[0], count=2, seed=0, temperature=[0, 0, 0])
    np.testing.assert_allclose(cold[1], vae.reconstruct(images[:1])[0], atol=1e-6)


@pytest.mark.parametrize("samples", [1, 3])
def test_the_doctor_looks_at_every_image_once(images, samples):
    vae = ladder(objective=kvae.ELBO(samples=samples))
    found = looked_at(vae, images[:7], seed=0, batch=4)
    assert len(found["mean"]) == 7
    expected = numbers(vae.infer(observed_of(vae, images[:7]), np.zeros((7, 27), "float32")))[0]
    np.testing.assert_allclose(found["mean"][:, :3], expected[:, :3], atol=1e-5)
    each = [found[f"kl_of_group_{i}"] for i in (1, 2, 3)]
    np.testing.assert_allclose(sum(each), found["kl"], rtol=1e-4)


def test_the_gradient_of_the_importance_weighted_bound_is_its_slope(images):
    """Through mean and log-variance of the first group, too; by differences, of the same draws."""
    vae = ladder(objective=kvae.ImportanceWeighted(4))
    vae.compile(keras.optimizers.SGD(1e6), auto_scale_loss=False)
    posterior = vae.encoder.get_layer("posterior_1")
    head = posterior.get_layer("raw_log_variance_conv").bias
    start, slopes = ops.convert_to_numpy(head).copy(), []
    for i in range(3):
        losses = []
        for step in (-0.05, 0.05):
            head.assign(start + step * (np.arange(3) == i))
            terms = vae.terms(vae(images[:16], training=True), training=True)
            vae.step.assign(1)  # as in the midst of a step
            losses.append(float(as_array(vae.objective.loss(terms))))
            vae.step.assign(0)
        slopes.append((losses[1] - losses[0]) / 0.1)
    head.assign(start)
    vae.train_on_batch(images[:16])
    found = (start - ops.convert_to_numpy(head)) / 1e6
    np.testing.assert_allclose(found, slopes, rtol=0.02, atol=2e-3)


def test_groups_that_say_nothing_are_named():
    assert check_groups(np.array([20, 5, 60])).severity == "ok"
    dead = check_groups(np.array([20, 0.1, 60]))
    assert dead.severity == "warning" and "Nothing is in group 2: " in dead.seen
    assert check_groups(np.zeros(2)).severity == "problem"
    low = check_groups(np.array([3, 60, 1139]))
    assert low.severity == "warning" and "--temperature 1,0.7,0.7" in low.remedy


@not_on_jax
def test_the_doctor_and_the_curves_show_groups(vae, images):
    data = kvae.data.from_arrays(images)
    diagnosis = kvae.diagnose(vae, data, count=32)
    kl = [diagnosis.numbers[f"kl_of_group_{i}"] for i in (1, 2, 3)]
    assert min(kl) >= 0 and diagnosis.finding("groups").seen.count(f"{kl[1]:.1f}") >= 1
    spreads = [diagnosis.numbers[f"spread_of_group_{i}"] for i in (1, 2, 3)]
    # Of each group by itself: of all together it would be that of the largest.
    assert 0.5 < min(spreads) and max(spreads) < 2 and len(set(spreads)) == 3
    history = {"loss": [3.0, 2.0], "reconstruction": [2.0, 1.0], "kl": [1.0, 1.0]}
    latents = {"epoch": [1, 2], "group 1": [0.5, 0.9], "group 2": [0.1, 30.0]}
    chart = kvae.curves(history, latents, "latents")
    assert chart.axes[0].get_title() == "KL of each of 2 groups of latents"
    assert [line.get_label() for line in chart.axes[0].lines] == ["group 1", "group 2"]


@once
def test_commands_know_of_groups(vae, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("bars.npz", x_train=images, x_test=images[:9])
    vae.save("ladder.keras")
    given = ["--model", "ladder.keras", "--dataset", "bars.npz"]
    said = call("reconstruct", "--by-group", "--count", 3, *given).stdout
    assert "3 bars test images beside their reconstructions by group" in said
    columns = ["reconstruct", "--by-group", "--columns", "3", *given]
    assert_refused(columns, 2, "leave out --columns")
    many = ["interpolate", "--groups", "4", *given]
    assert_refused(many, 2, "--groups is at most 3 for this model")
    call("interpolate", "--groups", 1, "--rows", 2, *given)
    call("generate", "--temperature", "1,0.5,0", "--out", "new.npz", "--seed", 1, *given)
    expected = vae.generate(100, seed=1, temperature=[1, 0.5, 0])
    np.testing.assert_allclose(np.load("new.npz")["images"], expected, atol=1e-5)
    cold = ["generate", "--like", "test:0", "--temperature", "0,0,0", "--count", "2"]
    call(*cold, "--out", "like.npz", *given)
    found = np.load("like.npz")["images"][1]
    np.testing.assert_allclose(found, vae.reconstruct(images[:1])[0], atol=1e-5)
    two = ["generate", "--temperature", "1,0.5", "--out", "two.png", *given]
    assert_refused(two, 1, "one for each of 3 groups. Received: 2")
    none = ["generate", "--temperature", "1,,2", "--out", "none.png", *given]
    assert_refused(none, 2, "'1,,2' must be a number, or several such as 1,0.7,0.7.")
    negative = ["generate", "--temperature", "1,-1,2", "--out", "none.png", *given]
    assert_refused(negative, 2, "-1")
    page = call("doctor", "ladder.keras", "--json", "--dataset", "bars.npz").stdout
    assert '"name": "groups"' in page


@pytest.mark.slow
def test_mixed_precision_and_a_flow_over_all_groups(images):
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        vae = ladder()
        history = vae.fit(images, epochs=4, batch_size=16, verbose=0).history["loss"]
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert np.isfinite(history).all() and history[-1] < history[0]
    one = ladder()
    vae = kvae.VAE(one.encoder, one.decoder, one.likelihood, kvae.RealNVP(27, couplings=2))
    vae.compile("adam")
    assert np.isfinite(vae.fit(images, verbose=0).history["loss"][0])
    assert np.isfinite(vae.score(images[:2], draws=3).log_prob).all()
