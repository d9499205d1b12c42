"""Training steps of the backends: the one place that knows a framework.

`TrainStep` is the model class of the active backend, `transposed` its fastest transposition, and
`team` returns the devices that train together.
"""

import keras

match keras.backend.backend():
    case "tensorflow":
        from kvae.steps.tensorflow_replicas import team
        from kvae.steps.tensorflow_step import TrainStep
        from kvae.steps.transposed import transposed
    case "jax":
        from kvae.steps.jax_devices import team
        from kvae.steps.jax_step import TrainStep
        from kvae.steps.jax_transposed import transposed
    case "torch":
        from kvae.steps.torch_ranks import team
        from kvae.steps.torch_step import TrainStep
        from kvae.steps.transposed import transposed
    case other:
        raise ImportError(
            f"kvae runs on the Keras backends tensorflow, jax and torch. Received: {other!r}. "
            "Set KERAS_BACKEND to one of the three before Keras is imported."
        )

__all__ = ["TrainStep", "team", "transposed"]
