"""Fast Adam on PyTorch and a CPU: one pass over memory instead of Keras's ten."""

import functools
from typing import Any

import keras
import torch

__all__ = ["quicken"]


def quicken(optimizer: keras.optimizers.Optimizer) -> None:
    """Replaces update and clipping of an Adam or AdamW by fast ones with the same result.

    An optimizer derived from Adam that updates matrices differently says for which weights, by a
    method `matrix_shape`.
    """
    if isinstance(optimizer, keras.optimizers.Adam) and not optimizer.amsgrad:
        if "matrix_shape" in vars(type(optimizer)):  # not in one derived from that
            optimizer._backend_update_step = functools.partial(update_rest, optimizer)
        else:
            optimizer._parallel_update_step = functools.partial(update, optimizer)
    if optimizer.global_clipnorm and not (optimizer.clipnorm or optimizer.clipvalue):
        optimizer._clip_gradients = functools.partial(clipped, optimizer)


def update(optimizer: Any, gradients: Any, variables: Any, learning_rate: Any) -> None:
    """Updates weights and moments in place, as Keras's Adam defines it."""
    weights = [variable.value for variable in variables]
    places = {(weight.device.type, weight.dtype) for weight in [*weights, *gradients]}
    if places != {("cpu", torch.float32)}:
        if not hasattr(type(optimizer), "_parallel_update_step"):
            for gradient, variable in zip(gradients, variables, strict=True):
                optimizer.update_step(gradient, variable, learning_rate)
            return
        type(optimizer)._parallel_update_step(optimizer, gradients, variables, learning_rate)
        return
    indices = [optimizer._get_variable_index(variable) for variable in variables]
    step = int(keras.ops.convert_to_numpy(optimizer.iterations)) + 1
    # PyTorch corrects the second moment before it adds epsilon; Keras does so after.
    epsilon = optimizer.epsilon / (1 - optimizer.beta_2**step) ** 0.5
    torch._fused_adam_(
        weights,
        [gradient.contiguous() for gradient in gradients],
        [optimizer._momentums[index].value for index in indices],
        [optimizer._velocities[index].value for index in indices],
        [],
        [torch.tensor(float(step))] * len(weights),
        lr=float(learning_rate),
        beta1=optimizer.beta_1,
        beta2=optimizer.beta_2,
        weight_decay=0.0,  # Keras has made it
        eps=epsilon,
        amsgrad=False,
        maximize=False,
    )


def update_rest(optimizer: Any, gradients: Any, variables: Any, learning_rate: Any) -> None:
    """Like `update`, with the optimizer's own updates for matrices, grouped by shape."""
    groups: dict = {}
    for gradient, variable in zip(gradients, variables, strict=True):
        groups.setdefault(optimizer.matrix_shape(variable), []).append((gradient, variable))
    for shape, pairs in groups.items():
        gradients, variables = zip(*pairs, strict=True)
        if shape is None:
            update(optimizer, gradients, variables, learning_rate)
        else:
            optimizer.update_matrices(gradients, variables, learning_rate)


def clipped(optimizer: Any, gradients: list) -> list:
    """Clips gradients so that their global norm is at most `global_clipnorm`."""
    most = optimizer.global_clipnorm
    given = [gradient for gradient in gradients if gradient is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(given)))
    scale = most / torch.clamp(norm, min=most) + (norm - norm)  # not finite where the norm is not
    if norm.device.type == "cpu" and scale == 1:  # avoids a useless pass over memory
        return gradients
    return [gradient if gradient is None else gradient * scale for gradient in gradients]
