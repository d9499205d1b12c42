import dataclasses
import json
import pathlib

import keras
import numpy as np
import pytest
from commands import call
from keras import ops
from marks import once
from PIL import Image

import kvae
from kvae import diagnosis as checks
from kvae.diagnosis import look as doctor


def bars(count):
    """Grey bars of random place and brightness, 8×8."""
    rng = np.random.default_rng(0)
    images = np.zeros((count, 8, 8, 1), "uint8")
    for image in images:
        image[:, rng.integers(8)] = rng.integers(100, 256)
    return images


@pytest.fixture(scope="module")
def dataset():
    return kvae.data.from_arrays(bars(500), name="bars")


def fit(vae, dataset, epochs, batch_size=25):
    return vae.fit(
        dataset.train,
        validation_data=(dataset.validation,),
        epochs=epochs,
        batch_size=batch_size,
        verbose=0,
    ).history


def problems(diagnosis):
    return {
        finding.name: finding.remedy
        for finding in diagnosis.findings
        if finding.severity == "problem"
    }


@pytest.mark.usefixtures("graphs")
def test_a_healthy_model_has_no_problem_and_stays_as_it_is(make_vae, dataset):
    vae = make_vae(optimizer=keras.optimizers.Adam(1e-2))
    history = fit(vae, dataset, 30, len(dataset.validation))  # all batches of one size
    optimizer = vae.optimizer
    before = [np.array(ops.convert_to_numpy(v)) for v in vae.variables]
    diagnosis = kvae.diagnose(vae, dataset, history)
    assert problems(diagnosis) == {}
    assert [finding.name for finding in diagnosis.findings if finding.severity == "ok"]
    for variable, value in zip(vae.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value, variable.path)
    assert vae.optimizer is optimizer
    again = kvae.diagnose(vae, dataset, history)
    assert again.as_dict() == diagnosis.as_dict()


@pytest.mark.slow
@pytest.mark.usefixtures("graphs")
def test_a_collapsed_model_is_told_to_lower_beta(make_vae, dataset):
    vae = make_vae(beta=100.0, optimizer=keras.optimizers.Adam(1e-2))
    diagnosis = kvae.diagnose(vae, dataset, fit(vae, dataset, 5))
    assert diagnosis.finding("latents").severity == "problem"
    assert "0 of 3 latents in use" in diagnosis.finding("latents").seen
    assert set(problems(diagnosis)) == {"latents", "KL over time"}
    for remedy in problems(diagnosis).values():
        assert remedy == "Lower --beta: 1 gives the bound, and it is 100."


@pytest.mark.slow
def test_an_overfit_model_is_told_when_to_stop(make_vae):
    rng = np.random.default_rng(0)
    noise = 255 * rng.integers(0, 2, (60, 8, 8, 1)).astype("uint8")
    few = kvae.data.from_arrays(noise[:20], validation=noise[20:40], test=noise[40:])
    vae = make_vae(latent_dim=8, optimizer=keras.optimizers.Adam(0.1))
    history = fit(vae, few, 30)
    diagnosis = kvae.diagnose(vae, few, history)
    found = diagnosis.finding("overfitting")
    assert found.severity == "problem"
    best = int(np.argmin(history["val_loss"])) + 1
    assert best < 20 and f"best at epoch {best} of 30" in found.seen
    early = int(found.remedy.removeprefix("--epochs ").split()[0])
    assert early <= best and "more images" in found.remedy


@once
@pytest.mark.parametrize(
    "likelihood, remedy",
    [
        (kvae.Bernoulli("none"), "--binarize dynamic"),
        (kvae.Gaussian(), "--likelihood bernoulli"),
    ],
)
def test_a_wrong_likelihood_is_told_a_right_one(make_vae, dataset, likelihood, remedy):
    encoder = kvae.build_encoder((8, 8, 1), 3, width=16, depth=1)
    decoder = kvae.build_decoder(
        (8, 8, 1), 3, parameters_per_value=likelihood.parameters_per_value, width=16, depth=1
    )
    diagnosis = kvae.diagnose(kvae.VAE(encoder, decoder, likelihood, seed=0), dataset)
    found = diagnosis.finding("likelihood")
    assert found.severity != "ok" and remedy in found.remedy
    assert ("decoder scale" in str(diagnosis.findings)) == (likelihood.parameters_per_value == 2)


@once
def test_a_scale_at_its_bound_is_found(make_vae, dataset):
    likelihood = kvae.Gaussian("shared", min_scale=0.1)
    vae = make_vae(likelihood=likelihood)
    assert kvae.diagnose(vae, dataset).finding("decoder scale").severity == "ok"
    likelihood.raw_scale.assign(-10.0)
    found = kvae.diagnose(vae, dataset).finding("decoder scale")
    assert found.severity == "problem" and "fixed --scale" in found.remedy


def test_every_weight_of_a_flow_has_its_own_name_and_is_looked_at(make_vae, make_flow, dataset):
    vae = make_vae(prior=make_flow(couplings=3))
    names = doctor.weights_of(vae)
    parts = (vae.encoder, vae.decoder, vae.likelihood, vae.prior)
    assert len(names) == sum(len(part.weights) for part in parts)
    vae.train_on_batch(dataset.train[:16])
    first = vae.prior.couplings[0].weights[0]
    first.assign(np.full(first.shape, np.nan))
    found = kvae.diagnose(vae, dataset).finding("gradients")
    assert found.severity == "problem" and "prior/dense_1/kernel" in found.seen


@once
def test_the_kl_of_latents_of_a_flow_is_that_of_all_images_together(make_vae, make_flow, dataset):
    vae = make_vae(prior=make_flow(couplings=2), likelihood=kvae.Bernoulli("threshold"))
    count = len(dataset.train)
    small = dataclasses.replace(dataset, train=dataset.train[:5])  # batches of 5
    own = doctor.looked_at(vae, dataset.validation, seed=0)
    of_all = vae.prior.kl_per_latent(
        *(ops.convert_to_tensor(own[name]) for name in ("mean", "log_variance"))
    )
    expected = np.sort(ops.convert_to_numpy(of_all).mean(axis=0))
    found = kvae.diagnose(vae, small, count=count).drawings["latents"]["kl"]
    np.testing.assert_allclose(np.sort(found), expected, rtol=1e-4)


@pytest.mark.slow
def test_a_flow_is_judged_by_its_own_kl_and_in_its_own_noise(
    make_vae, make_flow, dataset, tmp_path
):
    vae = make_vae(prior=make_flow(couplings=2, scale=0.1), optimizer=keras.optimizers.Adam(1e-2))
    vae.fit(dataset.train, epochs=15, batch_size=16, verbose=0)
    diagnosis = kvae.diagnose(vae, dataset)
    kl = [vae.evaluate(dataset.validation, verbose=0, return_dict=True)["kl"] for _ in range(10)]
    assert abs(diagnosis.numbers["kl"] - np.mean(kl)) < 5 * np.std(kl) + 0.1
    assert f"KL {diagnosis.numbers['kl']:.2f} nats" in diagnosis.finding("latents").seen
    assert 0.5 < diagnosis.numbers["spread"] < 3
    assert diagnosis.finding("gradients").severity == "ok"
    kvae.plots.save_picture(diagnosis.figure(), tmp_path / "page.png")


def test_gradients_are_those_of_the_loss_and_every_weight_has_its_own_name(make_vae):
    vae = make_vae(likelihood=kvae.Gaussian("shared"))
    white = np.full((4, 8, 8, 1), 255, "uint8")
    gradients = doctor.gradients_of(vae, white)
    assert len(gradients) == len(vae.trainable_variables)
    assert all(gradient.any() for gradient in gradients.values())
    # By the raw scale r: Σ σ'(r) (1/σ − (x − μ)²/σ³), which is all but Σ (x − μ)² known.
    squares = np.square(1 - np.array(vae.predict(white, verbose=0)["parameters"])).sum((1, 2, 3))
    scale = float(ops.convert_to_numpy(vae.likelihood.location_and_scale(0.0)[1]))
    slope = 1 / (1 + np.exp(1.0))
    expected = slope * (64 / scale - squares.mean() / scale**3)
    (of_scale,) = (g for name, g in gradients.items() if name.endswith("raw_scale"))
    assert of_scale == pytest.approx(expected, rel=0.1)


def test_a_layer_that_the_output_does_not_need_has_no_gradient(make_vae, dataset):
    vae = make_vae()
    for layer in vae.decoder.layers:
        if layer.weights:
            layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    found = kvae.diagnose(vae, dataset).finding("gradients")
    assert found.severity == "problem" and "No gradient reaches" in found.seen


def test_weights_that_are_not_finite_are_named(make_vae, dataset):
    vae = make_vae()
    vae.encoder.get_layer("mean").bias.assign([float("nan")] * 3)
    diagnosis = kvae.diagnose(vae, dataset)
    assert "encoder/mean/bias" in diagnosis.finding("gradients").seen
    assert "--learning-rate" in problems(diagnosis)["gradients"]
    assert diagnosis.text() and diagnosis.figure()


@pytest.fixture(scope="module")
def without_history(make_vae, dataset):
    """What is found of a model that was not trained, and of whose training nothing is known."""
    return kvae.diagnose(make_vae(likelihood=kvae.Bernoulli("none")), dataset, what="vae")


@once
def test_without_a_history_the_checks_that_need_one_say_so(without_history, tmp_path):
    for name in ("KL over time", "overfitting"):
        assert "no history" in without_history.finding(name).seen
    kvae.plots.save_picture(without_history.figure(), tmp_path / "page.png")


@once
def test_the_text_has_problems_first_and_each_ends_in_what_helps(without_history):
    diagnosis = without_history
    lines = diagnosis.text().splitlines()
    assert lines[0].startswith("vae, 405 train and 45 validation images of bars: ")
    assert all(len(line) <= 100 for line in lines)
    severities = [finding.severity for finding in diagnosis.findings]
    assert severities == sorted(severities, key=checks.SEVERITIES.index, reverse=True)
    for finding in diagnosis.findings:
        assert finding.severity == "ok" or finding.remedy
    assert sum(line.lstrip().startswith("→ ") for line in lines) == sum(
        bool(finding.remedy) for finding in diagnosis.findings
    )


@pytest.fixture
def model(make_vae, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("bars.npz", bars(64))
    vae = make_vae(card={"origin": str(tmp_path / "bars.npz"), "dataset": "bars"}, beta=9.0)
    pathlib.Path("saved_models/vae").mkdir(parents=True)
    vae.save("saved_models/vae.keras")
    pathlib.Path("saved_models/vae/history.csv").write_text(
        "epoch,updates,loss,reconstruction,kl,val_loss,val_kl\n1,4,9,8,1,9,1\n2,8,8,7,1,12,0.1\n"
    )
    return vae


@once
def test_the_command_prints_a_page_and_draws_it(model):
    result = call("doctor")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("saved_models/vae.keras, 53 train and 5 validation images of bars")
    assert any(line.startswith("problem  KL over time") for line in lines)
    assert "→ Lower --beta: 1 gives the bound, and it is 9." in result.stdout
    assert lines[-1] == "doctor.png: the findings and their plots"
    assert result.stderr == ""
    with Image.open("doctor.png") as page:
        assert page.height > page.width > 900


@once
def test_the_command_takes_a_model_by_name_and_prints_json(model):
    pathlib.Path("saved_models/vae.keras").rename("mine.keras")
    result = call("doctor", "mine.keras", "--json", "--out", "new/page.png")
    page = json.loads(result.stdout)
    assert {finding["name"] for finding in page["findings"]} == set(checks.NAMES) - {
        "capacity",
        "classes",
        "decoder scale",
        "groups",
    }
    assert page["numbers"]["kl"] >= 0 and pathlib.Path("new/page.png").exists()
    assert "no history" in str(page["findings"])


@once
def test_the_command_refuses_in_one_line(model):
    assert "There is no model at nothing.keras" in call("doctor", "nothing.keras", code=1).stderr
    assert "must end in .png" in call("doctor", "--out", "page.pdf", code=2).stderr
    pathlib.Path("saved_models/vae/history.csv").write_text("epoch,loss\n1,two\n")
    assert "numbers only" in call("doctor", code=1).stderr


@once
@pytest.mark.usefixtures("graphs")
def test_a_capacity_is_held_or_not(make_vae, dataset):
    objective = kvae.Capacity(beta=20.0, capacity=4.0)
    vae = make_vae(objective=objective, optimizer=keras.optimizers.Adam(1e-2))
    fit(vae, dataset, 20)
    found = kvae.diagnose(vae, dataset).finding("capacity")
    assert found.severity == "ok" and "to be held at 4." in found.seen and not found.remedy
    for capacity in (40.0, 1.0):
        other = vae.uncompiled(kvae.Capacity(beta=20.0, capacity=capacity))
        found = kvae.diagnose(other, dataset).finding("capacity")
        assert found.severity == "problem" and "Raise --beta" in found.remedy
        assert ("--capacity 4" in found.remedy) == (capacity == 40)
    assert not [one for one in kvae.diagnose(make_vae(), dataset).findings
                if one.name in ("capacity", "classes")]  # fmt: skip


@pytest.fixture(scope="module")
def two_kinds():
    """White bars to the left, of class 0, and to the right, of class 1."""
    labels = np.arange(400) % 2
    images = np.zeros((400, 8, 8, 1), "uint8")
    for image, label, place in zip(images, labels, np.arange(400) % 3, strict=True):
        image[:, 4 * label + place] = 255
    return kvae.data.from_arrays(images, train_labels=labels)


@once
@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_a_class_that_tells_is_told_from_one_that_does_not(two_kinds, kind):
    size = {"classes": 2} if kind == "classes" else {"context_dim": 1}
    parts = [f"{part}_labels" for part in ("train", "validation", "test")]
    if kind == "numbers":  # which integers are not taken for
        rows = {part: getattr(two_kinds, part)[:, None].astype("float32") for part in parts}
        two_kinds = dataclasses.replace(two_kinds, **rows)
    recipe = kvae.presets.get("mlp").replaced(
        network_arguments={"width": 8, "depth": 1}, prior="standard-normal", latent_dim=2
    )
    vae = kvae.VAE.from_preset(recipe, (8, 8, 1), seed=0, **size)
    vae.compile(keras.optimizers.Adam(1e-2))
    vae.fit(two_kinds.train, two_kinds.train_labels, epochs=8, batch_size=27, verbose=0)
    found = kvae.diagnose(vae, two_kinds).finding("classes")
    assert found.severity == "ok" and found.remedy == ""
    rng = np.random.default_rng(0)
    mixed = {part: rng.permutation(getattr(two_kinds, part)) for part in parts}
    found = kvae.diagnose(vae, dataclasses.replace(two_kinds, **mixed)).finding("classes")
    told = "The class tells" if kind == "classes" else "The numbers tell"
    assert found.severity == "warning" and told in found.seen and "one order" in found.remedy


@once
def test_a_class_that_no_image_was_trained_on_is_named(two_kinds):
    vae = kvae.VAE.from_preset("mlp-400", (8, 8, 1), latent_dim=2, classes=4)
    vae.card["class_names"] = ["left", "right", "up", "down"]
    found = kvae.diagnose(vae, two_kinds, count=20).finding("classes")
    assert found.severity == "warning" and "is of classes up, down." in found.seen
