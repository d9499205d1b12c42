import dataclasses
import hashlib
import json
import math
import pathlib

import keras
import numpy as np
import pytest
from commands import call
from fresh_process import OTHERS, run
from keras import ops
from marks import once

import kvae
from kvae import evaluation
from kvae.evaluation import classifier, latents, report
from kvae.model import bounds

pytestmark = pytest.mark.every_backend

SCALE = 0.3


@pytest.fixture(autouse=True)
def short_lessons(monkeypatch):
    """A classifier on the spot that need not be good: how good it is stands in test_samples."""
    monkeypatch.setattr(classifier, "FEWEST", 10)


@pytest.fixture
def dataset(images):
    labels = np.arange(64) % 3
    return kvae.data.from_arrays(
        images[:40],
        validation=images[40:48],
        test=images[48:],
        train_labels=labels[:40],
        validation_labels=labels[40:48],
        test_labels=labels[48:],
    )


def linear_gaussian(shift=0.0, narrowing=0.0, seed=0):
    """A model whose −log p(x) is known: x = W z + b + noise, W of orthogonal columns.

    Its encoder gives the true posterior, or one beside it.
    """
    generator = np.random.default_rng(seed)
    weights = np.linalg.qr(generator.normal(size=(16, 3)))[0] * [0.5, 1.0, 1.5]
    bias = generator.normal(size=16) * 0.1 + 0.5
    precision = 1 + np.sum(weights**2, axis=0) / SCALE**2
    to_mean = weights / SCALE**2 / precision
    inputs = keras.Input((4, 4, 1))
    flat = keras.layers.Flatten()(inputs)
    mean = keras.layers.Dense(3, name="mean")(flat)
    log_variance = keras.layers.Dense(3, name="log_variance", kernel_initializer="zeros")(flat)
    encoder = keras.Model(inputs, [mean, log_variance])
    encoder.get_layer("mean").set_weights([to_mean, shift - bias @ to_mean])
    spread = -np.log(precision) - narrowing
    encoder.get_layer("log_variance").set_weights([np.zeros((16, 3)), spread])
    z = keras.Input((3,))
    decoder = keras.Model(z, keras.layers.Reshape((4, 4, 1))(keras.layers.Dense(16)(z)))
    decoder.layers[1].set_weights([weights.T, bias])
    vae = kvae.VAE(encoder, decoder, kvae.Gaussian(SCALE))
    covariance = weights @ weights.T + SCALE**2 * np.eye(16)

    def negative_log_likelihood(images):
        error = images.reshape(-1, 16) - bias
        _, log_determinant = np.linalg.slogdet(2 * np.pi * covariance)
        distance = np.sum(error @ np.linalg.inv(covariance) * error, axis=1)
        return 0.5 * (log_determinant + distance)

    return vae, negative_log_likelihood


def grey(count=30, seed=1):
    return np.random.default_rng(seed).random((count, 4, 4, 1), dtype="float32")


# Bounds ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("k", [1, 7])
def test_with_the_true_posterior_every_draw_gives_the_exact_likelihood(k):
    vae, exact = linear_gaussian()
    of = evaluation.posterior(vae, grey())
    estimate = evaluation.importance_weighted(vae, of, [k])[k]
    np.testing.assert_allclose(estimate, exact(grey()), atol=1e-3)


def test_with_another_posterior_the_estimate_comes_to_the_closed_form():
    vae, exact = linear_gaussian(shift=0.02, narrowing=-0.3)
    of = evaluation.posterior(vae, grey())
    estimate = evaluation.importance_weighted(vae, of, [1, 20_000])
    assert abs(estimate[20_000].mean() - exact(grey()).mean()) < 1e-3
    assert estimate[1].mean() > exact(grey()).mean() + 0.02
    assert -evaluation.terms(vae, of).elbo.mean() > exact(grey()).mean() + 0.02


def test_the_estimate_comes_to_an_integral_over_two_latents(images):
    keras.utils.set_random_seed(1)
    arguments = {"widths": (16,), "activation": "tanh"}
    vae = kvae.VAE(
        kvae.build_encoder((8, 8, 1), 2, "dense", **arguments),
        kvae.build_decoder((8, 8, 1), 2, "dense", **arguments),
        kvae.Bernoulli("threshold"),
    )
    for weight in vae.decoder.trainable_variables:
        weight.assign(2 * weight)  # images that depend on z …
    for weight in vae.encoder.trainable_variables:
        weight.assign(0 * weight)  # … and draws that cover p(z|x): from the prior
    side = np.linspace(-6, 6, 241)
    z = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2).astype("float32")
    logits = np.concatenate([vae.decoder.predict_on_batch(part) for part in np.split(z, 241)])
    logits = np.asarray(keras.ops.convert_to_numpy(logits), "float64").reshape(len(z), -1)
    of = evaluation.posterior(vae, images[:6])
    x = of.observed.reshape(6, -1)
    log_joint = logits @ x.T - np.logaddexp(0, logits).sum(axis=1, keepdims=True)
    log_joint += (-0.5 * (z**2).sum(axis=1) - math.log(2 * math.pi))[:, None]
    highest = log_joint.max(axis=0)
    integral = highest + np.log(np.exp(log_joint - highest).sum(axis=0) * (side[1] - side[0]) ** 2)
    estimate = evaluation.importance_weighted(vae, of, [50_000])[50_000]
    assert np.ptp(integral) > 0.5
    np.testing.assert_allclose(estimate, -integral, atol=0.05)


def test_more_draws_never_loosen_the_bound_on_average(fixed_vae, images):
    of = evaluation.posterior(fixed_vae, images)
    estimates = [
        v.mean() for v in evaluation.importance_weighted(fixed_vae, of, (1, 100, 3000)).values()
    ]
    assert estimates[0] > estimates[1] > estimates[2]
    elbo = evaluation.terms(fixed_vae, of).elbo
    assert abs(estimates[0] + elbo.mean()) < 4 * elbo.std() / 8
    assert -elbo.mean() > estimates[1]


def test_figures_do_not_depend_on_how_the_work_is_cut(fixed_vae, images, monkeypatch):
    whole = evaluation.posterior(fixed_vae, images)
    estimate = evaluation.importance_weighted(fixed_vae, whole, (5, 23))
    monkeypatch.setattr(bounds, "VALUES_AT_A_TIME", 7 * 64)
    monkeypatch.setattr(bounds, "VALUES_AT_A_TIME_GPU", 7 * 64)
    monkeypatch.setattr(bounds, "IMAGES_AT_A_TIME", 5)
    part = evaluation.posterior(fixed_vae, images[:11])
    np.testing.assert_array_equal(part.observed, whole.observed[:11])
    in_parts = evaluation.importance_weighted(fixed_vae, part, (23, 5))
    for k in (5, 23):
        np.testing.assert_allclose(in_parts[k], estimate[k][:11], rtol=1e-5)


def test_terms_are_those_of_the_model(make_vae, images):
    vae = make_vae(likelihood=kvae.Bernoulli("none"))
    found = evaluation.terms(vae, evaluation.posterior(vae, images))
    logs = [vae.evaluate(images, verbose=0, return_dict=True) for _ in range(10)]
    for name in ("reconstruction", "kl", "elbo"):
        expected = np.mean([log[name] for log in logs])
        assert abs(getattr(found, name).mean() / expected - 1) < 0.02


def test_the_model_stays_as_it_was(fixed_vae, images, dataset):
    before = [keras.ops.convert_to_numpy(v).copy() for v in fixed_vae.variables]
    card = dict(fixed_vae.card)
    kvae.evaluate(fixed_vae, dataset, samples=0, importance_samples=3)
    for variable, value in zip(fixed_vae.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)
    assert fixed_vae.card == card


def test_the_seed_decides_pixels_and_draws(fixed_vae, images):
    one, same, other = (evaluation.posterior(fixed_vae, images, seed) for seed in (1, 1, 2))
    assert one.observed_hash == same.observed_hash != other.observed_hash
    first, again, another = (evaluation.terms(fixed_vae, of).elbo for of in (one, same, other))
    assert (first == again).all() and (first != another).any()


@pytest.mark.parametrize("samples", [[], [0], [5, -1]])
def test_numbers_of_draws_that_cannot_be_are_named(fixed_vae, images, samples):
    with pytest.raises(ValueError, match="at least 1. Received: samples="):
        evaluation.importance_weighted(fixed_vae, evaluation.posterior(fixed_vae, images), samples)


FIGURES = """
import sys, json
import numpy as np
import kvae
from kvae import evaluation
vae = kvae.load(sys.argv[1])
images = np.load(sys.argv[2])["images"]
of = evaluation.posterior(vae, images, 3)
nll = evaluation.importance_weighted(vae, of, (1, 10, 1000))
elbo = evaluation.terms(vae, of).elbo
print(json.dumps([of.observed_hash, elbo.tolist(), *(v.tolist() for v in nll.values())]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", OTHERS)
def test_backends_agree(make_vae, images, tmp_path, backend):
    vae = make_vae()
    vae.fit(images, epochs=2, verbose=0)
    vae.save(tmp_path / "vae.keras")
    np.savez(tmp_path / "images.npz", images=images)
    printed = run(FIGURES, backend, tmp_path / "vae.keras", tmp_path / "images.npz")
    digest, elbo, *estimates = json.loads(printed.splitlines()[-1])
    of = evaluation.posterior(vae, images, 3)
    assert digest == of.observed_hash
    np.testing.assert_allclose(elbo, evaluation.terms(vae, of).elbo, atol=1e-3)
    here = evaluation.importance_weighted(vae, of, (1, 10, 1000))
    for there, k in zip(estimates, (1, 10, 1000), strict=True):
        np.testing.assert_allclose(there, here[k], atol=1e-3)


def test_figures_are_the_same_of_some_images_after_the_others(
    make_vae, images, tmp_path, monkeypatch
):
    vae = make_vae(likelihood=kvae.Bernoulli("dynamic"))
    np.save(tmp_path / "x.npy", images)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    at_once = report.bound_figures(vae, images, 3)
    of = evaluation.posterior(vae, images, 3)
    assert at_once["protocol"]["observed_hash"] == of.observed_hash
    assert of.observed_hash == hashlib.sha256(of.observed.tobytes()).hexdigest()
    assert at_once["elbo"] == pytest.approx(evaluation.terms(vae, of).elbo.mean(), abs=1e-4)
    monkeypatch.setattr("kvae.model.bounds.IMAGES_AT_A_TIME", 5)
    whole = evaluation.posterior(vae, images, 3)
    monkeypatch.setattr("kvae.model.bounds.OBSERVED_AT_A_TIME", 20 * images[0].size)
    parts = list(bounds.posteriors(vae, mapped, 3))
    assert [len(part.observed) for part in parts] == [20, 20, 20, 4]
    np.testing.assert_array_equal(np.concatenate([p.observed for p in parts]), whole.observed)
    noise = [part.noise(0, len(part.mean), 2) for part in parts]
    np.testing.assert_array_equal(np.concatenate(noise), whole.noise(0, len(images), 2))
    in_parts = report.bound_figures(vae, mapped, 3)
    assert in_parts["protocol"]["observed_hash"] == whole.observed_hash
    assert in_parts["elbo"] == pytest.approx(evaluation.terms(vae, whole).elbo.mean(), abs=1e-3)


# Latents -----------------------------------------------------------------------------------------


def test_latents_that_do_not_move_are_not_active():
    mean = np.random.default_rng(0).normal(size=(500, 3)) * [1.0, 0.2, 0.05]
    assert evaluation.active_units(mean).tolist() == [True, True, False]


def test_equal_posteriors_say_nothing_and_separate_ones_all():
    same = np.zeros((200, 2))
    assert abs(evaluation.mutual_information(same, same)) < 1e-6
    apart = np.arange(400.0).reshape(200, 2) * 10
    assert abs(evaluation.mutual_information(apart, same) - math.log(200)) < 1e-4


def test_mutual_information_of_gaussians_is_that_of_the_closed_form():
    generator = np.random.default_rng(1)
    mean = generator.normal(size=(4000, 1))
    information = evaluation.mutual_information(mean, np.full((4000, 1), math.log(0.25)))
    assert abs(information - 0.5 * math.log(1 + 1 / 0.25)) < 0.05


def test_the_aggregate_is_the_mixture_of_posteriors():
    generator = np.random.default_rng(0)
    z, mean, log_variance = (generator.normal(size=(n, 3)) for n in (5, 7, 7))
    each = -0.5 * ((z[:, None] - mean) ** 2 * np.exp(-log_variance) + log_variance)
    each = each.sum(axis=2) - 1.5 * math.log(2 * math.pi)
    expected = np.log(np.exp(each).mean(axis=1))
    np.testing.assert_allclose(latents.aggregate_log_prob(z, mean, log_variance), expected, 1e-5)


def test_the_gap_of_moments_is_the_divergence_of_a_gaussian():
    generator = np.random.default_rng(0)
    mean = 0.5 + generator.normal(size=(200_000, 2)) * [0.6, 1.2]
    variance = np.array([0.5**2, 0.1**2])
    gap = evaluation.moment_gap(mean, np.log(np.broadcast_to(variance, mean.shape)))
    total = variance + [0.36, 1.44]
    expected = 0.5 * np.sum(total + 0.25 - 1 - np.log(total))
    assert abs(gap - expected) < 0.01
    standard = evaluation.moment_gap(
        generator.normal(size=(200_000, 2)) * 0.6, np.full((1, 2), math.log(0.64))
    )
    assert abs(standard) < 0.01


def test_the_gap_is_at_least_that_of_moments_and_at_most_kl_less_information():
    generator = np.random.default_rng(1)
    mean = np.sign(generator.normal(size=(3000, 2))) * 1.2  # four clusters: no Gaussian
    log_variance = np.full(mean.shape, math.log(0.1))
    least = evaluation.moment_gap(mean, log_variance)
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=1).mean()
    most = kl - evaluation.mutual_information(mean, log_variance)
    assert 0 < least < most - 0.1


def test_the_gap_to_a_flow_is_measured_in_its_noise(make_flow):
    prior = make_flow(scale=0.4)
    z = ops.convert_to_numpy(prior.sample(50_000, seed=1))
    points = np.full(z.shape, -20.0)  # posteriors that are points
    assert evaluation.moment_gap(z, points) > 0.3
    assert abs(evaluation.prior_gap_at_least(prior, z, points)) < 0.01
    assert evaluation.prior_gap_at_least(prior, z + 1.0, points) > 0.3


def test_classifiers_on_means_find_what_is_there():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 400)
    ring = generator.normal(size=(400, 2))
    ring *= (1 + 2 * labels[:, None]) / np.linalg.norm(ring, axis=1, keepdims=True)
    known = (ring[:300], labels[:300], ring[300:], labels[300:])
    assert evaluation.neighbour_accuracy(*known) > 0.98
    assert evaluation.linear_probe_accuracy(*known) < 0.7  # one ring inside the other
    moved = ring + 10 * labels[:, None]
    assert (
        evaluation.linear_probe_accuracy(moved[:300], labels[:300], moved[300:], labels[300:])
        > 0.98
    )


# Reports -----------------------------------------------------------------------------------------


def test_a_report_of_a_flow_has_the_kl_of_the_flow(make_vae, make_flow, dataset):
    vae = make_vae(prior=make_flow())
    found = kvae.evaluate(vae, dataset, samples=0, importance_samples=20)
    bound, latents = found.figures["bound"], found.figures["latents"]
    of = evaluation.posterior(vae, dataset.test)
    z = of.mean + np.exp(0.5 * of.log_variance) * of.noise(0, 16, 1)[:, 0]
    log_posterior = -0.5 * (
        (z - of.mean) ** 2 * np.exp(-of.log_variance) + of.log_variance + math.log(2 * math.pi)
    ).sum(axis=1)
    log_prior = ops.convert_to_numpy(vae.prior.log_prob(ops.convert_to_tensor(z)))
    assert abs((log_posterior - log_prior).mean() - bound["kl"]) < 1e-3
    # One draw from each posterior: the estimate with k = 1 is the bound itself.
    assert abs(found.figures["nll"]["1"]["mean"] + bound["elbo"]) < 1e-3
    assert abs(latents["prior_gap_at_most"] + latents["mutual_information"] - bound["kl"]) < 1e-3
    assert "from a Gaussian fitted to each" in str(found)


@once
def test_a_report_says_what_it_found_and_how(fixed_vae, dataset):
    found = kvae.evaluate(fixed_vae, dataset, samples=0, importance_samples=20, seed=4)
    bound, nll = found.figures["bound"], found.figures["nll"]
    assert list(nll) == ["1", "10", "20"]
    assert abs(bound["elbo"] + bound["reconstruction"] + bound["kl"]) < 1e-3
    error = found.per_image["elbo"].std(ddof=1) / 4
    assert abs(bound["standard_error"]["elbo"] - error) < 1e-3
    assert abs(sum(found.figures["latents"]["kl_per_latent"]) - bound["kl"]) < 1e-3
    assert found.figures["latents"]["latents"] == 3
    assert 0 <= found.figures["representation"]["nearest_neighbours"] <= 1
    protocol = found.protocol
    assert (protocol["images"], protocol["seed"], protocol["split"]) == (16, 4, "test")
    assert protocol["backend"] == keras.backend.backend() and protocol["measure"] == "probability"
    assert json.loads(json.dumps(found.as_dict()))["protocol"] == protocol
    text = str(found)
    assert f"{-bound['elbo']:.2f} ± " in text and "k = 20" in text and "seed 4" in text
    assert f"sha256 {protocol['observed_hash'][:8]}" in text


def test_so_many_images_are_the_first_ones(fixed_vae, dataset):
    some, all_of_them = (
        kvae.evaluate(fixed_vae, dataset, images=n, importance_samples=2, samples=0)
        for n in (5, None)
    )
    for name, values in some.per_image.items():
        np.testing.assert_allclose(values, all_of_them.per_image[name][:5], rtol=1e-5)


@once
def test_images_of_another_size_are_resized(make_vae, dataset):
    vae = make_vae(image_shape=(6, 6, 1))
    assert kvae.evaluate(vae, dataset, samples=0, importance_samples=1).protocol["image_shape"] == [
        6,
        6,
        1,
    ]


def test_soft_targets_have_no_bits(make_vae, dataset):
    for likelihood, there in (("threshold", True), ("none", False)):
        vae = make_vae(likelihood=kvae.Bernoulli(likelihood))
        figures = kvae.evaluate(vae, dataset, samples=0, importance_samples=1).figures["bound"]
        assert ("bits_per_dimension" in figures) == there


@pytest.mark.parametrize(
    "arguments, what",
    [({"split": "trial"}, "split='trial'"), ({"images": -1}, "images=-1"),
     ({"importance_samples": 0}, "importance_samples=0"), ({"images": 0}, "images=0")],
)  # fmt: skip
def test_arguments_that_cannot_be_are_named(fixed_vae, dataset, arguments, what):
    with pytest.raises(ValueError, match=what):
        kvae.evaluate(fixed_vae, dataset, samples=0, **arguments)


@pytest.mark.slow
@pytest.mark.usefixtures("graphs")
def test_a_model_differs_from_itself_by_nothing_and_from_a_worse_one_by_more(make_vae, dataset):
    first, second = make_vae(), make_vae(beta=0.5, optimizer="adam")
    second.fit(dataset.train, epochs=20, verbose=0)
    found = [
        kvae.evaluate(vae, dataset, samples=0, importance_samples=5) for vae in (first, second)
    ]
    same = kvae.compare(found[0], found[0])
    assert same["nll"] == {"difference": 0.0, "low": 0.0, "high": 0.0}
    worse = kvae.compare(*found)["negative_elbo"]
    assert 0 < worse["low"] < worse["difference"] < worse["high"]


def test_an_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    intervals = [
        evaluation.comparison.paired_difference(generator.normal(0.3, 1, 100), seed)
        for seed in range(100)
    ]
    covered = sum(interval["low"] < 0.3 < interval["high"] for interval in intervals)
    assert 86 <= covered <= 100


@once
def test_other_protocols_are_not_comparable(make_vae, dataset):
    def figures(vae, **arguments):
        return kvae.evaluate(vae, dataset, samples=0, importance_samples=1, **arguments)

    def found(likelihood):
        return figures(make_vae(likelihood=likelihood))

    vae = make_vae()
    dynamic = figures(vae)
    for other, why in (
        (figures(vae, seed=1), "pixels that were scored differ"),
        (found(kvae.Bernoulli("threshold")), "binarize threshold, seed 0"),
        (figures(vae, images=3), "16 images, the other of 3"),
        (found(kvae.ContinuousBernoulli()), "one is of a probability, the other of a density"),
    ):
        difference = kvae.compare(dynamic, other)
        assert not difference["comparable"] and why in difference["why"]
    soft = found(kvae.Bernoulli("none"))
    assert "no likelihood" in kvae.compare(soft, soft)["why"]
    assert kvae.compare(found(kvae.ContinuousBernoulli()), found(kvae.Gaussian("shared")))[
        "comparable"
    ]


@once
def test_a_seed_of_its_own_is_not_comparable(make_vae, dataset):
    vae = make_vae(likelihood=kvae.Bernoulli("threshold"))
    one, other = (
        kvae.evaluate(vae, dataset, samples=0, importance_samples=k, seed=k) for k in (1, 2)
    )
    assert "seed 1; seed 2" in kvae.compare(one, other)["why"]
    more = kvae.evaluate(vae, dataset, samples=0, importance_samples=2, seed=1)
    assert kvae.compare(one, more)["nll"] is None


@keras.saving.register_keras_serializable(package="test")
class Doubled(kvae.Bernoulli):
    def log_prob(self, observed, parameters):
        return 2 * super().log_prob(observed, parameters)


class Error(kvae.likelihoods.Likelihood):
    def log_prob(self, observed, parameters):
        return -keras.ops.sum(keras.ops.square(observed - parameters), axis=(1, 2, 3))

    def mean(self, parameters):
        return parameters


def test_a_likelihood_of_ones_own_is_scored_by_its_own_formula(make_vae, dataset, images):
    plain, doubled = make_vae(), make_vae(likelihood=Doubled())
    doubled.set_weights(plain.get_weights())
    found = [evaluation.terms(vae, evaluation.posterior(vae, images)) for vae in (plain, doubled)]
    np.testing.assert_allclose(found[1].reconstruction, 2 * found[0].reconstruction, rtol=1e-5)
    vae = make_vae(likelihood=Error())
    report = kvae.evaluate(vae, dataset, samples=0, importance_samples=1)
    assert "does not say what it measures" in kvae.compare(report, report)["why"]


def test_mixed_precision_is_said_also_of_a_file(make_vae, dataset, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        make_vae().save(tmp_path / "vae.keras")
    finally:
        keras.config.set_dtype_policy("float32")
    vae = kvae.load(tmp_path / "vae.keras", compile=False)
    found = kvae.evaluate(vae, dataset, samples=0, importance_samples=1)
    assert "mixed_bfloat16" in found.protocol["precision"]
    assert np.isfinite(found.per_image["nll"]).all()


@once
def test_one_image_has_no_error(fixed_vae, dataset):
    found = kvae.evaluate(fixed_vae, dataset, images=1, samples=0, importance_samples=1)
    assert found.figures["bound"]["standard_error"]["elbo"] is None
    assert (
        "nan" not in json.dumps(found.as_dict(), allow_nan=False)
        and "±" not in (str(found).splitlines()[0])
    )


@once
def test_validation_does_not_read_test_images(fixed_vae, dataset):
    blind = dataclasses.replace(dataset, test=255 - dataset.test)
    one, other = (
        kvae.evaluate(fixed_vae, data, "validation", importance_samples=1).figures["samples"]
        for data in (dataset, blind)
    )
    for name in ("precision", "density", "memorisation", "floor"):
        assert one[name] == other[name]
    assert "8 validation images" in one["protocol"]


# The command -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(images, make_vae, tmp_path_factory):
    """A folder with a model before and after training, and with its images."""
    folder = tmp_path_factory.mktemp("models")
    labels = np.arange(64) % 3
    arrays = {"x_train": images, "y_train": labels, "x_test": images[:30], "y_test": labels[:30]}
    np.savez(folder / "bars.npz", **arrays)
    vae = make_vae(card={"origin": str(folder / "bars.npz"), "dataset": "bars"}, optimizer="adam")
    vae.save(folder / "a.keras")
    vae.fit(images, epochs=2, verbose=0)
    vae.save(folder / "b.keras")
    return folder


@pytest.fixture
def models(both, monkeypatch):
    monkeypatch.chdir(both)


@once
def test_the_command_prints_a_table_with_its_protocol(models):
    result = call("evaluate", "b.keras", "-k", 10, "--quiet", "--neighbours", "n.png")
    assert result.stdout.startswith("b.keras\n−ELBO ")
    assert "Protocol: bars test, 30 images" in result.stdout and result.stderr == ""
    assert (
        "precision, recall" in result.stdout and "training images in their place" in result.stdout
    )
    assert "n.png: 10 samples" in result.stdout and pathlib.Path("n.png").stat().st_size


@once
def test_the_command_compares_with_the_first(models):
    text = call("evaluate", "a.keras", "b.keras", "-k", 2, "--images", 20, "--samples", 0).stdout
    assert "b.keras − a.keras: −ELBO -" in text and "(paired)" in text


@once
def test_the_command_prints_json(models):
    arguments = ("evaluate", "a.keras", "b.keras", "-k", 2, "--json", "--quiet", "--samples", 0)
    report = json.loads(call(*arguments).stdout)
    assert report["models"]["b.keras"]["protocol"]["importance_samples"] == 2
    assert report["differences"][0]["comparable"]


@once
def test_a_model_that_is_not_there_is_named(models):
    assert "There is no model at c.keras" in call("evaluate", "c.keras", code=1).stderr
