"""Single images: how likely they are, where in them the surprise lies, and which are outliers."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from statistics import NormalDist

import keras
import numpy as np
import pytest
from fresh_process import OTHERS, run
from keras import ops
from marks import once
from test_evaluation import SCALE, grey, linear_gaussian

import kvae
from kvae import evaluation
from kvae.model import bounds, scoring

pytestmark = pytest.mark.every_backend

LIKELIHOODS = {
    "dynamic": lambda: kvae.Bernoulli(),
    "threshold": lambda: kvae.Bernoulli("threshold"),
    "soft": lambda: kvae.Bernoulli("none"),
    "continuous": lambda: kvae.ContinuousBernoulli(),
    "pixel": lambda: kvae.Gaussian("pixel"),
    "shared": lambda: kvae.Gaussian("shared"),
    "fixed": lambda: kvae.Gaussian(0.1),
    "discretised": lambda: kvae.DiscretizedLogistic(),
}
LEARNED = []
NAMES = ("elbo", "reconstruction", "kl", "log_prob")


def noise(count=1, shape=(8, 8, 1)):
    return np.random.default_rng(5).integers(0, 256, (count, *shape)).astype("uint8")


@pytest.fixture
def learned(graphs, make_vae, images):
    """A model that has learned the bars, and how it scored them before; tests only look at it."""
    if not LEARNED:
        vae = make_vae(
            likelihood=kvae.Bernoulli("threshold"), optimizer=keras.optimizers.Adam(0.02)
        )
        before = vae.score(images, draws=10)
        vae.fit(images, epochs=15, batch_size=16, verbose=0)
        LEARNED.extend((vae, before))
    return LEARNED


# Scores ------------------------------------------------------------------------------------------


def test_with_the_true_posterior_the_scores_are_exact():
    vae, exact = linear_gaussian()
    scores = vae.score(grey(), draws=5)
    np.testing.assert_allclose(-scores.log_prob, exact(grey()), atol=1e-3)


@pytest.mark.usefixtures("graphs")
def test_the_bound_is_that_of_the_formula():
    """Of a linear Gaussian model both terms can be written down."""
    vae, exact = linear_gaussian(shift=0.05, narrowing=-0.3)
    images = grey(5)
    mean, log_variance = (array.astype("float64") for array in vae.encode(images))
    kernel, bias = (ops.convert_to_numpy(w).astype("float64") for w in vae.decoder.weights)
    error = images.reshape(5, 16) - mean @ kernel - bias
    spread = np.exp(log_variance) @ (kernel**2).sum(axis=1)
    squares = (error**2).sum(axis=1) + spread
    reconstruction = squares / (2 * SCALE**2) + 8 * math.log(2 * math.pi * SCALE**2)
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=1)
    scores = vae.score(images, draws=20_000)
    np.testing.assert_allclose(scores.kl, kl, rtol=1e-4)
    np.testing.assert_allclose(scores.reconstruction, reconstruction, atol=0.1)
    np.testing.assert_allclose(-scores.log_prob, exact(images), atol=0.05)
    assert (-scores.elbo > exact(images)).all()


@pytest.mark.parametrize("name", ["threshold", "fixed"])
def test_the_mean_is_what_evaluate_gives(make_vae, images, name):
    vae = make_vae(likelihood=LIKELIHOODS[name]())
    data = kvae.data.from_arrays(images[:10], validation=images[:10], test=images)
    found = kvae.evaluate(vae, data, importance_samples=200, samples=0)
    scores = vae.score(images, draws=200)
    differences = scores.elbo - found.per_image["elbo"]
    assert abs(differences.mean()) < 4 * differences.std() / 8
    assert abs(scores.kl.mean() - found.figures["bound"]["kl"]) < 1e-3
    differences = scores.log_prob + found.per_image["nll"]
    assert abs(differences.mean()) < 4 * differences.std() / 8 + 1e-3


def test_the_likelihood_is_at_most_the_bound_and_falls_with_more_draws(make_vae, images):
    vae = make_vae()
    few, many = vae.score(images, draws=2), vae.score(images, draws=500)
    assert -many.log_prob.mean() < -few.log_prob.mean() < -few.elbo.mean()
    assert (-many.log_prob < -many.elbo).all()


def test_with_a_flow_the_kl_is_that_of_the_draws(make_vae, make_flow, images):
    vae = make_vae(prior=make_flow())
    scores = vae.score(images[:9], draws=50)
    one = vae.score(images[:9], draws=1)
    np.testing.assert_allclose(one.log_prob, one.elbo, rtol=1e-5)
    assert (scores.log_prob >= scores.elbo).all()


@pytest.mark.parametrize("name", ["dynamic", "discretised"])
def test_an_image_has_the_same_scores_wherever_it_stands(make_vae, images, name, monkeypatch):
    vae = make_vae(likelihood=LIKELIHOODS[name]())
    whole = vae.score(images[:23], draws=7)
    others = {
        "again": (vae.score(images[:23], draws=7), slice(0, 23)),
        "alone": (vae.score(images[4:5], draws=7), slice(4, 5)),
        "backwards": (vae.score(images[22::-1], draws=7), slice(22, None, -1)),
        "as floats": (vae.score(images[:9] / np.float32(255), draws=7), slice(0, 9)),
    }
    monkeypatch.setattr(bounds, "VALUES_AT_A_TIME", 3 * 64)
    monkeypatch.setattr(bounds, "VALUES_AT_A_TIME_GPU", 3 * 64)
    monkeypatch.setattr(scoring, "IMAGES_AT_A_TIME", 5)
    others["in parts"] = vae.score(images[:23], draws=7), slice(0, 23)
    for how, (found, rows) in others.items():
        for name in NAMES:
            np.testing.assert_allclose(
                getattr(found, name), getattr(whole, name)[rows], rtol=1e-5, err_msg=how
            )


SCORES = """
import sys, json
import numpy as np
import kvae
scores = kvae.load(sys.argv[1]).score(np.load(sys.argv[2])["images"], draws=20, seed=3)
print(json.dumps([scores.log_prob.tolist(), scores.elbo.tolist()]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", OTHERS)
def test_backends_agree(make_vae, images, tmp_path, backend):
    vae = make_vae()
    vae.save(tmp_path / "vae.keras")
    np.savez(tmp_path / "images.npz", images=images / np.float32(255))
    printed = run(SCORES, backend, tmp_path / "vae.keras", tmp_path / "images.npz")
    scores = vae.score(images, draws=20, seed=3)
    found = json.loads(printed.splitlines()[-1])
    np.testing.assert_allclose(found, [scores.log_prob, scores.elbo], atol=1e-3)


def test_the_seed_decides(make_vae, images):
    vae = make_vae()
    one, same, other = (vae.score(images, draws=3, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.log_prob, same.log_prob)
    assert (one.log_prob != other.log_prob).mean() > 0.9


def test_noise_is_less_likely_than_what_was_learned(learned, images):
    vae, before = learned
    scores = vae.score(np.concatenate([images, noise()]), draws=10)
    assert scores.log_prob.argmin() == 64
    # What was compiled for the first scores has not kept the weights of then.
    assert scores.log_prob[:64].mean() > before.log_prob.mean() + 5
    np.testing.assert_allclose(
        vae.uncompiled().score(images, draws=10).log_prob, scores.log_prob[:64], rtol=1e-5
    )


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_bits_are_those_of_a_probability(make_vae, images, name):
    vae = make_vae(likelihood=LIKELIHOODS[name]())
    scores = vae.score(images[:3], draws=2)
    assert scores.measure == vae.likelihood.measure and len(scores) == 3
    assert (scores.bits_per_dimension is not None) == (name in {"dynamic", "threshold",
                                                                "discretised"})  # fmt: skip
    if scores.bits_per_dimension is not None:
        np.testing.assert_allclose(
            scores.bits_per_dimension * 64 * math.log(2), -scores.log_prob, rtol=1e-6
        )


def test_scoring_leaves_the_model_as_it_was(make_vae, images):
    vae = make_vae()
    before = [ops.convert_to_numpy(v).copy() for v in vae.variables]
    told = []
    vae.score(images, draws=3, progress=lambda *counts: told.append(counts))
    vae.surprise(images[:2], draws=3)
    for variable, value in zip(vae.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)
    assert told[-1] == (64, 64)


def test_threads_get_the_scores_that_one_would_get(make_vae, images):
    vae = make_vae()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda draws: vae.score(images, draws), [2, 3, 2, 3, 2, 3]))
    for draws, scores in zip([2, 3], found[:2], strict=True):
        np.testing.assert_allclose(scores.log_prob, vae.score(images, draws).log_prob, rtol=1e-5)


@pytest.mark.parametrize(
    "arguments, what",
    [({"draws": 0}, "draws=0"), ({"draws": 1.5}, "draws=1.5"), ({"seed": -1}, "seed=-1"),
     ({"images": noise(2, (8, 7, 1))}, "shape"), ({"draws": 10**12}, "of memory")],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["score", "surprise"])
def test_arguments_that_cannot_be_are_named(make_vae, arguments, what, verb):
    with pytest.raises(ValueError, match=what):
        getattr(make_vae(), verb)(**{"images": noise(2), **arguments})


# Where the surprise lies -------------------------------------------------------------------------


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_surprise_of_all_pixels_is_the_reconstruction(make_vae, name, monkeypatch):
    shape = (6, 5, 3)
    vae = make_vae(image_shape=shape, likelihood=LIKELIHOODS[name]())
    for weight in vae.decoder.trainable_variables:
        weight.assign(3 * weight)
    monkeypatch.setattr(bounds, "VALUES_AT_A_TIME", 11 * math.prod(shape))
    images = noise(4, shape)
    maps = vae.surprise(images, draws=23)
    assert maps.shape == (4, *shape[:2]) and maps.dtype == np.float32
    expected = vae.score(images, draws=23).reconstruction
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), expected, rtol=1e-4, atol=1e-2)


def test_the_surprise_is_where_the_image_is_not_what_was_expected():
    vae, _ = linear_gaussian()
    kernel = ops.convert_to_numpy(vae.decoder.weights[0])
    row, column = divmod(int((kernel**2).sum(axis=0).argmin()), 4)  # which no latent explains
    expected = vae.decode(np.zeros((1, 3)))
    changed = expected.copy()
    changed[0, row, column] += 0.5 if expected[0, row, column] < 0.5 else -0.5
    more = vae.surprise(changed, draws=200) - vae.surprise(expected, draws=200)
    assert divmod(int(more[0].argmax()), 4) == (row, column)
    assert 0.5 < more[0, row, column] < 0.5**2 / (2 * SCALE**2) + 0.1


def test_a_likelihood_that_ties_pixels_has_no_map(make_vae, images):
    class Neighbours(kvae.Likelihood):
        def log_prob(self, observed, parameters):
            observed, parameters = (
                ops.reshape(x, (ops.shape(x)[0], -1)) for x in (observed, parameters)
            )
            error = observed - parameters
            return -ops.sum(ops.square(error), axis=1) - ops.square(ops.sum(error, axis=1))

        def mean(self, parameters):
            return ops.clip(parameters, 0, 1)

    vae = make_vae(likelihood=Neighbours())
    with pytest.raises(ValueError, match="Neighbours does not score each pixel by itself"):
        vae.surprise(images[:2], draws=3)


def test_the_picture_has_three_rows_for_an_image(make_vae, images):
    vae = make_vae()
    figure = kvae.drawing.surprise(vae, images[:3], draws=4, what="bars")
    picture = np.asarray(figure.axes[0].images[0].get_array())
    cells = np.split(picture[1 : 1 + 3 * (picture.shape[0] // 3)], 3)
    assert all(cell.std() > 0 for cell in cells)
    title = " ".join(text.get_text() for text in figure.texts)
    assert title.startswith("3 bars, each over its reconstruction and its surprise")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "image", "reconstruction", "surprise"
    ]  # fmt: skip
    kvae.drawing.surprise(vae, images[:7], columns=3, draws=1)


# Outliers ----------------------------------------------------------------------------------------


@once
def test_the_area_is_that_of_the_closed_form():
    generator = np.random.default_rng(0)
    for distance in (0.0, 0.5, 2.0):
        inside, outside = generator.normal(size=20_000), generator.normal(distance, size=20_000)
        expected = NormalDist().cdf(distance / math.sqrt(2))
        assert abs(evaluation.auroc(inside, outside) - expected) < 0.01


@once
def test_ties_count_half():
    inside, outside = np.repeat([0, 1], [70, 30]), np.repeat([0, 1], [20, 80])
    assert abs(evaluation.auroc(inside, outside) - (0.5 + (0.8 - 0.3) / 2)) < 1e-12
    pairs = np.random.default_rng(1).integers(0, 5, (2, 40))
    greater = (pairs[1][:, None] > pairs[0]) + 0.5 * (pairs[1][:, None] == pairs[0])
    assert abs(evaluation.auroc(*pairs) - greater.mean()) < 1e-12
    assert abs(evaluation.auroc(*pairs) + evaluation.auroc(*pairs[::-1]) - 1) < 1e-12
    assert evaluation.auroc([-np.inf, 1], [np.inf]) == 1


@once
@pytest.mark.parametrize("inside, outside", [([], [1]), ([1], []), ([1, np.nan], [1])])
def test_no_area_without_values(inside, outside):
    with pytest.raises(ValueError, match="at least one value, none of them NaN"):
        evaluation.auroc(inside, outside)


@once
@pytest.mark.parametrize("shape", [(16, 16, 1), (8, 8, 3), (8, 8, 4), (8, 8, 2), (8, 8, 5)])
def test_noise_cannot_be_compressed_and_what_is_plain_can(make_vae, shape):
    vae = make_vae(image_shape=shape, likelihood=kvae.Gaussian(0.1))
    images = np.concatenate([noise(2, shape), np.full((1, *shape), 90, "uint8")])
    nats = evaluation.complexity(vae, images)
    incompressible = math.prod(shape) * math.log(256)
    assert (0.95 * incompressible < nats[:2]).all() and (nats[:2] < 1.3 * incompressible).all()
    assert nats[2] < 0.4 * incompressible
    np.testing.assert_array_equal(evaluation.complexity(vae, images[::-1]), nats[::-1])


@once
def test_complexity_is_of_what_the_model_observes(make_vae):
    images = noise(3, (16, 16, 1))
    black_and_white = 255 * (images > 127).astype("uint8")
    vae = make_vae(image_shape=(16, 16, 1), likelihood=kvae.Bernoulli("threshold"))
    nats = evaluation.complexity(vae, images)
    np.testing.assert_array_equal(nats, evaluation.complexity(vae, black_and_white))
    assert (nats < 2 * 256 * math.log(2)).all()  # a bit a pixel, and what holds for all


@pytest.fixture
def planted(images):
    """Bars, and among the test images noise."""
    test = np.concatenate([images[:30], noise(), images[30:40]])
    labels = np.arange(len(test)) % 3
    return kvae.data.from_arrays(
        images, validation=images[:5], test=test, train_labels=np.arange(64) % 3,
        validation_labels=np.arange(5) % 3, test_labels=labels,
    )  # fmt: skip


def test_the_outliers_are_the_least_likely_in_order(learned, planted):
    vae, _ = learned
    found = evaluation.outliers(vae, planted, count=6, draws=10)
    scores = vae.score(planted.test, draws=10)
    assert found.indices[0] == 30 and (np.diff(found.values) <= 0).all()
    np.testing.assert_allclose(found.values, -scores.log_prob[found.indices], rtol=1e-5)
    assert found.values[-1] >= np.sort(-scores.log_prob)[-6] - 1e-3
    np.testing.assert_array_equal(found.images, planted.test[found.indices])
    np.testing.assert_array_equal(found.labels, planted.test_labels[found.indices])
    less = evaluation.outliers(vae, planted, count=100, images=9, draws=2, subtract_complexity=True)
    assert sorted(less.indices) == list(range(9))
    np.testing.assert_allclose(
        less.values, (-less.scores.log_prob - less.complexity)[less.indices], rtol=1e-6
    )


@once
@pytest.mark.parametrize(
    "arguments, what",
    [({"split": "trial"}, "split='trial'"), ({"count": 0}, "count=0"), ({"images": 0}, "images=0")],
)
def test_outliers_that_cannot_be_are_refused(make_vae, planted, arguments, what):
    with pytest.raises(ValueError, match=what):
        evaluation.outliers(make_vae(), planted, **arguments)
