"""Keras's methods of a VAE: each argument does what Keras documents, or is refused."""

import contextlib
import functools
import inspect
import math
import types
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from kvae.data.values import as_array
from kvae.likelihoods import Likelihood
from kvae.limits import check_memory
from kvae.model.forms import Border, refusal
from kvae.model.given import checked, prepared, prepared_batch, validation
from kvae.model.graph import Graph, export_or_say
from kvae.objectives import Objective
from kvae.parts import positive_integer
from kvae.steps import TrainStep

__all__ = ["KerasModel"]

OWN = ("loss", "loss_weights", "metrics", "weighted_metrics")  # arguments of `compile`


class KerasModel(TrainStep):
    """A Keras model of images with a loss of its own, which checks its inputs."""

    encoder: keras.Model
    decoder: keras.Model
    samples: Any
    kept: types.SimpleNamespace
    likelihood: Likelihood
    objective: Objective
    seed_generator: keras.random.SeedGenerator
    step: Any

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images."""
        return tuple(self.encoder.inputs[0].shape[1:])

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """`keras.Model.compile`, without a loss or metrics: the model has its own."""
        given = bound(keras.Model.compile, self, *args, **kwargs)
        for name in OWN:
            value = given.get(name)
            if value is not None and not (isinstance(value, (list, tuple, dict)) and not value):
                raise ValueError(
                    f"A VAE has a loss and metrics of its own, so `{name}` has no meaning here. "
                    "For another loss give `kvae.VAE` another objective, such as "
                    f"kvae.ELBO(beta=4). {refusal(name, 'None', value)}"
                )
        steps = given.get("steps_per_execution", 1)
        if not positive_integer(steps):
            raise ValueError(refusal("steps_per_execution", "an integer of at least 1", steps))
        if int(steps) > 1 and not self.makes_several_steps:
            raise ValueError(
                f"On {keras.backend.backend()} Keras makes one step at a time. "
                + refusal("steps_per_execution", "1", steps)
            )
        super().compile(**given)
        # Hidden from Keras. Keras stores its choice for "auto", and not whether losses are scaled.
        self.told = types.SimpleNamespace(
            jit_compile=given.get("jit_compile", "auto"),
            auto_scale_loss=given.get("auto_scale_loss", True),
            trained=None,
        )

    def get_compile_config(self) -> dict[str, Any] | None:
        """The compile arguments, in a form that every backend can load.

        XLA may work on one backend and fail on another. PyTorch's optimizers, which Keras uses on
        PyTorch, fail on other backends.
        """
        config = super().get_compile_config()
        if not config:
            return config
        return {
            **portable(config),
            "jit_compile": self.told.jit_compile,
            "auto_scale_loss": self.told.auto_scale_loss,
            "backend": keras.backend.backend(),
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles the model from a saved configuration. Keras's own method skips such models."""
        config = dict(keras.saving.deserialize_keras_object(config))
        if config.pop("backend", None) != keras.backend.backend():
            if config.get("jit_compile"):
                config["jit_compile"] = "auto"
        if not self.makes_several_steps:
            config["steps_per_execution"] = 1
        self.compile(**config)
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)
            self.told.trained = self.trained()

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains the model: `keras.Model.fit`, with a check of the images.

        The check is of shape, dtype and range. Arrays are checked before the first step, streams of
        batches batch by batch.

        Args:
            x: Images, (count, height, width, channels), uint8 in 0…255 or float in [0, 1]; grey
                images may be (count, height, width). A NumPy array; a tensor of any framework; a
                list of images, also of PIL; a dict that holds them as `image`; or an iterable of
                batches: a `tf.data.Dataset`, a `keras.utils.PyDataset`, a PyTorch `DataLoader`, a
                generator or other. A batch is images alone, such a dict, or (images, labels,
                weights).
            y: Labels. `class_weight` needs them, and so does a conditional model, whose classes or
                numbers they are. Otherwise they are ignored, so that `fit(x, x)` is `fit(x)`. A
                subclass of your own receives them.
            *args: As for `keras.Model.fit`.
            **kwargs: As for `keras.Model.fit`. `validation_data` may have any form that `x` has.

        Raises:
            ValueError: If the images do not fit the model; the message names the batch.
        """
        given = checked(bound(keras.Model.fit, self, x, y, *args, **kwargs))
        self.check_trains()
        border, classes = self.border(), given.get("class_weight")
        given["validation_data"] = validation(border, self.stream, given.get("validation_data"))
        stream = functools.partial(self.stream, shuffle=given.get("shuffle", True))
        weights = given.pop("sample_weight", None)
        x, y, weights = prepared(border, stream, x, y, weights, classes)
        self.check_step(x, given.get("batch_size"))
        self.objective.begin(count_of(x, given.get("validation_split")))
        with self.watched(given):
            return super().fit(**{**given, "x": x, "y": y, "sample_weight": weights})

    def border(self) -> Border:
        """The inputs that the model accepts."""
        check = type(self.likelihood).check
        return Border(
            self.check,
            self.image_shape,
            takes_labels=self.kept.condition is not None
            or type(self).__module__.split(".")[0] != "kvae",
            reads_bytes=check.__module__.split(".")[0] != "kvae",
            unit_floats=check is Likelihood.check,
            condition=self.kept.condition,
        )

    def inputs_of(self, images: Any, labels: Any) -> Any:
        """The argument of `call` for a batch: images, or (images, labels) if conditional."""
        given = isinstance(images, (tuple, list))
        return images if self.kept.condition is None or given else (images, labels)

    def check_step(self, images: Any, batch_size: Any) -> None:
        """Raises a ValueError if one step on a CPU would not fit in memory.

        The estimate counts the outputs of the decoder's layers, and activations or gradients of the
        same size.

        Args:
            images: As Keras takes them: an array, or batches that know their size.
            batch_size: The size of a batch, or None.
        """
        if "cpu" not in str(self.step.value.device).lower():
            return
        batch = getattr(images, "batch_size", None) or 32
        if hasattr(images, "shape"):
            batch = min(batch_size or 32, len(images))
        bytes_of_a_draw = sum(
            2 * (4 if layer.compute_dtype == "float32" else 2) * math.prod(output.shape[1:])
            for layer in self.decoder._flatten_layers(include_self=False)
            for output in keras.tree.flatten(layer.output if layer.weights else [])
            if None not in output.shape[1:]
        )
        condition = self.kept.condition
        passes = condition.size if condition is not None and condition.partly_labelled else 1
        draws = f", {self.samples:,} draws of z each," if self.samples > 1 else ""
        check_memory(
            passes * batch * self.samples * bytes_of_a_draw,
            f"A step on {batch:,} images{draws}",
            "Choose a smaller `batch_size`" + (" or fewer `samples`." if draws else "."),
        )

    @contextlib.contextmanager
    def watched(self, given: dict[str, Any]) -> Iterator[None]:
        """Raises an error if a callback changes which weights train, which no step would see.

        On PyTorch every step sees such a change.
        """
        if keras.backend.backend() == "torch":
            yield
            return
        watch = StillTrained()
        watch.set_model(self)
        given["callbacks"] = given.get("callbacks") or []
        callbacks = getattr(given["callbacks"], "callbacks", given["callbacks"])
        callbacks.append(watch)
        try:
            yield
        except Exception:  # JAX's error does not name the cause
            self.check_still_trained()
            raise
        finally:
            callbacks.remove(watch)

    def order_key(self) -> list[int]:
        """The key of the order of images in an epoch: the seed, and the steps made before."""
        seed = ops.convert_to_numpy(self.seed_generator.state)[0]
        step = int(ops.convert_to_numpy(self.step)) - self.executions.made
        return [int(seed) % 2**32, step]

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.evaluate`, with a check of the images; `x` is as for `fit`."""
        given = bound(keras.Model.evaluate, self, x, y, *args, **kwargs)
        self.check_compiled()
        sample_weight = given.pop("sample_weight", None)
        if "_use_cached_eval_dataset" not in given:  # otherwise `fit` has checked it
            given = checked(given)
            x, y, sample_weight = prepared(self.border(), self.stream, x, y, sample_weight)
        return super().evaluate(**{**given, "x": x, "y": y, "sample_weight": sample_weight})

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.predict`, with a check of the images; `x` is as for `fit`.

        A conditional model takes (images, labels), a dict of both, or an iterable of such batches.
        """
        given = checked(bound(keras.Model.predict, self, x, *args, **kwargs))
        with self.alone():
            images, labels, _ = prepared(self.border(), self.stream, *self.with_labels(x))
            if labels is not None and self.kept.condition is not None:
                size = given.pop("batch_size", None) or 32
                arrays = tuple(map(as_array, (images, labels)))
                images = self.feed(arrays, size, whole=True)
            return super().predict(**{**given, "x": images})

    def with_labels(self, x: Any) -> tuple[Any, Any]:
        """Splits the argument of a prediction into images and labels; labels may be None."""
        pair = isinstance(x, (tuple, list)) and len(x) == 2
        return (x[0], x[1]) if pair and self.kept.condition is not None else (x, None)

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """`keras.Model.train_on_batch`, with a check of the images."""
        self.check_trains()
        x, y, sample_weight = prepared_batch(self.border(), x, y, sample_weight, class_weight)
        return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """`keras.Model.test_on_batch`, with a check of the images."""
        self.check_compiled()
        x, y, sample_weight = prepared_batch(self.border(), x, y, sample_weight)
        return super().test_on_batch(x, y, sample_weight, return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """`keras.Model.predict_on_batch`, with a check of the images."""
        with self.alone():
            images, labels, _ = prepared_batch(self.border(), *self.with_labels(x))
            return super().predict_on_batch(self.inputs_of(images, labels))

    def save(
        self, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any
    ) -> None:
        """`keras.Model.save`, except to HDF5, which kvae does not read."""
        if str(filepath).lower().endswith((".h5", ".hdf5")):
            raise ValueError(
                "A VAE is saved as a .keras file: kvae does not read HDF5. "
                f"Received: filepath={str(filepath)!r}"
            )
        super().save(filepath, overwrite=overwrite, zipped=zipped, **kwargs)

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.export` of images and noise to reconstructions: see `kvae.model.Graph`.

        Args:
            filepath: As for Keras.
            *args: As for Keras: `format`, `verbose`, `input_signature`.
            **kwargs: As for Keras.

        Raises:
            ImportError: If what Keras needs for the format is not installed.
            ValueError: If Keras cannot export on this backend; `kvae.export` may.
        """
        return export_or_say(Graph(self, "vae").export, filepath, *args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy with the optimizer; classes of your own need not be registered."""
        with keras.saving.custom_object_scope(self.custom_objects()):
            reduced: Any = self.__reduce__()
            return reduced[0](*reduced[1])

    def custom_objects(self) -> dict[str, type]:
        """The classes of the model that Keras cannot find, by name.

        Raises:
            ValueError: If two classes have the same name.
        """
        found: dict[str, type] = {}
        for kind in map(type, self._flatten_layers()):
            name = kind.__name__
            known = kind.__module__.split(".")[0] == "keras"
            if known or keras.saving.get_registered_name(kind) != name:
                continue
            if found.setdefault(name, kind) is not kind:
                raise ValueError(
                    f"Two classes of the model are called {name!r}, and neither is registered: "
                    "keras.saving.register_keras_serializable tells them apart."
                )
        return found

    def check(self, images: Any) -> Any:
        """Raises a ValueError unless these are images that the model takes."""
        return self.likelihood.check(images, self.image_shape)

    def check_compiled(self) -> None:
        """Raises a ValueError if the model is not compiled; on PyTorch, Keras does not check."""
        if not self.compiled:
            raise ValueError("You must call `compile()` before using the model.")

    def check_trains(self) -> None:
        """Raises a ValueError if a step would train nothing, or other weights than at `compile`."""
        self.check_compiled()
        if self.optimizer is None:
            raise ValueError(
                "The model was compiled with optimizer=None, so it can be evaluated, not trained. "
                'Compile it with an optimizer, such as "adam".'
            )
        layers = self._flatten_layers(include_self=False)
        if not self.trainable_variables and all(layer.built for layer in layers):
            raise ValueError(
                "The model has no trainable weights. Set `trainable = True` on what is to learn, "
                "and call `compile` again."
            )
        if self.told.trained is None and all(layer.built for layer in layers):
            self.told.trained = self.trained()
        self.check_still_trained()

    def check_still_trained(self) -> None:
        """Raises a ValueError if other weights are trainable than those of the optimizer."""
        if self.told.trained is None:
            return
        now = self.trained()
        changed = now.keys() ^ self.told.trained.keys()
        for path in [(now | self.told.trained)[one] for one in changed][:1]:
            raise ValueError(
                f"`trainable` of {path!r} has changed, and the optimizer and the step were made "
                "for what was trained before: call `compile` again, outside of `fit`."
            )

    def trained(self) -> dict[int, str]:
        """The paths of trainable weights, and of layers that act differently when trainable.

        Frozen batch normalisation uses its moving statistics.
        """
        layers = {
            id(layer): layer.path
            for layer in self._flatten_layers()
            if layer.trainable and isinstance(layer, keras.layers.BatchNormalization)
        }
        return layers | {id(weight): weight.path for weight in self.trainable_variables}


class StillTrained(keras.callbacks.Callback):
    """Checks at both ends of an epoch that the same weights train as when `fit` began."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Runs the check."""
        self.model.check_still_trained()

    on_epoch_end = on_epoch_begin


def count_of(images: Any, validation_split: float | None) -> int | None:
    """The number of training images if they are an array; None for a stream."""
    if not hasattr(images, "shape"):
        return None
    return math.floor(len(images) * (1 - (validation_split or 0)))


def bound(method: Any, model: keras.Model, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The arguments of a method of `keras.Model`, by name."""
    (_, *given) = inspect.signature(method).bind(model, *args, **kwargs).arguments.items()
    arguments = dict(given)
    return arguments | arguments.pop("kwargs", {})


def portable(config: Any) -> Any:
    """A serialised object with Keras's own class in place of a backend's variant of it."""
    if isinstance(config, list):
        return [portable(part) for part in config]
    if not isinstance(config, dict):
        return config
    config = {name: portable(part) for name, part in config.items()}
    if str(config.get("module")).startswith("keras.src.backend."):
        config |= {"module": "keras.optimizers", "registered_name": None}
    return config
