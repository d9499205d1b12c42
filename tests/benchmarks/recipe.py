"""What each ingredient of the default recipe is worth: with and without, in nats and in seconds.

Each variant changes one thing of `kvae train --epochs 10` on MNIST. Every seed trains every
variant, each in a process of its own; time is what the processor spent in `fit`, so that other work
on the machine matters little, and is divided by that of the recipe with the same seed. −ELBO (one
draw of z) and −log p(x) (100 draws) of the 10,000 test images.

    python tests/benchmarks/recipe.py [--seeds 3] [--jobs 2] [--only NAME ...] [--out recipe.json]
"""

import argparse
import concurrent.futures
import json
import math
import os
import pathlib
import queue
import statistics
import subprocess
import sys
import time

THE_RECIPE = "the recipe"


def variants() -> dict:
    """What each variant does to the settings of `trained`."""
    import keras
    from keras import ops

    import kvae
    from kvae import priors
    from kvae.networks import blocks

    class PathNormal(priors.StandardNormal):
        """N(0, I), its divergence drawn, with the path gradient."""

        closed_form = False

        def kl(self, mean, log_variance, z):
            return self.log_ratio(mean, log_variance, z)

    class AllOfTheGradient(priors.RealNVP):
        """The flow without the path gradient."""

        def log_ratio(self, mean, log_variance, z):
            log_posterior = -0.5 * ops.sum(log_variance + math.log(2 * math.pi) + 1, axis=-1)
            return log_posterior - self.log_prob(z)

    class Mixture(priors.Prior):
        """A hundred learned Gaussians."""

        def __init__(self, latent_dim, **kwargs):
            super().__init__(latent_dim, **kwargs)
            normal = keras.initializers.RandomNormal(stddev=1.0, seed=0)
            shape = (100, latent_dim)
            self.middle = self.add_weight(shape=shape, initializer=normal, name="middle")
            self.log_scale = self.add_weight(shape=shape, initializer="zeros", name="log_scale")
            self.logits = self.add_weight(shape=(100,), initializer="zeros", name="logits")

        def log_prob(self, z):
            scaled = (z[:, None] - self.middle) * ops.exp(-self.log_scale)
            each = -0.5 * ops.sum(ops.square(scaled) + math.log(2 * math.pi), axis=-1)
            each = each - ops.sum(self.log_scale, axis=-1) + ops.log_softmax(self.logits)
            return ops.logsumexp(each, axis=-1)

    class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
        """A constant rate, after a short rise."""

        def __init__(self, rate, rise):
            super().__init__()
            self.rate, self.rise = rate, rise

        def __call__(self, step):
            return self.rate * ops.minimum(1.0, ops.cast(step, "float32") / self.rise)

    def optimizer(make):
        return lambda settings: settings.update(optimizer=make)

    def prior(make):
        return lambda settings: settings.update(prior=make)

    def recipe(**fields):
        return lambda settings: settings.update(recipe=settings["recipe"].replaced(**fields))

    def arguments(**own):
        def changed(settings):
            network = {**settings["recipe"].network_arguments, **own}
            recipe(network_arguments=network)(settings)

        return changed

    def first_layer_only(settings):  # each run is a process of its own: what is put here goes
        whole = blocks.dense_residual
        blocks.dense_residual = lambda x, name, skip=None: whole(x, name)

    def normalised(layer):
        return lambda settings: setattr(keras.layers, "RMSNormalization", layer)

    def constant_rate(s):
        schedule = LearningRate(s["rate"], s["rise"])
        return keras.optimizers.Adam(schedule, global_clipnorm=200.0)

    def cosine(s, warm=True):
        rise = s["rise"] if warm else 0
        return keras.optimizers.schedules.CosineDecay(
            0.0 if rise else s["rate"],
            s["updates"] - rise,
            warmup_target=s["rate"] if rise else None,
            warmup_steps=rise,
        )

    def plain_cosine(s, warm=True, **arguments):
        return keras.optimizers.Adam(cosine(s, warm), **arguments)

    def muon(s):  # for matrices between hidden layers; Adam for what leads in and out
        others = ["stem", "skip", "mean", "log_variance", "values", "dense_1", "raw_"]
        return keras.optimizers.Muon(
            cosine(s),
            weight_decay=None,
            adam_weight_decay=None,
            exclude_layers=others,
            global_clipnorm=200.0,
        )

    def unbounded(settings):
        dense = keras.layers.Dense
        blocks.gaussian = lambda x, d: [dense(d, name=n)(x) for n in ("mean", "log_variance")]

    flow = {"couplings": 10}
    return {
        THE_RECIPE: lambda settings: None,
        "prior N(0, I)": prior(priors.StandardNormal),
        "prior N(0, I), with the path gradient": prior(PathNormal),
        "prior of 100 Gaussians": prior(Mixture),
        "flow of 6 couplings": prior(lambda d: kvae.RealNVP(d, couplings=6)),
        "flow of 20 couplings": prior(lambda d: kvae.RealNVP(d, couplings=20)),
        "without the path gradient": prior(lambda d: AllOfTheGradient(d, **flow)),
        "z in the first layer only": first_layer_only,
        "layer normalisation": normalised(keras.layers.LayerNormalization),
        "no normalisation": normalised(lambda name: keras.layers.Activation("linear", name=name)),
        "constant learning rate": optimizer(constant_rate),
        "no rise of the learning rate": optimizer(
            lambda s: plain_cosine(s, warm=False, global_clipnorm=200.0)
        ),
        "no KL warm-up": recipe(kl_warmup=0.0),
        "log-variance without a bound": unbounded,
        "no clipping": optimizer(lambda s: plain_cosine(s)),
        "Muon for hidden matrices": optimizer(muon),
        "average of the weights": recipe(averaged=0.05),
        "output bias at zero": recipe(start_at_mean=False),
        "free bits, 0.1 nats a latent": recipe(free_bits=0.1),
        "batches of 128": recipe(batch_size=128),
        "one residual layer": arguments(depth=1),
        "three residual layers": arguments(depth=3),
        "width 256": arguments(width=256),
        "20 latents": recipe(latent_dim=20),
    }


def trained(name: str, seed: int, epochs: int) -> dict:
    """One run of one variant: its figures."""
    import keras
    import numpy as np

    import kvae
    from kvae import evaluation, presets, training

    dataset = kvae.data.load("mnist")
    recipe = presets.PRESETS["mlp"]
    settings = {
        "recipe": recipe,
        "prior": lambda d: kvae.RealNVP(d, **recipe.prior_arguments),
        "optimizer": lambda s: training.optimizer(s["recipe"], s["updates"]),
    }
    keras.utils.set_random_seed(seed)
    variants()[name](settings)
    recipe = settings["recipe"]
    updates = epochs * math.ceil(len(dataset.train) / recipe.batch_size)
    rise = math.ceil(recipe.warmup * updates)
    settings |= {"rate": recipe.learning_rate, "updates": updates, "rise": rise}
    warmup_steps = math.ceil(recipe.kl_warmup * updates)
    vae = kvae.VAE.from_preset(
        recipe,
        (28, 28, 1),
        prior=settings["prior"](recipe.latent_dim or 40),
        objective=kvae.ELBO(warmup_steps=warmup_steps, free_bits=recipe.free_bits),
        seed=seed,
    )
    if recipe.start_at_mean:
        vae.start_at_mean(dataset.train)
    vae.compile(settings["optimizer"](settings), jit_compile=vae.best_jit_compile())
    started = time.process_time()
    vae.fit(dataset.train, batch_size=recipe.batch_size, epochs=epochs, verbose=0)
    seconds = time.process_time() - started
    of = evaluation.posterior(vae, dataset.test)
    bound = evaluation.terms(vae, of).elbo
    nll = evaluation.importance_weighted(vae, of, [100])[100]
    return {
        "variant": name,
        "seed": seed,
        "epochs": epochs,
        "negative_elbo": round(float(-np.mean(bound)), 3),
        "nll": round(float(np.mean(nll)), 3),
        "seconds": round(seconds, 1),
        "parameters": vae.count_params(),
    }


def in_a_process(name: str, seed: int, epochs: int, cores: "queue.Queue") -> dict:
    """The same in a fresh process, on cores of its own."""
    own = cores.get()
    command = [sys.executable, __file__, "--run", name, "--seed", str(seed)]
    try:
        printed = subprocess.run(
            [*command, "--epochs", str(epochs)],
            env={"KERAS_BACKEND": "jax", **os.environ},
            preexec_fn=(lambda: os.sched_setaffinity(0, own)) if own else None,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    finally:
        cores.put(own)
    found = json.loads(printed.splitlines()[-1])
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def table(runs: list[dict]) -> str:
    """The runs as a table in Markdown: means over seeds, and what they spread by."""
    own = {run["seed"]: run for run in runs if run["variant"] == THE_RECIPE}
    names = [name for name in variants() if name in {run["variant"] for run in runs}]
    lines = ["| | −ELBO | difference | −log p(x) | difference | processor |", "|" + " --- |" * 6]
    for name in names:
        rows = [run for run in runs if run["variant"] == name and run["seed"] in own]
        parts = []
        for figure in ("negative_elbo", "nll"):
            apart = [run[figure] - own[run["seed"]][figure] for run in rows]
            parts.append(f"{statistics.mean(run[figure] for run in rows):.2f}")
            spread = f" ± {statistics.stdev(apart):.2f}" if len(apart) > 1 else ""
            parts.append("" if name == THE_RECIPE else f"{statistics.mean(apart):+.2f}{spread}")
        ratio = statistics.median(run["seconds"] / own[run["seed"]]["seconds"] for run in rows)
        seconds = statistics.median(run["seconds"] for run in rows)
        text = f"{seconds:.0f} s" if name == THE_RECIPE else f"× {ratio:.2f}"
        figures = " | ".join(parts).replace("-", "−")
        lines.append(f"| {name} | {figures} | {text} |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each on its own cores")
    parser.add_argument("--only", nargs="*", help="these variants, beside the recipe itself")
    parser.add_argument("--out", default="recipe.json", help="runs that it has are not repeated")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        print(json.dumps(trained(given.run, given.seed, given.epochs)))
        return
    names = list(variants())
    names = [n for n in names if n == THE_RECIPE or given.only is None or n in given.only]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    places: queue.Queue = queue.Queue()
    for job in range(given.jobs):
        places.put(set(cores[job :: given.jobs]) if given.jobs > 1 else None)
    out = pathlib.Path(given.out)
    runs = json.loads(out.read_text()) if out.is_file() else []
    done = {(run["variant"], run["seed"]) for run in runs if run["epochs"] == given.epochs}
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        waiting = [
            pool.submit(in_a_process, name, seed, given.epochs, places)
            for seed in range(given.seeds)
            for name in names
            if (name, seed) not in done
        ]
        for one in concurrent.futures.as_completed(waiting):
            runs.append(one.result())
            out.write_text(json.dumps(runs, indent=2))
    print(table([run for run in runs if run["epochs"] == given.epochs]))


if __name__ == "__main__":
    main()
