"""Scores of factors, on latents for which they are known by hand, and the picture of both."""

import json

import numpy as np
import pytest
from commands import call
from marks import once

import kvae
from kvae import evaluation
from kvae.evaluation import factor_scores as scores
from kvae.evaluation.factors import TITLES
from kvae.evaluation.text import factor_rows, lines_of

pytestmark = once

COUNT = 2_000
RNG = np.random.default_rng(0)
FOUR = RNG.integers(4, size=(COUNT, 3))  # three categories of four values
TWO = RNG.integers(2, size=(COUNT, 2))
LINE = RNG.random((COUNT, 3))  # three numbers


def means(codes, factors, **arguments):
    found = evaluation.factors_of_codes(codes, factors, seeds=2, **arguments)
    assert found.figures.keys() == TITLES.keys()
    return {name: figure["mean"] for name, figure in found.figures.items()}


def rotated(factors):
    """Each of two latents has as much of one factor as of the other."""
    first, second = (factors[:, :2] - factors[:, :2].mean(axis=0)).T
    return np.stack([first + second, first - second], axis=1)


@pytest.mark.parametrize(
    "factors, chance, tolerance",
    [(FOUR, 1 / 4, 0.01), (TWO, 1 / 2, 0.01), (LINE, 0, 0.05)],
    ids=["categories", "bits", "numbers"],
)
def test_a_latent_for_each_factor_is_perfect(factors, chance, tolerance):
    found = means(5.0 - 2.0 * factors[:, ::-1], factors)
    # The best latent by itself is always right, the next as often as chance has it.
    assert found.pop("sap") == pytest.approx(1 - chance, abs=0.04)
    for name, score in found.items():
        assert score == pytest.approx(1, abs=tolerance), name


def test_factors_that_are_mixed_in_each_latent_are_not_disentangled():
    found = means(rotated(LINE), LINE[:, :2])
    for name in ("mig", "sap", "disentanglement", "completeness", "modularity"):
        assert found[name] == pytest.approx(0, abs=0.08), name
    for name in ("beta_vae", "factor_vae"):
        assert found[name] == pytest.approx(0.5, abs=0.1), name
    # All the same everything can be read from both together.
    assert found["explicitness"] > 0.98 and found["informativeness"] > 0.75


def test_latents_that_know_nothing_are_at_chance():
    found = means(RNG.standard_normal((COUNT, 5)), FOUR)
    for name in ("mig", "sap", "disentanglement", "completeness"):
        assert found[name] == pytest.approx(0, abs=0.03), name
    assert found["informativeness"] == pytest.approx(1 / 4, abs=0.04)
    assert found["explicitness"] == pytest.approx(1 / 2, abs=0.03)
    for name in ("beta_vae", "factor_vae"):
        assert found[name] == pytest.approx(1 / 3, abs=0.09), name


def test_two_latents_for_one_factor_are_disentangled_and_not_complete():
    codes = np.concatenate([FOUR, -FOUR], axis=1) + 0.0
    found = means(codes, FOUR)
    assert found["mig"] == found["sap"] == pytest.approx(0, abs=1e-3)
    for name in ("disentanglement", "modularity", "factor_vae", "beta_vae"):
        assert found[name] == pytest.approx(1, abs=0.01), name
    # The importance of a factor lies on two latents of six, half on each.
    assert found["completeness"] == pytest.approx(1 - np.log(2) / np.log(6), abs=0.02)


def test_one_latent_for_two_factors_is_complete_and_not_disentangled():
    both = (2 * TWO[:, :1] + TWO[:, 1:]) + 0.0
    codes = np.concatenate([both, RNG.standard_normal((COUNT, 1))], axis=1)
    found = means(codes, TWO)
    assert found["disentanglement"] == pytest.approx(0, abs=0.02)
    assert found["completeness"] == pytest.approx(1, abs=0.02)
    assert found["mig"] == pytest.approx(1, abs=0.03)  # which does not see it, as is known


def test_scores_follow_their_formulas_on_tables():
    importance = np.array([[3.0, 0.0], [0.5, 0.5], [0.0, 0.0]])
    assert scores.disentanglement(importance) == pytest.approx(3 / 4)
    first = 1 + (6 / 7 * np.log(6 / 7) + 1 / 7 * np.log(1 / 7)) / np.log(3)
    assert scores.completeness(importance) == pytest.approx((3.5 * first + 0.5) / 4)
    informations = np.array([[0.6, 0.3], [0.0, 0.0]])
    assert scores.modularity(informations) == pytest.approx((1 - 0.25) / 2)
    classes = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    gap = scores.mutual_information_gap(np.array([[0.6, 0.1], [0.2, 0.5]]), classes)
    assert gap == pytest.approx(0.4 / np.log(2))
    found = scores.mutual_informations(classes[:, :1] + 0.0, classes)
    np.testing.assert_allclose(found, [[np.log(2), 0]], atol=1e-12)


def test_a_latent_that_is_not_used_has_no_vote():
    codes = np.concatenate([FOUR, 1e-3 * RNG.standard_normal((COUNT, 3))], axis=1)
    assert means(codes, FOUR)["factor_vae"] == 1
    assert means(1e-3 * codes, FOUR)["factor_vae"] == 0  # none is used


def test_images_that_have_a_value_in_common_have_it():
    values = np.array([2, 0, 2, 1, 0, 2])
    rows = RNG.integers(6, size=(50, 4))
    found = scores.alike(values, rows, np.random.default_rng(0))
    np.testing.assert_array_equal(values[found], values[rows])
    assert len(np.unique(found[values[found] == 2])) == 3


def test_the_same_seeds_give_the_same_figures_and_others_their_deviation():
    noisy = FOUR + RNG.standard_normal(FOUR.shape)
    one, same, other = (
        evaluation.factors_of_codes(noisy, FOUR, seeds=2, seed=seed) for seed in (0, 0, 7)
    )
    assert one.as_dict() == same.as_dict() != other.as_dict()
    assert json.loads(json.dumps(one.as_dict()))["names"] == ["0", "1", "2"]
    assert 0 < one.figures["mig"]["deviation"] < 0.1
    assert evaluation.factors_of_codes(noisy, FOUR, seeds=1).figures["mig"]["deviation"] == 0


def test_a_number_is_cut_and_categories_can_be_named():
    found = evaluation.factors_of_codes(LINE, LINE, ["x", "y", "hue"], seeds=1)
    assert "x, y, hue in 10 parts" in found.protocol
    ordered = means(FOUR + 0.0, FOUR, categories=[])["sap"]
    assert ordered == pytest.approx(1, abs=0.02)  # by correlation
    named = means(FOUR + 0.0, FOUR, names=["a", "b", "c"], categories=["b", 2, "a"])["sap"]
    assert named == pytest.approx(0.75, abs=0.04)


@pytest.mark.parametrize(
    "codes, factors, arguments, what",
    [
        (np.zeros((200, 2)), np.zeros((100, 2)), {}, "a row for each of 200 images"),
        (np.zeros((200, 2)), np.full((200, 2), np.nan), {}, "must be finite"),
        (np.full((200, 2), np.inf), FOUR[:200], {}, "`codes` must be finite"),
        (np.zeros((50, 2)), FOUR[:50], {}, "at least 100 images. Received: 50"),
        (np.zeros((200, 2)), FOUR[:200, :1], {}, "at least 2 factors"),
        (np.zeros((200, 2)), 0 * FOUR[:200], {}, "one value of factor 0, 0: leave it out"),
        (np.zeros((200, 2)), FOUR[:200], {"seeds": 0}, "`seeds` must be an integer of at least 1"),
        (np.zeros((200, 2)), FOUR[:200], {"names": ["a"]}, "There are 3 factors"),
        (np.zeros((200, 2)), FOUR[:200], {"categories": ["hue"]}, "no factor 'hue'; there are 0,"),
        (np.zeros((200, 2)), FOUR[:200], {"categories": [3]}, "There is no factor 3"),
    ],
)
def test_what_cannot_be_scored_is_said(codes, factors, arguments, what):
    with pytest.raises(ValueError, match=what):
        evaluation.factors_of_codes(codes, factors, **arguments)


@pytest.fixture(scope="module")
def shapes_model(tmp_path_factory, with_graphs):
    """A small model of shapes, hardly trained."""
    out = tmp_path_factory.mktemp("shapes") / "vae.keras"
    data = kvae.data.load("shapes", image_size=8)
    with with_graphs():
        kvae.train(
            data, "mlp-400", epochs=1, latent_dim=4, likelihood="gaussian", out=out, verbose=0
        )
    return out


def test_a_model_is_scored_by_the_factors_of_shapes(shapes_model):
    vae = kvae.load(shapes_model)
    images, rows, names = kvae.data.known_factors(kvae.data.load("shapes"), count=300)
    images = kvae.data.fitted(images, vae.image_shape)
    found = evaluation.factors(vae, images, rows, names, seeds=1)
    same = evaluation.factors_of_codes(vae.encode(images)[0], rows, names, seeds=1)
    assert found.as_dict() == same.as_dict()
    matrix = evaluation.factor_matrix(vae, images, rows)
    np.testing.assert_allclose(matrix, found.matrix)
    assert matrix.shape == (4, 6) and matrix[:, 3:5].max() > 0.1  # it sees where a shape is
    with pytest.raises(ValueError, match="300 images. Received: shape"):
        evaluation.factors(vae, images, rows[:5], names)


def test_the_images_of_known_factors_are_those_of_the_split_and_more():
    data = kvae.data.load("shapes")
    images, rows, _ = kvae.data.known_factors(data, "test", 1005)
    np.testing.assert_array_equal(images[:1000], data.test)
    assert len(rows) == 1005
    with pytest.raises(ValueError, match="factors of digits are not known"):
        kvae.data.known_factors(kvae.data.load("digits"))
    with pytest.raises(ValueError, match="`split` must be one of"):
        kvae.data.known_factors(data, "all")


def test_the_command_scores_factors_and_says_how(shapes_model):
    common = ("evaluate", shapes_model, "--images", 200, "-k", 1, "--samples", 0, "--factors")
    found = json.loads(call(*common, "--json").stdout)["models"][str(shapes_model)]["factors"]
    assert TITLES.keys() <= found.keys() and len(found["matrix"]) == 4
    text = "\n".join(lines_of(factor_rows(found)))
    assert f"MIG                  {found['mig']['mean']:.2f} ± " in text
    assert "Factors: shape, size, angle, x, y, hue; size, angle, x, y, hue in 10 parts" in text
    assert "best latent          shape " in text


def test_a_picture_has_latents_by_factors_and_what_they_do(shapes_model, tmp_path):
    out = tmp_path / "latent.png"
    common = ("latent", "--show", "factors", "--model", shapes_model, "--count", 150)
    said = call(*common, "--latents", 3, "--out", out)
    assert out.exists() and "factors of 150 shapes test images" in said.stdout
    vae = kvae.load(shapes_model)
    images = kvae.data.fitted(kvae.data.load("shapes").test[:5], vae.image_shape)
    matrix = np.array([[0.1, 0.9], [0.8, 0.0], [0.0, 0.0], [0.9, 0.2]])
    figure = kvae.factors(vae, images, matrix, ["x", "$hue$"], latents=3, steps=5)
    table, picture = figure.axes
    labels = [label.get_text() for label in table.get_yticklabels()]
    assert labels == ["latent 4", "latent 2", "latent 1"]  # of x the first two
    assert [text.get_text() for text in table.texts][:2] == ["0.90", "0.20"]
    assert len(picture.images) == 1
    for wrong, what in ((matrix[:3], "of 4 latents and 2 factors"), (matrix - 1, "shares in")):
        with pytest.raises(ValueError, match=what):
            kvae.factors(vae, images, wrong, ["x", "hue"])
