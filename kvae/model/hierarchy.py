"""Hierarchy: how encoder and decoder work together if latents come in groups."""

from typing import Any

import keras
from keras import ops

from kvae.model.condition import context_dim_of
from kvae.objectives import ELBO, Objective, repeated
from kvae.priors import Prior

__all__ = ["Hierarchy", "hierarchy_of"]


class Hierarchy:
    r"""Runs encoder and decoder of a ladder group by group.

    $$q(z|x) = \prod_l q(z_l | z_{<l}, x)$$

    Each posterior is a Gaussian. The encoder computes its mean and log-variance from the features
    and from the decoder's state, which depends on the groups before.

    Args:
        encoder: A model made of `bottom_up`, `posterior_1`, `posterior_2`, …
        decoder: A model made of `stage_1`, `stage_2`, …, and `output`.
    """

    def __init__(self, encoder: keras.Model, decoder: keras.Model) -> None:
        count = len(encoder.inputs) - (context_dim_of(encoder) is not None)
        self.bottom_up = encoder.get_layer("bottom_up")
        self.posteriors = [encoder.get_layer(f"posterior_{i + 1}") for i in range(count)]
        self.stages = [decoder.get_layer(f"stage_{i + 1}") for i in range(count)]
        self.output = decoder.get_layer("output")

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of latents in each group."""
        return tuple(posterior.outputs[0].shape[-1] for posterior in self.posteriors)

    def infer(
        self,
        observed: Any,
        noise: Any,
        samples: int = 1,
        training: bool = False,
        context: Any = None,
    ) -> Any:
        """Draws latents from the posterior, group by group, and decodes them on the way.

        Args:
            observed: (batch, height, width, channels), float32 in [0, 1].
            noise: (batch · samples, latent), standard normal, or zeros for the means.
            samples: Draws per image. The draws of an image follow each other.
            training: Passed to the parts.
            context: (batch, context), float32, for a conditional model; else None.

        Returns:
            Mean and log-variance of the posteriors, given the groups before, and the draws: each
            (batch · samples, latent); and the parameters, (batch · samples, …). All are float32.
        """
        given = [] if context is None else [context]
        features = self.bottom_up([observed, *given] if given else observed, training=training)
        given = [repeated(one, samples) for one in given]  # the first stage passes it on
        features = [repeated(one, samples) for one in keras.tree.flatten(features)]
        parts: list[list[Any]] = [[], [], []]
        state: list[Any] = []
        start = 0
        for feature, posterior, stage, size in zip(
            features, self.posteriors, self.stages, self.sizes, strict=True
        ):
            mean, log_variance = posterior([*state, feature], training=training)
            mean, log_variance = ops.cast(mean, "float32"), ops.cast(log_variance, "float32")
            z = mean + ops.exp(0.5 * log_variance) * noise[:, start : start + size]
            start += size
            state = [stage([*state, z, *given], training=training)]
            given = []
            for found, part in zip(parts, (mean, log_variance, z), strict=True):
                found.append(part)
        parameters = ops.cast(self.output(state[0], training=training), "float32")
        return (*(ops.concatenate(part, axis=1) for part in parts), parameters)


def hierarchy_of(
    encoder: keras.Model, decoder: keras.Model, prior: Prior, objective: Objective
) -> Hierarchy | None:
    """Returns the hierarchy of a model with latents in groups; None with a single group.

    Raises:
        ValueError: If the encoder takes states of a decoder, but they are not a ladder; or if the
            objective does not work with groups.
    """
    if len(encoder.inputs) - (context_dim_of(encoder) is not None) == 1:
        return None
    if objective.mean_of_draws > 1:
        raise ValueError("`mean_of_draws` is for latents in one group, and this model has several.")
    try:
        ladder = Hierarchy(encoder, decoder)
    except ValueError:
        raise ValueError(
            "An encoder with several inputs must be a ladder's, and the decoder must be too: see "
            "kvae.build_encoder(…, 'ladder')."
        ) from None
    if context_dim_of(encoder) != context_dim_of(decoder):
        raise ValueError(
            "Encoder and decoder of a ladder must both take a context, or neither: give "
            "kvae.build_encoder and build_decoder the same context_dim."
        )
    objective.check_groups(ladder.sizes)
    if isinstance(objective, ELBO) and (objective.free_bits or objective.weighs_groups):
        nothing = ops.zeros((1, prior.latent_dim))
        prior.kl_by_group(nothing, nothing, nothing, ladder.sizes)  # or a ValueError
    return ladder
