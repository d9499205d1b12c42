import keras
import numpy as np
import pytest
from keras import layers, ops

import kvae
from kvae.likelihoods import Bernoulli, DiscretizedLogistic, Gaussian
from kvae.priors import Prior, RealNVP, StandardNormal

pytestmark = pytest.mark.every_backend

SHAPE = (8, 8, 1)


def test_call_returns_what_was_observed_and_what_became_of_it(fixed_vae, images):
    outputs = fixed_vae(images)
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    latents = (64, 3)
    assert shapes == {
        "observed": images.shape,
        "mean": latents,
        "log_variance": latents,
        "z": latents,
        "parameters": images.shape,
    }
    assert set(np.unique(ops.convert_to_numpy(outputs["observed"]))) == {0, 1}


def test_z_is_drawn_from_the_posterior(make_vae, images):
    vae = make_vae(likelihood=Bernoulli("threshold"))
    same = np.repeat(images[:1], 5000, 0)
    outputs = {name: ops.convert_to_numpy(value) for name, value in vae(same).items()}
    noise = (outputs["z"] - outputs["mean"]) / np.exp(outputs["log_variance"] / 2)
    assert abs(noise.mean(0)).max() < 5 / np.sqrt(5000)
    assert abs(noise.std(0) - 1).max() < 5 / np.sqrt(10_000)


@pytest.mark.slow
def test_more_samples_give_the_same_bound_with_less_noise(make_vae, images):
    spread, mean = {}, {}
    for samples in (1, 16):
        vae = make_vae(likelihood=Bernoulli("threshold"), samples=samples)
        outputs = vae(images)
        assert outputs["z"].shape == (64 * samples, 3)
        assert outputs["parameters"].shape == (64 * samples, *SHAPE)
        losses = [vae.evaluate(images, batch_size=64, verbose=0)[0] for _ in range(12)]
        spread[samples], mean[samples] = np.std(losses), np.mean(losses)
    assert spread[16] < 0.6 * spread[1]
    assert abs(mean[16] - mean[1]) < 5 * spread[1] / np.sqrt(12) + 5 * spread[16] / np.sqrt(12)


def test_an_images_samples_follow_each_other(make_vae, images):
    vae = make_vae(likelihood=Bernoulli("threshold"), samples=4)
    outputs = {name: ops.convert_to_numpy(value) for name, value in vae(images).items()}
    mean, deviation = outputs["mean"], np.exp(outputs["log_variance"] / 2)
    noise = (outputs["z"].reshape(64, 4, 3) - mean[:, None]) / deviation[:, None]
    assert abs(noise).max() < 6
    assert abs(noise.std() - 1) < 0.1


def test_the_mean_of_two_draws_has_half_the_variance(make_vae, images):
    vae = make_vae(likelihood=Bernoulli("threshold"), mean_of_draws=2)
    same = np.repeat(images[:1], 5000, 0)
    outputs = {name: ops.convert_to_numpy(value) for name, value in vae(same).items()}
    noise = (outputs["z"] - outputs["mean"]) / np.exp(outputs["log_variance"] / 2)
    assert abs(noise.std() - np.sqrt(0.5)) < 0.02


@pytest.mark.parametrize(
    "arguments, what",
    [
        ({"beta": -1.0}, "`beta`"),
        ({"beta": float("nan")}, "`beta`"),
        ({"warmup_steps": -1}, "`warmup_steps`"),
        ({"samples": 0}, "`samples`"),
    ],
)
def test_nonsense_is_refused(make_vae, arguments, what):
    with pytest.raises(ValueError, match=what):
        make_vae(**arguments)


def test_metrics_weigh_a_short_last_batch_by_its_images(make_vae, images):
    vae = make_vae(likelihood=Bernoulli("none"))
    vae.encoder.get_layer("raw_log_variance").bias.assign([-1e6] * 3)  # as good as no noise
    whole = vae.evaluate(images, batch_size=64, verbose=0, return_dict=True)
    parts = vae.evaluate(images, batch_size=60, verbose=0, return_dict=True)
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-2)
    assert list(whole) != []


def test_warmup_is_off_at_test_time(make_vae, images):
    vae = make_vae(beta=2.0, warmup_steps=1000)
    figures = vae.evaluate(images, verbose=0, return_dict=True)
    np.testing.assert_allclose(
        figures["loss"], figures["reconstruction"] + 2 * figures["kl"], rtol=1e-5
    )
    assert float(ops.convert_to_numpy(vae.step)) == 0


def test_sample_weights_multiply_each_image(make_vae, images):
    vae = make_vae(likelihood=Bernoulli("threshold"))
    vae.seed_generator.state.assign([0, 0])
    plain = vae.evaluate(images, batch_size=64, verbose=0, return_dict=True)
    vae.seed_generator.state.assign([0, 0])
    weights = np.full(64, 2.0, "float32")
    double = vae.evaluate(images, None, 64, sample_weight=weights, verbose=0, return_dict=True)
    for name in plain:
        np.testing.assert_allclose(double[name], 2 * plain[name], rtol=1e-5)


def test_regularisation_of_the_users_own_layers_is_in_the_loss(images):
    inputs = keras.Input(SHAPE)
    features = layers.Flatten()(inputs)
    penalty = keras.regularizers.L2(0.5)
    mean = layers.Dense(2, kernel_regularizer=penalty)(features)
    encoder = keras.Model(inputs, [mean, layers.Dense(2)(features)])
    vae = kvae.VAE(encoder, kvae.build_decoder(SHAPE, 2, width=8))
    vae.compile("adam")
    figures = vae.evaluate(images, batch_size=64, verbose=0, return_dict=True)
    kernel = ops.convert_to_numpy(encoder.layers[-2].kernel)
    np.testing.assert_allclose(
        figures["loss"] - figures["reconstruction"] - figures["kl"],
        0.5 * (kernel**2).sum(),
        rtol=1e-3,
    )


def test_encode_reconstruct_and_decode_agree(fixed_vae, images):
    mean, log_variance = fixed_vae.encode(images)
    assert mean.shape == log_variance.shape == (64, 3)
    np.testing.assert_allclose(fixed_vae.decode(mean), fixed_vae.reconstruct(images), rtol=1e-6)


@pytest.mark.parametrize("method", ["encode", "reconstruct"])
def test_an_images_answer_does_not_depend_on_its_batch(fixed_vae, images, method):
    answer = getattr(fixed_vae, method)
    together, alone = answer(images, batch_size=24), answer(images[7:8])
    if method == "encode":
        together, alone = together[0], alone[0]
    np.testing.assert_allclose(together[7], alone[0], rtol=1e-4, atol=1e-5)


def test_answers_are_numpy_arrays_in_the_unit_interval(fixed_vae, images):
    for answer in (
        fixed_vae.generate(5, seed=0),
        fixed_vae.reconstruct(images),
        fixed_vae.decode(np.ones((2, 3))),
    ):
        assert isinstance(answer, np.ndarray) and answer.dtype == np.float32
        assert answer.min() >= 0 and answer.max() <= 1


def test_generate_repeats_with_a_seed_and_differs_without(fixed_vae):
    np.testing.assert_array_equal(fixed_vae.generate(4, seed=3), fixed_vae.generate(4, seed=3))
    np.testing.assert_allclose(
        fixed_vae.generate(7, seed=3, batch_size=3),
        fixed_vae.generate(7, seed=3),
        rtol=1e-4,
        atol=1e-6,
    )
    assert (fixed_vae.generate(4) != fixed_vae.generate(4)).any()


def test_generate_leaves_the_training_stream_alone(fixed_vae):
    before = ops.convert_to_numpy(fixed_vae.seed_generator.state).tolist()
    fixed_vae.generate(4)
    fixed_vae.generate(4, seed=1)
    assert ops.convert_to_numpy(fixed_vae.seed_generator.state).tolist() == before


def test_temperature_zero_draws_the_same_image_every_time(fixed_vae):
    images = fixed_vae.generate(3, temperature=0.0)
    np.testing.assert_allclose(images[1:], images[:-1])


@pytest.mark.parametrize(
    "arguments, what",
    [
        ({"count": 0}, "count=0"),
        ({"count": 2.5}, "count=2.5"),
        ({"count": 1, "seed": -1}, "seed=-1"),
        ({"count": 1, "batch_size": 0}, "batch_size=0"),
        ({"count": 1, "temperature": -1.0}, "temperature=-1"),
        ({"count": 1, "temperature": float("nan")}, "temperature=nan"),
    ],
)
def test_generate_refuses_nonsense(fixed_vae, arguments, what):
    with pytest.raises(ValueError, match=what):
        fixed_vae.generate(**arguments)


def test_predict_refuses_what_fit_refuses(fixed_vae, images):
    with pytest.raises(ValueError, match="Divide them by 255"):
        fixed_vae.predict(images.astype("float32"), verbose=0)


def test_bool_images_are_black_and_white(fixed_vae, images):
    white = images > 127
    np.testing.assert_allclose(
        fixed_vae.reconstruct(white), fixed_vae.reconstruct(white.astype("uint8") * 255), rtol=1e-5
    )


def test_predict_returns_the_outputs_of_call(fixed_vae, images):
    assert fixed_vae.predict(images, verbose=0)["z"].shape == (64, 3)


# What `fit` takes ------------------------------------------------------------------------------


class Batches(keras.utils.PyDataset):
    def __init__(self, images):
        super().__init__()
        self.images = images

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return (self.images[16 * i : 16 * i + 16],)


def tf_data(images):
    tf = pytest.importorskip("tensorflow")
    labels = np.zeros(len(images))
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(16)


def torch_loader(images):
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.from_numpy(images))
    return torch.utils.data.DataLoader(data, batch_size=16)


def slow_beside(backend):
    """Marks what imports another framework than the one in use."""
    return [] if keras.backend.backend() == backend else pytest.mark.slow


@pytest.mark.parametrize(
    "forms",
    [
        [np.asarray, Batches, lambda x: (x / 255).astype("float32")],
        pytest.param([tf_data], marks=slow_beside("tensorflow")),
        pytest.param([torch_loader], marks=slow_beside("torch")),
    ],
    ids=["own", "tf.data", "DataLoader"],
)
def test_fit_and_evaluate_take_every_form_of_data(make_vae, images, forms):
    vae = make_vae()
    for form in forms:
        history = vae.fit(
            form(images), validation_data=form(images), epochs=1, shuffle=False, verbose=0
        ).history
        assert {"loss", "val_loss", "val_kl", "val_elbo", "val_reconstruction"} <= set(history)
        assert np.isfinite(history["val_loss"]).all()
        assert np.isfinite(vae.evaluate(form(images), verbose=0)).all()


@pytest.mark.parametrize(
    "form", [np.asarray, pytest.param(tf_data, marks=slow_beside("tensorflow")), Batches]
)
def test_fit_refuses_images_out_of_range_before_the_first_step(fixed_vae, images, form):
    wrong = images.astype("float32")
    with pytest.raises(ValueError, match="Divide them by 255"):
        fixed_vae.fit(form(wrong), epochs=1, shuffle=False, verbose=0)
    with pytest.raises(ValueError, match="Divide them by 255"):
        fixed_vae.fit(images, validation_data=(wrong, None), epochs=1, verbose=0)
    assert int(ops.convert_to_numpy(fixed_vae.step)) == 0


# Building ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("graphs")
def test_the_users_own_encoder_and_decoder_train(images):
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, strides=2, activation="relu")(inputs)
    x = layers.Dropout(0.2)(layers.Flatten()(layers.BatchNormalization()(x)))
    encoder = keras.Model(inputs, [layers.Dense(2)(x), layers.Dense(2)(x)])
    decoder = keras.Sequential([keras.Input((2,)), layers.Dense(64), layers.Reshape(SHAPE)])
    vae = kvae.VAE(encoder, decoder, prior=StandardNormal(2))
    vae.compile("adam")
    history = vae.fit(images, validation_split=0.25, epochs=2, verbose=0).history
    assert np.isfinite(history["val_loss"]).all()


def networks(encoder_latents=2, heads=2, decoder_latents=2, channels=1, rank=3):
    inputs = keras.Input(SHAPE[:rank])
    x = layers.Flatten()(inputs)
    encoder = keras.Model(inputs, [layers.Dense(encoder_latents)(x) for _ in range(heads)])
    latents = keras.Input((decoder_latents,))
    y = layers.Reshape((8, 8, channels))(layers.Dense(64 * channels)(latents))
    return encoder, keras.Model(latents, y)


@pytest.mark.parametrize(
    "arguments, what",
    [
        ({"heads": 1}, "`encoder` must give .mean, log_variance."),
        ({"decoder_latents": 3}, r"`decoder` must take .*\(None, 2\).*\(None, 3\)"),
        ({"channels": 3}, r"\(None, 8, 8, 1\).*\(None, 8, 8, 3\)"),
        ({"rank": 2}, "`encoder` must take one input"),
    ],
)
def test_parts_that_do_not_fit_are_refused(arguments, what):
    with pytest.raises(ValueError, match=what):
        kvae.VAE(*networks(**arguments))


def test_a_prior_of_another_size_is_refused():
    with pytest.raises(ValueError, match="The prior has 3 latents, the decoder 2"):
        kvae.VAE(*networks(), prior=StandardNormal(3))


def test_something_else_than_a_functional_model_is_refused():
    with pytest.raises(ValueError, match="`encoder` must be a Keras Functional model.*Dense"):
        kvae.VAE(layers.Dense(2), networks()[1])


@pytest.mark.parametrize(
    "arguments, what",
    [
        ({"image_shape": (8, 8)}, "image_shape"),
        ({"image_shape": (8, 8, 0)}, "image_shape"),
        ({"image_shape": SHAPE, "latent_dim": 0}, "latent_dim=0"),
    ],
)
def test_from_preset_refuses_nonsense(arguments, what):
    with pytest.raises(ValueError, match=what):
        kvae.VAE.from_preset("mlp", **arguments)


def test_config_round_trip_restores_every_argument():
    vae = kvae.VAE(
        *networks(),
        Bernoulli("threshold"),
        objective=kvae.ELBO(2.5, 7, samples=2),
        seed=3,
        card={"a": [1]},
    )
    again = kvae.VAE.from_config(vae.get_config())
    assert again.get_config() == vae.get_config()
    assert again.likelihood.binarize == "threshold"
    assert float(ops.convert_to_numpy(again.beta)) == 2.5
    assert again.card["a"] == [1]


def test_the_kl_of_each_latent_adds_up_to_the_kl(fixed_vae, images):
    mean, log_variance = fixed_vae.encode(images)
    kl = np.mean(keras.ops.convert_to_numpy(fixed_vae.prior.kl(mean, log_variance, mean)))
    found = fixed_vae.kl_per_latent(images)
    assert found.shape == (3,)
    np.testing.assert_allclose(found.sum(), kl, rtol=1e-5)


# Objectives --------------------------------------------------------------------------------------


def figures(vae, images, seed=0):
    vae.seed_generator.state.assign([seed, 0])
    return vae.evaluate(images, batch_size=len(images), verbose=0, return_dict=True)


def test_more_importance_samples_are_a_tighter_bound_and_the_elbo_stays(make_vae, images):
    many = np.tile(images, (8, 1, 1, 1))
    settings = {"likelihood": Bernoulli("threshold"), "prior": RealNVP(3)}
    one = figures(make_vae(**settings), many)
    losses = [-one["elbo"]]
    for samples in (2, 10):
        found = figures(make_vae(objective="iwae", samples=samples, **settings), many)
        np.testing.assert_allclose(found["elbo"], one["elbo"], rtol=0.02)
        losses.append(found["loss"])
    assert losses[0] > losses[1] + 0.02 and losses[1] > losses[2] + 0.02


@pytest.mark.slow
@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_the_gradient_of_the_importance_weighted_bound_is_its_slope(make_vae, images, beta):
    """The doubly reparameterised gradient, against differences of the bound on the same draws."""
    vae = make_vae(
        likelihood=Bernoulli("threshold"),
        objective="iwae",
        samples=4,
        beta=beta,
        optimizer=keras.optimizers.SGD(1.0),
    )
    same, step = np.repeat(images[:1], 20_000, 0), 0.05
    weights = [vae.encoder.get_layer(name).bias for name in ("mean", "raw_log_variance")]
    weights.append(vae.decoder.get_layer("values").bias)
    for weight in weights:
        own = np.array(ops.convert_to_numpy(weight))
        index = int(abs(own).argmax())
        slope = 0.0
        for sign in (1, -1):
            moved = own.copy()
            moved[index] += sign * step
            weight.assign(moved)
            slope += sign * figures(vae, same)["loss"] / (2 * step)
        weight.assign(own)
        everything = vae.get_weights()
        vae.seed_generator.state.assign([1, 0])
        vae.train_on_batch(same)
        gradient = own[index] - ops.convert_to_numpy(weight)[index]
        vae.set_weights(everything)
        np.testing.assert_allclose(gradient, slope, rtol=0.05, atol=0.01)


def test_free_bits_of_a_standard_normal_hold_for_each_latent(make_vae, images):
    vae = make_vae(free_bits=2.0, likelihood=Bernoulli("threshold"))
    mean, log_variance = map(ops.convert_to_tensor, vae.encode(images))
    each = ops.convert_to_numpy(vae.prior.kl_per_latent(mean, log_variance)).mean(0)
    logs = vae.train_on_batch(images, return_dict=True)
    expected = logs["reconstruction"] + np.maximum(each, 2.0).sum()
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-4)
    assert (each < 2.0).any()


def test_free_bits_of_a_flow_hold_for_all_latents_and_not_at_test_time(make_vae, images):
    vae = make_vae(free_bits=10.0, prior=RealNVP(3, couplings=1))
    tested = vae.evaluate(images, verbose=0, return_dict=True)
    np.testing.assert_allclose(tested["loss"], -tested["elbo"], rtol=1e-5)
    logs = vae.train_on_batch(images, return_dict=True)
    np.testing.assert_allclose(logs["loss"], logs["reconstruction"] + 30.0, rtol=1e-5)


@pytest.mark.parametrize(
    "arguments, what",
    [
        ({"objective": "best"}, "There is no objective 'best'"),
        ({"objective": "iwae", "samples": 1}, "needs `samples` of at least 2"),
        ({"free_bits": -1.0}, "`free_bits`"),
        (
            {"free_bits": 1.0, "objective": "iwae", "samples": 2},
            "iwae' has no argument `free_bits`",
        ),
        (
            {"mean_of_draws": 2, "objective": "iwae", "samples": 2},
            "has no argument `mean_of_draws`",
        ),
        ({"mean_of_draws": 2, "prior": RealNVP(3)}, "`mean_of_draws` needs"),
    ],
)
def test_objectives_that_are_none_are_refused(make_vae, arguments, what):
    with pytest.raises(ValueError, match=what):
        make_vae(**arguments)


def test_sample_weights_scale_free_bits_as_they_scale_the_kl(make_vae, images):
    losses = []
    for weight in (1.0, 0.5):
        vae = make_vae(free_bits=2.0, likelihood=Bernoulli("threshold"))
        weights = np.full(64, weight, "float32")
        losses.append(vae.train_on_batch(images, sample_weight=weights, return_dict=True)["loss"])
    np.testing.assert_allclose(losses[1], 0.5 * losses[0], rtol=1e-5)


# From noise to images ----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_generator_stays_what_the_model_is_while_that_trains(make_vae, images):
    vae = make_vae(prior=RealNVP(3))
    noise = ops.convert_to_numpy(vae.prior.noise(4, seed=5))
    before = vae.generate(4, seed=5)
    np.testing.assert_allclose(vae.generator().predict(noise, verbose=0), before, atol=1e-6)
    vae.fit(images, epochs=2, verbose=0)
    after = vae.generate(4, seed=5)
    assert abs(after - before).max() > 1e-4
    np.testing.assert_allclose(vae.generator().predict(noise, verbose=0), after, atol=1e-6)
    latents = vae.prior.from_noise(ops.convert_to_tensor(noise))
    np.testing.assert_allclose(vae.decode(latents), after, atol=1e-5)


@pytest.mark.parametrize("name", kvae.likelihoods.LIKELIHOODS)
def test_every_likelihood_has_a_generator(make_vae, name, tmp_path):
    vae = make_vae(likelihood=kvae.likelihoods.get(name))
    vae.generator().save(tmp_path / "generator.keras")
    generator = keras.saving.load_model(tmp_path / "generator.keras")
    noise = ops.convert_to_numpy(vae.prior.noise(3, seed=1))
    np.testing.assert_allclose(
        generator.predict(noise, verbose=0), vae.generate(3, seed=1), atol=1e-6
    )
    assert isinstance(vae.kept.generator, keras.Model), "what generates is the generator"


@keras.saving.register_keras_serializable(package="tests")
class Shifted(Prior):
    """A prior of a user's own, with a weight in no layer: N(shift, I)."""

    def __init__(self, latent_dim, **kwargs):
        super().__init__(latent_dim, **kwargs)
        self.shift = self.add_weight(shape=(latent_dim,), initializer="zeros", name="shift")

    def log_prob(self, z):
        return StandardNormal(self.latent_dim).log_prob(self.to_noise(z))

    def to_noise(self, z):
        return z - self.shift

    def from_noise(self, noise):
        return noise + self.shift


def test_a_prior_of_the_users_own_trains_draws_and_is_saved(make_vae, images, tmp_path):
    vae = make_vae(prior=Shifted(3))
    before = vae.generate(4, seed=0)
    vae.prior.shift.assign(np.full(3, 2.0))
    noise = vae.prior.noise(4, seed=0)
    expected = vae.decode(vae.prior.from_noise(noise))
    np.testing.assert_allclose(vae.generate(4, seed=0), expected, atol=1e-6)
    assert abs(expected - before).max() > 1e-3
    with pytest.raises(ValueError, match="'shift' of Shifted is in no Keras layer"):
        vae.generator()
    vae.fit(images, epochs=1, verbose=0)
    vae.save(tmp_path / "vae.keras")
    again = kvae.load(tmp_path / "vae.keras")
    np.testing.assert_allclose(again.generate(4, seed=0), vae.generate(4, seed=0), atol=1e-6)


def test_an_uncompiled_copy_is_the_model_without_its_optimizer(make_vae, images):
    prior = RealNVP(3, couplings=1)
    vae = make_vae(prior=prior, warmup_steps=10, card={"dataset": "bars"}, optimizer="adam")
    vae.train_on_batch(images)
    copy = vae.uncompiled()
    assert not copy.compiled and vae.compiled
    assert copy.card == vae.card
    for one, other in zip(copy.variables, vae.variables, strict=False):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(copy.seed_generator.state),
        ops.convert_to_numpy(vae.seed_generator.state),
    )
    copy.beta.assign(7.0)
    assert float(ops.convert_to_numpy(vae.beta)) == 1.0


@pytest.mark.parametrize(
    "preset, likelihood",
    [
        ("mlp", Bernoulli),
        ("conv", Gaussian),
        ("resnet-flow", DiscretizedLogistic),
        pytest.param("mlp", Gaussian, marks=pytest.mark.slow),
        pytest.param("mlp", DiscretizedLogistic, marks=pytest.mark.slow),
        pytest.param("conv", Bernoulli, marks=pytest.mark.slow),
        pytest.param("conv", DiscretizedLogistic, marks=pytest.mark.slow),
        pytest.param("resnet-flow", Bernoulli, marks=pytest.mark.slow),
        pytest.param("resnet-flow", Gaussian, marks=pytest.mark.slow),
    ],
)
def test_a_model_can_start_at_the_mean_of_the_images(preset, likelihood):
    images = np.random.default_rng(0).integers(0, 120, (50, 9, 8, 3)).astype("uint8")
    images[..., 1] //= 2
    vae = kvae.VAE.from_preset(preset, (9, 8, 3), likelihood=likelihood())
    before = [ops.convert_to_numpy(weight) for weight in vae.weights]
    vae.start_at_mean(images)
    moved = [
        weight.path
        for weight, former in zip(vae.weights, before, strict=True)
        if (ops.convert_to_numpy(weight) != former).any()
    ]
    assert len(moved) == 1 and "bias" in moved[0]
    mean = images.mean(0) / 255
    if preset != "mlp":
        mean = np.broadcast_to(mean.mean((0, 1)), mean.shape)
    layer = vae.decoder.get_layer(moved[0].split("/")[-2])
    layer.kernel.assign(0 * layer.kernel)
    found = vae.decode(np.zeros((1, vae.latent_dim)))
    np.testing.assert_allclose(found[0], mean, atol=1e-4)


def test_a_decoder_without_a_bias_cannot_start_at_the_mean(images):
    latents = keras.Input((3,))
    values = layers.Dense(64, use_bias=False)(layers.Dense(5)(latents))
    decoder = keras.Model(latents, layers.Reshape(SHAPE)(values))
    vae = kvae.VAE(kvae.build_encoder(SHAPE, 3, width=8, depth=1), decoder)
    with pytest.raises(ValueError, match="no bias for each value or channel"):
        vae.start_at_mean(images)


def test_large_images_are_held_a_few_at_a_time(fixed_vae, monkeypatch):
    assert fixed_vae.at_a_time() == 1000 and fixed_vae.at_a_time(most=5000) == 5000
    monkeypatch.setattr("kvae.model.verbs.VALUES_DECODED", 64 * 10)
    assert fixed_vae.at_a_time() == 10 and fixed_vae.at_a_time(7) == 7
    few = fixed_vae.generate(23, seed=0)
    monkeypatch.setattr("kvae.model.verbs.VALUES_DECODED", 63)
    assert fixed_vae.at_a_time() == 1
    np.testing.assert_allclose(fixed_vae.generate(23, seed=0), few, atol=1e-6)
