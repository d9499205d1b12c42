"""A run that was stopped or killed goes on as if it had not been, bit for bit."""

import contextlib
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from keras import ops

import kvae
from kvae.training.callbacks import KeepLastEpoch
from kvae.training.run import Run

every_backend = pytest.mark.every_backend
SETTINGS = {"epochs": 3, "batch_size": 32, "latent_dim": 3, "verbose": 0}
AVERAGED = {"averaged": 0.2, "schedule": "plateau", "learning_rate": 0.05, "optimizer": "muon"}
MIXED = {"objective": "iwae", "samples": 3, "precision": "mixed_bfloat16"}
EMA = {"use_ema": True, "ema_momentum": 0.9}
SIGNALS = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return kvae.data.from_arrays(rng.integers(0, 256, (203, 8, 8, 1)).astype("uint8"))


def train(data, out, preset="mlp-400", **settings):
    recipe = kvae.presets.get(preset).replaced(network_arguments={"widths": (8,)})
    return kvae.train(data, recipe, out=out, **{**SETTINGS, **settings})


def state(vae):
    variables = [*vae.variables, *vae.optimizer.variables]
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


def assert_same_run(one, other):
    for name in ("history.csv", "latents.csv", "samples.gif"):
        assert (other / "vae" / name).read_bytes() == (one / "vae" / name).read_bytes(), name
    models = [kvae.load(folder / "vae.keras") for folder in (one, other)]
    assert models[0].card["test"] == models[1].card["test"]
    for left, right in zip(*map(state, models), strict=True):
        np.testing.assert_array_equal(left, right)


def stop_at(monkeypatch, epoch, batch, name="SIGINT"):
    """Sends this process a signal at a batch of an epoch, both counted from 0."""

    class Stops(KeepLastEpoch):
        def on_epoch_begin(self, now, logs=None):
            super().on_epoch_begin(now, logs)
            self.epoch = now

        def on_train_batch_begin(self, now, logs=None):
            if (self.epoch, now) == (epoch, batch):
                os.kill(os.getpid(), getattr(signal, name))
                time.sleep(0.01)
            super().on_train_batch_begin(now, logs)

    monkeypatch.setattr(sys.modules["kvae.training.watch"], "KeepLastEpoch", Stops)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    train(data, folder / "vae.keras")
    return folder


@pytest.fixture(scope="module")
def short(data, tmp_path_factory):
    """A run of one epoch that was told to go on where there is none; and what it printed."""
    folder, printed = tmp_path_factory.mktemp("short"), io.StringIO()
    with contextlib.redirect_stdout(printed):
        train(data, folder / "vae.keras", epochs=1, resume=True)
    return folder, printed.getvalue()


def test_a_run_that_was_stopped_goes_on_bit_for_bit(data, whole, tmp_path, monkeypatch):
    # The first before its first step, and once more there; the third at the end of an epoch.
    for stop, (epoch, batch) in enumerate(((0, 0), (0, 0), (0, 3), (2, 0), (2, 4))):
        with monkeypatch.context() as patch:
            stop_at(patch, epoch, batch)
            with pytest.raises(KeyboardInterrupt, match="With --resume .* the run goes on"):
                train(data, tmp_path / "vae.keras", resume=stop > 0)
        assert (tmp_path / "vae.keras").exists() == (epoch > 0)
    train(data, tmp_path / "vae.keras", resume=True)
    assert_same_run(whole, tmp_path)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(AVERAGED, marks=every_backend, id="average-plateau-muon"),
        pytest.param(MIXED, marks=every_backend, id="iwae-mixed"),
        pytest.param({"objective": "tc", "kl_warmup": 0.9}, id="correlation"),
        pytest.param(
            {"objective": "capacity", "capacity": 3.0, "capacity_rise": 0.9}, id="capacity"
        ),
    ],
)
def test_every_kind_of_run_goes_on_bit_for_bit(data, tmp_path, monkeypatch, settings):
    one, other = tmp_path / "one", tmp_path / "other"
    train(data, one / "vae.keras", **settings)
    for epoch, batch in ((1, 5), (2, 0)):
        with monkeypatch.context() as patch:
            stop_at(patch, epoch, batch)
            with pytest.raises(KeyboardInterrupt):
                train(data, other / "vae.keras", resume=True, **settings)
    train(data, other / "vae.keras", resume=True, **settings)
    assert_same_run(one, other)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "SIGTERM" else pytest.mark.slow)
        for name in SIGNALS
        if name != "SIGINT"
    ],
)
def test_other_signals_are_as_a_first_ctrl_c(data, tmp_path, monkeypatch, capsys, name):
    stop_at(monkeypatch, 1, 3, name)
    with pytest.raises(SystemExit) as caught:
        train(data, tmp_path / "vae.keras")
    assert caught.value.code == 128 + getattr(signal, name)
    assert "Epoch 1 is kept" in capsys.readouterr().err
    assert kvae.load(tmp_path / "vae.keras").card["epochs"] == 1


def test_a_signal_that_is_ignored_stays_so(monkeypatch):
    former = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with KeepLastEpoch(lambda finished: None) as keep:
            os.kill(os.getpid(), signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN and not keep.interrupted
    finally:
        signal.signal(signal.SIGTERM, former)


def test_a_plateau_is_watched_from_before_the_first_epoch_has_ended(data, tmp_path, monkeypatch):
    stop_at(monkeypatch, 0, 3)
    with pytest.raises(KeyboardInterrupt, match="With --resume"):
        train(data, tmp_path / "vae.keras", schedule="plateau")


def test_what_is_finished_says_so_and_more_epochs_go_on(data, whole, short, tmp_path, capsys):
    before = (whole / "vae.keras").stat().st_mtime_ns
    vae = train(data, whole / "vae.keras", resume=True, least_epochs=7)
    assert "is finished: 3 epochs" in capsys.readouterr().out and vae.card["epochs"] == 3
    assert (whole / "vae.keras").stat().st_mtime_ns == before
    shutil.copytree(short[0], tmp_path, dirs_exist_ok=True)
    longer = train(data, tmp_path / "vae.keras", epochs=2, resume=True, least_updates=9)
    assert "schedules follow a run of 2 epochs" in capsys.readouterr().out
    assert longer.card["epochs"] == 2 and int(ops.convert_to_numpy(longer.step)) == 2 * 6


def test_an_error_before_the_first_step_is_that_error_and_files_stay(
    data, short, tmp_path, monkeypatch
):
    shutil.copytree(short[0], tmp_path, dirs_exist_ok=True)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def refuses(self, *_, **__):
        raise ValueError("not these")

    monkeypatch.setattr(kvae.VAE, "fit", refuses)
    with pytest.raises(ValueError, match="not these"):
        train(data, tmp_path / "vae.keras", epochs=2, resume=True)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path: now for path, now in after.items() if now} == {
        path: was for path, was in before.items() if was
    }


def test_another_recipe_and_other_images_are_refused(data, whole):
    for settings, what in (
        ({"beta": 3.0}, "beta 1.0, not 3.0"),
        ({"epochs": 2}, "epochs 3, not 2"),
    ):
        with pytest.raises(ValueError, match=f"has another recipe: {what}"):
            train(data, whole / "vae.keras", resume=True, **settings)
    others = kvae.data.from_arrays(255 - np.concatenate([data.train, data.validation, data.test]))
    with pytest.raises(ValueError, match="trained on other images"):
        train(others, whole / "vae.keras", resume=True, epochs=5)


def test_where_there_is_no_run_a_new_one_begins(data, short, tmp_path):
    folder, printed = short
    assert "starting a new one" in printed
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "vae" / "checkpoint.npz").unlink()
    with pytest.raises(ValueError, match="has no checkpoint to resume from"):
        train(data, tmp_path / "vae.keras", epochs=2, resume=True)


def test_a_damaged_checkpoint_says_so(data, short, tmp_path):
    shutil.copytree(short[0], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "vae" / "checkpoint.npz"
    for content in (b"", b"text", path.read_bytes()[:1000]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is damaged, so the run cannot go on"):
            train(data, tmp_path / "vae.keras", epochs=2, resume=True)


def test_a_checkpoint_of_other_content_says_so(data, whole, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "vae" / "checkpoint.npz"
    with np.load(path) as arrays:
        content = dict(arrays)
    facts = json.loads(content["facts"].tobytes())
    for save, changed in (
        (np.savez_compressed, facts),
        (np.savez, {**facts, "finished": "3"}),
        (np.savez, {**facts, "card": None}),
        (np.savez, [facts]),
    ):
        text = np.frombuffer(json.dumps(changed).encode(), "uint8")
        save(path, **{**content, "facts": text})
        with pytest.raises(ValueError, match="is damaged, so the run cannot go on"):
            train(data, tmp_path / "vae.keras", epochs=5, resume=True)


def test_two_runs_of_one_name_are_one_too_many(tmp_path):
    with Run(tmp_path / "vae.keras"):
        with pytest.raises(OSError, match="another process is training it"):
            Run(tmp_path / "vae.keras").__enter__()
        with Run(tmp_path / "other.keras"):
            pass
    with Run(tmp_path / "vae.keras"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "split"),
    [
        pytest.param({}, 0.0, id="all-plain"),
        pytest.param(EMA, 0.25, marks=every_backend, id="split-average"),
    ],
)
def test_keras_s_own_checkpoints_go_on_bit_for_bit(make_vae, data, tmp_path, optimizer, split):
    def made():
        vae = make_vae(optimizer=keras.optimizers.Adam(1e-2, **optimizer))
        return vae

    def fit(vae, *callbacks, **arguments):
        arguments |= {"batch_size": 16, "verbose": 0, "validation_split": split}
        vae.fit(data.train, callbacks=list(callbacks), **arguments)
        return [np.array(ops.convert_to_numpy(weight)) for weight in vae.weights]

    class Stops(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    expected = fit(made(), epochs=4)
    path = tmp_path / "vae.keras"
    fit(made(), keras.callbacks.ModelCheckpoint(str(path)), epochs=2)
    found = {"ModelCheckpoint": fit(kvae.load(path), epochs=4, initial_epoch=2)}
    backup = str(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        fit(made(), keras.callbacks.BackupAndRestore(backup), Stops(), epochs=4)
    found["Backup"] = fit(made(), keras.callbacks.BackupAndRestore(backup), epochs=4)
    for weights in found.values():
        for left, right in zip(weights, expected, strict=True):
            np.testing.assert_array_equal(left, right)


def test_each_epoch_has_an_order_of_its_own_which_the_seed_decides(make_vae, data):
    orders = []
    for _ in range(2):
        vae = make_vae()
        seen = []
        for _ in range(2):
            seen.append(np.random.default_rng(vae.order_key()).permutation(50).tolist())
            vae.fit(data.train[:32], batch_size=16, verbose=0)
        assert seen[0] != seen[1]
        orders.append(seen)
    assert orders[0] == orders[1]


@pytest.mark.slow
@every_backend
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes that it forks")
def test_runs_that_are_killed_at_random_moments_go_on_bit_for_bit():
    script = pathlib.Path(__file__).parent / "faults" / "kills.py"
    command = [sys.executable, str(script), "--kills", "3", "--seed", str(int(time.time()))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "every run bit-equal" in done.stdout
