"""A learned prior for tests."""

import numpy as np

from kvae.priors import RealNVP


def flow(latent_dim=3, couplings=6, scale=0.3):
    """A flow as training might leave it, far from the identity."""
    prior = RealNVP(latent_dim, couplings=couplings, width=8)
    generator = np.random.default_rng(0)
    for weight in prior.trainable_variables:
        weight.assign(generator.normal(0, scale, weight.shape))
    return prior
