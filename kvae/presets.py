"""Presets: named models, how each is built and trained, as plain values."""

import dataclasses
import difflib
from typing import Any

__all__ = ["PRESETS", "Preset", "get"]


@dataclasses.dataclass(frozen=True)
class Preset:
    """How a model is built and trained.

    Attributes:
        summary: What it is for, one line.
        network: Of `build_encoder` and `build_decoder`.
        arguments: Of the network.
        latent_dim: The number of latents.
        likelihood: A key of `kvae.likelihoods.LIKELIHOODS`.
        likelihood_arguments: Of the likelihood.
        prior: A key of `kvae.priors.PRIORS`.
        prior_arguments: Of the prior.
        batch_size: Images in one update.
        learning_rate: Of Adam, at its highest.
        epochs: Passes over the training images; None: see `kvae.training.default_epochs`.
        schedule: "cosine": the learning rate and the KL weight rise, then the rate falls to zero;
            "constant": plain Adam; "plateau": the learning rate halves when the loss of the
            validation images stalls.
        averaged: With a cosine, the share of all updates that the average of the weights looks back
            on; 0: the weights as they are.
        start_at_mean: Whether the untrained decoder gives the mean of the training images.
        largest: Images with a longer side are shrunk to it; None: never.
        per_class: So many training images of each class; None: all.
        expect: The figure to expect on MNIST, with its command; empty where none was measured.
    """

    summary: str
    network: str
    arguments: dict[str, Any]
    latent_dim: int
    likelihood: str = "bernoulli"
    likelihood_arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    prior: str = "standard-normal"
    prior_arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    batch_size: int = 128
    learning_rate: float = 2e-3
    epochs: int | None = None
    schedule: str = "cosine"
    averaged: float = 0.0
    start_at_mean: bool = False
    largest: int | None = None
    per_class: int | None = None
    expect: str = ""


PRESETS = {
    "mlp": Preset(
        summary="residual dense blocks: the default, fast on a laptop",
        network="mlp",
        arguments={"width": 512, "depth": 2},
        latent_dim=40,
        prior="real-nvp",
        prior_arguments={"couplings": 10},
        batch_size=64,
        learning_rate=3e-3,
        start_at_mean=True,
        expect="-ELBO 89.0 nats on MNIST: kvae train --dataset mnist --epochs 10",
    ),
    "conv": Preset(
        summary="light convolutions: a nat and more better than the default; for larger images too",
        network="conv",
        arguments={"patch": 4, "channels": 32, "convolutions": 1, "squeeze": 16, "width": 256},
        latent_dim=40,
        prior="real-nvp",
        prior_arguments={"couplings": 10},
        learning_rate=3e-3,
        start_at_mean=True,
        expect="-ELBO 87.7 nats on MNIST: kvae train --dataset mnist --preset conv --epochs 10",
    ),
    "conv-large": Preset(
        summary="residual convolutions: the best for a CPU, in ten minutes and more",
        network="conv",
        arguments={"channels": 32, "depth": 1, "width": 256},
        latent_dim=40,
        prior="real-nvp",
        prior_arguments={"couplings": 10},
        batch_size=64,
        start_at_mean=True,
        expect="-ELBO 84.8 nats on MNIST: kvae train --dataset mnist --preset conv-large --epochs "
        "10",
    ),
    "resnet-flow": Preset(
        summary="ResNet 32-64-128 and a flow of 20 couplings: the best, for a GPU",
        network="conv",
        arguments={"channels": 32, "depth": 2, "width": 256, "full": True},
        latent_dim=40,
        prior="real-nvp",
        prior_arguments={"couplings": 20},
        epochs=60,
        averaged=0.05,
        start_at_mean=True,
    ),
    "mlp-400": Preset(
        summary="784-400-20, the textbook VAE; with --likelihood gaussian, a scale for each pixel",
        network="dense",
        arguments={"widths": (400,)},
        latent_dim=20,
        learning_rate=1e-3,
        epochs=10,
        schedule="constant",
        expect="-ELBO 102.9 nats on MNIST: kvae train --dataset mnist --preset mlp-400",
    ),
    "mlp-200": Preset(
        summary="784-200-20 in small batches: class-wise generation around posteriors",
        network="dense",
        arguments={"widths": (200,)},
        latent_dim=20,
        batch_size=32,
        learning_rate=3e-4,
        epochs=10,
        schedule="constant",
        expect="-ELBO 106.9 nats on MNIST: kvae train --dataset mnist --preset mlp-200",
    ),
    "conv-pooled": Preset(
        summary="convolutions with pooling, batch norm and dropout: for pictures of the latents",
        network="pooled",
        arguments={"channels": (16, 32), "last_channels": 16, "widths": (512, 256)},
        latent_dim=20,
        batch_size=50,
        learning_rate=1e-3,
        epochs=100,
        schedule="constant",
        expect="-ELBO 101.5 nats on MNIST, and 97.3 % of the test images by 5 nearest "
        "neighbours: kvae train --dataset mnist --preset conv-pooled --epochs 10, kvae evaluate",
    ),
    "resnet": Preset(
        summary="ResNet 16-32-64 with a Gaussian of fixed scale: the squared error, in nats",
        network="resnet",
        arguments={"channels": (16, 32, 64), "depth": 2},
        latent_dim=32,
        likelihood="gaussian",
        likelihood_arguments={"scale": 0.0776},
        batch_size=400,
        learning_rate=5e-3,
        epochs=10,
        schedule="constant",
        expect="(65025 MSE + KL) / 400 of 1.33 on MNIST, 1.30 in training: kvae train --dataset "
        "mnist --preset resnet",
    ),
    "binary-14": Preset(
        summary="196-128-8 on black and white images of 14×14, 1,000 a class: small and quick",
        network="dense",
        arguments={"widths": (128,), "activation": "tanh"},
        latent_dim=8,
        likelihood_arguments={"binarize": "threshold"},
        batch_size=32,
        learning_rate=2e-3,
        epochs=19,
        schedule="plateau",
        largest=14,
        per_class=1000,
        expect="-ELBO 33.3 nats on MNIST: kvae train --dataset mnist --preset binary-14 (with "
        "--mean-of-draws 2, 31.2 by that looser estimate and 34.3 by the bound)",
    ),
}


def get(name: str) -> Preset:
    """The preset of this name.

    Raises:
        ValueError: If there is none; the message names those that there are.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"There is no preset {name!r}; there are {', '.join(map(repr, PRESETS))}.{hint}"
        )
    return PRESETS[name]
