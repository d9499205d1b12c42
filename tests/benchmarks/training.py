"""How fast training is: kvae's `fit` on each backend beside what people write by hand.

The dense model is the textbook's (784-400-20, ReLU, dynamically binarised, Adam, batches of 128,
float32) for all: a PyTorch loop, a plain Keras model, an epoch of JAX in one scan, pythae.
"products" are the matrix products of those updates alone, one compiled call for each update: what
the arithmetic allows. With `--conv` the preset `conv` stands beside the convolutional VAE of the
Keras tutorial (two latents). Each trains on from round to round; the loss of the last round, in
nats an image, stands beside its speed, so that nobody wins by doing less. `--profile` takes the
parts of kvae's step away one by one.

    pip install -e '.[jax,torch,benchmarks]'
    python tests/benchmarks/training.py [--conv] [--profile] [--rounds 5] [--draw speed.png]
"""

import argparse
import json
import math
import os
import tempfile

import numpy as np
import turns
from contenders import BATCH, OTHERS, conv_worker, dense_worker

BACKENDS = {"JAX": "jax", "TensorFlow": "tensorflow", "PyTorch": "torch"}
TORCH_LOOP = "PyTorch, loop by hand"
LABELS = {"loop": "PyTorch", "scan": "JAX", "pythae": "pythae"}


def images_of(folder: str) -> np.ndarray:
    """(count, 28, 28, 1), uint8."""
    return np.load(os.path.join(folder, "images.npy"))


def report(found: dict[str, list], images: int, base: str) -> dict:
    """Images a second of each, its ratio to the base, and the loss reached; printed too."""
    speeds = {key: [images / seconds for seconds, _ in each] for key, each in found.items()}
    lines = {}
    for key, values in speeds.items():
        own = base if base in speeds else f"{key.partition(',')[0]}, {base}"
        lines[key] = {
            **turns.spread(values),
            "ratio": turns.ratio(values, speeds[own]),
            "ratio_to": own,
            "loss": found[key][-1][1],
        }
        line = lines[key]
        loss = "" if math.isnan(line["loss"]) else f", loss {line['loss']:.2f}"
        print(
            f"{key:<34} {line['median']:>8,.0f} images/s ({line['lowest']:,.0f} to "
            f"{line['highest']:,.0f}), {line['ratio']:.2f} × {own}{loss}"
        )
    return lines


def draw(lines: dict, path: str) -> None:
    """The speeds as bars; kvae's stand out."""
    from matplotlib import pyplot

    names = [name for name in lines if not name.endswith("products")]
    names.sort(key=lambda name: lines[name]["median"])
    figure, axes = pyplot.subplots(figsize=(7, 0.4 * len(names) + 0.8), layout="constrained")
    for i, name in enumerate(names):
        line = lines[name]
        axes.barh(i, line["median"], color="tab:blue" if name.endswith("kvae") else "0.75")
        axes.plot([line["lowest"], line["highest"]], [i, i], color="0.3", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("images a second in training: median, lowest and highest")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Runs the comparison and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, help="in an epoch; 25,600, with --conv 12,800")
    parser.add_argument("--backends", nargs="*", default=list(BACKENDS.values()))
    parser.add_argument("--conv", action="store_true")
    parser.add_argument("--profile", action="store_true", help="kvae only, part by part")
    parser.add_argument("--out", help="a JSON file to write")
    parser.add_argument("--draw", help="a picture to write")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        images = images_of(given.folder)
        if given.worker in OTHERS:
            turns.work(OTHERS[given.worker][0](images))
        else:
            worker = conv_worker if given.conv else dense_worker
            turns.work(worker(images, *([] if given.conv else [given.profile])))
        return
    import kvae

    count = BATCH * math.ceil((given.images or (12_800 if given.conv else 25_600)) / BATCH)
    flags = [f"--{name}" for name in ("conv", "profile") if getattr(given, name)]
    with tempfile.TemporaryDirectory() as folder:
        images = kvae.data.load("mnist").train[:count]
        np.save(os.path.join(folder, "images.npy"), images)
        names = {name: name for name in given.backends}
        if not flags:
            names |= {name: backend for name, (_, backend) in OTHERS.items()}
        found = turns.measured(
            {
                name: turns.start(__file__, backend, "--worker", name, "--folder", folder, *flags)
                for name, backend in names.items()
            },
            given.rounds,
        )
    labels = LABELS | {backend: label for label, backend in BACKENDS.items()}
    found = {
        f"{labels[process]}, {task}": each
        for key, each in found.items()
        for process, _, task in [key.partition(", ")]
    }
    base = {"--conv": "Keras tutorial", "--profile": "products"}.get((flags or [""])[0], TORCH_LOOP)
    print(f"{len(images):,} images in an epoch, {given.rounds} rounds: medians, lowest, highest")
    lines = report(found, len(images), base)
    if given.out:
        with open(given.out, "w") as file:
            json.dump(lines, file, indent=2)
    if given.draw:
        draw(lines, given.draw)


if __name__ == "__main__":
    main()
