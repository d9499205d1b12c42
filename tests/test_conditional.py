"""Conditional models: what a class, or numbers, say of an image runs through all parts."""

import copy

import keras
import numpy as np
import pytest
from keras import ops
from streams import Batches

import kvae

pytestmark = pytest.mark.every_backend
CLASSES = 3


def conditional(network="mlp", prior="flow", classes=CLASSES, size=CLASSES, **arguments):
    keras.utils.set_random_seed(1)
    own = {"width": 16, "depth": 1} if network == "mlp" else {"channels": 4}
    if prior == "flow":
        prior = kvae.RealNVP(3, couplings=2, width=8, depth=1, context_dim=size)
    vae = kvae.VAE(
        kvae.build_encoder((8, 8, 1), 3, network, context_dim=size, **own),
        kvae.build_decoder((8, 8, 1), 3, network, context_dim=size, **own),
        kvae.Bernoulli("threshold"),
        prior=prior,
        classes=classes,
        seed=2,
        **arguments,
    )
    if isinstance(prior, kvae.RealNVP):  # as training might leave it
        rng = np.random.default_rng(0)
        for weight in vae.prior.weights:
            weight.assign(rng.normal(0, 0.4, weight.shape))
    vae.compile(keras.optimizers.SGD(1e-3))
    return vae


@pytest.fixture(scope="module")
def vae():
    return conditional()


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(0).integers(0, CLASSES, 64)


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def test_the_terms_are_those_of_all_parts_with_the_class(vae, images, labels):
    found = {
        name: ops.convert_to_tensor(v)
        for name, v in vae.predict((images, labels), verbose=0).items()
    }
    rows = ops.one_hot(labels, CLASSES, dtype="float32")
    np.testing.assert_array_equal(numpy(found["context"]), numpy(rows))
    mean, log_variance = vae.encoder([found["observed"], rows])
    np.testing.assert_allclose(numpy(mean), numpy(found["mean"]), atol=1e-5)
    parameters = vae.decoder([found["z"], rows])
    reconstruction = -vae.likelihood.log_prob(found["observed"], parameters)
    log_priors = [
        vae.prior.log_prob(found["z"], told) for told in (rows, ops.roll(rows, 1, axis=1))
    ]
    assert abs(numpy(log_priors[0]) - numpy(log_priors[1])).max() > 1e-3
    spread = ops.square(found["z"] - mean) * ops.exp(-log_variance) + log_variance
    log_posterior = -0.5 * ops.sum(spread + np.log(2 * np.pi), axis=-1)
    kl = log_posterior - log_priors[0]
    terms = vae.terms(found)
    np.testing.assert_allclose(numpy(terms.reconstruction), numpy(reconstruction), rtol=1e-4)
    np.testing.assert_allclose(numpy(terms.kl), numpy(kl), rtol=1e-3, atol=1e-3)


def test_it_learns_what_belongs_to_a_class(images):
    keras.utils.set_random_seed(0)
    vae = conditional(prior=None)
    vae.compile(keras.optimizers.Adam(0.02))
    white = (np.arange(64) % 2).astype("uint8")  # class 1 is white, class 0 black
    plain = np.broadcast_to(255 * white[:, None, None, None], images.shape)
    history = vae.fit(plain, white, epochs=12, batch_size=16, verbose=0)
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
    assert vae.generate(4, seed=0, classes=1).mean() > 0.8
    assert vae.generate(4, seed=0, classes=[0]).mean() < 0.2
    assert vae.generate(4, seed=0, classes=[0, 1]).mean(axis=(1, 2, 3)).round().tolist() == [
        0, 1, 0, 1
    ]  # fmt: skip
    np.testing.assert_array_equal(vae.classify(plain[:6]), white[:6])
    assert vae.reconstruct(plain[:2]).mean(axis=(1, 2, 3)).round().tolist() == [0, 1]


@pytest.mark.parametrize(
    "given",
    [
        lambda labels: labels[:, None],
        lambda labels: np.eye(CLASSES)[labels],
        lambda labels: labels.astype("float64"),
        lambda labels: labels.tolist(),
        lambda labels: ops.convert_to_tensor(labels.astype("int32")),
    ],
    ids=["column", "one-hot", "floats", "list", "tensor"],
)
def test_classes_come_in_many_forms(vae, images, labels, given):
    vae.seed_generator.state.assign([2, 0])
    loss = vae.test_on_batch(images, labels, return_dict=True)["loss"]
    vae.seed_generator.state.assign([2, 0])
    again = vae.test_on_batch(images, given(labels), return_dict=True)["loss"]
    assert float(again) == pytest.approx(float(loss), rel=1e-6)


@pytest.mark.parametrize(
    "given, what",
    [
        (None, "integers in 0…2, one for each image: give them beside the images"),
        (np.full(64, 3), "integers in 0…2, one for each image. Received: 64 values from 3 to 3"),
        (np.full(64, -1), "made with partly_labelled=True"),
        (np.full(64, 0.5), "Received: 64 values from 0.5 to 0.5"),
        (np.zeros(5, int), "Received: 5 values"),
        (np.zeros((64, 2)), "Received: shape"),
        (["a"] * 64, "integers in 0…2"),
        (np.full(64, np.nan), "integers in 0…2"),
    ],
    ids=["none", "above", "missing", "halves", "few", "columns", "texts", "nan"],
)
def test_what_are_no_classes_is_refused(vae, images, given, what):
    for call in (vae.fit, vae.evaluate, vae.train_on_batch):
        with pytest.raises(ValueError, match=what):
            call(images, given)
    if given is not None:
        with pytest.raises(ValueError, match=what):
            vae.encode(images, classes=given)


def test_streams_hold_classes_beside_images(vae, images, labels):
    def loss(x):
        vae.seed_generator.state.assign([2, 0])
        return vae.evaluate(x, verbose=0, return_dict=True)["loss"]

    vae.seed_generator.state.assign([2, 0])
    whole = vae.evaluate(images, labels, batch_size=16, verbose=0, return_dict=True)["loss"]
    batches = [(images[i : i + 16], labels[i : i + 16]) for i in range(0, 64, 16)]
    assert loss(Batches(batches)) == pytest.approx(whole, rel=1e-5)
    dicts = [{"image": x, "label": y} for x, y in batches]
    assert loss(Batches(dicts)) == pytest.approx(whole, rel=1e-5)
    batches[2] = (batches[2][0], np.full(16, 9))
    with pytest.raises(ValueError, match="Batch 3 of `x`: The model is conditional"):
        loss(Batches(batches))
    found = [vae.predict(x, verbose=0)["mean"] for x in ((images, labels), Batches(dicts))]
    found.append(vae.predict_on_batch((images, labels))["mean"])
    for one in found[1:]:
        np.testing.assert_allclose(numpy(one), numpy(found[0]), atol=1e-5)


def test_weights_of_classes_and_a_split_go_with_classes(images, labels):
    vae = conditional()
    history = vae.fit(
        images, labels, validation_split=0.25, class_weight={0: 2.0, 1: 0.0}, verbose=0
    )
    assert np.isfinite(history.history["val_loss"]).all()


def test_new_images_are_those_of_the_generator(vae):
    noise = numpy(vae.prior.noise(4, 0))
    rows = np.eye(CLASSES, dtype="float32")[[2, 2, 2, 2]]
    made = numpy(vae.generator()([ops.convert_to_tensor(noise), ops.convert_to_tensor(rows)]))
    np.testing.assert_allclose(vae.generate(4, seed=0, classes=2), made, atol=1e-5)
    in_turn = vae.generate(4, seed=0)
    of_each = [vae.generate(4, seed=0, classes=c)[i] for i, c in enumerate((0, 1, 2, 0))]
    np.testing.assert_allclose(in_turn, np.stack(of_each), atol=1e-5)
    with pytest.raises(ValueError, match="classes for 3 images, and 2 are to come"):
        vae.generate(2, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="integers in 0…2"):
        vae.generate(2, classes=7)


def test_a_style_is_the_same_noise_for_all_classes(vae):
    found = kvae.styles(vae, count=4, seed=0)
    assert found.shape == (CLASSES, 4, 8, 8, 1)
    np.testing.assert_allclose(found[1], vae.generate(4, seed=0, classes=1), atol=1e-5)
    assert kvae.styles(vae, [2], count=2, seed=0).shape == (1, 2, 8, 8, 1)


def test_noise_becomes_latents_of_a_class_and_again_noise(vae):
    noise = np.random.default_rng(0).standard_normal((8, 3), "float32")
    rows = ops.one_hot(np.arange(8) % CLASSES, CLASSES, dtype="float32")
    z = vae.prior.from_noise(noise, rows)
    np.testing.assert_allclose(numpy(vae.prior.to_noise(z, rows)), noise, atol=1e-4)
    other = vae.prior.to_noise(z, ops.roll(rows, 1, axis=1))
    assert abs(numpy(other) - noise).max() > 1e-2
    with pytest.raises(ValueError, match="needs a context"):
        vae.prior.log_prob(z)


def test_without_a_class_scores_are_over_all(vae, images):
    some = images[:4]
    whole = vae.score(some, draws=20)
    each = [vae.score(some, draws=20, classes=np.full(4, c)) for c in range(CLASSES)]
    for name, sign in (("log_prob", 1), ("elbo", 1)):
        values = np.exp(np.stack([getattr(one, name) for one in each]).astype("longdouble"))
        expected = np.log(values.mean(axis=0))
        np.testing.assert_allclose(getattr(whole, name), sign * expected.astype(float), rtol=1e-5)
    assert (whole.log_prob >= whole.elbo - 1e-6).all()
    best = np.stack([vae.score(some, 1, classes=np.full(4, c)).log_prob for c in range(CLASSES)])
    np.testing.assert_array_equal(vae.classify(some), best.argmax(axis=0))


def test_a_map_of_surprise_adds_up_to_the_reconstruction(vae, images, labels):
    maps = vae.surprise(images[:3], draws=5, classes=labels[:3])
    scores = vae.score(images[:3], draws=5, classes=labels[:3])
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), scores.reconstruction, rtol=1e-4)


def test_files_and_copies_keep_the_classes(vae, images, labels, tmp_path):
    vae.save(tmp_path / "vae.keras")
    expected = vae.generate(5, seed=0, classes=[2, 0])
    for again in (
        keras.saving.load_model(tmp_path / "vae.keras"), vae.uncompiled(), copy.deepcopy(vae)
    ):  # fmt: skip
        assert again.classes == CLASSES
        np.testing.assert_allclose(again.generate(5, seed=0, classes=[2, 0]), expected, atol=1e-6)


@pytest.mark.parametrize(
    "objective",
    [kvae.ImportanceWeighted(samples=3), kvae.ELBO(samples=2, free_bits=0.1)],
    ids=["iwae", "samples"],
)
def test_objectives_of_several_draws_know_the_class(images, labels, objective):
    vae = conditional(objective=objective)
    history = vae.fit(images, labels, epochs=2, batch_size=16, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_steps_that_are_compiled_or_recorded_are_the_eager_ones(
    images, labels, monkeypatch, graphs
):
    if keras.backend.backend() == "torch":
        monkeypatch.setattr("kvae.steps.torch_step.EAGER_STEPS", 1)
    histories = []
    for eagerly in (False, True):
        vae = conditional()
        vae.compile(keras.optimizers.SGD(1e-3), run_eagerly=eagerly)
        given = {"epochs": 2, "batch_size": 16, "verbose": 0}
        given["validation_data"] = (images[:16], labels[:16])
        histories.append(vae.fit(images[:32], labels[:32], **given).history)
    for name in histories[0]:
        np.testing.assert_allclose(histories[0][name], histories[1][name], rtol=1e-4, err_msg=name)


def test_a_class_that_is_known_counts_alone(vae, images, labels):
    partly = conditional(partly_labelled=True)
    found = []
    for model in (vae, partly):
        model.seed_generator.state.assign([2, 0])
        found.append(model.evaluate(images, labels, verbose=0, return_dict=True))
    for name in found[0]:
        assert found[1][name] == pytest.approx(found[0][name], rel=1e-4), name


def test_a_class_that_is_not_known_counts_as_likely_as_it_is(images, labels):
    vae = conditional(partly_labelled=True)
    some = np.where(np.arange(64) % 2, -1, labels)
    seen = vae.predict((images, some), batch_size=64, verbose=0)
    terms = vae.terms({name: ops.convert_to_tensor(value) for name, value in seen.items()})
    costs = numpy(terms.costs[0] + terms.costs[1]).reshape(64, CLASSES).astype("float64")
    unknown = -np.log(np.exp(-costs).mean(axis=1))
    expected = np.where(some < 0, unknown, costs[np.arange(64), labels])
    np.testing.assert_allclose(numpy(terms.reconstruction + terms.kl), expected, rtol=1e-4)
    history = vae.fit(images, some, epochs=2, batch_size=16, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    again = vae.uncompiled()
    assert again.partly_labelled
    likely = np.where(some < 0, vae.classify(images), some)
    np.testing.assert_array_equal(
        vae.encode(images, classes=some)[0], vae.encode(images, classes=likely)[0]
    )
    with pytest.raises(ValueError, match="must be known; leave out `classes`"):
        vae.generate(3, classes=-1)
    for refused in ({"classes": None}, {"objective": kvae.ELBO(samples=2)}):
        with pytest.raises(ValueError, match="`partly_labelled` is for a model of `classes`"):
            conditional(partly_labelled=True, **refused)


def test_latents_in_groups_are_conditional_too(images, labels):
    own = {"groups": ((1, 3), (2, 2)), "channels": 4, "width": 8, "squeeze": 0}
    vae = kvae.VAE(
        kvae.build_encoder((8, 8, 1), 11, "ladder", context_dim=CLASSES, **own),
        kvae.build_decoder((8, 8, 1), 11, "ladder", context_dim=CLASSES, **own),
        classes=CLASSES,
        seed=0,
    )
    vae.compile(keras.optimizers.SGD(1e-3))
    vae.fit(images, labels, verbose=0)
    assert vae.groups == (3, 8)
    same = [vae.generate(3, seed=0, classes=c) for c in (0, 1)]
    assert abs(same[0] - same[1]).max() > 1e-4
    means = [vae.encode(images[:3], classes=np.full(3, c))[0] for c in (0, 1)]
    assert abs(means[0] - means[1]).max() > 1e-6
    assert vae.reconstruct(images[:3], groups=1, classes=labels[:3]).shape == (3, 8, 8, 1)
    assert len(vae.score(images[:3], draws=2)) == 3
    made = numpy(vae.generator()([ops.zeros((1, 11)), ops.one_hot([0], CLASSES)]))
    assert made.shape == (1, 8, 8, 1)


def test_numbers_of_its_own_are_told_of_each_image(images):
    vae = conditional(classes=None, size=2)
    numbers = np.random.default_rng(0).standard_normal((64, 2))
    history = vae.fit(images, numbers, verbose=0, validation_data=(images[:9], numbers[:9]))
    assert np.isfinite(history.history["val_loss"]).all()
    assert vae.generate(4, classes=[[0.5, -1.0]]).shape == (4, 8, 8, 1)
    assert len(vae.score(images[:2], 2, classes=numbers[:2])) == 2
    mean, _ = vae.encode(images[:3], classes=numbers[:3])
    assert vae.decode(mean, classes=numbers[:3]).shape == (3, 8, 8, 1)
    with pytest.raises(ValueError, match=r"rows of 2 finite numbers, of shape \(count, 2\)"):
        vae.fit(images, numbers[:, :1])
    for call in (vae.encode, vae.score, vae.reconstruct):
        with pytest.raises(
            ValueError, match="finite numbers, of shape .*: give them beside the images"
        ):
            call(images[:2])
    with pytest.raises(ValueError, match="Only a model of classes can classify"):
        vae.classify(images[:2])


def test_a_model_without_condition_says_that_it_has_none(fixed_vae, images):
    for call in (
        lambda: fixed_vae.encode(images, classes=np.zeros(64, int)),
        lambda: fixed_vae.generate(3, classes=1),
        lambda: fixed_vae.score(images[:2], 2, classes=[0, 1]),
    ):
        with pytest.raises(ValueError, match="`classes` is for a conditional model"):
            call()
    with pytest.raises(ValueError, match="Only a model of classes can classify"):
        fixed_vae.classify(images)
    with pytest.raises(ValueError, match="Styles are drawn by a conditional model"):
        kvae.styles(fixed_vae)


def test_parts_that_differ_are_refused():
    def parts(encoder=3, decoder=3):
        return (
            kvae.build_encoder((8, 8, 1), 3, "dense", context_dim=encoder, widths=(4,)),
            kvae.build_decoder((8, 8, 1), 3, "dense", context_dim=decoder, widths=(4,)),
        )

    with pytest.raises(ValueError, match="encoder 3, decoder 4"):
        kvae.VAE(*parts(3, 4))
    with pytest.raises(ValueError, match="`classes` is 5, and the parts differ"):
        kvae.VAE(*parts(), classes=5)
    with pytest.raises(ValueError, match="decoder with a second input called 'context'"):
        kvae.VAE(*parts(3, None), classes=3)
    with pytest.raises(ValueError, match="prior 2"):
        kvae.VAE(*parts(), prior=kvae.RealNVP(3, couplings=1, context_dim=2), classes=3)
    assert kvae.VAE(*parts(None, 3), classes=3).condition.size == 3  # q(z|x) may do without


def test_on_a_grid_the_class_is_known_at_each_place():
    decoder = kvae.build_decoder((16, 16, 1), 8, "spatial", context_dim=2, channels=4)
    assert decoder.get_layer("with_context").output.shape[1:3] == (8, 8)


def test_a_whole_run_is_conditional(images, labels, tmp_path):
    data = kvae.data.from_arrays(images, train_labels=labels, class_names=("a", "b", "c"))
    settings = {"network_arguments": {"widths": (8,)}, "epochs": 1, "verbose": 0}
    out = tmp_path / "vae.keras"
    vae = kvae.train(data, "mlp-400", conditional=True, latent_dim=3, out=out, **settings)
    assert vae.classes == 3 and kvae.load(out).classes == 3
    assert vae.card["test"]["protocol"]["given"] == "given the class"
    found = kvae.evaluate(vae, data, importance_samples=2, samples=0)
    assert 0 <= found.figures["classification"]["most_likely"] <= 1
    assert "by the largest log p(x|class)" in str(found) and "given the class" in str(found)
    plain = kvae.VAE.from_preset("mlp-400", (8, 8, 1), latent_dim=3)
    other = kvae.evaluate(plain, data, importance_samples=2, samples=0)
    assert "one is of p(x|class)" in kvae.compare(found, other)["why"]
    diagnosis = kvae.diagnose(vae, data)
    assert np.isfinite(diagnosis.numbers["validation_loss"])
    again = kvae.train(
        data, "mlp-400", conditional=True, latent_dim=3, out=out, resume=True,
        **{**settings, "epochs": 2},
    )  # fmt: skip
    assert again.card["epochs"] == 2
    other = kvae.data.from_arrays(images, train_labels=(labels + 1) % 3)
    with pytest.raises(ValueError, match="trained on other images"):
        kvae.train(
            other, "mlp-400", conditional=True, latent_dim=3, out=out, resume=True,
            **{**settings, "epochs": 3},
        )  # fmt: skip
    with pytest.raises(ValueError, match="needs the class of each image"):
        kvae.train(kvae.data.from_arrays(images), "mlp-400", conditional=True, out=out)


def test_classes_of_a_data_set_go_by_name(vae, images, labels):
    named = conditional(card={"class_names": ["a", "b", "c"]})
    np.testing.assert_array_equal(named.known([0, 1], ("c", "a")), [2, 0])
    np.testing.assert_array_equal(vae.known(labels, ("x", "y", "z")), labels)  # names not known
    with pytest.raises(ValueError, match="knows no class 'd'; it knows a, b, c"):
        named.known([0, 1], ("a", "d"))
    data = kvae.data.from_arrays(images, train_labels=(labels > 0) * 1, class_names=("c", "a"))
    whole = kvae.evaluate(named, data, importance_samples=1, samples=0)
    of = kvae.evaluation.posterior(named, data.test, 0, np.where(data.test_labels, 0, 2))
    bound = kvae.evaluation.terms(named, of).elbo.mean()
    assert whole.figures["bound"]["elbo"] == pytest.approx(bound, abs=1e-3)
    assert {"classification", "representation"} <= set(whole.figures)


def test_neighbours_and_probe_are_not_told_the_class_that_they_are_to_find(vae, images, labels):
    labels = np.random.default_rng(0).permutation(labels)  # of which the images say nothing
    data = kvae.data.from_arrays(
        images, test=images, train_labels=labels, test_labels=labels, validation=images[:8],
        validation_labels=labels[:8],
    )  # fmt: skip
    found = kvae.evaluate(vae, data, importance_samples=1, samples=0)
    alone = vae.encode(images)[0]
    order = np.sort(np.random.default_rng(0).permutation(64))
    expected = kvae.evaluation.report.representation(alone[order], labels[order], alone, labels)
    assert found.figures["representation"] == expected
    text = "\n".join(kvae.evaluation.text.lines_of(kvae.evaluation.text.rows_of(found.figures)))
    assert "−log p(x|c), at most" in text


def test_labels_of_a_data_set_are_no_numbers(images, labels):
    vae = kvae.VAE.from_preset("mlp-400", (8, 8, 1), latent_dim=3, context_dim=1)
    data = kvae.data.from_arrays(images, train_labels=labels)
    says = "conditional on rows of 1 finite numbers.* and a data set has classes. In Python, pass"
    for verb in (kvae.evaluate, kvae.fit_prior, kvae.diagnose):
        with pytest.raises(ValueError, match=says):
            verb(vae, data)
    assert len(vae.score(images[:4], 1, classes=np.ones((4, 1))).elbo) == 4


def test_information_is_what_images_of_one_class_show(vae, images, labels):
    found = kvae.evaluation.report.latent_figures(
        vae, kvae.evaluation.posterior(vae, images, 0, labels), 5.0, 0
    )
    assert found["mutual_information"] <= found["mutual_information_at_most"] < np.log(64 / 2)
    numbers = kvae.evaluation.information_within(images[:, 0, :3, 0], images[:, 0, :3, 0], 0,
                                                 np.full((64, 2), 0.3))  # fmt: skip
    assert numbers == (None, None)


@pytest.mark.parametrize("given", [np.array(1), 1.0, [1], "one"], ids=str)
def test_one_class_may_be_given_in_any_form_of_a_number(vae, given):
    if given == "one":
        with pytest.raises(ValueError, match="integers in 0…2"):
            vae.generate(2, classes=given)
    else:
        expected = vae.generate(2, seed=0, classes=1)
        np.testing.assert_array_equal(vae.generate(2, seed=0, classes=given), expected)


def test_paths_and_pictures_are_told_the_class(vae, images, labels):
    given = (labels[:2], labels[2:4])
    for hold in (None, "class", "style"):
        made = kvae.interpolate(vae, images[:2], images[2:4], 3, hold=hold, classes=given)
        assert made.shape == (2, 3, 8, 8, 1)
        start = vae.reconstruct(images[:2], classes=labels[:2])
        np.testing.assert_allclose(made[:, 0], start, atol=1e-4)
    same = kvae.like(vae, images[0], 2, seed=0, temperature=0, classes=int(labels[0]))
    np.testing.assert_allclose(same[0], start[0], atol=1e-4)
    with pytest.raises(ValueError, match="one for each path, 2. Received: 1"):
        kvae.interpolate(vae, images[:2], images[2:4], 3, classes=(labels[:1], labels[2:4]))
    for draw in (
        lambda: kvae.manifold(vae, images, 2, of_class=1, classes=labels),
        lambda: kvae.traversals(vae, images, 2, 3, classes=labels),
        lambda: kvae.by_group(vae, images[:2], classes=labels[:2]),
    ):
        assert draw() is not None


def test_a_model_of_numbers_draws_what_others_do(images, tmp_path):
    vae = conditional(classes=None, size=2)
    numbers = np.random.default_rng(0).standard_normal((64, 2))
    ends = (numbers[:2], numbers[2:4])
    assert kvae.interpolate(vae, images[:2], images[2:4], 3, classes=ends).shape[1] == 3
    assert len(kvae.like(vae, images[0], 2, classes=numbers[0])) == 2
    kvae.manifold(vae, images, 2, of_class=numbers[0], classes=numbers)
    kvae.traversals(vae, images, 2, 3, classes=numbers)
    kvae.latent(vae, images, method="pca", classes=numbers)
    grid = kvae.SampleGrid(tmp_path / "grids", count=4, classes=numbers[:4])
    vae.fit(images, numbers, verbose=0, callbacks=[grid])
    assert (tmp_path / "grids" / "epoch-0001.png").is_file()


def test_a_ladder_whose_encoder_is_not_told_is_refused():
    own = {"groups": ((1, 3), (2, 2)), "channels": 4}
    with pytest.raises(ValueError, match="must both take a context, or neither"):
        kvae.VAE(
            kvae.build_encoder((8, 8, 1), 11, "ladder", **own),
            kvae.build_decoder((8, 8, 1), 11, "ladder", context_dim=3, **own),
            classes=3,
        )


@pytest.mark.parametrize("form", ["one-hot", "column"])
def test_data_sets_of_tensorflow_hold_classes_in_any_form(vae, images, labels, form):
    tf = pytest.importorskip("tensorflow")
    given = np.eye(CLASSES)[labels] if form == "one-hot" else labels[:, None]
    data = tf.data.Dataset.from_tensor_slices((images, given)).batch(16)
    vae.seed_generator.state.assign([2, 0])
    loss = vae.evaluate(data, verbose=0, return_dict=True)["loss"]
    vae.seed_generator.state.assign([2, 0])
    whole = vae.evaluate(images, labels, batch_size=16, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(whole, rel=1e-5)
    soft = tf.data.Dataset.from_tensor_slices((images, np.full((64, CLASSES), 0.3))).batch(16)
    with pytest.raises(ValueError, match="Batch 1 of `x`: The model is conditional"):
        vae.evaluate(soft, verbose=0)
