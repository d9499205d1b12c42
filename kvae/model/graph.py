"""Graph: what a model does, with named inputs and outputs, and nothing drawn inside: to export."""

import types
from typing import Any

import keras
from keras import ops

from kvae.model.condition import context_dim_of
from kvae.priors import given

__all__ = ["GRAPHS", "Graph"]

GRAPHS = {
    "encoder": (("images",), ("mean", "log_variance")),
    "decoder": (("latents",), ("images",)),
    "generator": (("noise",), ("images",)),
    "vae": (("images", "noise"), ("reconstruction", "mean", "log_variance")),
}


class Graph(keras.Model):
    """A part of a VAE as a function of named tensors, which draws nothing.

    | part | inputs | outputs |
    | --- | --- | --- |
    | encoder | `images` | `mean`, `log_variance` |
    | decoder | `latents` | `images` |
    | generator | `noise` | `images` |
    | vae | `images`, `noise` | `reconstruction`, `mean`, `log_variance` |

    `images` are (batch, height, width, channels), float32 in [0, 1], and are observed as
    `VAE.encode` observes them; the others are (batch, latent), float32. `noise` is standard normal,
    and zeros give the middle of what would be drawn. A conditional model has `classes` too, the
    last input: (batch,), int32, or its numbers, (batch, context), float32.

    Args:
        vae: The model, whose weights these are.
        part: "encoder", "decoder", "generator" or "vae".

    Raises:
        ValueError: If there is no such part.
    """

    def __init__(self, vae: Any, part: str) -> None:
        if part not in GRAPHS:
            raise ValueError(f"`part` must be one of {', '.join(GRAPHS)}. Received: part={part!r}")
        super().__init__(name=part)
        self.autocast = False
        self.part = part
        self.kept = types.SimpleNamespace(vae=vae)  # out of sight of Keras: only what is needed
        self.needed = list(needed(vae, part))
        self.built = True

    @property
    def input_specs(self) -> dict[str, Any]:
        """The inputs by name, in order, each a `keras.InputSpec`."""
        vae = self.kept.vae
        shapes = {"images": vae.image_shape}
        specs = {
            name: keras.InputSpec(
                shape=(None, *shapes.get(name, (vae.latent_dim,))), dtype="float32", name=name
            )
            for name in GRAPHS[self.part][0]
        }
        if self.takes_classes:
            condition = vae.condition
            shape, dtype = ((), "int32") if condition.classes else ((condition.size,), "float32")
            specs["classes"] = keras.InputSpec(shape=(None, *shape), dtype=dtype, name="classes")
        return specs

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs' names, in order."""
        return GRAPHS[self.part][1]

    @property
    def takes_classes(self) -> bool:
        """Whether it is told of classes: an encoder may not be, where the decoder is."""
        vae = self.kept.vae
        alone = self.part == "encoder" and not vae.hierarchy
        return vae.condition is not None and not (alone and context_dim_of(vae.encoder) is None)

    def call(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The outputs by name, float32."""
        vae, found = self.kept.vae, {}
        context = vae.condition.context(inputs["classes"]) if "classes" in inputs else None
        if self.part in ("decoder", "generator"):
            latents = inputs["latents" if self.part == "decoder" else "noise"]
            if self.part == "generator":
                latents = vae.prior.from_noise(latents, **given(context))
            found["images"] = vae.likelihood.mean(vae.decoded(latents, context))
            return found
        observed = vae.likelihood.observe(inputs["images"])
        if self.part == "encoder" and not vae.hierarchy:
            seen = observed if context is None else vae.seen(observed, context)
            encoded = vae.encoder(seen, training=False)
            return {
                name: ops.cast(one, "float32")
                for name, one in zip(self.output_names, encoded, strict=True)
            }
        noise = inputs.get("noise")
        if noise is None:
            noise = ops.zeros((ops.shape(observed)[0], vae.latent_dim))
        mean, log_variance, _, parameters = vae.infer(observed, noise, context=context)
        if self.part == "vae":
            found["reconstruction"] = vae.likelihood.mean(parameters)
        return {**found, "mean": mean, "log_variance": log_variance}

    def export(self, filepath: Any, format: str = "tf_saved_model", **kwargs: Any) -> Any:
        """`keras.Model.export`; the signature is known.

        Args:
            filepath: As Keras has it.
            format: As Keras has it.
            **kwargs: As Keras has them.
        """
        kwargs = {"input_signature": [self.input_specs], "verbose": False, **kwargs}
        return super().export(filepath, format=format, **kwargs)


def needed(vae: Any, part: str) -> list[Any]:
    """The parts of a model whose weights a graph has."""
    if part == "encoder" and not vae.hierarchy:
        return [vae.encoder]
    own = {"decoder": [], "generator": [vae.prior]}.get(part, [vae.encoder])
    return [vae.decoder, vae.likelihood, *own]
