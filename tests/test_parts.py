"""What looks settable is set, during `fit` too, or says that it cannot be."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

import kvae

pytestmark = pytest.mark.every_backend


def number(variable):
    return float(ops.convert_to_numpy(variable))


class Sets(keras.callbacks.Callback):
    """Sets beta at some moment of training, and keeps what the next epoch's loss says of it."""

    def __init__(self, moment, of_objective):
        super().__init__()
        self.of_objective = of_objective
        setattr(self, moment, self.set_it)

    def set_it(self, number, logs=None):
        holder = self.model.objective if self.of_objective else self.model
        holder.beta = 0.25 * (number + 1)


@pytest.fixture(scope="module")
def still(make_vae):
    """A model that makes steps and stays as it is."""
    return make_vae(optimizer=keras.optimizers.SGD(0.0))


@pytest.mark.parametrize(
    ("moment", "of_objective"),
    [
        ("on_epoch_begin", False),
        ("on_epoch_end", True),
        ("on_train_batch_begin", True),
        ("on_train_batch_end", False),
    ],
)
def test_beta_can_be_set_by_a_callback(still, images, moment, of_objective):
    class Logs(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append({name: float(value) for name, value in logs.items()})

    seen = []
    still.beta = 1.0
    callbacks = [Sets(moment, of_objective), Logs()]
    still.fit(images[:32], batch_size=32, epochs=4, verbose=0, callbacks=callbacks)
    weights = [(logs["loss"] - logs["reconstruction"]) / logs["kl"] for logs in seen]
    expected = {
        "on_epoch_begin": [0.25, 0.5, 0.75, 1.0],
        "on_epoch_end": [1.0, 0.25, 0.5, 0.75],
        "on_train_batch_begin": [0.25] * 4,
        "on_train_batch_end": [1.0, 0.25, 0.25, 0.25],
    }
    np.testing.assert_allclose(weights, expected[moment], rtol=1e-3)


@pytest.mark.slow
def test_beta_set_in_a_long_fit_is_heard_by_every_kind_of_step(make_vae, images):
    """Compiled, several in one dispatch, recorded: 80 steps of one shape before it is set."""
    vae = make_vae(optimizer=keras.optimizers.SGD(0.0))

    class Late(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.beta = 0.0 if epoch == 20 else 1.0

    history = vae.fit(images, batch_size=16, epochs=21, verbose=0, callbacks=[Late()]).history
    share = [
        (loss - reconstruction) / kl
        for loss, reconstruction, kl in zip(
            history["loss"], history["reconstruction"], history["kl"], strict=True
        )
    ]
    np.testing.assert_allclose(share, [1.0] * 20 + [0.0], atol=1e-3)


def test_warmup_can_be_set_and_reaches_the_loss(make_vae, images):
    vae = make_vae(likelihood=kvae.Bernoulli("threshold"))
    vae.warmup_steps = 10
    logs = vae.train_on_batch(images, return_dict=True)
    found = (logs["loss"] - logs["reconstruction"]) / logs["kl"]
    np.testing.assert_allclose(found, 0.1, rtol=1e-3)
    assert number(vae.objective.warmup_steps) == 10


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["beta", "warmup_steps"])
def test_nonsense_cannot_be_set(fixed_vae, name, value):
    before = number(getattr(fixed_vae, name))
    with pytest.raises(ValueError, match=f"`{name}` must be finite and at least 0"):
        setattr(fixed_vae, name, value)
    assert number(getattr(fixed_vae, name)) == before


@pytest.mark.parametrize(
    "of, name, value",
    [
        ("", "encoder", None),
        ("", "decoder", None),
        ("", "likelihood", kvae.Gaussian()),
        ("", "prior", kvae.StandardNormal(3)),
        ("", "objective", kvae.ELBO()),
        ("", "seed", 3),
        ("", "samples", 4),
        ("", "free_bits", 0.5),
        ("", "mean_of_draws", 2),
        ("", "binarize", "none"),
        ("objective", "samples", 4),
        ("objective", "free_bits", 0.5),
        ("objective", "mean_of_draws", 2),
        ("likelihood", "binarize", "none"),
        ("prior", "latent_dim", 7),
    ],
)
def test_what_a_compiled_step_would_not_see_is_refused(fixed_vae, of, name, value):
    holder = getattr(fixed_vae, of) if of else fixed_vae
    before = getattr(holder, name, None)
    with pytest.raises(AttributeError, match=f"`{name}` of .* is fixed when it is made"):
        setattr(holder, name, value)
    assert getattr(holder, name, None) is before


@pytest.mark.parametrize(
    "part, name",
    [
        (kvae.Gaussian(), "scale"),
        (kvae.Gaussian("shared"), "min_scale"),
        (kvae.DiscretizedLogistic(), "min_scale"),
        (kvae.RealNVP(4), "bound"),
        (kvae.RealNVP(4), "width"),
        (kvae.ImportanceWeighted(3), "samples"),
    ],
    ids=lambda value: getattr(type(value), "__name__", None),
)
def test_arguments_of_parts_are_fixed(part, name):
    with pytest.raises(AttributeError, match=f"`{name}` of {type(part).__name__} is fixed"):
        setattr(part, name, 3)


def test_what_is_no_argument_can_be_set(make_vae):
    vae = make_vae()
    vae.card = {"dataset": "mine"}
    vae.note = "hello"
    vae.stop_training = True
    assert (vae.card["dataset"], vae.note) == ("mine", "hello")


@keras.saving.register_keras_serializable("tests")
class Extra(kvae.ELBO):
    """Of its own it has `gamma`, which is fixed, and the setting `delta`."""

    scaled = 2.0

    def __init__(self, beta=1.0, gamma=0.0, delta=0.0, trainable=True, **kwargs):
        super().__init__(beta, trainable=trainable, **kwargs)
        self.gamma = gamma
        self.twice = 2 * gamma
        self.add_setting("delta", delta)

    @property
    def delta(self):
        return self.held["delta"]

    @delta.setter
    def delta(self, value):
        self.assign_setting("delta", value)

    def loss(self, terms, training=True):
        return super().loss(terms, training) + self.delta + self.twice


@pytest.mark.parametrize(
    "name", ["gamma", "twice", "scaled", "step", "held", "owners", "loss", "betta"]
)
def test_whatever_an_objective_of_ones_own_has_is_fixed_or_heard(name):
    objective = Extra()
    before = getattr(objective, name, None)
    with pytest.raises(AttributeError, match=f"`{name}`"):
        setattr(objective, name, 3)
    assert getattr(objective, name, None) == before


def test_a_setting_of_ones_own_is_heard_in_the_next_step(make_vae, images):
    vae = make_vae(objective=Extra())
    vae.compile(keras.optimizers.SGD(0.0))
    losses = []
    for delta in (0.0, 500.0):
        vae.delta = delta
        logs = vae.train_on_batch(images, return_dict=True)
        losses.append(logs["loss"] - logs["reconstruction"] - logs["kl"])
    np.testing.assert_allclose(losses, [0.0, 500.0], atol=0.1)


@keras.saving.register_keras_serializable("tests")
class Costlier(kvae.StandardNormal):
    """N(0, I) whose KL has so much added: the setting `extra`."""

    def __init__(self, latent_dim, extra=0.0, **kwargs):
        super().__init__(latent_dim, **kwargs)
        self.add_setting("extra", extra)

    @property
    def extra(self):
        return self.held["extra"]

    @extra.setter
    def extra(self, value):
        self.assign_setting("extra", value)

    def kl(self, mean, log_variance, z, context=None):
        return super().kl(mean, log_variance, z) + self.extra


def test_a_setting_of_a_prior_among_others_is_heard_in_the_next_step(make_vae, images):
    prior = kvae.Blockwise([kvae.StandardNormal(1), Costlier(2)])
    vae = make_vae(prior=prior)
    vae.compile(keras.optimizers.SGD(0.0))
    found = []
    for extra in (0.0, 500.0):
        vae.extra = extra
        found.append(vae.train_on_batch(images, return_dict=True)["kl"])
    assert float(prior.priors[1].extra) == 500
    np.testing.assert_allclose(found[1] - found[0], 500, atol=1)


def test_what_every_layer_has_is_the_models_own(make_vae):
    vae = make_vae(objective=Extra())
    vae.trainable = False
    assert not vae.trainable and not vae.trainable_variables


@pytest.mark.parametrize("name", ["free_bits", "mean_of_draws"])
def test_what_only_another_objective_has_is_refused(make_vae, name):
    vae = make_vae(objective=kvae.ImportanceWeighted())
    with pytest.raises(AttributeError, match=f"`{name}`"):
        setattr(vae, name, 3)


def test_an_objective_counts_the_steps_of_one_model(make_vae, images):
    objective = kvae.ELBO(warmup_steps=4)
    vae = make_vae(objective=objective)
    with pytest.raises(ValueError, match="`objective` is that of another model"):
        make_vae(objective=objective)
    vae.train_on_batch(images)
    del vae
    with pytest.raises(ValueError, match="counts .1 so far.: make one for each model"):
        make_vae(objective=objective)


@pytest.mark.parametrize("kind", [kvae.VAE, kvae.ELBO, kvae.Gaussian, kvae.RealNVP])
def test_help_and_editors_see_the_arguments(kind):
    shown = list(inspect.signature(kind).parameters)
    assert shown == list(inspect.signature(kind.__init__).parameters)[1:]


# Settings are configuration, not weights ---------------------------------------------------------


# What Keras says of an optimizer that has made no step yet.
unbuilt = pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")


@unbuilt
def test_weights_carry_no_settings(make_vae, images, tmp_path):
    plain, own = make_vae(beta=0.0, warmup_steps=9), make_vae(beta=4.0, warmup_steps=3)
    plain.fit(images, batch_size=32, verbose=0)
    shapes = [weight.shape for weight in plain.get_weights()]
    parts = (plain.encoder, plain.decoder, plain.likelihood, plain.prior)
    assert shapes == [weight.shape for part in parts for weight in part.get_weights()]
    own.set_weights(plain.get_weights())
    assert [number(v) for v in (own.beta, own.warmup_steps, own.step)] == [4.0, 3.0, 0.0]
    plain.save_weights(tmp_path / "plain.weights.h5")
    own.load_weights(tmp_path / "plain.weights.h5")
    assert [number(v) for v in (own.beta, own.warmup_steps)] == [4.0, 3.0]
    np.testing.assert_allclose(own.generate(2, seed=0), plain.generate(2, seed=0), atol=1e-6)


def test_restoring_the_best_weights_winds_back_neither_step_nor_beta(make_vae, images):
    class Rises(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.beta = 2.0 + epoch
            logs["watched"] = float(epoch)  # the first epoch is the best

    stop = keras.callbacks.EarlyStopping(
        "watched", mode="min", patience=2, restore_best_weights=True
    )
    vae = make_vae()
    vae.fit(images, batch_size=32, epochs=9, verbose=0, callbacks=[Rises(), stop])
    assert [number(vae.step), number(vae.beta)] == [6.0, 4.0]


@unbuilt
def test_a_file_and_a_checkpoint_hold_the_step(make_vae, images, tmp_path):
    vae = make_vae(warmup_steps=9, optimizer="adam")
    vae.fit(images, batch_size=32, epochs=2, verbose=0)
    vae.save(tmp_path / "vae.keras")
    assert number(kvae.load(tmp_path / "vae.keras").step) == 4.0
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
    vae.fit(images, batch_size=32, epochs=1, verbose=0, callbacks=[backup])
    other = make_vae(warmup_steps=9, optimizer="adam")
    other.fit(images, batch_size=32, epochs=1, verbose=0, callbacks=[backup])
    assert number(other.step) == 6.0


@unbuilt
def test_settings_of_a_model_as_they_stand_are_in_its_file(make_vae, tmp_path):
    vae = make_vae(beta=2.0)
    vae.beta = 0.5
    vae.save(tmp_path / "vae.keras")
    assert number(kvae.load(tmp_path / "vae.keras").beta) == 0.5


def test_what_was_an_argument_of_the_model_says_where_it_is_now(fixed_vae):
    with pytest.raises(ValueError, match=r"objective=kvae.ELBO\(beta=…\)"):
        kvae.VAE(fixed_vae.encoder, fixed_vae.decoder, beta=4)
