"""Kills: runs that are killed at random moments, and must end as one that was not.

    python tests/faults/kills.py --backend jax --kills 100

Of ten kills three or more come while files are written, the others at any time; SIGKILL, SIGTERM
and SIGINT take turns. After each kill every file must be whole, and no checkpoint may be lost; in
the end all must be, bit for bit, as in a run that was left alone. Processes are forked from one
that has imported the backend and done nothing with it, so that a kill takes seconds.
"""

import argparse
import collections
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
KILLED = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM, 130)
KINDS = {  # what is trained: settings of the recipe
    "plain": {},
    "average": {"averaged": 0.2},
    "plateau": {"schedule": "plateau", "learning_rate": 0.02},
    "iwae": {"objective": "iwae", "samples": 3},
}
EPOCHS = 25
KILLS_A_RUN = 5  # at most
SAVING = 0.4  # the share of kills that are meant for the middle of a write


def train(kind, out, resume=False):
    """A small run on the digits, which makes checkpoints often."""
    import kvae

    recipe = kvae.presets.get("mlp-400").replaced(network_arguments={"widths": (32,)}, latent_dim=4)
    settings = {"verbose": 0, "checkpoint_minutes": 0.001, "epochs": EPOCHS, **KINDS[kind]}
    kvae.train(kvae.data.load("digits"), recipe, out=out, resume=resume, **settings)


class Child:
    """A function in a forked process.

    Args:
        function: Called there with the arguments.
        log: The file for what the process says.
    """

    def __init__(self, function, *arguments, log):
        self.log = log
        self.process = os.fork()
        if not self.process:
            os._exit(self.run(function, arguments))

    def run(self, function, arguments):
        """In the new process: its exit code."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with self.log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        try:
            function(*arguments)
        except KeyboardInterrupt:
            return 130
        except SystemExit as error:
            return error.code
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            return 70
        return 0

    def wait(self, expected=(0,)):
        """How it ended: its exit code, or the signal's number below zero."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        if code not in expected:
            raise SystemExit(f"Exit code {code}: {self.log.read_text()[-3000:]}")
        return code


class Writes:
    """Kills this process in the midst of a write.

    Args:
        number: The signal.
        which: In which write, counted from 1.
        share: After which share of the time that such a write took last.
        mark: A file that says that it came to that.
    """

    def __init__(self, number, which, share, mark):
        self.number, self.which, self.share, self.mark = number, which, share, mark
        self.usual = {"save": 0.5, "checkpoint": 0.01}  # seconds
        self.made = 0
        self.writing = False

    def watch(self):
        """Sees to it that all that training writes goes by here."""
        from kvae.training import watch

        class Watched(watch.KeepLastEpoch):
            def __init__(keep, save, checkpoint, **arguments):
                super().__init__(
                    self.watched("save", save), self.watched("checkpoint", checkpoint), **arguments
                )
                keep.seconds = 1.0

        watch.KeepLastEpoch = Watched

    def watched(self, name, write):
        """The same function, in which the process may be killed."""

        def watched(*arguments):
            self.made += 1
            begun = time.perf_counter()
            timer = threading.Timer(self.share * self.usual[name], self.kill)
            self.writing = True
            if self.made == self.which:
                timer.start()
            write(*arguments)
            self.writing = False
            timer.cancel()
            self.usual[name] = time.perf_counter() - begun

        return watched

    def kill(self):
        """Kills, if the write is still under way."""
        if self.writing:
            self.mark.touch()
            os.kill(os.getpid(), self.number)


class Campaign:
    """Runs that are killed, in a folder.

    Args:
        folder: For all files.
        kills: How many at least.
        seed: Of the moments.
    """

    def __init__(self, folder, kills, seed):
        self.folder = folder
        self.kills = kills
        self.rng = np.random.default_rng(seed)
        self.log = folder / "log"
        self.mark = folder / "in-a-write"
        self.ended = collections.Counter()
        self.saving = 0
        self.seconds = {}  # that a run takes that is left alone

    @property
    def done(self):
        """The number of kills so far."""
        return self.ended.total()

    def run(self):
        """All runs; their number."""
        runs = 0
        while self.done < self.kills:
            kind = list(KINDS)[runs % len(KINDS)]
            if kind not in self.seconds:
                begun = time.perf_counter()
                Child(train, kind, self.folder / kind / "vae.keras", log=self.log).wait()
                self.seconds[kind] = time.perf_counter() - begun
            folder = self.folder / f"{kind}-{runs}"
            self.killed(kind, folder)
            Child(same, self.folder / kind, folder, log=self.log).wait()
            runs += 1
        return runs

    def killed(self, kind, folder):
        """One run, killed some times and in the end left to finish."""
        at = (0, 0)
        code, kills = None, min(KILLS_A_RUN, self.kills - self.done)
        while code != 0:
            number = SIGNALS[self.done % len(SIGNALS)]
            self.mark.unlink(missing_ok=True)
            writes = None
            if kills and self.rng.random() < SAVING:
                which, share = int(self.rng.integers(1, 6)), self.rng.random()
                writes = Writes(number, which, share, self.mark)
            child = Child(resumed, kind, folder / "vae.keras", writes, log=self.log)
            if kills and writes is None:
                time.sleep(self.rng.uniform(0, 0.7 * self.seconds[kind]))
                os.kill(child.process, number)
            code = child.wait((0, *KILLED) if kills else (0,))
            now = progress(folder)
            if now < at:
                raise SystemExit(f"{kind}: the state went back from {at} to {now}")
            at = now
            if code != 0:
                kills -= 1
                self.ended[code] += 1
                self.saving += self.mark.exists()


def resumed(kind, out, writes):
    """A run that goes on, with or without a kill in the midst of a write."""
    if writes is not None:
        writes.watch()
    train(kind, out, resume=True)


def progress(folder):
    """Where the state of a run is: (epochs, steps since); raises unless its files are whole."""
    for model in folder.rglob("*.keras"):
        if not model.name.startswith(".partial"):
            with zipfile.ZipFile(model) as archive:
                assert archive.testzip() is None, model
    found = (0, 0)
    for path in folder.rglob("checkpoint.npz"):
        with np.load(path) as arrays:
            assert all(arrays[name].dtype != object for name in arrays.files)
            facts = json.loads(arrays["facts"].tobytes())
        found = max(found, (facts["finished"], facts["made"]))
    return found


def same(one, other):
    """Raises unless two runs left the same."""
    import keras

    import kvae

    for name in ("history.csv", "latents.csv", "samples.gif"):
        assert (other / "vae" / name).read_bytes() == (one / "vae" / name).read_bytes(), name
    assert not list(other.glob(".*")), list(other.glob(".*"))
    models = [kvae.load(folder / "vae.keras") for folder in (one, other)]
    assert models[0].card["test"] == models[1].card["test"]
    for left, right in zip(*([*m.variables, *m.optimizer.variables] for m in models), strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (left, right)), left.path)


def main():
    """Reads the options, and prints how it went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "tensorflow"))
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["KERAS_BACKEND"] = arguments.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import kvae  # noqa: F401  once, for all that are forked

    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(pathlib.Path(folder), arguments.kills, arguments.seed)
        runs = campaign.run()
    print(
        f"{arguments.backend}: {campaign.done} kills of {runs} runs, {campaign.saving} of them in "
        f"a write, ended by {dict(campaign.ended)}: nothing torn, nothing lost, every run "
        f"bit-equal; {(time.perf_counter() - begun) / 60:.1f} min"
    )


if __name__ == "__main__":
    main()
