"""Priors by name."""

from typing import Any

from kvae.parts import made
from kvae.priors.gaussian_mixture import GaussianMixture
from kvae.priors.prior import Prior
from kvae.priors.real_nvp import RealNVP
from kvae.priors.standard_normal import StandardNormal

__all__ = ["PRIORS", "get"]

PRIORS: dict[str, type[Prior]] = {
    "standard-normal": StandardNormal,
    "real-nvp": RealNVP,
    "mixture": GaussianMixture,
}


def get(name: str, latent_dim: int, **arguments: Any) -> Prior:
    """A prior by its key in `PRIORS`.

    Raises:
        ValueError: If there is none of this name, or it has no such argument.

    Example:
        >>> from kvae import priors
        >>> priors.get("standard-normal", 4).latent_dim
        4
    """
    return made(PRIORS, "prior", name, latent_dim, **arguments)
