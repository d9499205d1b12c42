"""Several devices that share each batch give what one device gives."""

import json
import os
import pathlib
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
DEVICES = {"jax": 8, "tensorflow": 2, "torch": 2}[BACKEND]
# What each is about, in one word: see `several_devices.py`.
CASES = {
    "jax": (
        *("mlp verbs free_bits clip", "batch_norm weights iwae accumulation"),
        *("model_parallel executions penalty", "correlation weights"),
    ),
    "tensorflow": (
        "mlp verbs free_bits clip penalty",
        "conv muon weights iwae in_order",
        "covariance weights",
    ),
    "torch": (
        *("mlp verbs", "conv muon weights", "ladder average", "batch_norm clip"),
        *("iwae accumulation penalty", "free_bits in_order clip", "warmup bfloat16"),
        *("covariance weights", "capacity"),
    ),
}[BACKEND]
# On JAX batch norm is over the whole batch; elsewhere each device normalises its own share.
OVER_SHARES = ("batch_norm clip",)
# A sum in 8 bits of mantissa depends on its order, and Muon's steps do not shrink with gradients.
TOLERANCE = {"warmup bfloat16": 1e-2} | {case: 1e-3 for case in CASES if "muon" in case}
HERE = pathlib.Path(__file__).parent


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def processes(arguments, count=1, **settings):
    """Starts Python so often, as a launcher does where that is more than once."""
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), **settings}
    common.pop("PYTEST_XDIST_WORKER", None)
    started = []
    for rank in range(count):
        ranks = {name: str(rank) for name in ("RANK", "LOCAL_RANK")} | {"WORLD_SIZE": str(count)}
        environment = {**common, **(ranks if count > 1 else {})}
        started.append(
            subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def ended(started, timeout=300):
    """The exit code, stdout and stderr of each process."""
    try:
        said = [one.communicate(timeout=timeout) for one in started]
    finally:
        for one in started:
            one.kill()
    return [(one.returncode, *words) for one, words in zip(started, said, strict=True)]


@pytest.fixture(scope="module")
def figures():
    """Of each case: what came of it alone, and what of several devices."""
    count = DEVICES if BACKEND == "torch" else 1
    arguments = [HERE / "several_devices.py", DEVICES, *CASES]
    first, *others = ended(processes(arguments, count))
    assert first[0] == 0, first[2][-3000:]
    assert not any(one[1] for one in others)
    return json.loads(first[1].splitlines()[-1])


@pytest.mark.parametrize("case", CASES)
def test_devices_that_share_a_batch_train_as_one(figures, case):
    alone, shared = figures[case]
    assert alone.keys() == shared.keys()
    if case in OVER_SHARES:
        assert np.isfinite([value for values in shared.values() for value in values]).all()
        assert shared["seen"] != pytest.approx(alone["seen"], rel=1e-6)  # and not as one
        return
    tolerance = TOLERANCE.get(case, 1e-4)
    for name, values in alone.items():
        assert shared[name] == pytest.approx(values, rel=tolerance, abs=tolerance), name


def test_a_number_of_devices_that_are_not_there_is_refused():
    with pytest.raises(ValueError, match="Of 7 devices there are|torchrun --nproc-per-node 7"):
        kvae.training.team(7)
    for nonsense in (0, -1, 1.5, True, "all"):
        with pytest.raises(ValueError, match='`devices` must be "auto" or at least 1'):
            kvae.training.team(nonsense)


def test_one_device_is_no_team():
    with kvae.training.team(1) as team:
        assert (team.devices, team.rank, team.processes) == (1, 0, 1)
        assert team.told(b"words") == b"words"


if BACKEND == "torch":

    def train(tmp_path, count, *arguments, **settings):
        """`kvae train` in so many processes."""
        out = ("--out", tmp_path / "vae.keras")
        words = ("-m", "kvae", "train", "--dataset", "digits", "--preset", "mlp-400", *out)
        return processes((*words, *arguments), count, OMP_NUM_THREADS="1", **settings)

    def test_ranks_train_by_the_command_and_the_first_alone_writes_and_prints(tmp_path):
        (tmp_path / "two").mkdir(), (tmp_path / "one").mkdir()
        started = train(tmp_path / "two", 2, "--epochs", 40)
        while not (tmp_path / "two" / "vae" / "checkpoint.npz").exists():
            assert started[0].poll() is None, started[0].communicate()
            time.sleep(0.1)
        for one in started:
            one.kill()
        first, second = ended(started)
        assert second[1] == second[2] == ""
        assert "2 devices in 2 processes for each batch of 128" in first[2]
        names = {path.name for path in (tmp_path / "two").iterdir() if path.name[0] != "."}
        assert names == {"vae.keras", "vae"}
        # Goes on alone, to what one process comes to.
        (resumed,) = ended(train(tmp_path / "two", 1, "--epochs", 40, "--resume"))
        assert resumed[0] == 0 and "Going on at update" in resumed[2], resumed[2]
        (alone,) = ended(train(tmp_path / "one", 1, "--epochs", 40))
        assert alone[0] == 0, alone[2]
        cards = [kvae.load(tmp_path / name / "vae.keras").card for name in ("one", "two")]
        for part in ("train", "test"):
            assert cards[1][part]["elbo"] == pytest.approx(cards[0][part]["elbo"], rel=1e-4)

    def test_a_process_that_dies_ends_the_other_with_a_line_and_the_run_goes_on(tmp_path):
        first, second = train(tmp_path, 2, "--epochs", 100_000, "--quiet")
        waited = time.monotonic()
        while not (tmp_path / "vae.keras").exists():
            assert time.monotonic() < waited + 120 and first.poll() is None
            time.sleep(0.2)
        second.send_signal(signal.SIGKILL)
        died = time.monotonic()
        (code, _, said), _ = ended([first, second], timeout=60)
        assert code == 1 and time.monotonic() < died + 60
        assert "Traceback" not in said, said
        assert "Another process that trains with this one has stopped" in said
        assert "--resume" in said
        facts = kvae.training.Run(tmp_path / "vae.keras").facts()
        assert facts["finished"] >= 1

    def test_processes_that_know_nothing_of_each_other_do_not_train(monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "2")
        vae = kvae.VAE.from_preset("mlp-400", (8, 8, 1))
        vae.compile("adam")
        with pytest.raises(ValueError, match=r"init_process_group\(\) first"):
            vae.fit(np.zeros((4, 8, 8, 1), "uint8"), verbose=0)
