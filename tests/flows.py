"""Learned priors for tests."""

import numpy as np

from kvae.priors import GaussianMixture, RealNVP


def flow(latent_dim=3, couplings=6, scale=0.3):
    """A flow as training might leave it, far from the identity."""
    prior = RealNVP(latent_dim, couplings=couplings, width=8)
    generator = np.random.default_rng(0)
    for weight in prior.trainable_variables:
        weight.assign(generator.normal(0, scale, weight.shape))
    return prior


def mixture(latent_dim=3, components=4, context_dim=None, scale=0.7):
    """A mixture as training might leave it: some components lie apart, others overlap."""
    prior = GaussianMixture(latent_dim, components, context_dim)
    generator = np.random.default_rng(0)
    for weight in prior.trainable_variables:
        weight.assign(generator.normal(0, scale, weight.shape))
    return prior
