"""Large: what a process holds while it trains on images that memory does not hold.

    python tests/faults/large.py --gigabytes 6 --backend jax

On JAX and PyTorch it does without TensorFlow, as the command does; with `--tensorflow` Keras
imports it, as it does from Python wherever it is installed.
"""

import argparse
import os
import pathlib
import sys
import tempfile
import threading
import time

import numpy as np

SIDE = 64
BLOCK = 4096  # images


def written(path, count):
    """Images of one colour and noise, in an .npy file."""
    shape = (count, SIDE, SIDE, 3)
    array = np.lib.format.open_memmap(path, mode="w+", dtype="uint8", shape=shape)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 16, (BLOCK, SIDE, SIDE, 3), dtype="uint8")
    for start in range(0, count, BLOCK):
        colours = rng.integers(0, 240, (min(BLOCK, count - start), 1, 1, 3), dtype="uint8")
        array[start : start + BLOCK] = colours + noise[: len(colours)]
    return path


class Watch(threading.Thread):
    """The most that this process held, in MB, by what it did: in all, and without mapped files."""

    def __init__(self):
        super().__init__(daemon=True)
        self.doing, self.most = "start", {}

    def run(self):
        """Looks ten times a second."""
        while True:
            lines = pathlib.Path("/proc/self/status").read_text().splitlines()
            held = dict(line.split(":", 1) for line in lines)
            now = [int(held[key].split()[0]) / 1000 for key in ("VmRSS", "RssAnon")]
            before = self.most.get(self.doing, (0, 0))
            self.most[self.doing] = tuple(map(max, before, now))
            time.sleep(0.1)


def main():
    """Makes the images, trains for an epoch, and prints the peaks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "tensorflow"))
    parser.add_argument("--gigabytes", type=float, default=6)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--available", type=float, default=2, help="GB that the process may have")
    parser.add_argument("--tensorflow", action="store_true", help="let Keras import it")
    arguments = parser.parse_args()
    if arguments.backend != "tensorflow" and not arguments.tensorflow:
        from kvae_cli.command import KeptOut

        sys.meta_path.insert(0, KeptOut("tensorflow"))
    os.environ["KERAS_BACKEND"] = arguments.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import kvae
    from kvae import limits

    limits.available_memory = lambda: int(arguments.available * 1e9)
    watch = Watch()
    watch.start()
    with tempfile.TemporaryDirectory() as folder:
        count = int(arguments.gigabytes * 1e9) // (SIDE * SIDE * 3)
        path = written(pathlib.Path(folder, "images.npy"), count)
        watch.doing = "load"
        data = kvae.data.load(str(path), cache_dir=folder)
        watch.doing = "train"
        started = time.perf_counter()
        kvae.train(
            data,
            "conv-colour",
            epochs=arguments.epochs,
            batch_size=256,
            network_arguments={"channels": 4, "patch": 8},
            latent_dim=64,
            likelihood="gaussian",
            scale=0.1,
            prior="standard-normal",
            out=str(pathlib.Path(folder, "vae.keras")),
        )
        seconds = time.perf_counter() - started
    peaks = ", ".join(
        f"{doing} {most[0]:,.0f} MB, of which {most[1]:,.0f} are not files"
        for doing, most in watch.most.items()
    )
    print(f"{arguments.backend}, {count:,} images, {arguments.gigabytes:g} GB: {peaks}")
    print(f"{seconds:,.0f} s of training")


if __name__ == "__main__":
    main()
