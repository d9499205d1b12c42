"""The one place that knows a framework: `TrainStep` is the model class for the active backend."""

import keras

match keras.backend.backend():
    case "tensorflow":
        from kvae.steps.tensorflow_step import TrainStep
    case "jax":
        from kvae.steps.jax_step import TrainStep
    case "torch":
        from kvae.steps.torch_step import TrainStep
    case other:
        raise ImportError(
            f"kvae runs on the Keras backends tensorflow, jax and torch. Received: {other!r}. "
            "Set KERAS_BACKEND to one of the three before Keras is imported."
        )

__all__ = ["TrainStep"]
