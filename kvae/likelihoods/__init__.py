"""Likelihoods p(x|z): how images are observed, scored, averaged and drawn; in nats per image."""

from kvae.likelihoods.bernoulli import Bernoulli
from kvae.likelihoods.continuous_bernoulli import ContinuousBernoulli
from kvae.likelihoods.discretized_logistic import DiscretizedLogistic
from kvae.likelihoods.gaussian import Gaussian
from kvae.likelihoods.likelihood import Likelihood, bits_per_dimension
from kvae.likelihoods.logistic_mixture import LogisticMixture
from kvae.likelihoods.named import LIKELIHOODS, get

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "Gaussian",
    "Likelihood",
    "LogisticMixture",
    "bits_per_dimension",
    "get",
]
