"""Importance weighting: a tighter bound from several draws of z per image."""

import math
from typing import Any

import keras
from keras import ops

from kvae.objectives.objective import Objective
from kvae.objectives.terms import Terms

__all__ = ["ImportanceWeighted"]


@keras.saving.register_keras_serializable(package="kvae")
class ImportanceWeighted(Objective):
    r"""The importance-weighted bound on −log p(x) (IWAE), with `samples` draws.

    $$-\log \frac1k \sum_i p(x|z_i) \left(\frac{p(z_i)}{q(z_i|x)}\right)^\beta$$

    On average it is at most `reconstruction + beta · kl`; these two metrics stay those of one draw.
    Its gradient is doubly reparameterised, and takes a second pass through the decoder. (A decoder
    with dropout is another network in that pass, and batch norm counts both.) If latents come in
    groups, it uses the plain gradient of the bound.

    Args:
        samples: Number of draws of z per image, at least 2.
        beta: Weight of the KL term. Can be assigned to.
        warmup_steps: Number of training steps over which that weight rises linearly to `beta`. Can
            be assigned to.

    Raises:
        ValueError: If an argument is invalid.

    References:
        Burda, Grosse and Salakhutdinov (2016), "Importance weighted autoencoders",
        arXiv:1509.00519. Tucker et al. (2019), "Doubly reparameterized gradient estimators for
        Monte Carlo objectives", arXiv:1810.04152.

    Example:
        >>> import kvae
        >>> objective = kvae.ImportanceWeighted(samples=10)
        >>> vae = kvae.VAE.from_preset("mlp", (8, 8, 1), latent_dim=4, objective=objective)
        >>> vae.objective.samples
        10
    """

    def __init__(
        self, samples: int = 10, beta: float = 1.0, warmup_steps: float = 0, **kwargs: Any
    ) -> None:
        super().__init__(beta, warmup_steps, samples, **kwargs)
        if samples < 2:
            raise ValueError(
                "The importance-weighted bound needs `samples` of at least 2. "
                f"Received: samples={samples}"
            )

    def loss(self, terms: Terms, training: bool = True) -> Any:
        """The bound on −log p(x) of one batch: a float32 scalar, nats per image.

        The weights of the draws are from the first pass. For the gradient, the draws are decoded
        again, because the gradient through z must be scaled by them. With weights w, normalised
        over the draws of an image, z gets w (1 − beta (1 − w)) times the gradient of the log-weight
        of its draw; the decoder and the prior get w times it.
        """
        beta = self.kl_weight(training)
        weights = terms.log_weights(beta)
        if training and not terms.of_draws:
            weights = ops.stop_gradient(weights)
            share = ops.exp(weights - ops.logsumexp(weights, axis=1, keepdims=True))
            scale = 1.0 - beta * (1.0 - ops.reshape(share, (-1, 1)))
            fixed = ops.stop_gradient(terms.z)
            z = fixed + scale * (terms.z - fixed)
            weights = terms.log_weights(beta, z, terms.decode(z))
        bound = math.log(self.samples) - ops.logsumexp(weights, axis=1)
        return terms.mean_of(bound)
