"""Several devices that share each batch give what one device gives."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import kvae

BACKEND = keras.backend.backend()
DEVICES = {"jax": 8, "tensorflow": 4, "torch": 1}[BACKEND]
# What each is about, in one word: see `several_devices.py`. On TensorFlow 2 devices share a batch,
# or four.
CASES = {
    "jax": (
        *("mlp verbs free_bits clip", "batch_norm weights iwae accumulation"),
        "model_parallel executions penalty average",
        *("conv correlation weights classes", "ladder warmup bfloat16"),
        *("covariance average", "discrepancy muon"),
    ),
    "tensorflow": (
        *("mlp verbs average", "mlp free_bits clip penalty four"),
        *("conv weights iwae in_order", "capacity muon classes"),
        *("batch_norm clip", "ladder warmup bfloat16"),
    ),
    "torch": (
        *("mlp verbs free_bits in_order clip", "conv weights", "ladder average"),
        *("batch_norm clip", "iwae accumulation penalty", "ladder warmup bfloat16"),
        "capacity muon classes",
    ),
}[BACKEND]
# On JAX batch norm is over the whole batch; elsewhere each device normalises its own share.
OVER_SHARES = () if BACKEND == "jax" else [case for case in CASES if "batch_norm" in case]


def tolerance(case):
    """A sum in 8 bits of mantissa depends on its order, and Muon's steps do not shrink."""
    return 1e-2 if "bfloat16" in case else 1e-3 if "muon" in case else 1e-4


HERE = pathlib.Path(__file__).parent


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def processes(arguments, count=1):
    """Starts Python so often, as a launcher does where that is more than once."""
    port = free_port()
    common = {**os.environ, "OMP_NUM_THREADS": "1"}
    common.pop("PYTEST_XDIST_WORKER", None)
    started = []
    for rank in range(count):
        ranks = {
            "jax": {
                "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
                "KERAS_DISTRIBUTION_NUM_PROCESSES": str(count),
                "KERAS_DISTRIBUTION_PROCESS_ID": str(rank),
            },
            "torch": {
                **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)},
                **{name: str(rank) for name in ("RANK", "LOCAL_RANK")},
            },
        }
        started.append(
            subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                env={**common, **(ranks[BACKEND] if count > 1 else {})},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def ended(started, timeout=600):
    """The exit code, stdout and stderr of each process."""
    try:
        said = [one.communicate(timeout=timeout) for one in started]
    finally:
        for one in started:
            one.kill()
    # On a CPU JAX says on stdout that processes have found each other, two devices at a time.
    gloo = re.compile(r"\[Gloo\]|peer ranks|^\s*$")
    printed = [[line for line in out.splitlines() if not gloo.search(line)] for out, _ in said]
    return [
        (one.returncode, "\n".join(lines), err)
        for one, lines, (_, err) in zip(started, printed, said, strict=True)
    ]


def figures_of(how, devices, cases, count=1):
    """What `several_devices.py` says of cases, in so many processes of so many devices."""
    arguments = [HERE / "several_devices.py", devices, how, *cases]
    first, *others = ended(processes(arguments, count))
    assert first[0] == 0, first[2][-3000:]
    assert not any(one[1] for one in others), others
    said = json.loads(first[1].splitlines()[-1])
    assert said["processes"] == count
    return said


@pytest.fixture(scope="module")
def figures():
    """Of each case: what came of it alone, and what of several devices."""
    return figures_of("both", DEVICES, CASES, 2 if BACKEND == "torch" else 1)


def check_alike(alone, shared, case):
    """Raises an AssertionError unless several devices give what one gives."""
    assert alone.keys() == shared.keys()
    if case in OVER_SHARES:
        assert np.isfinite([value for values in shared.values() for value in values]).all()
        assert shared["seen"] != pytest.approx(alone["seen"], rel=1e-6)  # and not as one
        return
    near = tolerance(case)
    # Before a batch norm the gradient of a bias is rounding alone, of which Adam makes whole steps.
    left = {"weights", "seen"} if "batch_norm" in case else set()
    for name, values in alone.items():
        if name in left:
            continue
        assert shared[name] == pytest.approx(values, rel=near, abs=near), name


@pytest.mark.parametrize("case", CASES)
def test_devices_that_share_a_batch_train_as_one(figures, case):
    assert figures["devices"] == {"jax": 8, "tensorflow": 2, "torch": 2}[BACKEND]
    check_alike(*figures["cases"][case], case)


if BACKEND == "jax":

    def test_processes_of_several_devices_train_as_one(figures):
        cases = [case for case in CASES if "mlp" in case or "batch_norm" in case or "conv" in case]
        said = figures_of("shared", 2, cases, count=2)
        assert said["devices"] == 4
        for case in cases:
            check_alike(figures["cases"][case][0], said["cases"][case][1], case)

    def test_keras_still_fails_at_a_batch_that_devices_cannot_share_evenly(figures):
        """Where this fails Keras has mended it: `steps.jax_devices.odd_batches` can go."""
        assert "divisible" in figures["upstream"].lower()

    def test_weights_lie_on_devices_that_divide_them():
        with pytest.raises(ValueError, match="`parts` must be a number that divides .* 1. Receiv"):
            kvae.model_parallel(2)
        with kvae.model_parallel(1).scope():
            assert keras.layers.Dense(4).compute_output_shape((1, 3)) == (1, 4)

else:

    def test_weights_lie_on_several_devices_on_jax_alone():
        with pytest.raises(ValueError, match="with the JAX backend alone"):
            kvae.model_parallel(2)


def test_a_number_of_devices_that_are_not_there_is_refused():
    with pytest.raises(ValueError, match="fewer than 7 devices here|torchrun --nproc-per-node 7"):
        kvae.training.team(7)
    for nonsense in (0, -1, 1.5, True, "all"):
        with pytest.raises(ValueError, match='`devices` must be "auto" or at least 1'):
            kvae.training.team(nonsense)


def test_one_device_is_no_team():
    with kvae.training.team(1) as team:
        assert (team.devices, team.rank, team.processes) == (1, 0, 1)
        assert team.told(b"words") == b"words"


if BACKEND != "tensorflow":

    def train(tmp_path, *arguments):
        """`kvae train` in two processes."""
        out = ("--out", tmp_path / "vae.keras", "--epochs", EPOCHS)
        words = ("-m", "kvae", "train", "--dataset", "digits", "--preset", "mlp-400", *out)
        return processes((*words, *arguments), 2)

    def wait_for(path, first):
        """Till a file is there, which the first process is to write."""
        begun = time.monotonic()
        while not path.exists():
            assert time.monotonic() < begun + 120 and first.poll() is None, ended([first])
            time.sleep(0.05)

    EPOCHS = 40

    def test_processes_that_are_stopped_and_killed_go_on_to_what_one_comes_to(tmp_path, capsys):
        # One alone is asked to stop: both do, at the same step.
        started = train(tmp_path)
        wait_for(tmp_path / "vae.keras", started[0])
        started[1].send_signal(signal.SIGTERM)
        first, second = ended(started, timeout=60)
        assert first[0] == second[0] == 128 + signal.SIGTERM, first[2]
        assert "2 devices in 2 processes for each batch of 128" in first[2]
        assert "is kept" in first[2].splitlines()[-1] and "--resume" in first[2]
        assert first[1] == second[1] == second[2] == ""
        names = {path.name for path in tmp_path.iterdir() if path.name[0] != "."}
        assert names == {"vae.keras", "vae"}
        facts = kvae.training.Run(tmp_path / "vae.keras").facts()
        assert 1 <= facts["finished"] < EPOCHS
        # One dies, be it the first: the other says so, and both could go on.
        checkpoint = tmp_path / "vae" / "checkpoint.npz"
        for dead, left in ((1, 0), (0, 1)):
            before = checkpoint.stat().st_mtime_ns
            started = train(tmp_path, "--resume", "--quiet")
            begun = time.monotonic()
            while checkpoint.stat().st_mtime_ns == before:
                assert time.monotonic() < begun + 120 and started[0].poll() is None, ended(started)
                time.sleep(0.05)
            started[dead].kill()
            died = time.monotonic()
            code, _, said = ended(started, timeout=60)[left]
            assert code == 1 and time.monotonic() < died + 60
            *lines, last = said.splitlines()
            assert [line.split()[0] for line in lines] == ["Resuming"] * (left == 0), said
            assert last.startswith("Error: Another process that trains with this one has stopped")
            assert "--resume" in last
        # Goes on alone, to what one process comes to.
        capsys.readouterr()
        digits, settings = kvae.data.load("digits"), {"epochs": EPOCHS, "verbose": 0}
        out = tmp_path / "vae.keras"
        resumed = kvae.train(digits, "mlp-400", out=out, resume=True, **settings)
        assert "Resuming at update" in capsys.readouterr().out
        alone = kvae.train(digits, "mlp-400", out=tmp_path / "alone.keras", **settings)
        for part in ("train", "test"):
            assert resumed.card[part]["elbo"] == pytest.approx(alone.card[part]["elbo"], rel=1e-4)


if BACKEND == "torch":

    def test_processes_refuse_before_the_first_step_what_they_cannot_share(figures):
        own, loaders, validation, steps = figures["refused"]
        assert own.startswith("`Own.train_step` is your own") and "reduces_gradients" in own
        assert loaders.endswith("Received: `x` of 2, 3 batches")
        assert validation.endswith("Received: `validation_data` of 2, 3 batches")
        assert steps.endswith("Received: validation_steps=1")

    def test_processes_that_know_nothing_of_each_other_do_not_train(monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "2")
        vae = kvae.VAE.from_preset("mlp-400", (8, 8, 1))
        vae.compile("adam")
        with pytest.raises(ValueError, match=r"init_process_group\(\) first"):
            vae.fit(np.zeros((4, 8, 8, 1), "uint8"), verbose=0)
