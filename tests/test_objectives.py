"""Objectives beside −ELBO: each is its formula, by numbers that are known some other way."""

import types

import keras
import numpy as np
import pytest
from keras import ops

import kvae
from kvae import objectives
from kvae.objectives import Terms
from kvae.training.settings import built, completed

pytestmark = pytest.mark.every_backend

NEW = {
    "tc": lambda **own: kvae.TotalCorrelation(beta=4.0, **own),
    "weighted": lambda **own: kvae.TotalCorrelation(beta=4.0, estimate="weighted", **own),
    "mmd": lambda **own: kvae.MeanDiscrepancy(beta=0.5, mmd_weight=20.0, **own),
    "capacity": lambda **own: kvae.Capacity(beta=3.0, capacity=2.0, **own),
    "dip": lambda **own: kvae.InferredPrior(beta=2.0, off_diagonal=3.0, diagonal=5.0, **own),
    "dip-ii": lambda **own: kvae.InferredPrior(covariance_of="draws", **own),
}
RNG = np.random.default_rng(0)


def number(value):
    return float(ops.convert_to_numpy(value))


def terms(mean, log_variance=None, samples=1, weight=None, prior=None, z=None, noise=None):
    """A pass through a model that reconstructs everything: all that counts is in the latents."""
    mean = np.asarray(mean, "float32")
    log_variance = np.zeros_like(mean) if log_variance is None else log_variance
    log_variance = np.broadcast_to(np.float32(log_variance), mean.shape)
    means, spreads = (np.repeat(part, samples, axis=0) for part in (mean, log_variance))
    noise = RNG.standard_normal(means.shape) if noise is None else noise
    z = means + np.exp(0.5 * spreads) * noise if z is None else z
    outputs = {
        "observed": np.zeros((len(mean), 1, 1, 1), "float32"),
        "parameters": np.zeros((len(means), 1, 1, 1), "float32"),
        **{"mean": mean, "log_variance": log_variance, "z": z.astype("float32")},
    }
    outputs = {name: ops.convert_to_tensor(np.array(part)) for name, part in outputs.items()}
    nothing = types.SimpleNamespace(
        log_prob=lambda observed, parameters: ops.sum(parameters, 1)[:, 0, 0]
    )
    weight = 1.0 if weight is None else ops.convert_to_tensor(np.float32(weight))
    prior = prior or kvae.StandardNormal(mean.shape[1])
    return Terms(outputs, nothing, prior, None, samples, weight, (mean.shape[1],))


def shown(objective, given):
    """The loss at test time, and what the objective shows."""
    loss = number(objective.loss(given, training=False))
    assert given.shown.keys() == set(objective.shown)
    return loss, {name: number(value) for name, value in given.shown.items()}


def standardised(count, covariance):
    """Rows whose mean is 0 and whose covariance is exactly this."""
    rows = np.random.default_rng(3).standard_normal((count, len(covariance)))
    rows -= rows.mean(axis=0)
    rows = np.linalg.solve(np.linalg.cholesky(np.cov(rows.T, bias=True)), rows.T).T
    return rows @ np.linalg.cholesky(covariance).T


# Total correlation -------------------------------------------------------------------------------


def test_the_parts_of_the_kl_are_those_of_gaussians():
    """x is Gaussian, q(z|x) linear in it: so q(z) is Gaussian, and all is known."""
    covariance = np.array([[1.0, 0.6, 0.0], [0.6, 0.8, 0.1], [0.0, 0.1, 0.1]])
    posterior = np.array([0.5, 0.8, 0.4])
    mean = standardised(1500, covariance)
    given = terms(mean, np.log(posterior), samples=2)
    _, found = shown(kvae.TotalCorrelation(samples=2), given)
    whole = covariance + np.diag(posterior)
    log_whole, each = np.linalg.slogdet(whole)[1], np.diag(whole)
    information = 0.5 * (log_whole - np.log(posterior).sum())
    correlation = 0.5 * (np.log(each).sum() - log_whole)
    by_latent = 0.5 * (each - 1 - np.log(each)).sum()
    assert min(information, correlation, by_latent) > 0.05
    assert found["mutual_information"] == pytest.approx(information, abs=0.05)
    assert found["total_correlation"] == pytest.approx(correlation, abs=0.03)
    assert found["dimension_wise_kl"] == pytest.approx(by_latent, abs=0.05)
    kl = number(given.mean_of(given.kl))
    assert sum(found.values()) == pytest.approx(kl, abs=0.05)
    assert kl == pytest.approx(information + correlation + by_latent, abs=1e-3)


def test_of_all_images_the_stratified_estimate_is_exact():
    mean, log_variance = RNG.normal(size=(6, 2)), RNG.normal(size=(6, 2))
    given = terms(mean, log_variance, samples=3)
    z = ops.convert_to_numpy(given.z).astype("float64")
    squares = (z[:, None] - mean) ** 2 / np.exp(log_variance)
    density = np.exp(-0.5 * (squares + log_variance + np.log(2 * np.pi)))
    aggregate, marginals = (
        ops.convert_to_numpy(one) for one in kvae.TotalCorrelation(samples=3).log_densities(given)
    )
    np.testing.assert_allclose(aggregate, np.log(density.prod(2).mean(1)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(marginals, np.log(density.mean(1)).sum(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("estimate", ["stratified", "weighted"])
def test_shares_are_those_of_the_paper(estimate):
    objective = kvae.TotalCorrelation(estimate=estimate, train_images=50, samples=2)
    found = ops.convert_to_numpy(objective.shares(terms(np.zeros((5, 2)), samples=2), 5))
    assert found.shape == (10, 5)
    own, rest = found[2, 1], np.delete(found[2], 1)
    if estimate == "weighted":
        np.testing.assert_allclose(found, 1 / (50 * 5), rtol=1e-5)
        return
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(own, 1 / 50, rtol=1e-5)
    # Beside an image another one is in its batch at 4 draws of 49: on average each has 1/50.
    np.testing.assert_allclose(rest * 4 / 49, 1 / 50, rtol=1e-5)


def test_at_beta_1_it_is_the_elbo(make_vae, images):
    settings = {"likelihood": kvae.Bernoulli("threshold")}
    losses = []
    for objective in (kvae.TotalCorrelation(beta=1.0), kvae.ELBO()):
        vae = make_vae(objective=objective, **settings)
        vae.fit(images, batch_size=32, verbose=0, shuffle=False)
        losses.append(vae.evaluate(images, batch_size=64, verbose=0, return_dict=True)["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_fit_tells_the_number_of_images_and_a_stream_must(make_vae, images):
    vae = make_vae(objective=NEW["tc"]())
    vae.fit(images, batch_size=32, verbose=0)
    assert number(vae.objective.train_images) == 64
    vae.fit(images[:50], batch_size=32, verbose=0, validation_split=0.2)
    assert number(vae.objective.train_images) == 40

    def stream():
        while True:
            yield images[:32]

    with pytest.raises(ValueError, match=r"TotalCorrelation\(…, train_images=60_000\)"):
        make_vae(objective=NEW["tc"]()).fit(stream(), steps_per_epoch=2, verbose=0)
    vae = make_vae(objective=NEW["tc"](train_images=1000))
    vae.fit(stream(), steps_per_epoch=2, verbose=0)
    assert number(vae.objective.train_images) == 1000


# Discrepancy, covariance, capacity ---------------------------------------------------------------


@pytest.mark.parametrize("shift, spread", [(0.0, 1.0), (1.5, 1.0), (0.0, 0.3), (1.0, 2.0)])
@pytest.mark.parametrize("bandwidth", [0.5, 1.0])
def test_the_discrepancy_of_gaussians_is_known(shift, spread, bandwidth):
    latents, count = 3, 1500
    z = shift + spread * np.random.default_rng(1).standard_normal((count, latents))
    objective = kvae.MeanDiscrepancy(bandwidth=bandwidth)
    _, found = shown(objective, terms(z, z=z))
    variance = latents * bandwidth**2

    def kernel(distance, own):  # the mean over N(distance, own I)
        squared = latents * distance**2
        wide = variance + own
        return (variance / wide) ** (latents / 2) * np.exp(-0.5 * squared / wide)

    among, between = kernel(0, 2 * spread**2), kernel(shift, 1 + spread**2)
    expected = among - 2 * between + kernel(0, 2)
    assert found["mmd"] == pytest.approx(expected, abs=0.01)
    assert expected > 0.04 or (shift, spread) == (0, 1)


def test_draws_of_one_image_are_no_pair():
    """Else a posterior that is a point would seem to have mass there."""
    mean = RNG.normal(size=(6, 2))
    _, one = shown(kvae.MeanDiscrepancy(), terms(mean, z=mean))
    five = terms(mean, samples=5, z=np.repeat(mean, 5, axis=0))
    _, found = shown(kvae.MeanDiscrepancy(samples=5), five)
    assert found["mmd"] == pytest.approx(one["mmd"], abs=1e-6)


def test_with_a_flow_the_discrepancy_is_that_of_its_noise(make_flow):
    flow = make_flow(3)
    noise = RNG.standard_normal((40, 3)).astype("float32")
    z = ops.convert_to_numpy(flow.from_noise(noise))
    _, found = shown(kvae.MeanDiscrepancy(), terms(z, z=z, prior=flow))
    _, expected = shown(kvae.MeanDiscrepancy(), terms(noise, z=noise))
    assert found["mmd"] == pytest.approx(expected["mmd"], abs=1e-4)


@pytest.mark.parametrize("covariance_of", ["means", "draws"])
def test_the_covariance_is_that_of_the_latents(covariance_of):
    mean = 30.0 + RNG.normal(size=(20, 3)) @ RNG.normal(size=(3, 3))
    log_variance = RNG.normal(size=(20, 3))
    objective = kvae.InferredPrior(
        beta=0.0, covariance_of=covariance_of, off_diagonal=2.0, diagonal=7.0
    )
    loss, found = shown(objective, terms(mean, log_variance))
    expected = np.cov(mean.T, bias=True)
    if covariance_of == "draws":
        expected += np.diag(np.exp(log_variance).mean(axis=0))
    correlated = (expected**2).sum() - (np.diag(expected) ** 2).sum()
    unscaled = ((np.diag(expected) - 1) ** 2).sum()
    assert found["correlated"] == pytest.approx(correlated, rel=1e-3)
    assert found["unscaled"] == pytest.approx(unscaled, rel=1e-3)
    assert loss == pytest.approx(2 * correlated + 7 * unscaled, rel=1e-3)


def test_the_weight_of_variances_is_that_of_the_paper():
    assert kvae.InferredPrior(off_diagonal=3.0).diagonal == 30
    assert kvae.InferredPrior(off_diagonal=3.0, covariance_of="draws").diagonal == 3


def test_capacity_rises_in_training_and_is_there_at_test_time(make_vae, images):
    objective = kvae.Capacity(beta=2.0, capacity=8.0, warmup_steps=4)
    vae = make_vae(objective=objective, likelihood=kvae.Bernoulli("threshold"))
    logs = [vae.train_on_batch(images, return_dict=True) for _ in range(5)]
    found = [float(one["capacity"]) for one in logs]
    np.testing.assert_allclose(found, [2, 4, 6, 8, 8])
    for one, now in zip(logs, found, strict=True):
        expected = one["reconstruction"] + 2 * abs(one["kl"] - now)
        assert float(one["loss"]) == pytest.approx(float(expected), rel=1e-5)
    vae = make_vae(objective=kvae.Capacity(capacity=8.0, warmup_steps=400))
    assert vae.evaluate(images, verbose=0, return_dict=True)["capacity"] == 8


# What all have in common -------------------------------------------------------------------------


def expected_loss(objective, found):
    """The loss by the figures that are shown, as the docstrings have it."""
    beta = number(objective.beta)
    if isinstance(objective, kvae.TotalCorrelation):
        return found["reconstruction"] + found["kl"] + (beta - 1) * found["total_correlation"]
    if isinstance(objective, kvae.MeanDiscrepancy):
        elbo = found["reconstruction"] + beta * found["kl"]
        return elbo + objective.mmd_weight * found["mmd"]
    if isinstance(objective, kvae.Capacity):
        return found["reconstruction"] + beta * abs(found["kl"] - found["capacity"])
    penalty = objective.off_diagonal * found["correlated"] + objective.diagonal * found["unscaled"]
    return found["reconstruction"] + beta * found["kl"] + penalty


@pytest.mark.parametrize("kind", NEW)
@pytest.mark.parametrize("samples", [1, 3])
def test_the_loss_is_what_is_said_and_every_weight_learns(make_vae, images, kind, samples):
    vae = make_vae(objective=NEW[kind](samples=samples), likelihood=kvae.Bernoulli("threshold"))
    before = [ops.convert_to_numpy(weight).copy() for weight in vae.trainable_weights]
    logs = vae.train_on_batch(images, return_dict=True)
    logs = {name: float(value) for name, value in logs.items()}
    assert set(vae.objective.shown) <= logs.keys()
    assert logs["loss"] == pytest.approx(expected_loss(vae.objective, logs), rel=1e-4)
    for weight, old in zip(vae.trainable_weights, before, strict=True):
        moved = abs(ops.convert_to_numpy(weight) - old).max()
        assert 0 < moved < np.inf, weight.path
    found = vae.evaluate(images, batch_size=64, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(expected_loss(vae.objective, found), rel=1e-4)


@pytest.mark.parametrize("kind", NEW)
def test_metrics_are_means_over_images(make_vae, images, kind):
    """Of batches of 48 and 16 images, that of the first counts three times as much."""
    vae = make_vae(objective=NEW[kind](), likelihood=kvae.Bernoulli("threshold"))
    vae.seed_generator.state.assign([7, 0])
    whole = vae.evaluate(images, batch_size=48, verbose=0, return_dict=True)
    vae.seed_generator.state.assign([7, 0])
    parts = [
        vae.evaluate(part, batch_size=48, verbose=0, return_dict=True)
        for part in (images[:48], images[48:])
    ]
    for name in ("loss", *vae.objective.shown):
        mean = 0.75 * parts[0][name] + 0.25 * parts[1][name]
        assert whole[name] == pytest.approx(mean, rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("kind", NEW)
def test_an_image_without_weight_has_no_say_and_weights_scale_the_loss(kind):
    mean, log_variance = RNG.normal(size=(8, 3)), RNG.normal(size=(8, 3))
    noise = RNG.standard_normal((16, 3))
    few = terms(mean[:4], log_variance[:4], samples=2, noise=noise[:8])
    half = terms(mean, log_variance, 2, [2, 2, 2, 2, 0, 0, 0, 0], noise=noise)
    twice = terms(mean[:4], log_variance[:4], 2, [2, 2, 2, 2], noise=noise[:8])
    found = [number(NEW[kind](samples=2).loss(one, training=False)) for one in (few, half, twice)]
    shift = 0.0
    if kind == "weighted":  # whose constants know how many images a batch has
        shift = 3 * 2 * np.log(2)
    assert found[1] - shift == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(2 * found[0], rel=1e-4)


@pytest.mark.parametrize("kind", NEW)
def test_batches_of_one_image_and_of_no_weight_have_a_loss(kind):
    objective = NEW[kind]()
    for given in (terms(RNG.normal(size=(1, 3))), terms(RNG.normal(size=(4, 3)), weight=[0.0] * 4)):
        assert np.isfinite(number(objective.loss(given)))


@pytest.mark.parametrize("kind", NEW)
def test_losses_are_float32_under_mixed_precision(make_vae, images, kind):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        vae = make_vae(objective=NEW[kind]())
    finally:
        keras.config.set_dtype_policy("float32")
    outputs = vae(images, training=True)
    given = vae.terms(outputs)
    loss = vae.objective.loss(given)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    for name, value in given.shown.items():
        assert keras.backend.standardize_dtype(value.dtype) == "float32", name
    logs = vae.train_on_batch(images, return_dict=True)
    assert np.isfinite([float(value) for value in logs.values()]).all()


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
@pytest.mark.parametrize("kind", NEW)
def test_a_run_that_was_saved_goes_on_as_if_it_had_not_been(make_vae, images, kind, tmp_path):
    def made():
        likelihood = kvae.Bernoulli("threshold")
        return make_vae(objective=NEW[kind](warmup_steps=8), likelihood=likelihood)

    given = {"batch_size": 32, "shuffle": False, "verbose": 0}
    whole, half = made(), made()
    expected = whole.fit(images, epochs=2, **given).history
    half.fit(images, epochs=1, **given)
    half.save(tmp_path / "vae.keras")
    again = kvae.load(tmp_path / "vae.keras")
    own = {name: value for name, value in half.objective.get_config().items() if name != "name"}
    loaded = {name: value for name, value in again.objective.get_config().items() if name != "name"}
    assert own == loaded
    found = again.fit(images, epochs=1, **given).history
    for name, values in expected.items():
        assert found[name][-1] == pytest.approx(values[-1], rel=1e-3, abs=1e-4), name


def ladder(objective):
    groups = {"groups": ((1, 2), (2, 1)), "channels": 2, "width": 4}
    return kvae.VAE(
        kvae.build_encoder((8, 8, 1), 6, "ladder", **groups),
        kvae.build_decoder((8, 8, 1), 6, "ladder", 1, **groups),
        objective=objective,
    )


@pytest.mark.parametrize("kind", NEW)
def test_of_groups_of_latents_it_works_or_says_that_it_does_not(images, kind):
    if NEW[kind]().one_group:
        with pytest.raises(ValueError, match="is for latents in one group, and this model has 2"):
            ladder(NEW[kind]())
        return
    vae = ladder(NEW[kind](samples=2))
    vae.compile("sgd")
    logs = vae.train_on_batch(images[:8], return_dict=True)
    logs = {name: float(value) for name, value in logs.items()}
    assert logs["loss"] == pytest.approx(expected_loss(vae.objective, logs), rel=1e-4)


@pytest.mark.parametrize("kind", NEW)
def test_with_a_flow_it_works_or_says_that_it_does_not(make_vae, images, kind):
    prior = kvae.RealNVP(3, couplings=2, width=4, depth=1)
    if NEW[kind]().factorised:
        with pytest.raises(
            ValueError, match="needs a prior whose latents are independent .*RealNVP"
        ):
            make_vae(objective=NEW[kind](), prior=prior)
        return
    vae = make_vae(objective=NEW[kind](), prior=prior)
    assert np.isfinite(np.array(vae.train_on_batch(images), "float64")).all()


@pytest.mark.parametrize("kind", ["tc", "mmd"])
def test_a_share_of_a_batch_is_refused_where_images_are_compared(kind):
    given = terms(np.zeros((4, 2)))
    given.share = object()
    with pytest.raises(ValueError, match="several devices each has a share .* --devices 1"):
        NEW[kind]().loss(given)


@pytest.mark.parametrize(
    "make, what",
    [
        (lambda: kvae.TotalCorrelation(estimate="best"), "`estimate` must be one of 'stratified'"),
        (lambda: kvae.TotalCorrelation(train_images=-1), "`train_images` must be finite"),
        (lambda: kvae.MeanDiscrepancy(mmd_weight=-1), "`mmd_weight` must be finite"),
        (lambda: kvae.MeanDiscrepancy(bandwidth=0), "`bandwidth` must be above 0"),
        (lambda: kvae.Capacity(capacity=float("nan")), "`capacity` must be finite"),
        (lambda: kvae.InferredPrior(covariance_of="x"), "`covariance_of` must be one of 'means'"),
        (lambda: kvae.InferredPrior(diagonal=-2), "`diagonal` must be finite"),
    ],
)
def test_arguments_that_are_none_are_refused(make, what):
    with pytest.raises(ValueError, match=what):
        make()


def test_the_recipe_knows_every_argument_and_which_prior_goes_with_it():
    own = set()
    for name, kind in objectives.OBJECTIVES.items():
        recipe = kvae.Recipe(beta=3.0).replaced(objective=name)
        assert (recipe.prior == "standard-normal") == kind.factorised, name
        assert recipe.beta is None or name == "elbo"  # another's weight means something else
        own |= kvae.parts.arguments_of(kind)
    steps = {"warmup_steps", "fine_steps", "train_images"}  # which depend on the data
    fields = set(kvae.Recipe.__dataclass_fields__)
    assert own - steps - {"kwargs"} <= fields


def test_a_recipe_is_carried_out(images, tmp_path):
    data = kvae.data.from_arrays(images)
    small = {"network_arguments": {"width": 8, "depth": 1}, "latent_dim": 3, "batch_size": 32}
    out = tmp_path / "vae.keras"
    vae = kvae.train(
        data, "mlp", objective="tc", beta=6, epochs=2, kl_warmup=0.5, out=out, verbose=0, **small
    )
    assert isinstance(vae.prior, kvae.StandardNormal)
    assert number(vae.objective.train_images) == len(data.train)
    assert {"total_correlation", "val_mutual_information"} <= vae.card["last_epoch"].keys()
    assert kvae.Recipe.from_card(vae.card).estimate == "stratified"
    with pytest.raises(ValueError, match="independent"):
        kvae.train(data, "mlp", objective="tc", prior="real-nvp", epochs=1, out=out, **small)
    recipe = kvae.Recipe(epochs=2, **small).replaced(objective="capacity", capacity_rise=1.0)
    held = built(completed(recipe, data), data)
    assert (number(held.beta), number(held.warmup_steps)) == (1000, 4)
