import math

import keras
import numpy as np
import pytest
from keras import ops

import kvae
from kvae.steps.executions import looks_at_batches


def values(variables):
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


def test_every_variable_gets_a_gradient(make_vae, images):
    vae = make_vae(optimizer=keras.optimizers.SGD(1e-3))
    names = [variable.path for variable in vae.trainable_variables]
    before = values(vae.trainable_variables)
    vae.train_on_batch(images)
    after = values(vae.trainable_variables)
    still = [name for name, a, b in zip(names, before, after, strict=True) if (a == b).all()]
    assert not still


def test_a_step_does_not_see_the_gradients_of_the_one_before(make_vae, make_flow, images):
    vae = make_vae(prior=make_flow(couplings=3), optimizer=keras.optimizers.SGD(1e-4))
    moved = []
    for _ in range(2):
        before = values(vae.trainable_variables)
        vae.seed_generator.state.assign([2, 0])
        vae.train_on_batch(images)
        after = values(vae.trainable_variables)
        moved.append([abs(b - a).max() for a, b in zip(before, after, strict=True)])
    np.testing.assert_allclose(moved[1], moved[0], rtol=0.2, atol=1e-6)


def test_loss_is_reconstruction_plus_beta_kl_at_every_step(make_vae, images):
    vae = make_vae(beta=3.0, warmup_steps=4)
    seen = []

    class PerStep(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.reset_metrics()

        def on_train_batch_end(self, batch, logs=None):
            terms = {name: float(value) for name, value in logs.items()}
            beta = float(ops.convert_to_numpy(self.model.kl_weight()))
            np.testing.assert_allclose(
                terms["loss"], terms["reconstruction"] + beta * terms["kl"], rtol=1e-5
            )
            np.testing.assert_allclose(
                terms["elbo"], -terms["reconstruction"] - terms["kl"], rtol=1e-5
            )
            seen.append(beta)

    vae.fit(images, batch_size=8, epochs=1, verbose=0, callbacks=[PerStep()])
    np.testing.assert_allclose(seen, [0.75, 1.5, 2.25, 3, 3, 3, 3, 3])


def test_fit_makes_several_steps_at_a_time_and_the_result_is_the_same(make_vae, images):
    class EachBatch(keras.callbacks.Callback):  # to be called at each, so one step at a time
        def on_train_batch_end(self, batch, logs=None):
            batches.append(batch)

    def trained(callbacks):
        keras.utils.set_random_seed(0)
        vae = make_vae(optimizer=keras.optimizers.Adam(1e-2, use_ema=True), warmup_steps=5)
        history = vae.fit(
            images,
            batch_size=5,
            epochs=3,
            verbose=0,
            validation_data=(images,),
            callbacks=callbacks,
        ).history
        return vae, history, vae.evaluate(images, verbose=0)

    batches = []
    (one, history, loss), (many, same_history, same_loss) = trained([EachBatch()]), trained(None)
    assert batches == 3 * list(range(math.ceil(len(images) / 5)))
    assert one.executions.ahead == many.executions.ahead == 1  # when `fit` has ended
    steps = one.most_steps if keras.backend.backend() == "torch" else 13
    assert (list(one.executions.functions), list(many.executions.functions)) == (
        [(1, 1)],
        [(1, steps)],
    )
    np.testing.assert_allclose(float(many.step), len(batches))
    np.testing.assert_allclose(same_loss, loss, rtol=1e-5)
    for name, each in history.items():
        np.testing.assert_allclose(same_history[name], each, rtol=1e-5, err_msg=name)
    for a, b in zip(values(one.variables), values(many.variables), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5)


def test_steps_can_be_one_and_many_in_turns(make_vae, images):
    vae = make_vae()
    vae.train_on_batch(images[:8])
    for count in (1, 2):
        vae.fit(images, batch_size=8, verbose=0)
        vae.train_on_batch(images[:8])
        vae.compile("adam")
        vae.train_on_batch(images[:8])
        assert float(vae.step) == 1 + count * (len(images) // 8 + 2)
    before = float(vae.step)
    vae.fit(images, batch_size=8, steps_per_epoch=3, verbose=0)
    assert float(vae.step) == before + 3
    keras.config.set_max_steps_per_epoch(3)
    try:
        with pytest.warns(UserWarning, match="Limiting steps_per_epoch"):
            vae.fit(images, batch_size=8, verbose=0)
    finally:
        keras.config.set_max_steps_per_epoch(None)
    assert float(vae.step) == before + 6


def test_a_callback_can_predict_all_images(make_vae, images):
    class Predicts(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            counts.append(len(self.model.predict(images, batch_size=8, verbose=0)["mean"]))

    counts = []
    vae = make_vae()
    vae.predict(images, batch_size=8, verbose=0)
    vae.fit(images, batch_size=8, epochs=2, verbose=0, callbacks=[Predicts()])
    assert counts == [len(images), len(images)]


def test_every_batch_is_learned_from_not_the_first_again(make_vae):
    vae = make_vae(optimizer=keras.optimizers.SGD(0.0))
    shape = (8, 8, 8, 1)
    dark, bright = (np.full(shape, value, "uint8") for value in (0, 255))
    first = [vae.train_on_batch(batch)[0] for batch in (dark, bright)]
    again = [vae.train_on_batch(batch)[0] for batch in (dark, bright)]
    np.testing.assert_allclose(first, again, rtol=0.02)
    assert abs(first[0] - first[1]) > 0.1


def test_layers_frozen_in_turns_stay_as_they_are(make_vae, images):
    vae = make_vae()
    for frozen, free in ((vae.encoder, vae.decoder), (vae.decoder, vae.encoder)) * 2:
        frozen.trainable, free.trainable = False, True
        vae.compile("adam")
        before = values(frozen.weights), values(free.weights)
        vae.fit(images, batch_size=16, verbose=0)
        after = values(frozen.weights), values(free.weights)
        assert all((a == b).all() for a, b in zip(before[0], after[0], strict=True))
        assert any((a != b).any() for a, b in zip(before[1], after[1], strict=True))


@pytest.mark.parametrize(("preset", "steps"), [("mlp", 2), ("mlp-400", 2), ("conv", 1)])
def test_convolutions_are_not_put_into_a_loop(images, preset, steps):
    vae = kvae.VAE.from_preset(preset, (8, 8, 1))
    vae.compile("adam")
    vae.most_steps = 2
    assert vae.best_steps({"x": images, "batch_size": 8}) == steps


on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow only"
)


@on_tensorflow
def test_each_epoch_has_an_order_of_its_own():
    from kvae.steps.tensorflow_step import data_set

    x = np.arange(20)

    def epochs():
        keras.utils.set_random_seed(0)
        data = data_set((x, x / 2, None), 8, shuffle=True)
        assert len(data) == 3
        return [[tuple(map(np.asarray, batch)) for batch in data] for _ in range(2)]

    first, second = epochs()
    for epoch in (first, second):
        rows, halves = (np.concatenate(parts) for parts in zip(*epoch, strict=True))
        assert [len(batch[0]) for batch in epoch] == [8, 8, 4]
        assert sorted(rows) == list(x)
        assert halves.dtype == np.float32
        np.testing.assert_array_equal(halves, rows / 2)
    assert (first[0][0] != second[0][0]).any()
    again, _ = epochs()
    np.testing.assert_array_equal(again[0][0], first[0][0])
    (batch,) = data_set((x,), 32)
    np.testing.assert_array_equal(batch[0], x)


@on_tensorflow
@pytest.mark.parametrize(
    "given",
    [
        {"x": list(range(4))},
        {"x": np.zeros((0, 3))},
        {"x": np.zeros(4), "y": np.zeros(3)},
        {"x": np.zeros(4), "sample_weight": np.zeros(4)},
        {"x": np.zeros(4), "validation_split": 0.5},
        {"x": np.zeros(4), "steps_per_epoch": 2},
        {"x": np.zeros(4), "class_weight": {}},
        {"x": np.zeros(4), "shuffle": "batch"},
        {"x": np.array(["a"])},
    ],
    ids=str,
)
def test_what_is_no_plain_array_is_left_to_keras(make_vae, given):
    assert make_vae().fed(given, shuffle=True) == given


@on_tensorflow
def test_fits_may_differ_in_what_they_are_given(images):
    vae = kvae.VAE.from_preset("mlp-400", (8, 8, 1))
    vae.compile("adam", jit_compile=True)
    labels, weights = np.zeros(64, "int32"), np.ones(64, "float32")
    for x, arguments in [
        (images, {"batch_size": 8}),
        (images / 255, {"batch_size": 8}),
        (images, {"batch_size": 16}),
        (images, {"y": labels, "batch_size": np.uint8(8)}),
        (images, {"sample_weight": weights, "validation_data": [images[:9], labels[:9]]}),
    ]:
        history = vae.fit(x, verbose=0, **arguments).history
        assert np.isfinite(history["loss"]).all()


@on_tensorflow
def test_batches_of_a_generator_and_alone_go_through_the_loop_too(images):
    vae = kvae.VAE.from_preset("mlp-400", (8, 8, 1))
    vae.compile("adam", jit_compile=True, steps_per_execution=2)
    vae.train_on_batch(images[:8])
    vae.fit(((images[:8], None) for _ in range(4)), steps_per_epoch=4, shuffle=False, verbose=0)
    assert int(vae.optimizer.iterations) == 5


class Stretched(kvae.StandardNormal):
    """Has a layer that is built when it is first called."""

    closed_form = False

    def __init__(self, latent_dim):
        super().__init__(latent_dim)
        self.stretch = keras.layers.Dense(latent_dim)

    def log_prob(self, z):
        return super().log_prob(self.stretch(z))

    kl = kvae.priors.Prior.kl


@on_tensorflow
def test_layers_may_be_built_in_the_first_step(images):
    encoder = kvae.build_encoder((8, 8, 1), 3, width=8, depth=1)
    decoder = kvae.build_decoder((8, 8, 1), 3, width=8, depth=1)
    vae = kvae.VAE(encoder, decoder, prior=Stretched(3))
    vae.compile("adam")
    vae.fit(images, epochs=2, verbose=0)
    assert vae.prior.stretch.built


@on_tensorflow
def test_logs_of_ones_own_step_are_those_of_the_last(images):
    class Told(kvae.VAE):
        def train_step(self, data):
            return {**super().train_step(data), "told": ops.cast(self.step, "float32")}

    for size in (8, 24):
        vae = Told.from_preset("mlp-400", (8, 8, 1))
        vae.compile("adam", jit_compile=True)
        history = vae.fit(images, batch_size=size, verbose=0).history
        assert history["told"] == [float(vae.step.numpy())]


@on_tensorflow
def test_a_step_is_traced_once(images):
    traced = []

    class Counted(kvae.VAE):
        def train_step(self, data):
            traced.append(data)
            return super().train_step(data)

    vae = Counted.from_preset("mlp-400", (8, 8, 1))
    vae.compile("adam", jit_compile=True)
    vae.fit(images, batch_size=24, epochs=2, verbose=0)  # the last batch is short
    assert len(traced) == 1


on_torch = pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch only")


@on_torch
@pytest.mark.parametrize("network", ["mlp", "pooled"])
def test_a_recorded_step_is_the_eager_one(network, make_flow, monkeypatch):
    """With batch norm, dropout, a regulariser, a flow, sample weights and a short last batch."""
    monkeypatch.setattr("kvae.steps.torch_step.EAGER_STEPS", 1)
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1)).astype("uint8")

    def trained(recorded):
        keras.utils.set_random_seed(0)
        encoder = kvae.build_encoder((8, 8, 1), 3, network)
        decoder = kvae.build_decoder((8, 8, 1), 3, network)
        decoder.layers[-2].kernel_regularizer = keras.regularizers.L2(0.1)
        vae = kvae.VAE(encoder, decoder, prior=make_flow(couplings=2), warmup_steps=9, seed=0)
        vae.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1.0, use_ema=True))
        if not recorded:
            vae.can_be_recorded = lambda: False
        history = vae.fit(
            images, batch_size=8, epochs=3, verbose=0, sample_weight=np.linspace(0, 2, 20)
        ).history
        graphs = [graph for graph, *_ in vae.graphs.made.values()]
        assert len(graphs) == 2 * recorded and None not in graphs
        return history, values(vae.variables)

    (history, weights), (eager_history, eager_weights) = trained(True), trained(False)
    for name, each in eager_history.items():
        np.testing.assert_allclose(history[name], each, rtol=1e-4, err_msg=name)
    for a, b in zip(weights, eager_weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


class Halved(keras.layers.Layer):
    """Depends on values."""

    def call(self, x):
        return x / 2 if bool(ops.max(x) > 0.5) else x


class Noisy(keras.layers.Layer):
    """Draws without a seed of its own."""

    def call(self, x):
        return x + keras.random.normal(ops.shape(x))


@on_torch
@pytest.mark.parametrize("layer", [Halved, Noisy])
def test_what_cannot_be_recorded_is_eager(images, layer, monkeypatch):
    monkeypatch.setattr("kvae.steps.torch_step.EAGER_STEPS", 1)
    keras.backend.clear_session()
    latents = keras.Input((3,))
    decoder = keras.layers.Reshape((8, 8, 1))(layer()(keras.layers.Dense(64)(latents)))
    encoder = kvae.build_encoder((8, 8, 1), 3, width=8, depth=1)
    vae = kvae.VAE(encoder, keras.Model(latents, decoder))
    vae.compile("adam")
    vae.fit(images, epochs=1, verbose=0)
    assert [graph for graph, *_ in vae.graphs.made.values()] == [None]
    assert np.isfinite(ops.convert_to_numpy(keras.random.normal((2,)))).all()


@on_torch
def test_what_comes_seldom_is_not_recorded(make_vae, images, monkeypatch):
    monkeypatch.setattr("kvae.steps.torch_step.EAGER_STEPS", 6)
    vae = make_vae()
    vae.fit(images[:20], batch_size=8, epochs=5, verbose=0)
    assert len(vae.graphs.made) == 1  # 10 batches of 8; 5 of 4 are too few


@on_torch
@pytest.mark.parametrize("kind", [keras.optimizers.Adam, keras.optimizers.AdamW])
@pytest.mark.parametrize("clip", [None, 1e-3, 1e3])
@pytest.mark.parametrize("accumulation", [None, 2])
def test_the_quick_adam_is_keras_own(kind, clip, accumulation):
    from kvae.steps.torch_adam import quicken

    rng = np.random.default_rng(0)
    start = [rng.normal(size=size).astype("float32") for size in [(3, 4), (5,), ()]]
    steps = [
        [rng.normal(size=a.shape).astype("float32") * 10.0**-i for a in start] for i in range(9)
    ]
    ends = []
    for quick in (True, False):
        weights = [keras.Variable(array) for array in start]
        optimizer = kind(
            keras.optimizers.schedules.CosineDecay(0.1, 20),
            global_clipnorm=clip,
            gradient_accumulation_steps=accumulation,
        )
        if quick:
            quicken(optimizer)
        for gradients in steps:
            optimizer.apply([ops.convert_to_tensor(gradient) for gradient in gradients], weights)
        ends.append(values([*weights, *optimizer.variables]))
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("callback", "looks"),
    [
        (keras.callbacks.History(), False),
        (keras.callbacks.TerminateOnNaN(), False),
        (keras.callbacks.ModelCheckpoint("x.keras"), False),
        (keras.callbacks.ModelCheckpoint("x.keras", save_freq=10), True),
        (keras.callbacks.LambdaCallback(on_epoch_end=print), False),
        (keras.callbacks.LambdaCallback(on_train_batch_end=print), True),
    ],
    ids=lambda value: getattr(type(value), "__name__", None),
)
def test_callbacks_that_look_at_batches_get_each(callback, looks):
    assert looks_at_batches(callback) == looks


def test_beta_reaches_the_gradient(make_vae, images):
    after = []
    for beta in (0.0, 50.0):
        vae = make_vae(beta=beta, optimizer=keras.optimizers.SGD(1e-3))
        vae.train_on_batch(images)
        after.append(values(vae.trainable_variables)[0])
    assert (after[0] != after[1]).any()


def test_two_steps_draw_different_noise(make_vae, images):
    vae = make_vae(optimizer=keras.optimizers.SGD(0.0))
    first, second = (vae.train_on_batch(images[:4], return_dict=True) for _ in range(2))
    vae.reset_metrics()
    assert first["loss"] != second["loss"]


def test_training_lowers_the_loss(make_vae, images):
    vae = make_vae(optimizer=keras.optimizers.Adam(1e-2))
    history = vae.fit(images, epochs=30, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < 0.8 * history[0]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_one_mixed_precision_step_moves_the_weights_as_far_as_a_float32_step(
    make_vae, images, policy
):
    def moved():
        vae = make_vae(optimizer=keras.optimizers.SGD(1e-4))
        before = values(vae.trainable_variables)
        for _ in range(
            5
        ):  # a scale of the loss that float16 cannot hold is lowered, and no step made
            vae.seed_generator.state.assign([2, 0])
            vae.reset_metrics()
            loss = vae.train_on_batch(images, return_dict=True)["loss"]
            after = values(vae.trainable_variables)
            distance = sum(abs(b - a).sum() for a, b in zip(before, after, strict=True))
            if distance:
                break
        return float(loss), distance

    loss, distance = moved()
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        mixed_loss, mixed_distance = moved()
    finally:
        keras.config.set_dtype_policy(former)
    np.testing.assert_allclose(mixed_loss, loss, rtol=0.02)
    np.testing.assert_allclose(mixed_distance, distance, rtol=0.1)


def test_gradient_accumulation_updates_every_second_step(make_vae, images):
    vae = make_vae(optimizer=keras.optimizers.SGD(1e-3, gradient_accumulation_steps=2))
    snapshots = [values(vae.trainable_variables)]
    for _ in range(2):
        vae.train_on_batch(images)
        snapshots.append(values(vae.trainable_variables))
    moved = [
        any((a != b).any() for a, b in zip(snapshots[0], later, strict=True))
        for later in snapshots[1:]
    ]
    assert moved == [False, True]


def test_clipped_gradients_move_the_weights_no_further_than_the_clip(make_vae, images):
    vae = make_vae(optimizer=keras.optimizers.SGD(1.0, global_clipnorm=0.5))
    before = values(vae.trainable_variables)
    vae.train_on_batch(images)
    after = values(vae.trainable_variables)
    distance = np.sqrt(sum(((b - a) ** 2).sum() for a, b in zip(before, after, strict=True)))
    np.testing.assert_allclose(distance, 0.5, rtol=1e-3)
