"""Reading: how long a folder of pictures takes, what memory, and how fast mapped images train.

    python tests/benchmarks/reading.py --images 20000 --side 64

Writes so many PNG files to a temporary folder; reads them in a process of its own, into memory and
into mapped files; and trains one epoch on each in turns, in this process, with the backend that
KERAS_BACKEND names. Memory is the peak of the process beyond what it had before it read (Linux).
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

READ = """
import json, pathlib, sys, time, types
package = types.ModuleType("kvae")
package.__path__ = [sys.argv[1]]
sys.modules["kvae"] = package
from kvae.data import load
status = pathlib.Path("/proc/self/status")
peak = lambda: int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
before, started = peak(), time.perf_counter()
data = load(sys.argv[2], cache_dir=sys.argv[3] or None)
seconds = time.perf_counter() - started
size = sum(len(getattr(data, split)) for split in ("train", "validation", "test"))
size *= data.train[:1].nbytes
print(json.dumps({"seconds": seconds, "memory": peak() - before, "size": size}))
"""


def write(folder, count, side):
    """So many PNG files of noise over a gradient, which take about what photographs take."""
    from PIL import Image

    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, side)[:, np.newaxis, np.newaxis]
    for i in range(count):
        place = folder / f"{i % 10}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = ramp + rng.integers(0, 56, (side, side, 3))
        Image.fromarray(pixels.astype("uint8")).save(place / f"{i}.png", compress_level=1)


def read(folder, cache):
    """What reading takes in a process that knows nothing of Keras."""
    import kvae

    package = str(pathlib.Path(kvae.__file__).parent)
    command = [sys.executable, "-c", READ, package, str(folder), str(cache)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def epoch(vae, images):
    """Images a second of one epoch."""
    started = time.perf_counter()
    vae.fit(images, batch_size=64, epochs=1, verbose=0)
    return len(images) / (time.perf_counter() - started)


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--preset", default="mlp-400")
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    import keras

    import kvae

    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        write(home / "photos", given.images, given.side)
        for name, cache in (
            ("into memory", ""),
            ("into mapped files", home / "cache"),
            ("mapped files again", home / "cache"),
        ):
            found = read(home / "photos", cache)
            print(
                f"{name}: {found['seconds']:.1f} s, {given.images / found['seconds']:,.0f} images "
                f"a second, {found['memory'] / found['size']:.2f} times the images in memory"
            )
        inside = kvae.data.load(home / "photos")
        mapped = kvae.data.load(home / "photos", cache_dir=home / "cache")
        vae = kvae.VAE.from_preset(given.preset, inside.image_shape)
        vae.compile("adam", jit_compile=vae.best_jit_compile())
        for data in (inside, mapped):
            epoch(vae, data.train[:2000])
        speeds = {"in memory": [], "mapped": []}
        for _ in range(given.turns):
            speeds["in memory"].append(epoch(vae, inside.train))
            speeds["mapped"].append(epoch(vae, mapped.train))
        inside, mapped = map(statistics.median, speeds.values())
        print(
            f"fit of {given.preset} on {keras.backend.backend()}: {inside:,.0f} images a second in "
            f"memory, {mapped:,.0f} mapped: {mapped / inside:.2f}"
        )


if __name__ == "__main__":
    main()
