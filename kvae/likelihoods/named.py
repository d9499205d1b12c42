"""Likelihoods by name."""

from typing import Any

from kvae.likelihoods.bernoulli import Bernoulli
from kvae.likelihoods.continuous_bernoulli import ContinuousBernoulli
from kvae.likelihoods.discretized_logistic import DiscretizedLogistic
from kvae.likelihoods.gaussian import Gaussian
from kvae.likelihoods.likelihood import Likelihood
from kvae.likelihoods.logistic_mixture import LogisticMixture
from kvae.parts import made

__all__ = ["LIKELIHOODS", "get"]

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "continuous-bernoulli": ContinuousBernoulli,
    "gaussian": Gaussian,
    "discretized-logistic": DiscretizedLogistic,
    "logistic-mixture": LogisticMixture,
}


def get(name: str, **arguments: Any) -> Likelihood:
    """Makes the likelihood of this name, a key of `LIKELIHOODS`.

    Raises:
        ValueError: If there is none of this name, or it has no such argument.

    Example:
        >>> from kvae import likelihoods
        >>> likelihoods.get("gaussian", scale=0.1).protocol
        'grey values, Gaussian with scale 0.1'
    """
    return made(LIKELIHOODS, "likelihood", name, **arguments)
