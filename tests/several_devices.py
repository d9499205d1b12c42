"""Trains small models alone and on several devices, in a fresh process; prints what came of it.

`python tests/several_devices.py DEVICES HOW CASE…`: as JSON, by case, the histories of both; HOW is
"both", or "shared" for those of several devices alone. DEVICES are those of this process. On
PyTorch, and on JAX where it is to be in several processes, a launcher starts it for each of them.
"""

import contextlib
import json
import os
import sys
import time

DEVICES = int(sys.argv[1])
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count={DEVICES}"
)
os.environ["NPROC"] = "32"  # with fewer cores than devices XLA would wait for ever

import keras  # noqa: E402
import numpy as np  # noqa: E402
from fresh_process import BLOCK  # noqa: E402

BACKEND = keras.backend.backend()
if BACKEND != "tensorflow":  # Keras would import it to set a seed
    exec(BLOCK.format(("tensorflow",)))
if BACKEND == "tensorflow":
    import tensorflow as tf

    virtual = [tf.config.LogicalDeviceConfiguration() for _ in range(DEVICES)]
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], virtual)
if BACKEND == "torch":
    import torch

    torch.set_num_threads(1)

import kvae  # noqa: E402

if BACKEND == "torch":
    from kvae.steps import torch_step

    torch_step.EAGER_STEPS = 2  # most steps are recorded ones

RNG = np.random.default_rng(0)
IMAGES = (RNG.random((73, 8, 8, 1)) * 255).astype("uint8")
IMAGES[:, :4] //= 4
WEIGHTS = RNG.random(73).astype("float32")
CLASSES = RNG.integers(0, 3, 73)


def recipe(case):
    """A small network of the kind that the case is about."""
    if "conv" in case:
        small = {"channels": 4, "depth": 1, "width": 16}
        return kvae.presets.get("conv-large").replaced(network_arguments=small)
    if "ladder" in case:
        groups = {"groups": ((1, 4), (2, 2)), "channels": 4, "depth": 1, "patch": 4}
        return kvae.presets.get("ladder").replaced(network_arguments=groups)
    if "batch_norm" in case:
        small = {"channels": (4, 4), "last_channels": 4, "widths": (8,), "dropout": 0.0}
        return kvae.presets.get("conv-pooled").replaced(network_arguments=small)
    return kvae.presets.get("mlp").replaced(network_arguments={"width": 16, "depth": 1})


def objective(case):
    """The objective of a case."""
    if "iwae" in case:
        return kvae.ImportanceWeighted(samples=3)
    if "free_bits" in case:
        return kvae.ELBO(free_bits=0.3)
    if "correlation" in case:
        return kvae.TotalCorrelation(beta=3.0)
    if "covariance" in case:
        return kvae.InferredPrior(covariance_of="draws", off_diagonal=1.0)
    if "discrepancy" in case:
        return kvae.MeanDiscrepancy(mmd_weight=100.0)
    if "capacity" in case:
        return kvae.Capacity(beta=5.0, capacity=3.0, warmup_steps=5)
    return kvae.ELBO(beta=2.0, warmup_steps=5, samples=2) if "warmup" in case else kvae.ELBO()


def optimizer(case):
    """The optimizer of a case."""
    if "muon" in case:
        return kvae.Muon(1e-2)
    settings = {}
    if "clip" in case:
        settings["global_clipnorm"] = 0.5
    if "accumulation" in case:
        settings["gradient_accumulation_steps"] = 2
    if "average" in case:
        settings |= {"use_ema": True, "ema_momentum": 0.9}
    return keras.optimizers.Adam(1e-2, **settings)


def built(case):
    """The untrained model of a case."""
    keras.utils.set_random_seed(3)
    keras.config.set_dtype_policy("mixed_bfloat16" if "bfloat16" in case else "float32")
    settings = {"objective": objective(case), "seed": 5}
    if "ladder" not in case:
        settings["latent_dim"] = 4
    if "classes" in case:
        settings["classes"] = 3
    if settings["objective"].factorised:
        settings["prior"] = kvae.StandardNormal(4)
    vae = kvae.VAE.from_preset(recipe(case), (8, 8, 1), **settings)
    if "penalty" in case:
        dense = next(one for one in vae.encoder._flatten_layers() if type(one).__name__ == "Dense")
        dense.kernel.regularizer = keras.regularizers.L2(0.1)
        dense.kernel_regularizer = dense.kernel.regularizer
    several = {"steps_per_execution": 3} if "executions" in case else {}
    vae.compile(optimizer(case), **several)
    return vae


def trained(case):
    """What comes of a case: losses, what verbs say of the model, and its weights."""
    begun = time.process_time()
    vae = built(case)
    classes = CLASSES if "classes" in case else None
    history = vae.fit(
        IMAGES,
        classes,
        batch_size=24,  # the last batch has one image
        epochs=2,
        verbose=0,
        shuffle="in_order" not in case,
        sample_weight=WEIGHTS if "weights" in case else None,
        validation_data=(IMAGES[:25], *([] if classes is None else [classes[:25]])),
    ).history
    said = {
        **{name: history[name] for name in ("loss", "kl", "reconstruction", "val_loss", "val_kl")},
        "evaluate": vae.evaluate(
            IMAGES[48:], None if classes is None else classes[48:], batch_size=24, verbose=0
        ),
        "weights": [float(np.abs(np.asarray(weight)).sum()) for weight in vae.get_weights()],
        "seen": [float(np.asarray(one).sum()) for one in vae.non_trainable_weights],
    }
    if "verbs" in case:
        said |= {
            "predict": vae.predict(IMAGES[:5], verbose=0)["mean"].sum(axis=0).tolist(),
            "encode": np.asarray(vae.encode(IMAGES[:7])[0]).sum(axis=0).tolist(),
            "generate": [float(np.asarray(vae.generate(3, seed=0)).sum())],
            "score": vae.score(IMAGES[:3], draws=2).log_prob.tolist(),
        }
    if "verbs" in case and BACKEND != "torch":  # where each process gives its own share
        logs = vae.train_on_batch(IMAGES[:7], return_dict=True)
        said["batch"] = list(logs.values())
    print(f"{case}: {time.process_time() - begun:.0f} s", file=sys.__stderr__, flush=True)
    return {name: [float(value) for value in values] for name, values in said.items()}


def main(how, cases):
    """Each case alone, and then shared."""
    joined = kvae.training.team(2) if BACKEND == "tensorflow" else kvae.training.team()
    launched = os.environ.pop("WORLD_SIZE", None)
    alone = {}
    if how == "both" and not joined.rank:
        alone = {case: trained(case) for case in cases}
    if launched:
        os.environ["WORLD_SIZE"] = launched
    shared = {}
    with joined as team:
        for case in cases:
            if "four" not in case:
                with scope_of(case):
                    shared[case] = trained(case)
        extra = {"devices": team.devices, "processes": team.processes}
        extra["upstream"] = fault_of_keras() if BACKEND == "jax" and how == "both" else None
        extra["refused"] = refused(team.rank) if BACKEND == "torch" else None
    for case in cases:
        if "four" in case:
            with kvae.training.team(4):
                shared[case] = trained(case)
    if not joined.rank:
        pairs = {case: [alone.get(case), shared[case]] for case in cases}
        print(json.dumps({"cases": pairs, **extra}))


def scope_of(case):
    """What else is set while a case is trained on several devices."""
    if "model_parallel" in case:
        return kvae.model_parallel(2).scope()
    return contextlib.nullcontext()


class Own(kvae.VAE):
    """A model with a step of its own."""

    def train_step(self, data):
        return super().train_step(data)


class Loader:
    """So many batches."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __iter__(self):
        return iter([IMAGES[:4]] * self.count)


def refused(rank):
    """What processes say to that which they cannot share."""
    recipes = recipe("mlp")
    usual, own = (kind.from_preset(recipes, (8, 8, 1), latent_dim=4) for kind in (kvae.VAE, Own))
    said = []
    for model, images, validation in (
        (own, IMAGES, {}),
        (usual, Loader(2 + rank), {}),
        (usual, Loader(2), {"validation_data": Loader(2 + rank)}),
        (usual, IMAGES, {"validation_data": (IMAGES,), "validation_steps": 1}),
    ):
        model.compile("adam")
        try:
            model.fit(images, verbose=0, **validation)
            said.append(None)
        except ValueError as error:
            said.append(str(error))
    return said


def fault_of_keras():
    """What a model of Keras's own says to a batch that the devices cannot share evenly."""
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    inputs = np.zeros((DEVICES + 1, 2), "float32")
    try:
        model.fit(inputs, inputs[:, :1], batch_size=DEVICES, verbose=0)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main(sys.argv[2], sys.argv[3:])
