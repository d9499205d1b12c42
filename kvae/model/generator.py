"""Generators: stock Functional models from standard normal noise to images."""

import functools

import keras

from kvae.likelihoods import Likelihood
from kvae.model.condition import context_dim_of
from kvae.model.graph import export_or_say
from kvae.priors import Prior

__all__ = ["build_generator"]


def build_generator(prior: Prior, decoder: keras.Model, likelihood: Likelihood) -> keras.Model:
    """Builds a generator: one stock model from noise to images, with the weights of the parts.

    Args:
        prior: p(z).
        decoder: A model from latents to the raw parameters of the likelihood.
        likelihood: p(x|z).

    Returns:
        A Functional model that maps standard normal noise, (batch, latent), to the expected images,
        (batch, height, width, channels), float32 in [0, 1]. It opens where kvae is not installed.
        If the decoder takes a context, (batch, context), that is its second input. Its `export` is
        Keras's; if this backend cannot export, the error names `kvae export`.

    Raises:
        ValueError: If the prior has weights outside of layers, which a model of stock layers cannot
            hold.

    Example:
        >>> import kvae
        >>> decoder = kvae.build_decoder((28, 28, 1), 16, width=64, depth=1)
        >>> generator = kvae.build_generator(kvae.RealNVP(16), decoder, kvae.Bernoulli())
        >>> tuple(generator.output.shape)
        (None, 28, 28, 1)
    """
    noise = keras.Input((prior.latent_dim,), name="noise", dtype="float32")
    inputs = [noise]
    context_dim = context_dim_of(decoder)
    if context_dim is not None:
        inputs.append(keras.Input((context_dim,), name="context", dtype="float32"))
    latents = prior.from_noise(noise, *inputs[1:])
    images = likelihood.mean(decoder([latents, *inputs[1:]] if inputs[1:] else latents))
    generator = keras.Model(inputs if inputs[1:] else noise, images, name="generator")
    held = {id(weight) for weight in generator.weights}
    for weight in prior.weights:
        if id(weight) not in held:
            raise ValueError(
                f"The weight {weight.name!r} of {type(prior).__name__} is in no Keras layer, so a "
                "generator of stock layers cannot hold it; use `VAE.generate`."
            )
    generator.export = functools.partial(export_or_say, generator.export)
    return generator
