import gc
import itertools
import math
import re

import keras
import numpy as np
import pytest
from keras import ops

import kvae
from kvae.steps.executions import looks_at_batches

pytestmark = pytest.mark.every_backend

slow = pytest.mark.slow


def values(variables):
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


@pytest.fixture(scope="module")
def trainee(make_vae):
    """A model that several tests train, whatever it has learned before: it is compiled once."""
    return make_vae(optimizer="adam")


@pytest.fixture(scope="module")
def still(make_vae):
    """A model that makes steps and stays as it is."""
    return make_vae(optimizer=keras.optimizers.SGD(0.0))


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
        vae.step.assign(0.0)  # the noise of a step is a function of its number
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
            beta = float(ops.convert_to_numpy(self.model.objective.kl_weight()))
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
    assert history["reconstruction"][-1] < 0.8 * history["reconstruction"][0]  # it learns
    np.testing.assert_allclose(float(many.step), len(batches))
    np.testing.assert_allclose(same_loss, loss, rtol=1e-5)
    for name, each in history.items():
        np.testing.assert_allclose(same_history[name], each, rtol=1e-5, err_msg=name)
    for a, b in zip(values(one.variables), values(many.variables), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5)


class Watches(keras.callbacks.Callback):
    """Notes what it is told of batches, as it comes, alone or out of several."""

    def __init__(self, alone=False):
        super().__init__()
        self.looks_at_batches = alone
        self.told = []

    def on_train_batch_begin(self, batch, logs=None):
        self.told.append(batch)

    def on_train_batch_end(self, batch, logs=None):
        self.told.append((batch, *logs.values()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 5, "epochs": 2, "validation_data": True},
        {"batch_size": 8, "epochs": 3, "initial_epoch": 1},
        {"batch_size": 16, "epochs": 2, "steps_per_epoch": 2},
        {"batch_size": 5, "epochs": 2, "validation_split": 0.2},
    ],
    ids=lambda arguments: list(arguments)[-1],
)
def test_callbacks_get_each_step_with_its_own_number_and_logs(make_vae, images, arguments):
    if "validation_data" in arguments:
        arguments = arguments | {"validation_data": (images,)}
    told = []
    for alone in (True, False):
        keras.utils.set_random_seed(0)
        vae, watches = make_vae(), Watches(alone)
        vae.fit(images, verbose=0, callbacks=[watches], **arguments)
        keras.utils.set_random_seed(1)
        vae.fit(images, batch_size=7, verbose=0, callbacks=[watches])  # another size
        told.append(watches.told)
    one, many = told
    assert len(one) == len(many)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3)


@pytest.mark.parametrize("verbose", [1, 2])
def test_the_bar_counts_steps_and_ends_at_the_last(trainee, images, capsys, verbose):
    trainee.fit(images, batch_size=5, epochs=3, initial_epoch=1, verbose=verbose)
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    epochs = text.split("Epoch ")[1:]
    assert [epoch.split()[0] for epoch in epochs] == ["2/3", "3/3"]
    for epoch in epochs:
        counts = [int(count) for count in re.findall(r"(\d+)/13 ", epoch)]
        assert counts[-1] == 13 and counts == sorted(counts)
        assert re.findall(r"(\d+)/\d+ ", epoch) == re.findall(r"(\d+)/13 ", epoch)
        assert not re.search(r" -\d+s", epoch)


@pytest.mark.slow
def test_tensorboard_counts_steps(make_vae, images, tmp_path):
    pytest.importorskip("tensorflow")
    board = keras.callbacks.TensorBoard(tmp_path, update_freq="epoch")
    make_vae().fit(images, batch_size=5, epochs=2, verbose=0, callbacks=[board])
    assert board._global_train_batch == 26


class Stops(keras.callbacks.Callback):
    """Ends training early: at the end of an epoch, or by an error within it."""

    looks_at_batches = False

    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_train_batch_begin(self, batch, logs=None):
        if self.error and batch == 2:
            raise self.error

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("told to"), None], ids=repr)
def test_a_fit_that_ends_early_leaves_a_whole_model_and_nothing_over(trainee, images, error):
    arguments = {"batch_size": 5, "epochs": 3, "verbose": 0}
    before = float(trainee.step)
    try:
        trainee.fit(images, callbacks=[Stops(error)], **arguments)
    except (RuntimeError, KeyboardInterrupt) as raised:
        assert raised is error
    else:
        assert error is None and float(trainee.step) == before + 13
    ended = float(trainee.step)
    assert 2 <= ended - before <= 13
    assert all(np.isfinite(value).all() for value in values(trainee.variables))
    watches = Watches()
    trainee.fit(images, callbacks=[watches], **arguments)
    assert watches.told[::2] == 3 * list(range(13))
    assert float(trainee.step) == ended + 39


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX only")
@pytest.mark.parametrize("told", [1, 4])
def test_an_interrupt_while_waiting_leaves_the_state_whole(make_vae, images, monkeypatch, told):
    def interrupted(*_):
        raise KeyboardInterrupt

    vae = make_vae()
    vae.compile("adam", steps_per_execution=told)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("kvae.steps.jax_step.logs_of_each", interrupted)
        patch.setattr("jax.block_until_ready", interrupted)
        vae.fit(images, batch_size=5, verbose=0)
    assert float(vae.step) >= 4
    assert all(np.isfinite(value).all() for value in values(vae.variables))
    vae.fit(images, batch_size=5, verbose=0)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX only")
def test_steps_that_go_one_by_one_wait_for_those_before_them(images, monkeypatch):
    import jax

    waited, begun, far = [], [], []
    wait = jax.block_until_ready

    class Begins(keras.callbacks.Callback):
        looks_at_batches = False

        def on_train_batch_begin(self, batch, logs=None):
            begun.append(batch)
            far.append(batch - len(waited))  # steps that may be under way

    monkeypatch.setattr("jax.block_until_ready", lambda logs: waited.append(wait(logs)))
    small = {"latent_dim": 2, "network_arguments": {"channels": 2}}
    vae = kvae.VAE.from_preset(kvae.presets.get("conv").replaced(**small), (8, 8, 1))
    vae.compile("sgd")
    vae.fit(images, batch_size=4, verbose=0, callbacks=[Begins()])
    assert begun == list(range(math.ceil(len(images) / 4)))
    assert max(far) == 2 < len(begun)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has it not on PyTorch")
def test_steps_per_execution_that_is_given_has_keras_meaning(make_vae, images):
    vae, watches = make_vae(), Watches()
    vae.compile("adam", steps_per_execution=4)
    vae.fit(images, batch_size=5, epochs=2, verbose=0, callbacks=[watches])
    ends = [told[0] for told in watches.told[1::2]]
    assert ends == 2 * [3, 7, 11, 15]
    assert float(vae.step) == 26


def test_batches_of_a_generator_come_one_by_one(still, images):
    watches = Watches()
    batches = ((images[: 8 + i % 2],) for i in range(6))
    still.fit(batches, steps_per_epoch=3, epochs=2, shuffle=False, verbose=0, callbacks=[watches])
    assert watches.told[::2] == 2 * [0, 1, 2]


@pytest.mark.parametrize(
    "when", ["on_epoch_begin", "on_epoch_end", "on_train_batch_begin", "on_train_batch_end"]
)
def test_a_variable_can_be_set_while_fit_runs(trainee, images, when):
    """From the moment on that a callback sets it; a step, or `fit`, does not set it back."""
    beta, before = trainee.beta, float(trainee.step)
    beta.assign(1.0)
    seen = []

    def at(self, number, logs=None):
        trainee.settle()
        seen.append(float(ops.convert_to_numpy(beta)))
        beta.assign(2.0 + len(seen))

    callback = type("Sets", (keras.callbacks.Callback,), {when: at})()
    losses = trainee.fit(images, batch_size=5, epochs=3, verbose=0, callbacks=[callback]).history
    assert seen == [1.0, *(3.0 + i for i in range(len(seen) - 1))]
    assert len(seen) == (3 if "epoch" in when else 39)
    assert float(ops.convert_to_numpy(beta)) == 2.0 + len(seen)
    assert float(trainee.step) == before + 39
    if when == "on_epoch_begin":
        terms = [losses[name][-1] for name in ("reconstruction", "kl", "loss")]
        np.testing.assert_allclose(terms[2], terms[0] + 5.0 * terms[1], rtol=1e-4)


@slow
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


@pytest.mark.slow
def test_a_callback_can_predict_all_images(make_vae, images):
    class Predicts(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            counts.append(len(self.model.predict(images, batch_size=8, verbose=0)["mean"]))

    counts = []
    vae = make_vae()
    vae.predict(images, batch_size=8, verbose=0)
    vae.fit(images, batch_size=8, epochs=2, verbose=0, callbacks=[Predicts()])
    assert counts == [len(images), len(images)]


def test_every_batch_is_learned_from_not_the_first_again(still):
    shape = (8, 8, 8, 1)
    dark, bright = (np.full(shape, value, "uint8") for value in (0, 255))
    first = [still.train_on_batch(batch)[0] for batch in (dark, bright)]
    again = [still.train_on_batch(batch)[0] for batch in (dark, bright)]
    np.testing.assert_allclose(first, again, rtol=0.05)
    assert abs(first[0] - first[1]) > 0.1


@pytest.mark.slow
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


def test_each_epoch_has_an_order_of_its_own(make_vae):
    x = np.arange(20)
    keys = [[0, 0], [0, 3], [0, 0]]

    def epochs(arrays, size, key=None):
        feed = make_vae().feed(arrays, size, key)
        backend = keras.backend.backend()
        data = feed.get_tf_dataset() if backend == "tensorflow" else None
        for _ in keys:
            feed.on_epoch_begin()
            if backend == "torch":
                data = feed.get_torch_dataloader()
            elif backend == "jax":
                data = feed.get_jax_iterator()
            yield [tuple(map(ops.convert_to_numpy, batch)) for batch in data]

    ahead = iter(keys)
    first, second, again = epochs((x, x / 2), 8, lambda: next(ahead))
    for epoch in (first, second):
        rows, halves = (np.concatenate(parts) for parts in zip(*epoch, strict=True))
        assert [len(batch[0]) for batch in epoch] == [8, 8, 4]
        assert sorted(rows) == list(x)
        assert halves.dtype == np.float32
        np.testing.assert_array_equal(halves, rows / 2)
    assert (first[0][0] != second[0][0]).any()
    np.testing.assert_array_equal(again[0][0], first[0][0])
    (batch,) = next(epochs((x,), 32))
    np.testing.assert_array_equal(batch[0], x)


@pytest.mark.parametrize(
    "given",
    [
        {"x": list(range(4))},
        {"x": np.zeros((0, 3))},
        {"x": np.zeros(4), "y": np.zeros(3)},
        {"x": np.zeros(4), "sample_weight": np.zeros(4)},
        {"x": np.zeros(4), "steps_per_epoch": 2},
        {"x": np.zeros(4), "class_weight": {}},
        {"x": np.zeros(4), "shuffle": "batch"},
        {"x": np.array(["a"])},
    ],
    ids=str,
)
def test_what_is_no_plain_array_is_left_to_keras(still, given):
    assert still.fed(given, shuffle=True) == given


@on_tensorflow
def test_nothing_holds_the_graph_of_a_step_when_its_model_is_gone(make_vae, images):
    from tensorflow.python.framework.func_graph import FuncGraph

    def graphs():
        for _ in range(3):  # what one round lets go of, the next one finds
            gc.collect()
        # Not `isinstance`, which asks objects, some of which then warn.
        return sum(issubclass(type(one), FuncGraph) for one in gc.get_objects())

    def trained(steps):
        vae = make_vae()
        vae.compile("sgd", steps_per_execution=steps)
        vae.fit(images, batch_size=16, verbose=0)
        return graphs()

    trained(2)
    before = graphs()
    for steps in (1, 2):
        assert trained(steps) > before, "the step was traced"
        assert graphs() == before


@on_tensorflow
def test_kernels_of_models_that_are_gone_go_and_others_work_on(make_vae, images, monkeypatch):
    """What tests/faults/memory.py shows: without this, each model leaves a megabyte behind."""
    from tensorflow.python.eager import context

    from kvae.steps import tensorflow_step

    def cleared(models):
        calls = []
        with monkeypatch.context() as patched:
            forget = context.context().clear_kernel_cache
            patched.setattr(
                context.context(), "clear_kernel_cache", lambda: (calls.append(1), forget())
            )
            for _ in range(models):
                make_vae()
                gc.collect()
        return len(calls)

    kept = make_vae()
    kept.compile("sgd")
    kept.fit(images, batch_size=16, verbose=0)
    before = kept.generate(4, seed=0), kept.encode(images)[0]
    tensorflow_step.GONE.clear()
    assert cleared(tensorflow_step.MOST_GONE) == 0
    assert cleared(2) == 1
    np.testing.assert_array_equal(kept.generate(4, seed=0), before[0])
    np.testing.assert_array_equal(kept.encode(images)[0], before[1])
    kept.fit(images, batch_size=16, verbose=0)


@slow
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


@slow
@on_tensorflow
def test_layers_may_be_built_in_the_first_step(images):
    encoder = kvae.build_encoder((8, 8, 1), 3, width=8, depth=1)
    decoder = kvae.build_decoder((8, 8, 1), 3, width=8, depth=1)
    vae = kvae.VAE(encoder, decoder, prior=Stretched(3))
    vae.compile("adam")
    vae.fit(images, epochs=2, verbose=0)
    assert vae.prior.stretch.built


@slow
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
        [layer for layer in decoder.layers if hasattr(layer, "kernel")][
            -1
        ].kernel.regularizer = keras.regularizers.L2(0.1)
        vae = kvae.VAE(
            encoder,
            decoder,
            prior=make_flow(couplings=2),
            objective=kvae.ELBO(warmup_steps=9),
            seed=0,
        )
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


def model_of_many_layers(layer=None, vae_class=kvae.VAE):
    """Its decoder has layers with attributes to change; named, so that a test finds them."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    latents = keras.Input((3,))
    h = keras.layers.Dense(
        16, "tanh", kernel_regularizer=keras.regularizers.L2(0.1), name="hidden"
    )(latents)
    h = keras.layers.BatchNormalization(name="norm")(h)
    h = keras.layers.LeakyReLU(0.1, name="leaky")(h)
    h = keras.Sequential([keras.layers.Activation("linear")], name="container")(h)
    h = layer()(h) if layer else h
    decoder = keras.Model(latents, keras.layers.Reshape((8, 8, 1))(keras.layers.Dense(64)(h)))
    encoder = kvae.build_encoder((8, 8, 1), 3, width=8, depth=1)
    vae = vae_class(encoder, decoder, seed=0)
    vae.compile(keras.optimizers.Adam(1e-2))
    return vae


def trained_with(make, images, recorded, callback=None, epochs=4):
    """History, weights, and the graphs that were made."""
    vae = make()
    if not recorded:
        vae.can_be_recorded = lambda: False
    callbacks = [callback()] if callback else None
    history = vae.fit(images, batch_size=16, epochs=epochs, verbose=0, callbacks=callbacks).history
    return history["loss"], values(vae.variables), [made[0] for made in vae.graphs.made.values()]


def same(first, second, rtol=1e-3):
    """Whether losses and weights are the same."""
    pairs = zip([first[0], *first[1]], [second[0], *second[1]], strict=True)
    return all(np.allclose(a, b, rtol, atol=rtol / 10) for a, b in pairs)


class Penalised(keras.layers.Layer):
    """Adds a penalty each time it is called."""

    def call(self, x):
        self.add_loss(7.0 * ops.mean(ops.square(x)))
        self.add_loss(1.0 + 0.0 * ops.mean(x))
        return x


@pytest.fixture
def recorded_soon(monkeypatch):
    """As if this file's layers were Keras's, and a step were worth recording the second time."""
    from kvae.steps import fingerprint

    monkeypatch.setattr("kvae.steps.torch_step.EAGER_STEPS", 1)
    monkeypatch.setattr(fingerprint, "WAYS", {})
    packages = fingerprint.KNOWN_PACKAGES | {__name__.partition(".")[0]}
    return lambda: monkeypatch.setattr(fingerprint, "KNOWN_PACKAGES", packages)


def regularised():
    return keras.layers.ActivityRegularization(l1=0.01, l2=0.01)


@on_torch
@pytest.mark.parametrize("layer", [Penalised, regularised])
def test_penalties_of_layers_stay_in_a_recorded_loss(images, layer, recorded_soon):
    recorded_soon()

    def make(own=layer):
        return model_of_many_layers(own)

    eager, recorded = (trained_with(make, images, recorded) for recorded in (False, True))
    assert None not in recorded[2] and recorded[2]
    assert same(recorded, eager)
    assert not same(eager, trained_with(lambda: make(None), images, False))


@on_torch
def test_losses_are_those_of_one_step_also_after_a_recorded_one(images, recorded_soon):
    recorded_soon()
    vae = model_of_many_layers(Penalised)
    for _ in range(4):
        vae.train_on_batch(images)
    assert [graph for graph, *_ in vae.graphs.made.values()] != [None]
    vae(images, training=True)
    assert len(vae.losses) == 3  # two of the layer, one of the kernel
    assert float(ops.convert_to_numpy(vae.losses[1])) == 1


def set_trainable(vae):
    vae.decoder.get_layer("hidden").trainable = False


def set_dtype(vae):
    vae.decoder.get_layer("leaky").dtype_policy = keras.DTypePolicy("bfloat16")


def replace_layer(vae):
    container = vae.decoder.get_layer("container")
    container.pop()
    container.add(keras.layers.Activation("softplus"))


def setting(layer, name, value):
    """Sets an attribute of a layer of the decoder."""

    def change(vae):
        setattr(vae.decoder.get_layer(layer), name, value)

    change.__name__ = f"{layer}.{name}"
    return change


def set_penalty(vae):
    vae.decoder.get_layer("hidden").kernel.regularizer.l2 = 5.0


CHANGES = [
    setting("hidden", "activation", keras.activations.relu),
    setting("norm", "momentum", 0.1),
    setting("norm", "trainable", False),
    setting("leaky", "negative_slope", 0.9),
    set_penalty,
    set_trainable,
    set_dtype,
    replace_layer,
]


WHENS = ["on_epoch_begin", "on_epoch_end", "on_train_batch_begin"]


@on_torch
@pytest.mark.parametrize(
    ("change", "when"),
    [*zip(CHANGES, itertools.cycle(WHENS)), *itertools.product(CHANGES[:1], WHENS[1:])],
    ids=lambda given: getattr(given, "__name__", given),
)
def test_what_a_callback_changes_holds_at_once_also_when_recorded(
    images, change, when, recorded_soon
):
    class Changes(keras.callbacks.Callback):
        calls = 0

    def at(self, number, logs=None):
        self.calls += 1
        if self.calls == (7 if when == "on_train_batch_begin" else 2):
            change(self.model)

    setattr(Changes, when, at)
    eager, recorded = (
        trained_with(model_of_many_layers, images, recorded, Changes) for recorded in (False, True)
    )
    assert len(recorded[2]) == 2 and None not in recorded[2]
    assert same(recorded, eager)
    unchanged = trained_with(model_of_many_layers, images, False)
    assert not same(eager, unchanged, rtol=1e-6 if change is set_dtype else 1e-3)


factor = 1.0


class ReadsGlobal(keras.layers.Layer):
    """Reads what is no attribute of its own."""

    def call(self, x):
        return x * factor


class DrawsByNumPy(keras.layers.Layer):
    """Draws a number that PyTorch does not see."""

    def call(self, x):
        return x * float(np.random.default_rng(len(drawn)).normal(drawn.append(0) or 1.0))


class CountsSteps(kvae.VAE):
    """A model of the user's own, with a counter."""

    def compute_loss(self, *args, **kwargs):
        drawn.append(0)
        return super().compute_loss(*args, **kwargs) * len(drawn)


drawn: list = []


def own_function():
    return keras.layers.Activation(lambda x: x * factor)


def keras_function():
    return keras.layers.Activation("tanh")


def own_lambda():
    return keras.layers.Lambda(lambda x: x * factor)


@on_torch
@pytest.mark.parametrize(
    "own", [ReadsGlobal, DrawsByNumPy, CountsSteps, own_function, own_lambda, keras_function]
)
def test_code_of_ones_own_is_run_in_every_step(images, own, monkeypatch):
    monkeypatch.setattr("kvae.steps.torch_step.EAGER_STEPS", 1)

    class Changes(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            monkeypatch.setattr(f"{__name__}.factor", 1.0 + epoch)

    def make():
        drawn.clear()
        if own is CountsSteps:
            return model_of_many_layers(vae_class=CountsSteps)
        return model_of_many_layers(own)

    eager, recorded = (trained_with(make, images, given, Changes) for given in (False, True))
    assert same(recorded, eager)
    assert bool(recorded[2]) == (own is keras_function)


@on_torch
@pytest.mark.parametrize("preset", kvae.presets.PRESETS)
def test_steps_of_every_preset_can_be_recorded_and_change_no_attribute(preset):
    from kvae.steps.fingerprint import fingerprint

    size = 14 if preset == "binary-14" else 32
    vae = kvae.VAE.from_preset(preset, (size, size, 1))
    vae.compile("adam")
    images = np.zeros((2, size, size, 1), "uint8")
    vae.train_on_batch(images)
    before = fingerprint(vae)
    assert before is not None
    vae.train_on_batch(images)
    vae.evaluate(images, verbose=0)
    vae.generate(2)
    assert fingerprint(vae) == before
    vae.decoder.layers[-1].trainable = False
    assert fingerprint(vae) != before


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
def test_what_cannot_be_recorded_is_eager(images, layer, recorded_soon):
    recorded_soon()
    vae = model_of_many_layers(layer)
    vae.fit(images, epochs=1, verbose=0)
    assert [graph for graph, *_ in vae.graphs.made.values()] == [None]
    assert np.isfinite(ops.convert_to_numpy(keras.random.normal((2,)))).all()


@on_torch
def test_what_is_validated_in_between_is_recorded_once(make_vae, images, monkeypatch):
    """Keras makes what it validates with anew in each epoch: that is no other step."""
    monkeypatch.setattr("kvae.steps.torch_step.EAGER_STEPS", 5)
    vae = make_vae()
    vae.fit(images[:24], batch_size=8, epochs=4, verbose=0, validation_data=(images[:8],))
    assert len(vae.graphs.made) == len(vae.graphs.fingerprints) == 1


@on_torch
def test_what_takes_long_is_recorded_early(make_vae, images, monkeypatch):
    monkeypatch.setattr("kvae.steps.torch_step.EAGER_SECONDS", 0.0)
    vae = make_vae()
    vae.fit(images[:16], batch_size=8, epochs=1, verbose=0)
    assert len(vae.graphs.made) == 1


@on_torch
def test_what_comes_seldom_is_not_recorded(make_vae, images, monkeypatch):
    monkeypatch.setattr("kvae.steps.torch_step.EAGER_STEPS", 6)
    vae = make_vae()
    vae.fit(images[:20], batch_size=8, epochs=5, verbose=0)
    assert len(vae.graphs.made) == 1  # 10 batches of 8; 5 of 4 are too few


@on_torch
@pytest.mark.parametrize("kind", [keras.optimizers.Adam, keras.optimizers.AdamW, kvae.Muon])
@pytest.mark.parametrize("clip", [None, 1e-3, 1e3])
@pytest.mark.parametrize("accumulation", [None, 2])
def test_the_quick_adam_is_keras_own(kind, clip, accumulation):
    from kvae.steps.torch_adam import quicken

    rng = np.random.default_rng(0)
    start = [rng.normal(size=size).astype("float32") for size in [(3, 4), (9, 8), (9, 8), (5,), ()]]
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
    vae = make_vae(optimizer=keras.optimizers.SGD(1e-3))
    before, after = vae.get_weights(), []
    for beta in (0.0, 50.0, 50.0):
        vae.set_weights(before)
        vae.step.assign(0.0)  # the noise of a step is a function of its number
        vae.beta = beta
        vae.train_on_batch(images)
        after.append(values(vae.trainable_variables)[0])
    assert (after[0] != after[1]).any()
    np.testing.assert_allclose(after[2], after[1], rtol=1e-5, atol=1e-6)


def test_two_steps_draw_different_noise(still, images):
    first, second = (still.train_on_batch(images[:8], return_dict=True) for _ in range(2))
    still.reset_metrics()
    assert first["loss"] != second["loss"]


def test_one_mixed_precision_step_moves_the_weights_as_far_as_a_float32_step(make_vae, images):
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
    for policy in ("mixed_bfloat16", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        try:
            mixed_loss, mixed_distance = moved()
        finally:
            keras.config.set_dtype_policy(former)
        np.testing.assert_allclose(mixed_loss, loss, rtol=0.02, err_msg=policy)
        np.testing.assert_allclose(mixed_distance, distance, rtol=0.1, err_msg=policy)


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
