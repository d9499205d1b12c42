"""How well a model tells images of a class that it was not trained on from those that it was.

For each class in turn a model is trained on all others, and test images of that class (outside) are
told from those of the others (inside) by their scores: −ELBO, −log p(x), and −log p(x) − L(x), from
which the complexity of the image is subtracted (Serrà et al. 2020, arXiv:1909.11480). L(x) alone
stands beside them: what simplicity says without any model. The area under the ROC curve is 1 where
all of the class score higher than all others, ½ by chance, and less where the class that was left
out seems more at home than the others (Nalisnick et al. 2019, arXiv:1810.09136).

    KERAS_BACKEND=jax python tests/benchmarks/outliers.py --dataset shapes --image-size 32
    TFDS_DATA_DIR=… KERAS_BACKEND=jax python tests/benchmarks/outliers.py --dataset mnist \
        --classes 1 4 8 [--out outliers.json]
"""

import argparse
import dataclasses
import json
import os
import tempfile
import time

import numpy as np

SETTINGS = {  # of `kvae.train`
    "shapes": {"likelihood": "discretized-logistic", "epochs": 15, "batch_size": 64},
    "mnist": {"epochs": 3},
}
COLUMNS = {
    "elbo": "−ELBO",
    "log_prob": "−log p",
    "score": "−log p − L",
    "complexity": "L alone",
}


def without(dataset, label):
    """The data set without a class in training and validation."""
    arrays = {}
    for split in ("train", "validation"):
        labels = getattr(dataset, f"{split}_labels")
        kept = labels != label
        arrays |= {split: getattr(dataset, split)[kept], f"{split}_labels": labels[kept]}
    return dataclasses.replace(dataset, **arrays)


def measured(dataset, label, arguments):
    """The areas under the curve for one class, and what they were measured on."""
    import kvae
    from kvae.evaluation import auroc, complexity

    settings = dict(SETTINGS.get(dataset.name, SETTINGS["mnist"]))
    settings |= {
        name: value
        for name in ("preset", "epochs", "likelihood")
        if (value := getattr(arguments, name)) is not None
    }
    preset = settings.pop("preset", "mlp")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        vae = kvae.train(
            without(dataset, label), preset, out=f"{folder}/vae.keras", verbose=0, **settings
        )
    trained = time.perf_counter()
    apart = dataset.test_labels == label
    rows = [np.flatnonzero(side)[: arguments.images] for side in (~apart, apart)]
    values = []
    for chosen in rows:
        scores = vae.score(dataset.test[chosen], arguments.draws)
        nats = complexity(vae, dataset.test[chosen])
        values.append(
            {
                "elbo": -scores.elbo,
                "log_prob": -scores.log_prob,
                "score": -scores.log_prob - nats,
                "complexity": nats,
            }
        )
    inside, outside = values
    return {
        "inside": len(rows[0]),
        "outside": len(rows[1]),
        "negative_log_prob": [float(side["log_prob"].mean()) for side in values],
        "auroc": {name: auroc(inside[name], outside[name]) for name in COLUMNS},
        "seconds": {"train": trained - started, "score": time.perf_counter() - trained},
    }


def main() -> None:
    """Runs the classes in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dataset", default="shapes")
    parser.add_argument("--classes", nargs="*", help="To leave out in turn; all by default.")
    parser.add_argument("--image-size", type=int, help="A side in pixels.")
    parser.add_argument("--preset")
    parser.add_argument("--likelihood")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--images", type=int, default=500, help="Of each side, at most.")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--out", help="A JSON file to write.")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import kvae

    dataset = kvae.data.load(arguments.dataset, image_size=arguments.image_size)
    names = list(dataset.class_names) or [str(i) for i in range(dataset.train_labels.max() + 1)]
    found = {}
    print(f"{'left out':<10}" + "".join(f"{title:>12}" for title in COLUMNS.values()), flush=True)
    for name in arguments.classes or names:
        one = found[name] = measured(dataset, names.index(name), arguments)
        areas = "".join(f"{one['auroc'][column]:>12.3f}" for column in COLUMNS)
        inside, outside = one["negative_log_prob"]
        print(
            f"{name:<10}{areas}   −log p {inside:,.1f} of {one['inside']} inside, {outside:,.1f} "
            f"of {one['outside']} outside; train {one['seconds']['train']:.0f} s, score "
            f"{one['seconds']['score']:.0f} s",
            flush=True,
        )
    means = {name: np.mean([one["auroc"][name] for one in found.values()]) for name in COLUMNS}
    print(f"{'mean':<10}" + "".join(f"{means[name]:>12.3f}" for name in COLUMNS))
    if arguments.out:
        with open(arguments.out, "w") as file:
            json.dump(found, file, indent=2)


if __name__ == "__main__":
    main()
