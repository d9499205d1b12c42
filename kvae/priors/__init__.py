"""Priors p(z): density, draws, and divergence from the posterior; in nats per image."""

from kvae.priors.blockwise import Blockwise
from kvae.priors.gaussian_mixture import GaussianMixture
from kvae.priors.named import PRIORS, get
from kvae.priors.prior import Prior, given
from kvae.priors.real_nvp import RealNVP
from kvae.priors.standard_normal import StandardNormal

__all__ = [
    "PRIORS",
    "Blockwise",
    "GaussianMixture",
    "Prior",
    "RealNVP",
    "StandardNormal",
    "get",
    "given",
]
