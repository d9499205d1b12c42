"""Kills: runs that are killed at random moments, and must end as one that was not.

    python tests/faults/kills.py --backend jax --kills 100

Of ten kills three come while files are written, the others at any time; SIGKILL, SIGTERM and SIGINT
take turns. After each kill every file must be whole, and no checkpoint may be lost; after the last
one of a run all must be, bit for bit, as without. Processes are forked from one that has imported
the backend and done nothing with it, so that a kill takes seconds.
"""

import argparse
import json
import os
import pathlib
import signal
import sys
import tempfile
import threading
import time
import traceback
import zipfile

import numpy as np

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
KINDS = {  # what is trained: settings of the recipe
    "plain": {},
    "average": {"averaged": 0.2},
    "plateau": {"schedule": "plateau", "learning_rate": 0.02},
    "iwae": {"objective": "iwae", "samples": 3},
}
EPOCHS = 25
KILLS_A_RUN = 5  # at most
SAVING = 0.3  # the share of kills that come while files are written


def child(work, log):
    """Runs a function in a forked process, which writes to a log; returns its number."""
    number = os.fork()
    if number:
        return number
    code = 70
    try:
        for one in SIGNALS[1:]:
            signal.signal(one, signal.default_int_handler if one == 2 else signal.SIG_DFL)
        with open(log, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            work()
        code = 0
    except KeyboardInterrupt:
        code = 130
    except SystemExit as error:
        code = error.code
    except BaseException:
        with open(log, "a") as file:
            traceback.print_exc(file=file)
    os._exit(code)


def train(kind, out, resume):
    """A small run on the digits, which makes checkpoints often."""
    import kvae

    recipe = kvae.presets.get("mlp-400").replaced(network_arguments={"widths": (32,)}, latent_dim=4)
    kvae.train(
        kvae.data.load("digits"),
        recipe,
        out=out,
        resume=resume,
        checkpoint_minutes=0.001,
        verbose=0,
        epochs=EPOCHS,
        **KINDS[kind],
    )


def killed_while_saving(number, which, share, log):
    """Arms this process: it dies in its `which`-th write, after a share of the usual time."""
    from kvae.training.callbacks.keeping import KeepLastEpoch

    made = 0
    usual = {"save": 0.5, "checkpoint": 0.01}

    def armed(name):
        former = getattr(KeepLastEpoch, name)

        def write(self, *arguments):
            nonlocal made
            made += 1
            begun = time.perf_counter()
            running = [True]

            def kill():
                if running[0]:
                    log.write_text(name)
                    os.kill(os.getpid(), number)

            timer = threading.Timer(share * usual[name], kill)
            if made == which:
                timer.start()
            result = former(self, *arguments)
            running[0] = False
            timer.cancel()
            usual[name] = time.perf_counter() - begun
            return result

        setattr(KeepLastEpoch, name, write)

    # Instances have `save` and `checkpoint` as attributes: so what calls them is wrapped.
    former = KeepLastEpoch.__init__

    def init(self, save, checkpoint=None, seconds=30.0, minutes=5.0):
        former(self, None, None, seconds=1.0, minutes=minutes)
        self.own = {"save": save, "checkpoint": checkpoint}
        del self.save, self.checkpoint

    KeepLastEpoch.__init__ = init
    KeepLastEpoch.save = lambda self, *arguments: self.own["save"](*arguments)
    KeepLastEpoch.checkpoint = lambda self, *arguments: self.own["checkpoint"](*arguments)
    for name in usual:
        armed(name)


def progress(folder):
    """Where the checkpoint is: (epoch, step in it); all files beside it must be whole."""
    found = (0, 0)
    for model in folder.rglob("*.keras"):
        if not model.name.startswith(".partial"):
            with zipfile.ZipFile(model) as archive:
                assert archive.testzip() is None, model
    for path in (folder / "vae", folder / ".vae.new"):
        if (path / "checkpoint.npz").is_file():
            with np.load(path / "checkpoint.npz") as arrays:
                assert all(arrays[name].dtype != object for name in arrays.files)
                facts = json.loads(arrays["facts"].tobytes())
            found = max(found, (facts["finished"], facts["made"]))
    return found


def same(one, other):
    """Raises unless two runs left the same."""
    import kvae

    for name in ("history.csv", "latents.csv", "samples.gif"):
        assert (other / "vae" / name).read_bytes() == (one / "vae" / name).read_bytes(), name
    models = [kvae.load(folder / "vae.keras") for folder in (one, other)]
    assert models[0].card["test"] == models[1].card["test"]
    values = [[np.asarray(one) for one in (*m.get_weights(), *optimizer(m))] for m in models]
    for left, right in zip(*values, strict=True):
        np.testing.assert_array_equal(left, right)


def optimizer(model):
    """The optimizer's state, as arrays."""
    import keras

    return [keras.ops.convert_to_numpy(variable) for variable in model.optimizer.variables]


def waited(number):
    """How a process ended: its exit code, or the signal's number below zero."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def campaign(backend, kills, seed):
    """Kills runs, and prints how it went; raises where one was not as it should be."""
    rng = np.random.default_rng(seed)
    ended, saving, begun = {}, 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        said, log = place / "said", place / "log"
        usual = {}
        for kind in list(KINDS)[: -(-kills // KILLS_A_RUN)]:
            start = time.perf_counter()
            whole = place / kind / "vae.keras"
            assert waited(child(lambda: train(kind, whole, False), said)) == 0, said.read_text()
            usual[kind] = time.perf_counter() - start
        done = 0
        runs = 0
        while done < kills:
            kind = list(KINDS)[runs % len(KINDS)]
            folder = place / f"{kind}-{runs}"
            out, at, left = folder / "vae.keras", (0, 0), min(KILLS_A_RUN, kills - done)
            while True:
                number = SIGNALS[done % 3]
                log.unlink(missing_ok=True)
                in_write = rng.random() < SAVING + 0.1
                which, share = int(rng.integers(1, 6)), rng.uniform(0, 1)

                def work():
                    if left and in_write:
                        killed_while_saving(number, which, share, log)
                    train(kind, out, True)

                process = child(work, said)
                if left and not in_write:
                    time.sleep(rng.uniform(0, 0.7 * usual[kind]))
                    os.kill(process, number)
                code = waited(process)
                if code not in ((0, 130, 143, -9, -15, -2) if left else (0,)):
                    raise SystemExit(f"{kind}, seed {seed}, {code}: {said.read_text()[-3000:]}")
                now = progress(folder)
                assert now >= at, f"lost: {at}, then {now}"
                at = now
                if code == 0:
                    break
                done += 1
                left = max(left - 1, 0)
                saving += log.exists()
                ended[code] = ended.get(code, 0) + 1
            if waited(child(lambda: same(place / kind, folder), said)):
                raise SystemExit(f"{kind}, seed {seed}: another run. {said.read_text()[-3000:]}")
            runs += 1
    minutes = (time.perf_counter() - begun) / 60
    print(
        f"{backend}: {done} kills of {runs} runs, {saving} while saving; ended by {ended}; "
        f"nothing torn, nothing lost, every run bit-equal; {minutes:.1f} min"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "tensorflow"))
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["KERAS_BACKEND"] = arguments.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import kvae  # noqa: F401  once, for all that are forked

    campaign(arguments.backend, arguments.kills, arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
