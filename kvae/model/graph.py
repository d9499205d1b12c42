"""Graph: a part of a model as a deterministic function with named inputs and outputs."""

import re
import types
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kvae.model.condition import context_dim_of
from kvae.printable import printable
from kvae.priors import given

__all__ = ["GRAPHS", "Graph", "check_part", "export_or_say"]

FORMATS_OF_KERAS = ("tf_saved_model", "onnx", "openvino", "litert", "torch")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal, in Keras's messages
LONGEST = 200  # characters of an exporter's message
GRAPHS = {
    "encoder": (("images",), ("mean", "log_variance")),
    "decoder": (("latents",), ("images",)),
    "generator": (("noise",), ("images",)),
    "vae": (("images", "noise"), ("reconstruction", "mean", "log_variance")),
}


class Graph(keras.Model):
    """A part of a VAE as a function of named tensors. It draws no random numbers.

    | part | inputs | outputs |
    | --- | --- | --- |
    | encoder | `images` | `mean`, `log_variance` |
    | decoder | `latents` | `images` |
    | generator | `noise` | `images` |
    | vae | `images`, `noise` | `reconstruction`, `mean`, `log_variance` |

    `images` are (batch, height, width, channels), float32 in [0, 1], and are observed as by
    `VAE.encode`; the others are (batch, latent), float32. `noise` is standard normal; zeros give
    the means. A conditional model has `classes` as its last input: (batch,), int32, in 0…classes −
    1, or its numbers, (batch, context), float32. Other classes, such as −1, have no meaning here,
    but are not refused. An encoder that does not depend on the class has no such input.

    Args:
        vae: The model. The graph shares its weights.
        part: "encoder", "decoder", "generator" or "vae".

    Raises:
        ValueError: If there is no such part.

    Example:
        >>> import kvae
        >>> vae = kvae.VAE.from_preset("mlp-400", (8, 8, 1), latent_dim=4)
        >>> graph = kvae.model.Graph(vae, "vae")
        >>> list(graph.input_specs), graph.output_names
        (['images', 'noise'], ('reconstruction', 'mean', 'log_variance'))
    """

    def __init__(self, vae: Any, part: str) -> None:
        check_part(part)
        super().__init__(name=part)
        self.autocast = False
        self.part = part
        self.kept = types.SimpleNamespace(vae=vae)  # hidden from Keras, which would track all of it
        self.sources = sources_of(vae, part)
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
        """Whether the graph has an input `classes`. An encoder may lack it."""
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
            one = ops.zeros_like(observed[:, 0, 0, :1])  # has the batch size, known or not
            noise = ops.tile(one, (1, vae.latent_dim))
        mean, log_variance, _, parameters = vae.infer(observed, noise, context=context)
        if self.part == "vae":
            found["reconstruction"] = vae.likelihood.mean(parameters)
        return {**found, "mean": mean, "log_variance": log_variance}

    def functional(self) -> keras.Model:
        """Returns the graph as a Functional model of Keras's own layers, which opens without kvae.

        It shares the weights of the layers. Values that a prior or a likelihood holds outside of
        layers are copied as they are now. Layers of your own remain layers of your own.

        Returns:
            A model from a dict of inputs, named as in `input_specs`, to a dict of outputs.

        Example:
            >>> import kvae
            >>> vae = kvae.VAE.from_preset("mlp-400", (8, 8, 1), latent_dim=4)
            >>> decoder = kvae.model.Graph(vae, "decoder").functional()
            >>> type(decoder).__name__, tuple(decoder.output["images"].shape)
            ('Functional', (None, 8, 8, 1))
        """
        inputs = {
            name: keras.Input(spec.shape[1:], dtype=spec.dtype, name=name)
            for name, spec in self.input_specs.items()
        }
        return keras.Model(inputs, self.call(inputs), name=self.part)

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.export` with a known signature; prints nothing by default.

        Args:
            filepath: As for Keras.
            *args: As for Keras: `format` is the first.
            **kwargs: As for Keras.
        """
        given = {"verbose": False, "input_signature": [self.input_specs]}
        names = ("format", "verbose", "input_signature")
        return super().export(filepath, **given | dict(zip(names, args, strict=False)) | kwargs)


def check_part(part: str) -> None:
    """Raises a ValueError unless there is such a part."""
    if part not in GRAPHS:
        raise ValueError(f"`part` must be one of {', '.join(GRAPHS)}. Received: part={part!r}")


def sources_of(vae: Any, part: str) -> list[Any]:
    """The layers of a model whose weights the graph contains."""
    if part == "encoder" and not vae.hierarchy:
        return [vae.encoder]
    own = {"decoder": [], "generator": [vae.prior]}.get(part, [vae.encoder])
    return [vae.decoder, vae.likelihood, *own]


def export_or_say(export: Callable[..., Any], filepath: Any, *args: Any, **kwargs: Any) -> Any:
    """Exports as Keras does. If this backend cannot, the error names what can.

    Errors about a full disk or an unknown format are passed on unchanged.

    Args:
        export: `keras.Model.export` of a model.
        filepath: As for Keras.
        *args: As for Keras.
        **kwargs: As for Keras.

    Raises:
        ImportError: If what Keras needs for the format is not installed.
        ValueError: If Keras cannot export on this backend.
    """
    format = kwargs.get("format", args[0] if args else FORMATS_OF_KERAS[0])
    way_out = "kvae.export(vae, path), or `kvae export`, opens the model on the backend that can."
    try:
        return export(filepath, *args, **kwargs)
    except OSError:
        raise
    except ImportError as error:
        raise ImportError(f"{printable(error, LONGEST).rstrip('.')}. Or: {way_out}") from error
    except Exception as error:  # converters raise many kinds of errors
        if format not in FORMATS_OF_KERAS:
            raise
        said = COLOURS.sub("", str(error)).strip()
        reason = printable(said or type(error).__name__, LONGEST)
        raise ValueError(
            f"Keras cannot export this to {format} on {keras.backend.backend()} ({reason}). "
            f"{way_out}"
        ) from error
