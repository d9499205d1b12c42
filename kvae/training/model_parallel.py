"""Weights that lie on several devices, each of which has a part of them."""

from typing import Any

import keras
import numpy as np
from keras.distribution import DeviceMesh, LayoutMap, ModelParallel, TensorLayout

from kvae.parts import positive_integer

__all__ = ["model_parallel"]


def model_parallel(parts: int = 2) -> ModelParallel:
    """A Keras distribution in which each large weight lies on so many devices, in equal parts.

    For a model that is too large for one device. Of D devices, D / parts groups share each batch,
    and the devices of a group share the weights: each has, of every weight with two axes or more,
    a part of its last axis (units of a dense layer, channels of a convolution), or of the one
    before where the last cannot be divided evenly; others are on every device. What the optimizer
    keeps of a weight lies as the weight does. Training gives what one device gives. Set it before
    the model is made. JAX alone, in one process: each process must have all weights, to save them.

    Args:
        parts: Devices that share a weight.

    Returns:
        A `keras.distribution.ModelParallel` over all devices, (D / parts, parts), whose axes are
        called "batch" and "model".

    Raises:
        ValueError: If Keras does not run on JAX, or the devices cannot be divided so.

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
    """A `ModelParallel` that goes by the shapes of weights, where a `LayoutMap` knows their names.

    A name says nothing of whether a weight can be divided, and has a number that depends on what
    was made before.

    Args:
        mesh: The devices, (batch, model).
    """

    def __init__(self, mesh: DeviceMesh) -> None:
        super().__init__(layout_map=LayoutMap(mesh), batch_dim_name="batch")
        self.parts = mesh.shape[1]

    def get_variable_layout(self, variable: Any) -> TensorLayout:
        """How a weight lies."""
        if getattr(variable, "_layout", None) is not None:
            return variable._layout
        axes: list[str | None] = [None] * len(variable.shape)
        for axis in (-1, -2) if len(axes) > 1 else ():
            if variable.shape[axis] and variable.shape[axis] % self.parts == 0:
                axes[axis] = "model"
                break
        return TensorLayout(axes, self.device_mesh)
