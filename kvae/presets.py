"""Presets: named models, how each is built and trained, as plain values."""

import dataclasses
import difflib

__all__ = ["PRESETS", "Preset", "get"]


@dataclasses.dataclass(frozen=True)
class Preset:
    """How a model is built and trained.

    Attributes:
        summary: What it is for, one line.
        network: "mlp" or "conv", for `build_encoder` and `build_decoder`.
        arguments: Of the network.
        latent_dim: The number of latents.
        binarize: How grey images are observed; see `kvae.likelihoods.Bernoulli`.
        batch_size: Images in one update.
        learning_rate: Of Adam, at its highest; it rises and falls over the whole run.
    """

    summary: str
    network: str
    arguments: dict
    latent_dim: int
    binarize: str = "dynamic"
    batch_size: int = 128
    learning_rate: float = 2e-3


PRESETS = {
    "mlp": Preset(
        summary="residual dense blocks: the default, fast on a laptop",
        network="mlp",
        arguments={"width": 512, "depth": 2},
        latent_dim=40,
        batch_size=64,
    ),
    "conv": Preset(
        summary="residual convolutions: better likelihood and larger images, slower on a CPU",
        network="conv",
        arguments={"channels": 32, "depth": 1, "width": 256},
        latent_dim=40,
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
