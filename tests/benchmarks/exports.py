"""Every preset in every format: how far each export is from the model, run in its own runtime.

The models are untrained, and then every weight is moved, so that none is where it began: images of
28×28 grey (14×14 for binary-14), or 32×32 in colour with a `LogisticMixture`. A cell is the largest
difference of all outputs, of 5 images and of one alone, and of values above 1 that of their ratio
to 1; or why the export is refused. `--only` takes models that come with kvae too.

    pip install 'keras-vae[export,torch]'
    python tests/benchmarks/exports.py [--out exports.json]

It takes ten minutes on two cores, and 40 with all four parts. With several parts there is a line
for each of a preset, and at the end one for each part, of the largest differences over all presets:

    python tests/benchmarks/exports.py --part encoder decoder generator vae

Less, for a try:

    python tests/benchmarks/exports.py --only mlp-400 binary-14 --formats onnx saved-model
"""

import argparse
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from kvae.exports import FORMATS
from kvae.shipped import SHIPPED

# A preset, and what it is made with.
ROWS = {
    "mlp-200": {},
    "mlp-400": {},
    "binary-14": {},
    "conv": {},
    "mlp": {},
    "conv, of 5 numbers": {"context_dim": 5},
    "mlp, of 10 classes": {"classes": 10},
    "mlp, with a mixture as prior": {"prior": "mixture"},
    "conv-colour": {},
    "conv-pooled": {},
    "resnet": {},
    "ladder-colour": {},
    "ladder, of 10 classes": {"classes": 10},
    "conv-large": {},
    "resnet-flow": {},
    "ladder-large": {},
}
COLOUR = ("conv-colour", "ladder-colour", "ladder-large")
MOVED = 0.02  # standard deviation of what is added to weights


def built(row: str):
    """The model of a row: a shipped one as it is, or one of a preset."""
    import keras
    import numpy as np

    import kvae

    if row in SHIPPED:
        return kvae.load(row, compile=False)
    preset = kvae.presets.get(row.partition(",")[0])
    arguments, shape = dict(ROWS[row]), (28, 28, 1)
    if "prior" in arguments:
        preset = preset.replaced(prior=arguments.pop("prior"))
    if preset.preset == "binary-14":
        shape = (14, 14, 1)
    if preset.preset in COLOUR:
        arguments["likelihood"], shape = kvae.LogisticMixture(), (32, 32, 3)
    keras.utils.set_random_seed(0)
    vae = kvae.VAE.from_preset(preset, shape, **arguments)
    random = np.random.default_rng(0)
    for weight in vae.weights:
        values = keras.ops.convert_to_numpy(weight)
        if values.dtype == "float32" and "moving" not in weight.path:  # of batch norm: variances
            weight.assign(values + MOVED * random.standard_normal(values.shape).astype("float32"))
    return vae


def work(row: str, parts: list[str], formats: list[str]) -> None:
    """Prints what comes of each part in each format, a line of JSON each."""
    from kvae.exports.worker import write_and_check

    vae = built(row)
    for part, name in itertools.product(parts, formats):
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "a" + FORMATS[name].suffix)
            try:
                apart = write_and_check(vae, path, name, part, "float32")["difference"]
                found = {"difference": max(apart.values())}
            except Exception as error:  # which is what stands in the table
                found = {"refused": " ".join(str(error).split())[:200]}
        found |= {"part": part, "format": name, "seconds": round(time.monotonic() - started, 1)}
        print(json.dumps(found), flush=True)


def measured(row: str, parts: list[str], formats: list[str]) -> dict[str, dict]:
    """What comes of a row, by part and format: a process for each backend that writes some."""
    found: dict[str, dict] = {part: {} for part in parts}
    for backend in dict.fromkeys(FORMATS[name].backend for name in formats):
        own = [name for name in formats if FORMATS[name].backend == backend]
        process = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, "--work", row, "--part", *parts]
            + ["--formats", *own],
            env={
                **os.environ,
                "KERAS_BACKEND": backend,
                "CUDA_VISIBLE_DEVICES": "-1",
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        lines = [line for line in process.stdout.splitlines() if line.startswith("{")]
        for one in map(json.loads, lines):
            found[one["part"]][one["format"]] = one
        ended = {"refused": f"the process ended with {process.returncode}"}
        for part, name in itertools.product(parts, own):
            found[part].setdefault(name, ended)
    return found


def shown(found: dict) -> str:
    """A cell of the table."""
    return found.get("refused") or f"{found['difference']:.0e}".replace("e-0", "e-")


def largest(found: dict[str, dict], part: str, name: str) -> str:
    """A cell of the table of parts: the largest difference of all presets, or how many refuse."""
    cells = [of_row[part][name] for of_row in found.values()]
    refused = sum("refused" in cell for cell in cells)
    worst = max((cell.get("difference", 0) for cell in cells), default=0)
    return shown({"difference": worst}) + f", {refused} refused" * (refused > 0)


def header(first: str, formats: list[str]) -> None:
    """Prints the head of a table."""
    print(f"| {first} | " + " | ".join(f"`{name}`" for name in formats) + " |")
    print("| --- |" + " --- |" * len(formats))


def main() -> None:
    """Prints the table, a line as soon as it is measured."""
    parts = ("encoder", "decoder", "generator", "vae")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="*", choices=[*ROWS, *SHIPPED], default=list(ROWS))
    parser.add_argument("--formats", nargs="*", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--part", nargs="*", choices=parts, default=["vae"])
    parser.add_argument("--out", help="a JSON file to write")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work, given.part, given.formats)
        return
    header("preset", given.formats)
    found = {}
    for row in given.only:
        started = time.monotonic()
        found[row] = measured(row, given.part, given.formats)
        preset, comma, rest = row.partition(",")
        for part in given.part:
            cells = " | ".join(shown(found[row][part][name]) for name in given.formats)
            of = f" {part}" * (len(given.part) > 1)
            print(f"| `{preset}`{comma}{rest}{of} | {cells} |", flush=True)
        print(f"{row}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        if given.out:
            pathlib.Path(given.out).write_text(json.dumps(found, indent=2))
    if len(given.part) > 1:
        print()
        header("part", given.formats)
        for part in given.part:
            print(f"| `{part}` | {' | '.join(largest(found, part, n) for n in given.formats)} |")


if __name__ == "__main__":
    main()
