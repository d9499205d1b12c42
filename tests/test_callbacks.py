import os
import signal
import time

import keras
import numpy as np
import pytest
from keras import ops
from marks import once
from matplotlib.image import imread

import kvae
from kvae.steps.team import Team
from kvae.training.callbacks import AveragedWeights, BetaLogger, KeepLastEpoch, Warnings

pytestmark = pytest.mark.every_backend


def weights(vae):
    return [np.array(ops.convert_to_numpy(v)) for v in vae.trainable_variables]


def test_sample_grids_are_written_by_epoch_and_at_the_end(make_vae, images, tmp_path):
    grids = kvae.SampleGrid(tmp_path / "new" / "samples", count=9, every=2)
    make_vae().fit(images, batch_size=64, epochs=5, verbose=0, callbacks=[grids])
    names = sorted(path.name for path in (tmp_path / "new" / "samples").iterdir())
    assert names == ["epoch-0002.png", "epoch-0004.png", "epoch-0005.png"]


def test_sample_grids_use_the_same_latents_every_time(make_vae, images, tmp_path):
    still = keras.optimizers.SGD(0.0)
    make_vae(optimizer=still).fit(
        images, epochs=2, verbose=0, callbacks=[kvae.SampleGrid(tmp_path, count=4)]
    )
    first, second = (imread(path) for path in sorted(tmp_path.iterdir()))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("channels", [1, 3])
def test_reconstruction_grids_show_images_over_their_reconstructions(make_vae, tmp_path, channels):
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, channels), "uint8")
    vae = make_vae((8, 8, channels))
    callback = kvae.ReconstructionGrid(tmp_path, images)
    callback.set_model(vae)
    picture = callback.picture()
    expected = kvae.plots.stacked_pairs(images, vae.reconstruct(images))
    np.testing.assert_array_equal(picture, expected)
    callback.on_epoch_end(0)
    assert imread(tmp_path / "epoch-0001.png").shape[:2] == picture.shape[:2]


def test_the_logged_beta_is_the_one_that_was_used(make_vae, images):
    vae = make_vae(beta=2.0, warmup_steps=8)
    history = vae.fit(images, epochs=5, batch_size=32, verbose=0, callbacks=[BetaLogger()]).history
    np.testing.assert_allclose(history["beta"], [0.5, 1.0, 1.5, 2.0, 2.0])


def test_the_kl_of_each_latent_is_kept_by_epoch_and_the_logs_stay_as_they_are(make_vae, images):
    vae = make_vae()
    latents = kvae.LatentKL(images, every=2)
    logs = vae.fit(images, batch_size=64, epochs=5, verbose=0, callbacks=[latents]).history
    assert sorted(logs) == ["elbo", "kl", "loss", "reconstruction"]
    assert list(latents.history) == ["epoch", "1", "2", "3"]
    assert latents.history["epoch"] == [2, 4, 5]
    last = [latents.history[name][-1] for name in "123"]
    np.testing.assert_allclose(last, vae.kl_per_latent(images), rtol=1e-5)


def warned(vae, images, epochs, verbose=2, validation=None, **settings):
    latents = kvae.LatentKL(images)
    warnings = Warnings(latents)
    vae.fit(
        images,
        validation_data=(images if validation is None else validation,),
        epochs=epochs,
        verbose=verbose,
        callbacks=[latents, warnings],
        **settings,
    )
    return warnings


@pytest.mark.usefixtures("graphs")
@once
def test_a_collapse_is_warned_of_once_and_not_before_the_warm_up_is_over(
    make_vae, images, capsys, monkeypatch
):
    monkeypatch.setattr("kvae.training.callbacks.watching.SETTLING", 8)
    adam = keras.optimizers.Adam(1e-2)
    warnings = warned(
        make_vae(beta=100.0, warmup_steps=16, optimizer=adam), images, 12, batch_size=16
    )
    assert [finding.name for finding in warnings.findings] == ["latents"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("→ Lower --beta: 1 gives the bound, and it is 100.")
    assert int(line.removeprefix("After epoch ").split(":")[0]) >= 6  # 24 updates, 4 an epoch


@once
def test_a_wrong_likelihood_is_warned_of_before_the_first_epoch(make_vae, images, capsys):
    warned(make_vae(likelihood=kvae.Bernoulli("none")), images, 1)
    printed = capsys.readouterr()
    assert printed.err.startswith("Before training: ") and "--binarize dynamic" in printed.err
    assert printed.err.count("Before training: ") == 1


@pytest.mark.slow
@once
def test_validation_that_rises_is_warned_of(make_vae, monkeypatch, capsys):
    monkeypatch.setattr("kvae.training.callbacks.watching.SETTLING", 8)
    noise = 255 * np.random.default_rng(0).integers(0, 2, (40, 8, 8, 1)).astype("uint8")
    vae = make_vae(latent_dim=8, optimizer=keras.optimizers.Adam(0.1))
    warnings = warned(vae, noise[:20], 30, validation=noise[20:], verbose=2)
    assert "overfitting" in [finding.name for finding in warnings.findings]
    assert "best at epoch" in capsys.readouterr().err


@pytest.mark.slow
def test_nothing_is_printed_where_fit_is_silent_or_all_is_well(make_vae, images, capsys):
    warnings = warned(make_vae(likelihood=kvae.Bernoulli("none")), images, 1, verbose=0)
    assert warnings.findings and capsys.readouterr().err == ""
    well = make_vae(optimizer=keras.optimizers.Adam(1e-2))
    well.fit(images, epochs=50, batch_size=16, verbose=0)
    warnings = warned(well, images, 10, batch_size=16)
    assert warnings.findings == [] and capsys.readouterr().err == ""


class PressControlC(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch
        self.now = None

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self.now == self.epoch and batch == 1:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
@once
def test_control_c_keeps_the_last_finished_epoch(make_vae, images):
    vae = make_vae(optimizer=keras.optimizers.Adam(use_ema=True))
    ends = []

    class Remember(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            ends.append(weights(self.model))

    keep = KeepLastEpoch(lambda finished: None)
    before = signal.getsignal(signal.SIGINT)
    with keep:
        with pytest.raises(KeyboardInterrupt):
            vae.fit(images, epochs=9, batch_size=8, verbose=0,
                    callbacks=[Remember(), keep, PressControlC(epoch=2)])  # fmt: skip
        keep.restore()
        os.kill(os.getpid(), signal.SIGINT)  # held back, while one would save
    assert keep.finished == len(ends) == 2
    assert signal.getsignal(signal.SIGINT) is before
    for kept, now in zip(ends[-1], weights(vae), strict=True):
        np.testing.assert_array_equal(kept, now)


def test_a_loss_that_is_not_finite_stops_training_and_names_the_term(make_vae, images):
    vae = make_vae()

    class Break(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                head = self.model.encoder.get_layer("mean")
                head.bias.assign([float("nan")] * 3)

    keep = KeepLastEpoch(lambda finished: None)
    with keep:
        vae.fit(images, epochs=9, verbose=0, callbacks=[keep, Break()])
        keep.restore()
    assert keep.finished == 1
    assert "kl" in keep.broken
    assert np.isfinite(vae.generate(2, seed=0)).all()
    assert all(np.isfinite(w).all() for w in weights(vae))


def test_an_epoch_whose_validation_is_not_finite_is_not_kept(make_vae, images):
    class Break(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            self.model.encoder.get_layer("mean").bias.assign([float("nan")] * 3)

    keep = KeepLastEpoch(lambda finished: None)
    with keep:
        make_vae().fit(
            images, validation_data=(images,), epochs=9, verbose=0, callbacks=[Break(), keep]
        )
    assert keep.finished == 0 and "val_kl" in keep.broken


@once
def test_a_process_stops_where_another_was_asked_to_and_saves_when_the_first_does(make_vae, images):
    asked, saved = [], []

    class Crew(Team):
        def gathered(self, numbers):
            asked.append(numbers)
            first = [signal.SIGTERM if len(asked) > 5 else 0, 1.0, 0, 1]
            return np.asarray([first, numbers], "float32")

    keep = KeepLastEpoch(saved.append, seconds=1e9, crew=Crew(2, rank=1, processes=2))
    with keep, pytest.raises(KeyboardInterrupt):
        make_vae().fit(images, epochs=99, batch_size=8, verbose=0, callbacks=[keep])
    assert len(asked) == 6 and keep.interrupted == signal.SIGTERM
    assert saved == list(range(1, keep.finished + 1))


@once
def test_a_long_run_is_saved_on_the_way(make_vae, images):
    saved = []
    keep = KeepLastEpoch(saved.append, seconds=0.0)
    with keep:
        make_vae().fit(images, epochs=3, verbose=0, callbacks=[keep])
    assert saved == [1, 2, 3]


@once
def test_a_second_signal_that_python_would_ignore_comes_again(capsys):
    class Raises:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.001)

    with KeepLastEpoch(lambda finished: None) as keep:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.001)
        assert keep.interrupted == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            Raises()
            time.sleep(5)
    assert "ignored" not in capsys.readouterr().err


@once
def test_the_state_is_written_before_the_model_that_is_to_go_on_from_it(make_vae, images):
    written = []
    keep = KeepLastEpoch(written.append, lambda finished, made: written.append("state"))
    with keep:
        make_vae().fit(images, epochs=1, verbose=0, callbacks=[keep])
    assert written == ["state", 1]


def test_keras_callbacks_work(make_vae, images, tmp_path):
    vae = make_vae()
    history = vae.fit(
        images,
        validation_data=(images,),
        epochs=3,
        verbose=0,
        callbacks=[
            keras.callbacks.ModelCheckpoint(
                tmp_path / "best.keras", monitor="val_loss", save_best_only=True
            ),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            keras.callbacks.EarlyStopping("val_loss", min_delta=1e9, patience=1),
        ],
    ).history
    assert len(history["val_loss"]) == 2, "EarlyStopping had no say"
    assert kvae.load(tmp_path / "best.keras").image_shape == (8, 8, 1)
    header = (tmp_path / "log.csv").read_text().splitlines()[0].split(",")
    assert {"loss", "val_loss", "val_kl"} <= set(header)


def test_tensorboard_works(make_vae, images, tmp_path):
    pytest.importorskip("tensorboard")
    make_vae().fit(images, epochs=1, verbose=0, callbacks=[keras.callbacks.TensorBoard(tmp_path)])
    assert list(tmp_path.rglob("events.out*"))


def test_backup_and_restore_goes_on_as_if_nothing_had_happened(make_vae, images, tmp_path):
    settings = {"batch_size": 32, "shuffle": False, "verbose": 0}
    straight = make_vae(warmup_steps=10, optimizer="adam")
    straight.fit(images, epochs=2, **settings)

    class Crash(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise RuntimeError("power cut")

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    with pytest.raises(RuntimeError, match="power cut"):
        crashing = make_vae(warmup_steps=10, optimizer="adam")
        crashing.fit(images, epochs=2, callbacks=[backup(), Crash()], **settings)
    resumed = make_vae(warmup_steps=10, optimizer="adam")
    resumed.fit(images, epochs=2, callbacks=[backup()], **settings)
    for a, b in zip(weights(straight), weights(resumed), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_validation_and_later_callbacks_see_the_average_and_training_goes_on_without(
    make_vae, images, tmp_path
):
    momentum = 0.9
    averaged, plain = (
        make_vae(optimizer=keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=momentum))
        for _ in range(2)
    )
    seen, steps = [], []

    class See(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(weights(self.model))

    class Step(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(weights(self.model))

    settings = {"epochs": 2, "batch_size": 32, "shuffle": False, "verbose": 0}
    grids = kvae.SampleGrid(tmp_path, count=4)
    averaged.fit(
        images,
        validation_data=(images,),
        callbacks=[AveragedWeights(), See(), grids],
        **settings,
    )
    plain.fit(images, callbacks=[Step()], **settings)
    average = steps[0]
    by_epoch = []
    for i, step in enumerate(steps):
        average = [momentum * a + (1 - momentum) * w for a, w in zip(average, step, strict=True)]
        if i % 2 == 1:
            by_epoch.append(average)
    for actual, expected in zip(seen, by_epoch, strict=True):
        for a, b in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    for a, b in zip(weights(averaged), by_epoch[-1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    averaged.evaluate(images, verbose=0)
    averaged.save(tmp_path / "vae.keras")
