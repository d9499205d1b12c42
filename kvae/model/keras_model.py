"""What Keras offers and a VAE takes: each argument does what Keras says, or is refused."""

import inspect
from typing import Any

import keras
import numpy as np

from kvae.likelihoods import Likelihood
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
            if given.get(name):
                raise ValueError(
                    f"A VAE has a loss and metrics of its own, so `{name}` has no meaning here. "
                    "For another loss give `kvae.VAE` another objective, such as "
                    f"kvae.ELBO(beta=4). Received: {name}={given[name]!r}"
                )
        super().compile(*args, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """As Keras's, which does nothing where `compile` is a model's own."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.fit`, after a look at the images: their rank, size and range."""
        given = bound(keras.Model.fit, self, x, y, *args, **kwargs)
        self.check_data(x)
        validation = given.get("validation_data")
        self.check_data(validation)
        if isinstance(validation, (tuple, list)) and 0 < len(validation) < 4:
            given["validation_data"] = weighted(*validation)
        x, y, sample_weight = weighted(x, y, given.pop("sample_weight", None))
        if given.get("class_weight") is not None and y is None:
            raise ValueError("`class_weight` needs labels: give them as `y`.")
        return super().fit(**{**given, "x": x, "y": y, "sample_weight": sample_weight})

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.evaluate`, after a look at the images: their rank, size and range."""
        given = bound(keras.Model.evaluate, self, x, y, *args, **kwargs)
        if "_use_cached_eval_dataset" not in given:  # else `fit` has looked
            self.check_data(x)
        x, y, sample_weight = weighted(x, y, given.pop("sample_weight", None))
        return super().evaluate(**{**given, "x": x, "y": y, "sample_weight": sample_weight})

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.predict`, after a look at the images: their rank, size and range."""
        self.check_data(x)
        return super().predict(x, *args, **kwargs)

    def check_data(self, data: Any) -> None:
        """Checks arrays whole; of data sets that can be read again, the first batch.

        Of generators, which cannot be read twice, nothing.
        """
        if data is None or hasattr(data, "__next__"):
            return
        if isinstance(data, keras.utils.PyDataset):
            data = data[0]
        elif not (hasattr(data, "shape") or isinstance(data, (tuple, list, dict))):
            data = next(iter(data))
        images = data[0] if isinstance(data, (tuple, list)) and len(data) else data
        self.likelihood.check(images, self.image_shape)

    def get_compile_config(self) -> dict[str, Any] | None:
        """As Keras's, without what suits one backend only.

        XLA on one backend is a trap on another; and PyTorch's optimizers, which stand for Keras's
        there, fail elsewhere.
        """
        config = super().get_compile_config()
        return {**portable(config), "jit_compile": "auto"} if config else config


def bound(method: Any, model: keras.Model, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """What a method of `keras.Model` is given, by the names of its arguments."""
    (_, *given) = inspect.signature(method).bind(model, *args, **kwargs).arguments.items()
    arguments = dict(given)
    return arguments | arguments.pop("kwargs", {})


def weighted(x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any, Any]:
    """Images, labels and sample weights, so that Keras passes the weights on.

    It drops them where there are no labels; a VAE ignores labels, so weights stand in for them.

    Raises:
        ValueError: If there is not one weight for each image.
    """
    if sample_weight is None or not hasattr(x, "shape"):
        return x, y, sample_weight
    shape = tuple(np.shape(sample_weight))
    if shape not in ((x.shape[0],), (x.shape[0], 1)):
        raise ValueError(
            f"`sample_weight` must have one value for each image, shape ({x.shape[0]},). "
            f"Received: shape {shape}"
        )
    return x, sample_weight if y is None else y, sample_weight


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
