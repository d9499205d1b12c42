"""What Keras offers and a VAE takes: each argument does what Keras says, or is refused."""

import inspect
import types
from typing import Any

import keras

from kvae.likelihoods import Likelihood
from kvae.model.batches import positive_integer
from kvae.model.given import check_classes, checked, prepared, prepared_batch, refusal, validation
from kvae.steps import TrainStep

__all__ = ["KerasModel"]

OWN = ("loss", "loss_weights", "metrics", "weighted_metrics")  # arguments of `compile`


class KerasModel(TrainStep):
    """A model of images with a loss of its own, which looks at what it is given."""

    encoder: keras.Model
    likelihood: Likelihood

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images."""
        return tuple(self.encoder.input_shape[1:])

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
        super().compile(**given)
        # Out of sight of Keras. It keeps what it made of "auto", and not whether losses are scaled.
        self.told = types.SimpleNamespace(
            jit_compile=given.get("jit_compile", "auto"),
            auto_scale_loss=given.get("auto_scale_loss", True),
            frozen=None,
        )

    def get_compile_config(self) -> dict[str, Any] | None:
        """As Keras's, so that it holds on every backend.

        XLA on one backend is a trap on another; and PyTorch's optimizers, which stand for Keras's
        there, fail elsewhere.
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
        """As Keras's, which does nothing where `compile` is a model's own."""
        config = dict(keras.saving.deserialize_keras_object(config))
        if config.pop("backend", None) != keras.backend.backend():
            if config.get("jit_compile"):
                config["jit_compile"] = "auto"
            if not self.makes_several_steps:
                config["steps_per_execution"] = 1
        self.compile(**config)
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)
            self.told.frozen = self.frozen()

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.fit`, after a look at the images: their rank, size and range."""
        given = checked(bound(keras.Model.fit, self, x, y, *args, **kwargs))
        self.check_trains()
        classes = given.get("class_weight")
        check_classes(classes, {}, given.get("sample_weight"))
        given["validation_data"] = validation(self.check, given.get("validation_data"))
        x, y, sample_weight = prepared(self.check, x, y, given.pop("sample_weight", None), classes)
        return super().fit(**{**given, "x": x, "y": y, "sample_weight": sample_weight})

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.evaluate`, after a look at the images: their rank, size and range."""
        given = bound(keras.Model.evaluate, self, x, y, *args, **kwargs)
        self.check_compiled()
        sample_weight = given.pop("sample_weight", None)
        if "_use_cached_eval_dataset" not in given:  # else `fit` has looked
            given = checked(given)
            x, y, sample_weight = prepared(self.check, x, y, sample_weight)
        return super().evaluate(**{**given, "x": x, "y": y, "sample_weight": sample_weight})

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.predict`, after a look at the images: their rank, size and range."""
        given = checked(bound(keras.Model.predict, self, x, *args, **kwargs))
        return super().predict(**{**given, "x": prepared(self.check, x)[0]})

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """`keras.Model.train_on_batch`, after a look at the images."""
        self.check_trains()
        x, y, sample_weight = prepared_batch(self.check, x, y, sample_weight, class_weight)
        return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """`keras.Model.test_on_batch`, after a look at the images."""
        self.check_compiled()
        x, y, sample_weight = prepared_batch(self.check, x, y, sample_weight)
        return super().test_on_batch(x, y, sample_weight, return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """`keras.Model.predict_on_batch`, after a look at the images."""
        return super().predict_on_batch(prepared_batch(self.check, x)[0])

    def save(
        self, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any
    ) -> None:
        """`keras.Model.save`, but for HDF5, which kvae does not read."""
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                "A VAE is saved as a .keras file: kvae does not read HDF5. "
                f"Received: filepath={str(filepath)!r}"
            )
        super().save(filepath, overwrite=overwrite, zipped=zipped, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy with the optimizer; classes of your own need not be registered."""
        with keras.saving.custom_object_scope(self.classes()):
            reduced: Any = self.__reduce__()
            return reduced[0](*reduced[1])

    def classes(self) -> dict[str, type]:
        """The classes that the model is made of, by name."""
        return {type(layer).__name__: type(layer) for layer in self._flatten_layers()}

    def check(self, images: Any) -> Any:
        """Raises a ValueError unless these are images that the model takes."""
        return self.likelihood.check(images, self.image_shape)

    def check_compiled(self) -> None:
        """As Keras has it, which on PyTorch does not look where nothing is trained."""
        if not self.compiled:
            raise ValueError("You must call `compile()` before using the model.")

    def check_trains(self) -> None:
        """Raises a ValueError where a step would train nothing, or something else than is said."""
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
        frozen = self.frozen()
        if self.told.frozen is None:
            self.told.frozen = frozen
        changed = frozen.keys() ^ self.told.frozen.keys()
        for name in [layer.name for layer in layers if id(layer) in changed][:1]:
            raise ValueError(
                f"`trainable` of {name!r} has changed, and the optimizer was made for what was "
                "trained before: call `compile` again."
            )

    def frozen(self) -> dict[int, str]:
        """The names of the layers that are not trained."""
        return {id(layer): layer.name for layer in self._flatten_layers() if not layer.trainable}


def bound(method: Any, model: keras.Model, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """What a method of `keras.Model` is given, by the names of its arguments."""
    (_, *given) = inspect.signature(method).bind(model, *args, **kwargs).arguments.items()
    arguments = dict(given)
    return arguments | arguments.pop("kwargs", {})


def portable(config: Any) -> Any:
    """A serialised object in which Keras's own class stands for a backend's variant of it."""
    if isinstance(config, list):
        return [portable(part) for part in config]
    if not isinstance(config, dict):
        return config
    config = {name: portable(part) for name, part in config.items()}
    if str(config.get("module")).startswith("keras.src.backend."):
        config |= {"module": "keras.optimizers", "registered_name": None}
    return config
