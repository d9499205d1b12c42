"""Objectives by the factors of shapes: which has latents that belong to one factor each.

Every objective trains the same network with as many latents, on images of `shapes` that are made
smaller, by some seeds; then MIG and DCI (see `kvae.evaluation.factor_scores`), and the bound on the
test images, −ELBO, are measured. Means over seeds, ± one standard error. The published order is
that total correlation is ahead of the beta-VAE where both reconstruct alike (Chen et al. 2018,
arXiv:1802.04942, figure 3).

    KERAS_BACKEND=jax python tests/benchmarks/factors.py [--out factors.json]

A model takes about a minute on two cores. Less, for a try:

    python tests/benchmarks/factors.py --seeds 1 --epochs 1 --images 500 --only elbo tc
"""

import argparse
import dataclasses
import json
import math
import os
import tempfile
import time

import numpy as np

OBJECTIVES = {  # of `kvae.train`
    "elbo": {},
    "beta": {"beta": 4.0},
    "tc": {"objective": "tc", "beta": 4.0},
    "capacity": {"objective": "capacity", "beta": 100.0, "capacity": 18.0},
    "mmd": {"objective": "mmd", "mmd_weight": 1000.0},
    "dip": {"objective": "dip", "covariance_of": "draws", "off_diagonal": 10.0},
}
DEFAULT = ("elbo", "beta", "tc", "capacity", "dip")
SHARED = {
    "preset": "conv",
    "prior": "standard-normal",
    "latent_dim": 10,
    "likelihood": "gaussian",
    "scale": 0.25,  # of the pixels: fixed, so that bounds compare
    "batch_size": 64,
}
COLUMNS = ("mig", "disentanglement", "completeness", "informativeness", "factor_vae")


def trained(dataset, name, seed, arguments):
    """A model of an objective."""
    import kvae

    settings = {**SHARED, **OBJECTIVES[name], "epochs": arguments.epochs, "seed": seed}
    preset = settings.pop("preset")
    with tempfile.TemporaryDirectory() as folder:
        return kvae.train(dataset, preset, out=f"{folder}/vae.keras", verbose=0, **settings)


def measured(dataset, name, seed, arguments):
    """The figures of one model."""
    import kvae

    started = time.perf_counter()
    vae = trained(dataset, name, seed, arguments)
    seconds = time.perf_counter() - started
    images, rows, names = kvae.data.known_factors(dataset, count=arguments.images)
    images = kvae.data.fitted(images, vae.image_shape, vae.fitting)
    scores = kvae.evaluation.factors(vae, images, rows, names, seeds=1, seed=seed)
    test = vae.card["test"]
    return {
        **{column: scores.figures[column]["mean"] for column in COLUMNS},
        "negative_elbo": -test["elbo"],
        "reconstruction": test["reconstruction"],
        "kl": test["kl"],
        "matrix": scores.matrix.round(3).tolist(),
        "seconds": round(seconds, 1),
    }


def with_error(values, digits):
    """A mean and its standard error, in words; of one value there is none."""
    text = f"{np.mean(values):.{digits}f}"
    if len(values) < 2:
        return text
    return f"{text} ± {np.std(values, ddof=1) / math.sqrt(len(values)):.{digits}f}"


def table(found):
    """The figures as a table in Markdown."""
    titles = ("MIG", "DCI D", "DCI C", "DCI I", "FactorVAE", "−ELBO", "reconstruction", "KL")
    lines = [f"| objective | {' | '.join(titles)} |", f"|{' --- |' * (len(titles) + 1)}"]
    for name, runs in found.items():
        cells = [with_error([run[column] for run in runs], 2) for column in COLUMNS]
        for column in ("negative_elbo", "reconstruction", "kl"):
            cells.append(with_error([run[column] for run in runs], 1))
        settings = ", ".join(f"{key} {value}" for key, value in OBJECTIVES[name].items())
        lines.append(f"| {name}{f' ({settings})' if settings else ''} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=OBJECTIVES, default=DEFAULT)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--images", type=int, default=5_000, help="whose factors are scored")
    parser.add_argument("--train", type=int, default=6_000, help="images to train on")
    parser.add_argument("--out", help="a JSON file for all figures")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    import kvae

    dataset = kvae.data.load("shapes", image_size=arguments.image_size)
    dataset = dataclasses.replace(
        dataset,
        train=dataset.train[: arguments.train],
        train_labels=dataset.train_labels[: arguments.train],
    )
    found = {}
    for name in arguments.only:
        found[name] = []
        for seed in range(arguments.seeds):
            found[name].append(measured(dataset, name, seed, arguments))
            run = found[name][-1]
            print(f"{name} seed {seed}: MIG {run['mig']:.3f}, {run['seconds']} s", flush=True)
            if arguments.out:
                with open(arguments.out, "w") as file:
                    json.dump(found, file)
    print(f"\n{len(dataset.train):,} images of {arguments.image_size}×{arguments.image_size}, "
          f"{arguments.epochs} epochs, {arguments.seeds} seeds, {keras.backend.backend()}; "
          f"factors of {arguments.images:,} images; {SHARED}\n")  # fmt: skip
    print(table(found))


if __name__ == "__main__":
    main()
