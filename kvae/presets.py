"""Presets: named recipes, with their purpose and the figure to expect."""

import dataclasses
import difflib
from typing import Any

from kvae.recipe import Recipe

__all__ = ["PRESETS", "Preset", "get"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Preset(Recipe):
    """A recipe with a name.

    Attributes:
        summary: Its purpose, in one line.
        expect: The figure to expect on MNIST, with its command; empty if none was measured.
    """

    summary: str
    expect: str = ""


# Published models: no schedule, no safeguards, the textbook's prior.
TEXTBOOK: dict[str, Any] = {
    "likelihood": "bernoulli",
    "prior": "standard-normal",
    "couplings": None,
    "schedule": "constant",
    "kl_warmup": 0.0,
    "warmup": 0.0,
    "clip_norm": None,
    "start_at_mean": False,
}

RECIPES: dict[str, dict[str, Any]] = {
    "mlp": {
        "summary": "residual dense blocks: the default for images of up to 16×16",
        "network_arguments": {"width": 512, "depth": 2},
        "expect": "-ELBO 89.0 nats on MNIST: kvae train --dataset mnist --preset mlp --epochs 10",
    },
    "conv": {
        "summary": "light convolutions: the default for grey images of up to 32×32, such as MNIST",
        "network": "conv",
        "network_arguments": {
            "patch": 4,
            "channels": 32,
            "convolutions": 1,
            "squeeze": 16,
            "width": 256,
        },
        "least_epochs": 5,
        "least_updates": 2_000,
        "batch_size": 128,
        "optimizer": "muon",
        "learning_rate": 6e-3,
        "expect": "-ELBO 85.4 nats on MNIST: kvae train --dataset mnist --epochs 10",
    },
    "conv-colour": {
        "summary": "convolutions with latents on a grid: for pictures in colour, and larger ones",
        "network": "spatial",
        "network_arguments": {"channels": 32, "depth": 1, "convolutions": 1, "patch": 4},
        "latent_dim": 256,
        # Gradients of thousands of pixels are large. Clipped as elsewhere, little of them would
        # remain. They also grow suddenly as scales shrink. An Adam that averages 1,000 updates
        # would then take steps that destroy what was learned.
        "clip_norm": 20_000.0,
        "beta_2": 0.9,
        "least_updates": 720,  # 15 epochs of 3,000 pictures
        # In a run of 100 updates on large pictures, with a warm-up of 6, the KL went to 10⁹.
        "least_warmup": 60,
    },
    "conv-large": {
        "summary": "residual convolutions, finer than those of conv; latents in one group",
        "network": "conv",
        "network_arguments": {"channels": 32, "depth": 1, "width": 256},
        "learning_rate": 2e-3,
        "expect": "-ELBO 84.8 nats on MNIST: kvae train --dataset mnist --preset conv-large "
        "--epochs 10",
    },
    "resnet-flow": {
        "summary": "ResNet 32-64-128 and a flow of 20 couplings: the best, for a GPU",
        "network": "conv",
        "network_arguments": {"channels": 32, "depth": 2, "width": 256, "full": True},
        "couplings": 20,
        "epochs": 60,
        "batch_size": 128,
        "learning_rate": 2e-3,
        "averaged": 0.05,
    },
    "ladder": {
        "summary": "latents in two groups, for the whole and for its parts: the best for grey "
        "images such as MNIST's, in ten minutes and more",
        "network": "ladder",
        "network_arguments": {
            "groups": ((1, 40), (8, 2)),
            "channels": 64,
            "depth": 1,
            "patch": 4,
        },
        "batch_size": 128,
        "optimizer": "muon",
        "learning_rate": 6e-3,
        "expect": "-ELBO 83.3 nats on MNIST: kvae train --dataset mnist --preset ladder "
        "--epochs 11",
    },
    "ladder-colour": {
        "summary": "latents in two groups, for pictures in colour that have fine parts",
        "network": "ladder",
        "network_arguments": {
            "groups": ((8, 4), (16, 2)),
            "channels": 32,
            "depth": 1,
            "patch": 4,
        },
        "clip_norm": 20_000.0,
        "beta_2": 0.9,
        "least_updates": 1_200,
        "least_warmup": 60,
        # Otherwise the finest group encodes everything, and new images are noise.
        "fine_beta": 10.0,
        "fine_warmup": 0.5,
    },
    "ladder-large": {
        "summary": "latents in up to seven groups, twice as deep: for pictures in colour, on a GPU",
        "network": "ladder",
        "network_arguments": {
            "groups": ((1, 64), (4, 8), (4, 8), (8, 4), (8, 4), (16, 2), (32, 1)),
            "channels": 64,
            "depth": 2,
            "patch": 2,
        },
        "epochs": 60,
        "learning_rate": 1e-3,
        "clip_norm": 20_000.0,
        "beta_2": 0.9,
        "averaged": 0.05,
        "least_warmup": 60,
        "fine_beta": 10.0,
        "fine_warmup": 0.6,
    },
    "mlp-400": {
        **TEXTBOOK,
        "summary": "784-400-20, the textbook VAE; with --likelihood gaussian, a scale for each "
        "pixel",
        "network": "dense",
        "network_arguments": {"widths": (400,)},
        "latent_dim": 20,
        "epochs": 10,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "expect": "-ELBO 102.9 nats on MNIST: kvae train --dataset mnist --preset mlp-400",
    },
    "mlp-200": {
        **TEXTBOOK,
        "summary": "784-200-20 in small batches: class-wise generation around posteriors",
        "network": "dense",
        "network_arguments": {"widths": (200,)},
        "latent_dim": 20,
        "epochs": 10,
        "batch_size": 32,
        "learning_rate": 3e-4,
        "expect": "-ELBO 106.9 nats on MNIST: kvae train --dataset mnist --preset mlp-200",
    },
    "conv-pooled": {
        **TEXTBOOK,
        "summary": "convolutions with pooling, batch norm and dropout: for pictures of the latents",
        "network": "pooled",
        "network_arguments": {"channels": (16, 32), "last_channels": 16, "widths": (512, 256)},
        "latent_dim": 20,
        "epochs": 100,
        "batch_size": 50,
        "learning_rate": 1e-3,
        "expect": "-ELBO 101.5 nats on MNIST, and 97.3 % of the test images by 5 nearest "
        "neighbours: kvae train --dataset mnist --preset conv-pooled --epochs 10, kvae evaluate",
    },
    "resnet": {
        **TEXTBOOK,
        "summary": "ResNet 16-32-64 with a Gaussian of fixed scale: the squared error, in nats",
        "network": "resnet",
        "network_arguments": {"channels": (16, 32, 64), "depth": 2},
        "latent_dim": 32,
        "likelihood": "gaussian",
        "scale": 0.0776,
        "epochs": 10,
        "batch_size": 400,
        "learning_rate": 5e-3,
        "expect": "(65025 MSE + KL) / 400 of 1.33 on MNIST, 1.30 in training: kvae train --dataset "
        "mnist --preset resnet",
    },
    "binary-14": {
        **TEXTBOOK,
        "summary": "196-128-8 on black and white images of 14×14, 1,000 a class: small and quick",
        "network": "dense",
        "network_arguments": {"widths": (128,), "activation": "tanh"},
        "latent_dim": 8,
        "binarize": "threshold",
        "epochs": 19,
        "batch_size": 32,
        "learning_rate": 2e-3,
        "schedule": "plateau",
        "largest": 14,
        "per_class": 1000,
        "expect": "-ELBO 33.3 nats on MNIST: kvae train --dataset mnist --preset binary-14 (with "
        "--mean-of-draws 2, 31.2 by that looser estimate and 34.3 by the bound)",
    },
}

PRESETS = {name: Preset(preset=name, **settings) for name, settings in RECIPES.items()}


def get(preset: str | Recipe) -> Recipe:
    """Returns the preset of this name; a recipe is returned unchanged.

    Raises:
        ValueError: If there is no such preset; the message names those that exist.

    Example:
        >>> from kvae import presets
        >>> presets.get("conv-large").learning_rate
        0.002
    """
    if isinstance(preset, Recipe):
        return preset
    if not (isinstance(preset, str) and preset in PRESETS):
        near = difflib.get_close_matches(str(preset), PRESETS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"There is no preset {preset!r}; there are {', '.join(map(repr, PRESETS))}.{hint}"
        )
    return PRESETS[preset]
