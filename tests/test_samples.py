import dataclasses
import json
import random

import numpy as np
import pytest
from marks import once, slow_elsewhere

import kvae
from kvae.evaluation import (
    beside_neighbours,
    classifier_for,
    frechet_distance,
    kernel_distance,
    memorisation,
    nearest_neighbours,
    precision_recall_density_coverage,
    sample_quality,
    train_classifier,
)
from kvae.evaluation import classifier as classifiers

FIGURES = {
    "classifier_frechet_distance",
    "classifier_kernel_distance",
    "precision",
    "recall",
    "density",
    "coverage",
    "class_histogram",
}


def normal(count, features=4, seed=0):
    return np.random.default_rng(seed).normal(size=(count, features))


def exactly(mean, deviations, count=50, seed=0):
    """Rows whose mean and covariance are these, not only about these."""
    rows = normal(count, len(mean), seed)
    rows -= rows.mean(axis=0)
    white = rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows, rowvar=False))).T
    return np.asarray(mean) + white @ np.asarray(deviations)


@pytest.fixture(scope="module")
def bars():
    """300 images of 8×8 with a bar; the class is the half that it stands in."""
    rng = np.random.default_rng(0)
    images = np.zeros((300, 8, 8, 1), "uint8")
    columns = rng.integers(8, size=300)
    for image, column in zip(images, columns, strict=True):
        image[:, column] = rng.integers(100, 256, (8, 1))
    names = ["left", "right"]
    return kvae.data.from_arrays(images, train_labels=columns // 4, class_names=names, name="bars")


@pytest.fixture(scope="module")
def classifier(bars, with_graphs):
    with with_graphs():
        return train_classifier(bars, seed=0, updates=100)


class Copies:
    """A model that has learned its training images by heart."""

    condition = None

    def __init__(self, images):
        self.images, self.image_shape = images, images.shape[1:]

    def generate(self, count, seed=None):
        return self.images[:count] / np.float32(255)


def test_the_frechet_distance_of_a_set_with_itself_is_zero():
    for rows in (normal(100), normal(3, features=10)):
        assert frechet_distance(rows, rows) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_of_gaussians_is_the_closed_form():
    first = exactly([0, 1, 2], np.diag([1, 2, 3]))
    second = exactly([1, 1, 0], np.diag([2, 2, 1]), count=70, seed=1)
    assert frechet_distance(first, second) == pytest.approx(5 + 1 + 4)  # means, deviations
    turned, slanted = np.array([[2, 0], [1, 1]]), np.array([[1, 3], [0, 1]])
    first, second = exactly([0, 0], turned), exactly([0, 0], slanted)
    one, other = turned.T @ turned, slanted.T @ slanted
    product = one @ other  # of two by two, the root has the trace √(tr + 2 √det)
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = np.trace(one) + np.trace(other) - 2 * root
    assert frechet_distance(first, second) == pytest.approx(expected)
    assert frechet_distance(second, first) == pytest.approx(expected)


def test_the_kernel_distance_is_zero_on_average_for_one_distribution():
    found = [kernel_distance(normal(40, seed=i), normal(60, seed=i + 999)) for i in range(200)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * error
    assert min(found) < 0  # as only an estimate without bias can be


def test_the_kernel_distance_is_the_mean_over_pairs_and_grows_with_a_shift():
    first, second = normal(5), normal(4, seed=1) + 1

    def mean(rows, others, same):
        pairs = [
            (x @ y / 4 + 1) ** 3
            for i, x in enumerate(rows)
            for j, y in enumerate(others)
            if not (same and i == j)
        ]
        return np.mean(pairs)

    own = mean(first, first, True) + mean(second, second, True)
    expected = own - 2 * mean(first, second, False)
    assert kernel_distance(first, second) == pytest.approx(expected)
    near, far = (kernel_distance(normal(500), normal(500, seed=1) + shift) for shift in (0.5, 1))
    assert 0.1 < near < far


def test_identical_sets_have_full_precision_recall_and_coverage():
    found = precision_recall_density_coverage(normal(100), normal(100))
    assert found["precision"] == found["recall"] == found["coverage"] == 1


def test_two_sets_of_one_distribution_have_the_density_and_coverage_that_theory_says():
    found = precision_recall_density_coverage(normal(2000), normal(2000, seed=1), neighbours=3)
    assert found["density"] == pytest.approx(1, abs=0.05)
    assert found["coverage"] == pytest.approx(1 - 2**-3, abs=0.03)


def test_rows_far_from_all_real_ones_have_no_precision():
    found = precision_recall_density_coverage(normal(100), normal(100, seed=1) + 100)
    assert set(found.values()) == {0}


def test_a_lost_mode_costs_recall_and_coverage_but_not_precision():
    modes = np.repeat([[0.0] * 4, [50.0] * 4], 200, axis=0)
    real, whole = normal(400) + modes, normal(400, seed=1) + modes
    both = precision_recall_density_coverage(real, whole)
    one = precision_recall_density_coverage(real, whole[:200])
    assert one["precision"] > 0.9 and both["recall"] > 0.9
    assert one["recall"] == pytest.approx(both["recall"] / 2, abs=0.05)
    assert one["coverage"] == pytest.approx(both["coverage"] / 2, abs=0.05)


def test_no_figure_depends_on_how_many_distances_are_held(monkeypatch):
    first, second, images = normal(50), normal(70, seed=1), normal(30, seed=2)

    def figures():
        return (
            kernel_distance(first, second),
            *precision_recall_density_coverage(first, second).values(),
            *nearest_neighbours(first, images, 4)[0].ravel(),
        )

    at_once = figures()
    monkeypatch.setattr("kvae.evaluation.neighbours.BLOCK", 200)
    np.testing.assert_allclose(figures(), at_once)


@pytest.mark.parametrize(
    "rows, others", [((9, 4), (9, 3)), ((9, 4), (5, 4)), ((9,), (9,)), ((9, 2, 2), (9, 2, 2))]
)
def test_sets_that_cannot_be_compared_are_refused(rows, others):
    with pytest.raises(ValueError, match="features"):
        precision_recall_density_coverage(np.zeros(rows), np.zeros(others))


def test_neighbours_are_those_of_a_full_search():
    rng = np.random.default_rng(0)
    samples = rng.random((6, 4, 4, 1), dtype="float32")
    images = rng.integers(256, size=(40, 4, 4, 1)).astype("uint8")
    indices, distances = nearest_neighbours(samples, images, count=3)
    differences = samples[:, np.newaxis] - images / 255
    full = np.sqrt(np.square(differences).sum(axis=(2, 3, 4)))
    np.testing.assert_array_equal(indices, np.argsort(full, axis=1)[:, :3])
    np.testing.assert_allclose(distances, np.sort(full, axis=1)[:, :3], rtol=1e-5)
    assert nearest_neighbours(samples, images[:2], count=3)[0].shape == (6, 2)


def test_a_picture_has_each_sample_before_its_neighbours(bars):
    samples = bars.test[:4]
    cells, distances = beside_neighbours(samples, bars.train, count=3)
    rows = cells.reshape(4, 4, 8, 8, 1)
    np.testing.assert_allclose(rows[:, 0], samples / 255, rtol=1e-6)
    found = np.sqrt(np.square(rows[:, 1:] - rows[:, :1]).sum(axis=(2, 3, 4)))
    np.testing.assert_allclose(found, distances, rtol=1e-5)
    kvae.plots.grid(cells, columns=4)


def test_copies_are_detected_and_new_images_are_not():
    images = np.random.default_rng(0).random((1200, 4, 4, 1), dtype="float32")
    dataset = kvae.data.from_arrays(images[:800], test=images[800:1000])
    copied, new = (memorisation(rows, dataset) for rows in (dataset.train[:200], images[1000:]))
    assert copied["ratio"] == 0 and copied["nearest_is_training"] == 1
    assert new["ratio"] == pytest.approx(1, abs=0.1)
    chance = new["nearest_is_training_by_chance"]
    assert new["nearest_is_training"] == pytest.approx(chance, abs=0.1) and chance < 0.9
    smooth = memorisation(0.15 + 0.7 * images[1000:], dataset)  # nearer to all alike
    assert smooth["ratio"] < 0.9
    assert smooth["nearest_is_training"] == pytest.approx(chance, abs=0.1)


@pytest.mark.slow
def test_a_classifier_learns_the_classes_of_colour_images_on_the_spot():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    images = rng.integers(100, size=(200, 12, 9, 3)).astype("uint8")
    images[np.arange(200), :, :, labels] += 120
    dataset = kvae.data.from_arrays(images, train_labels=labels, name="tints")
    classifier, why = classifier_for(dataset, updates=40)
    assert classifier.accuracy > 0.9
    assert why == "The classifier was trained on the spot, on 162 training images of tints."
    assert classifier.class_names == ("0", "1")
    assert classifier.features(dataset.test).shape == (20, 64)
    np.testing.assert_array_equal(
        classifier.predicted(images[:1]), classifier.predicted(images)[:1]
    )


@pytest.mark.parametrize("image_shape", [(1, 1, 1), (5, 70, 2), (28, 28, 1), (130, 90, 3)])
def test_a_classifier_takes_images_of_any_shape(image_shape):
    model = classifiers.build(image_shape, 3, np.random.default_rng(0))
    features, logits = model.predict_on_batch(np.zeros((2, *image_shape), "float32"))
    assert features.shape == (2, 64) and logits.shape == (2, 3)
    assert model.count_params() < 300_000


def test_features_of_training_images_have_mean_zero_and_variance_one(bars, classifier):
    features = classifier.features(bars.train)
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=0.5)
    np.testing.assert_allclose(features.var(axis=0), 1, atol=0.5)


def test_the_same_seed_gives_the_same_classifier_and_draws_from_no_global_stream(bars):
    before = random.getstate(), np.random.get_state()[1].tolist()
    one, same, other = (train_classifier(bars, seed, updates=2) for seed in (1, 1, 2))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    first, second, third = (made.features(bars.test) for made in (one, same, other))
    np.testing.assert_allclose(first, second, atol=1e-4)
    assert abs(first - third).max() > 0.1


def test_without_classes_to_learn_there_is_no_classifier_but_a_word(bars):
    bare = dataclasses.replace(bars, train_labels=None)
    assert classifier_for(bare) == (
        None,
        "No classifier: the training images of bars have no labels.",
    )
    alike = dataclasses.replace(bars, train_labels=0 * bars.train_labels)
    classifier, why = classifier_for(alike)
    assert classifier is None and "all of one class" in why
    with pytest.raises(ValueError, match="needs labels"):
        train_classifier(bare)


def test_sample_quality_stands_beside_its_floor(bars, classifier, make_vae):
    vae = make_vae()
    found = sample_quality(vae, bars, classifier=classifier)
    assert json.loads(json.dumps(found)) == found
    assert FIGURES < found.keys() and FIGURES == found["floor"].keys()
    assert found["images"] == len(bars.test) == 30
    assert sum(found["class_histogram"].values()) == pytest.approx(1, abs=1e-3)
    assert found["floor"]["class_histogram"]["left"] == pytest.approx(
        (bars.test_labels == 0).mean(), abs=0.15
    )
    distance = "classifier_frechet_distance"
    assert found[distance] > 2 * found["floor"][distance]  # it is not trained
    assert "30 expected images, seed 0" in found["protocol"] and "on the spot" in found["protocol"]
    assert found == sample_quality(vae, bars, classifier=classifier)


@once
def test_a_model_that_copies_is_as_good_as_the_floor_and_is_found_out(bars, classifier):
    found = sample_quality(Copies(bars.train), bars, classifier=classifier)
    assert found["memorisation"]["ratio"] == 0
    distance = "classifier_frechet_distance"
    assert found[distance] < 2 * found["floor"][distance]
    assert found["coverage"] > 0.7


@once
def test_sample_quality_without_labels_keeps_what_needs_none(bars, make_vae):
    found = sample_quality(make_vae(), dataclasses.replace(bars, train_labels=None))
    assert found.keys() == {"images", "memorisation", "left_out"}
    assert "no labels" in found["left_out"]
    few = dataclasses.replace(bars, test=bars.test[:5], test_labels=bars.test_labels[:5])
    assert "It takes 6 or more of samples" in sample_quality(make_vae(), few)["left_out"]


def test_sample_quality_refuses_images_of_another_shape(bars, make_vae):
    with pytest.raises(ValueError, match="images of shape"):
        sample_quality(make_vae((8, 8, 3)), bars)


def test_a_tampered_classifier_is_refused_in_one_line(tmp_path):
    file = tmp_path / "classifier.keras"
    content = bytearray(classifiers.SHIPPED.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)
    for path in (file, tmp_path / "missing.keras"):
        with pytest.raises(ValueError, match="must be the classifier that kvae ships") as caught:
            classifiers.shipped(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "count, within",
    [
        pytest.param(1000, 0.01, marks=slow_elsewhere),
        pytest.param(10_000, 2e-4, marks=pytest.mark.slow),
    ],
)
def test_the_shipped_classifier_is_as_good_as_it_says(mnist, count, within):
    classifier, why = classifier_for(mnist)
    assert "shipped with kvae" in why
    right = classifier.predicted(mnist.test[:count]) == mnist.test_labels[:count]
    assert right.mean() == pytest.approx(classifier.accuracy, abs=within)
    assert classifier.accuracy > 0.99 and classifier.sha256 == classifiers.SHIPPED_SHA256


def test_mnist_is_known_by_its_training_images_in_any_order(bars):
    both = np.concatenate([bars.train, bars.validation])[::-1]
    cut = dataclasses.replace(bars, name="other", train=both[:100], validation=both[100:])
    assert classifiers.fingerprint(cut) == classifiers.fingerprint(bars)
    changed = dataclasses.replace(bars, train=bars.train ^ np.uint8(1))
    assert classifiers.fingerprint(changed) != classifiers.fingerprint(bars)
