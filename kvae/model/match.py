"""Checks that the parts of a model fit each other, with one-line errors."""

import gc
from typing import Any

import keras
from keras import ops

from kvae.likelihoods import Likelihood
from kvae.model.condition import context_dim_of
from kvae.objectives import Objective
from kvae.parts import positive_integer
from kvae.priors import Prior

__all__ = ["check_encoder", "check_image_shape", "check_parts"]


def check_parts(
    encoder: keras.Model,
    decoder: keras.Model,
    likelihood: Likelihood,
    prior: Prior,
    objective: Objective,
) -> None:
    """Raises a ValueError unless the parts of a model fit each other."""
    latent = check_encoder(encoder)
    check_functional("decoder", decoder)
    for name, part, kind in (
        ("likelihood", likelihood, Likelihood),
        ("prior", prior, Prior),
        ("objective", objective, Objective),
    ):
        if not isinstance(part, kind):
            raise ValueError(
                f"`{name}` must be an object of a class derived from kvae.{kind.__name__}. "
                f"Received: {part!r}"
            )
    check_decoder(decoder, (None, latent), expected(encoder, likelihood), likelihood)
    if prior.latent_dim != latent:
        raise ValueError(f"The prior has {prior.latent_dim} latents, the decoder {latent}.")
    objective.check(prior)
    check_unused(objective)
    check_apart(
        encoder=encoder, decoder=decoder, likelihood=likelihood, prior=prior, objective=objective
    )


def check_unused(objective: Objective) -> None:
    """Raises a ValueError if the objective counts the steps of another model."""
    if len(objective.owners):
        gc.collect()  # models have reference cycles
    steps = int(ops.convert_to_numpy(objective.step))
    if len(objective.owners) or steps:
        raise ValueError(
            f"`objective` is that of another model, whose training steps it counts ({steps} so "
            "far): make one for each model."
        )


def check_functional(name: str, part: Any) -> None:
    """Raises a ValueError unless it is a model with known inputs and outputs."""
    if not (isinstance(part, keras.Model) and getattr(part, "inputs", None)):
        raise ValueError(
            f"`{name}` must be a Keras Functional model, built with `keras.Input`. "
            f"Received: {type(part).__name__}"
        )


def check_encoder(encoder: keras.Model) -> int:
    """Returns the number of latents, or raises a ValueError."""
    check_functional("encoder", encoder)
    images = images_of(encoder)
    if not isinstance(images, tuple) or len(images) != 4 or None in images[1:]:
        raise ValueError(
            "`encoder` must take one input of shape (batch, height, width, channels), sizes known. "
            f"Received: {images}"
        )
    check_inputs("encoder", encoder)
    given = output_of(encoder)
    if not isinstance(given, (list, tuple)):
        what = f"a dict of {', '.join(given)}" if isinstance(given, dict) else "one output"
        raise ValueError(
            "`encoder` must give [mean, log_variance], a list of two outputs in this order. "
            f"Received: {what}"
        )
    if not all(keras.backend.is_keras_tensor(output) for output in given):
        raise ValueError(
            "`encoder` must give [mean, log_variance], two tensors. Received: a nest of lists"
        )
    heads = [tuple(output.shape) for output in encoder.outputs]
    if len(heads) != 2 or heads[0] != heads[1] or len(heads[0]) != 2 or not heads[0][1]:
        raise ValueError(
            "`encoder` must give [mean, log_variance], each of shape (batch, latent). "
            f"Received: outputs of shape {heads}"
        )
    return heads[0][1]


def images_of(encoder: keras.Model) -> Any:
    """The shape of the images that an encoder takes.

    Images come first if there are also a context or, in a ladder, states.
    """
    shapes = encoder.input_shape
    if not isinstance(shapes, list):
        return shapes
    named = "bottom_up" in {layer.name for layer in encoder.layers}
    return shapes[0] if named or is_conditional(encoder) else shapes


def is_conditional(model: keras.Model) -> bool:
    """Whether the inputs of a model are a first one and a context, (batch, numbers)."""
    last = model.inputs[-1]
    known = context_dim_of(model) is not None and len(last.shape) == 2
    return known and len(model.inputs) == 2 and last.name.split(":")[0] == "context"


def check_inputs(name: str, model: keras.Model) -> None:
    """Raises a ValueError if inputs are integers or have a fixed batch size."""
    for given in model.inputs:
        if given.shape[0] is not None:
            raise ValueError(
                f"`{name}` must take batches of any size: give `keras.Input` no batch size. "
                f"Received: an input of shape {tuple(given.shape)}"
            )
        if "float" not in given.dtype:
            raise ValueError(
                f"`{name}` must take floats, to which a model casts what it is given. "
                f"Received: an input of dtype {given.dtype}"
            )


def output_of(model: keras.Model) -> Any:
    """The output of a model: a tensor, or a list or dict of them."""
    return model.outputs[0] if isinstance(model, keras.Sequential) else model.output


def expected(encoder: keras.Model, likelihood: Likelihood) -> tuple:
    """The shape of the likelihood's parameters for the images of an encoder."""
    *size, channels = images_of(encoder)
    return (*size, channels * likelihood.parameters_per_value)


def check_decoder(
    decoder: keras.Model, latents: tuple, parameters: tuple, likelihood: Likelihood
) -> None:
    """Raises a ValueError unless the decoder maps latents to parameters of these shapes."""
    check_inputs("decoder", decoder)
    taken = decoder.input_shape
    if (taken[0] if isinstance(taken, list) and is_conditional(decoder) else taken) != latents:
        second = " and `context` as its second input" * isinstance(taken, list)
        raise ValueError(
            f"`decoder` must take what the encoder gives, of shape {latents}{second}. "
            f"Received: {taken}"
        )
    kind = type(likelihood).__name__
    if not keras.backend.is_keras_tensor(output_of(decoder)):
        raise ValueError(
            f"`decoder` must give the parameters of {kind} as one output. "
            f"Received: a {type(output_of(decoder)).__name__} of {len(decoder.outputs)}"
        )
    if tuple(decoder.output_shape) != parameters:
        raise ValueError(
            f"`decoder` must give the parameters of {kind}, of shape {parameters}. "
            f"Received: {decoder.output_shape}"
        )


def check_apart(**parts: keras.layers.Layer) -> None:
    """Raises a ValueError if two parts have a layer or a weight in common.

    A file stores each part by itself, so the shared object would come back as two.
    """
    seen: dict[int, str] = {}
    for name, part in parts.items():
        for kind, held in (("layer", part._flatten_layers()), ("weight", part.weights)):
            for one in held:
                if seen.setdefault(id(one), name) != name:
                    raise ValueError(
                        f"`{seen[id(one)]}` and `{name}` have the {kind} {one.name!r} in common, "
                        "and a file keeps each part by itself. Give each part its own."
                    )


def check_image_shape(shape: Any) -> tuple[int, int, int]:
    """Returns (height, width, channels), or raises a ValueError."""
    sizes = tuple(shape) if hasattr(shape, "__iter__") else ()
    if len(sizes) != 3 or not all(map(positive_integer, sizes)):
        raise ValueError(
            "`image_shape` must be (height, width, channels), three positive integers. "
            f"Received: image_shape={shape!r}"
        )
    height, width, channels = map(int, shape)
    return height, width, channels
