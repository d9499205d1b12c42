"""Model parallelism: weights that are split over several devices."""

from typing import Any

import keras
import numpy as np
from keras.distribution import DeviceMesh, LayoutMap, ModelParallel, TensorLayout

from kvae.parts import positive_integer

__all__ = ["model_parallel"]


def model_parallel(parts: int = 2) -> ModelParallel:
    """Makes a Keras distribution that splits each large weight over several devices.

    Use it for a model that is too large for one device, before the model is made. Of D devices, D /
    parts groups share each batch, and the devices of a group share the weights. Each weight with
    two axes or more is split along its last axis (units of a dense layer, channels of a
    convolution), or along the one before if the last cannot be divided evenly. Other weights are on
    every device. The optimizer's variables are split like their weights. The result of training is
    that of one device. It works on JAX only, in one process, because each process must have all
    weights to save them.

    Args:
        parts: Number of devices that share a weight.

    Returns:
        A `keras.distribution.ModelParallel` over all devices, (D / parts, parts), whose axes are
        called "batch" and "model".

    Raises:
        ValueError: If the backend is not JAX, or the number of devices is not a multiple of
            `parts`.

    References:
        Shoeybi et al. (2019), "Megatron-LM: Training Multi-Billion Parameter Language Models Using
        Model Parallelism", arXiv:1909.08053 (a layer's outputs, over devices).

    Example:
        On eight devices, of which two share each weight::

            keras.distribution.set_distribution(kvae.model_parallel(2))
            vae = kvae.train(kvae.data.load("mnist"), "conv-large")
    """
    if keras.backend.backend() != "jax":
        raise ValueError(
            "Weights lie on several devices with the JAX backend alone; on others devices share "
            f"batches. Keras runs on {keras.backend.backend()}."
        )
    devices = keras.distribution.list_devices()
    if not positive_integer(parts) or len(devices) % parts:
        raise ValueError(
            f"`parts` must be a number that divides that of the devices, {len(devices)}. "
            f"Received: parts={parts!r}"
        )
    shape = (len(devices) // parts, parts)
    return ByShape(DeviceMesh(shape, ["batch", "model"], np.asarray(devices).reshape(shape)))


class ByShape(ModelParallel):
    """A `ModelParallel` that splits weights by their shapes; a `LayoutMap` uses names.

    A name does not say whether a weight can be divided, and contains a number that depends on what
    was made before.

    Args:
        mesh: The devices, (batch, model).
    """

    def __init__(self, mesh: DeviceMesh) -> None:
        super().__init__(layout_map=LayoutMap(mesh), batch_dim_name="batch")
        self.parts = mesh.shape[1]

    def get_variable_layout(self, variable: Any) -> TensorLayout:
        """The layout of a weight."""
        if getattr(variable, "_layout", None) is not None:
            return variable._layout
        axes: list[str | None] = [None] * len(variable.shape)
        for axis in (-1, -2) if len(axes) > 1 else ():
            if variable.shape[axis] and variable.shape[axis] % self.parts == 0:
                axes[axis] = "model"
                break
        return TensorLayout(axes, self.device_mesh)
