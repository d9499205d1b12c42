import numpy as np
import pytest

import kvae
from kvae import diagnosis as checks

FALLING = list(np.linspace(200, 100, 20))


def bars(low, high, count=100):
    """Bars of random place and brightness, on black."""
    rng = np.random.default_rng(0)
    images = np.zeros((count, 8, 8, 1), "uint8")
    for image in images:
        image[:, rng.integers(8)] = rng.integers(low, high)
    return images


def noise(channels=1):
    return np.random.default_rng(0).integers(0, 256, (50, 8, 8, channels), "uint8")


def test_no_latent_in_use_is_a_problem_whose_remedy_is_the_likeliest_cause():
    nothing = np.full(20, 1e-3)
    for arguments, remedy in [
        ({"beta": 100.0}, "Lower --beta: 1 gives the bound, and it is 100."),
        ({"warmup_steps": 0}, "warm up"),
        ({"warmup_steps": 50}, "Train longer (--epochs)"),
        ({"beta": 1000.0, "capacity": 0.1}, "Raise --capacity: the KL is held at 0.1 nats."),
        ({"beta": 1000.0, "capacity": 25.0}, "a higher --beta"),
    ]:
        found = checks.check_latents(nothing, **arguments)
        assert found.severity == "problem" and "0 of 20 latents in use" in found.seen
        assert remedy in found.remedy


def test_spare_latents_are_no_problem_but_are_said():
    found = checks.check_latents(np.array([2.0] * 5 + [0.0] * 15), active=5)
    assert found.severity == "ok" and found.remedy == "--latent-dim 5 would be enough."
    assert checks.check_latents(np.array([2.0] * 15 + [0.0] * 5)).remedy == ""


@pytest.mark.parametrize(
    "kl, severity, remedy",
    [
        ([20, 25, 26, 26, 26.5], "ok", ""),
        ([60, 30, 25, 26, 26], "ok", ""),  # as it goes in warm-up
        ([2, 5, 10, 15, 20], "warning", "--epochs 10"),
        ([5, 1, 0.4, 0.2, 0.1], "problem", "--beta"),
        ([80, 50, 30, 15, 8], "warning", "--beta"),
        ([7], "ok", ""),
        ([], "ok", ""),
    ],
)
def test_the_kl_must_neither_vanish_nor_end_on_the_rise(kl, severity, remedy):
    found = checks.check_kl_over_time(kl, beta=4.0)
    assert found.severity == severity and remedy in found.remedy
    assert bool(found.remedy) == (severity != "ok")


def test_the_kl_over_time_names_epochs_also_where_not_every_one_was_looked_at():
    found = checks.check_kl_over_time([2, 5, 10], epochs=[10, 20, 30])
    assert "since epoch 20" in found.seen and "--epochs 60" in found.remedy


@pytest.mark.parametrize(
    "least, beta, spread, severity, remedy",
    [
        (0.5, 1.0, 1.0, "ok", ""),
        (6.0, 0.1, 1.4, "warning", "Raise --beta: 1 gives the bound, and it is 0.1; "),
        (6.0, 1.0, 0.6, "warning", "smaller --latent-dim"),
        (20.0, 1.0, 0.6, "problem", "--temperature 0.6"),
    ],
)
def test_a_prior_far_from_the_latents_is_said(least, beta, spread, severity, remedy):
    found = checks.check_prior_gap(30.0, 7.0, least, 1000, 10, spread, beta)
    assert found.severity == severity and remedy in found.remedy


def test_moments_of_few_images_are_not_held_against_the_prior():
    assert checks.check_prior_gap(8.0, 3.0, 4.3, images=100, latents=40).severity == "ok"
    assert checks.check_prior_gap(8.0, 3.0, 4.3, images=10_000, latents=40).severity == "problem"


def test_a_density_at_its_bound_is_a_problem_and_a_probability_is_not():
    assert checks.check_scale(0.0, kvae.Gaussian()).severity == "ok"
    assert checks.check_scale(0.1, kvae.Gaussian()).severity == "warning"
    found = checks.check_scale(0.5, kvae.Gaussian())
    assert found.severity == "problem" and "--likelihood bernoulli" in found.remedy
    assert checks.check_scale(0.5, kvae.DiscretizedLogistic()).severity == "ok"
    found = checks.check_scale(0.5, kvae.DiscretizedLogistic(min_scale=1 / 256))
    assert found.severity == "warning" and "min_scale" in found.remedy


def test_a_bound_costs_a_discretised_logistic_what_it_says():
    likelihood = kvae.DiscretizedLogistic(min_scale=1 / 256)
    level = np.full((1, 1, 1, 1), 100, "uint8")
    raw = np.array([100 / 255 - 0.5, -50.0], "float32").reshape(1, 1, 1, 2)
    nats = float(likelihood.log_prob(likelihood.observe(level), raw)[0])
    assert f"at least {-nats:.2f} nats" in checks.check_scale(0.0, likelihood).seen


def test_pixel_facts_are_those_of_the_images():
    images = np.zeros((10, 2, 2, 1), "uint8")
    images[::2, 0, 0] = 255
    images[:, 1, 1] = 128
    facts = checks.pixel_facts(images)
    assert facts["grey"] == 0.25 and facts["ends"] == 0.75 and facts["levels"] == 3
    assert facts["constant"] == 0.75 and facts["channels"] == 1
    as_floats = checks.pixel_facts(images.astype("float32") / 255)
    np.testing.assert_allclose(list(as_floats.values()), list(facts.values()), rtol=1e-5)
    assert checks.pixel_facts(255 * (images > 200).astype("uint8"))["noise"] == 0


LIGHT, DARK = bars(100, 256), bars(255, 256)  # as digits are; black and white


@pytest.mark.parametrize(
    "images, likelihood, severity, remedy",
    [
        (LIGHT, kvae.Bernoulli(), "ok", ""),
        (DARK, kvae.Bernoulli(), "ok", ""),
        (DARK, kvae.Bernoulli("none"), "ok", ""),
        (LIGHT, kvae.Bernoulli("none"), "problem", "--binarize dynamic"),
        (LIGHT, kvae.Bernoulli("none"), "problem", "--likelihood continuous-bernoulli"),
        (noise(3), kvae.Bernoulli(), "problem", "--likelihood logistic-mixture"),
        (noise(), kvae.Bernoulli("threshold"), "problem", "--likelihood logistic-mixture"),
        (DARK, kvae.Gaussian(), "problem", "--likelihood bernoulli"),
        (DARK, kvae.ContinuousBernoulli(), "problem", "--likelihood bernoulli"),
        (DARK, kvae.DiscretizedLogistic(), "warning", "--likelihood bernoulli"),
        (LIGHT, kvae.Gaussian(), "warning", "--likelihood bernoulli, or a fixed --scale"),
        (LIGHT, kvae.Gaussian(scale=0.1), "ok", ""),
        (noise(3), kvae.Gaussian(), "ok", ""),
        (noise(3), kvae.DiscretizedLogistic(), "ok", ""),
        (LIGHT, kvae.ContinuousBernoulli(), "ok", ""),
    ],
)
def test_a_likelihood_that_does_not_suit_the_pixels_is_told_which_one_does(
    images, likelihood, severity, remedy
):
    found = checks.check_likelihood(checks.pixel_facts(images), likelihood)
    assert found.severity == severity and remedy in found.remedy
    assert bool(found.remedy) == (severity != "ok")


def test_ones_own_likelihood_is_taken_to_be_right():
    class Own(kvae.likelihoods.Likelihood):
        pass

    for images in (LIGHT, DARK, noise()):
        assert checks.check_likelihood(checks.pixel_facts(images), Own()).severity == "ok"


def test_validation_that_rises_again_names_the_epoch_where_it_was_best():
    assert checks.check_overfitting(FALLING).severity == "ok"
    found = checks.check_overfitting([*FALLING, 110, 120, 140])
    assert found.severity == "problem"
    assert "best at epoch 20 of 23 and has risen by 40.00 since" in found.seen
    assert found.remedy.startswith("--epochs 20 is nearly as good; more images")
    assert checks.check_overfitting([*FALLING, 101]).severity == "ok"


def test_a_verdict_on_overfitting_does_not_depend_on_the_constants_of_a_density():
    losses = np.array([*FALLING, 110, 120, 140])
    rng = np.random.default_rng(0)
    train, validation = rng.normal(0, 30, 500), rng.normal(30, 30, 500)
    for scale, shift in [(1, 0), (1, -5000), (0.01, 3)]:
        shifted = [shift + scale * values for values in (losses, train, validation)]
        assert checks.check_overfitting(shifted[0]).severity == "problem"
        found = checks.check_overfitting((), *shifted[1:])
        assert found.severity == "problem" and "no history" in found.seen


def test_a_gap_that_may_be_chance_is_none():
    rng = np.random.default_rng(0)
    few = checks.check_overfitting((), rng.normal(100, 30, 10), rng.normal(110, 30, 10))
    assert few.severity == "ok"
    alike = checks.check_overfitting((), rng.normal(100, 30, 5000), rng.normal(102, 30, 5000))
    assert alike.severity == "ok"


def test_gradients_name_the_weights_without_one():
    some = {"a/kernel": np.ones((3, 2)), "a/bias": np.array([1.0, 0.0])}
    assert checks.check_gradients(some).severity == "ok"
    found = checks.check_gradients({**some, "b/kernel": np.zeros((3, 2))})
    assert found.severity == "problem" and found.seen.endswith("1 of 3 variables: b/kernel.")
    found = checks.check_gradients({**some, "c/bias": np.array([1.0, 0.0, 0.0])})
    assert found.severity == "warning" and "67% of the units" in found.seen
    found = checks.check_gradients({**some, "d": np.array([np.nan])})
    assert found.severity == "problem" and "--learning-rate" in found.remedy


@pytest.mark.parametrize(
    "kl, severity, remedy",
    [
        (25.3, "ok", ""),
        (19.0, "warning", "Or take what there is to tell: --capacity 19."),
        (3.0, "problem", "Raise --beta, which holds it: it is 50."),
        (31.0, "warning", "Or train longer: --epochs."),
    ],
)
def test_a_kl_away_from_its_capacity_is_told_with_what_holds_it(kl, severity, remedy):
    found = checks.check_capacity(kl, 25.0, 50.0)
    assert found.severity == severity and remedy in found.remedy
    assert ("--capacity" in found.remedy) == (severity != "ok" and kl < 25)


def test_the_gap_of_a_held_kl_is_mended_by_a_lower_capacity():
    found = checks.check_prior_gap(30.0, 7.0, 20.0, 1000, 10, beta=1000.0, capacity=30.0)
    assert "a lower --capacity" in found.remedy and "--beta" not in found.remedy


def test_a_class_tells_if_another_one_costs_more_than_by_chance():
    right = np.random.default_rng(0).normal(100, 10, 200)
    noise = np.random.default_rng(1).normal(0, 3, 200)
    assert checks.check_classes(right, right + 2 + noise).severity == "ok"
    found = checks.check_classes(right, right + noise)
    assert found.severity == "warning" and "The class tells the model nothing" in found.seen
    found = checks.check_classes(right, right + 2 + noise, ["7"])
    assert found.severity == "warning" and "is of class 7." in found.seen
