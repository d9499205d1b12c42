"""Muon: an optimizer with orthogonal updates for matrices."""

import math
from typing import Any

import keras
from keras import ops

__all__ = ["Muon"]

LEAST = 8  # rows and columns of a matrix: with fewer an orthogonal step means little
# Coefficients of an odd polynomial. Applied five times, it brings singular values near 1.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
PASSES = (2, 3)  # so often between two looks at the matrix itself


@keras.saving.register_keras_serializable(package="kvae")
class Muon(keras.optimizers.Adam):
    r"""Muon optimizer: orthogonal updates for matrices, Adam for all other weights.

    $$W \leftarrow W - \eta \cdot 0.2 \sqrt{\max(r, c)} \cdot U V^T, \quad M = U \Sigma V^T$$

    M is the gradient of W, a matrix of r rows and c columns, with Nesterov momentum. All directions
    are learned equally fast, even those with small gradients. The factor makes the update about as
    large as Adam's, so that one learning rate fits both. Muon learns more than Adam in the same
    number of updates, but each update takes longer, especially with wide layers.

    Matrices are weights with two axes, and kernels of two-dimensional convolutions, with one column
    for each value of the last axis. Both need at least 8 rows and 8 columns. Keras's own `Muon`,
    which `compile("muon")` selects, uses Adam for convolutions.

    Args:
        learning_rate: A number or a schedule.
        momentum: Momentum of the gradients of matrices.
        **kwargs: As for `keras.optimizers.Adam`, except `amsgrad`.

    Raises:
        ValueError: If `amsgrad` is given.

    References:
        Jordan et al. (2024), "Muon: an optimizer for hidden layers in neural networks". Liu et al.
        (2025), "Muon is scalable for LLM training", arXiv:2502.16982 (the factor).

    Example:
        >>> import numpy as np
        >>> import kvae
        >>> vae = kvae.VAE.from_preset("conv", (8, 8, 1), latent_dim=4)
        >>> vae.compile(kvae.Muon(3e-3))
        >>> history = vae.fit(np.zeros((32, 8, 8, 1), "uint8"), epochs=1, verbose=0)
    """

    def __init__(self, learning_rate: Any = 1e-3, momentum: float = 0.95, **kwargs: Any) -> None:
        if kwargs.get("amsgrad"):
            raise ValueError("Muon has no `amsgrad`: leave it out, or take keras.optimizers.Adam.")
        super().__init__(learning_rate, **kwargs)
        self.momentum = momentum

    def build(self, var_list: list) -> None:
        """Makes the momentum of each weight, and the second moments that Adam needs."""
        if self.built:
            return
        keras.optimizers.Optimizer.build(self, var_list)
        self._momentums = self.add_optimizer_variables(var_list, "momentum")
        rest = [variable for variable in var_list if not is_matrix(variable)]
        of_rest = iter(self.add_optimizer_variables(rest, "velocity"))
        self._velocities = [None if is_matrix(one) else next(of_rest) for one in var_list]

    def matrix_shape(self, variable: Any) -> tuple[int, int] | None:
        """(rows, columns) of a weight with orthogonal updates; None for a weight of Adam."""
        if self._velocities[self._get_variable_index(variable)] is not None:
            return None
        return matrix_shape(variable)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one weight."""
        if self.matrix_shape(variable) is None:
            super().update_step(gradient, variable, learning_rate)
            return
        self.update_matrices([gradient], [variable], learning_rate)

    def update_matrices(self, gradients: list, variables: list, learning_rate: Any) -> None:
        """Updates weights that are matrices of the same shape."""
        ahead = []
        for gradient, variable in zip(gradients, variables, strict=True):
            gradient = ops.cast(gradient, variable.dtype)
            momentum = self._momentums[self._get_variable_index(variable)]
            moved = self.momentum * momentum + gradient
            self.assign(momentum, moved)
            ahead.append(ops.reshape(gradient + self.momentum * moved, matrix_shape(variable)))
        size = 0.2 * math.sqrt(max(ahead[0].shape)) * ops.cast(learning_rate, "float32")
        if len(ahead) > 1:
            steps = ops.unstack(size * orthogonal(ops.stack(ahead)))
        else:
            steps = [size * orthogonal(ahead[0])]
        for step, variable in zip(steps, variables, strict=True):
            step = ops.reshape(ops.cast(step, variable.dtype), variable.shape)
            self.assign_sub(variable, step)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "momentum": self.momentum}


def is_matrix(variable: Any) -> bool:
    """Whether a weight is a matrix or a convolution kernel, and large enough."""
    return len(variable.shape) in (2, 4) and min(matrix_shape(variable)) >= LEAST


def matrix_shape(variable: Any) -> tuple[int, int]:
    """(rows, columns) of a weight, with one column for each value of its last axis."""
    return math.prod(variable.shape[:-1]), variable.shape[-1]


def orthogonal(matrix: Any) -> Any:
    r"""Approximates $U V^T$ of a matrix $U \Sigma V^T$: (…, rows, columns), float32.

    This is a Newton–Schulz iteration. Singular values end between 0.7 and 1.2, unless they are less
    than a thousandth of the norm of the matrix; those are multiplied by 485. Each pass iterates on
    the smaller of $M^T M$ and $M M^T$ only, and multiplies the matrix once, at its end. A single
    pass would magnify the effect of rounding on small singular values.
    """
    matrix = ops.cast(matrix, "float32")
    if matrix.shape[-2] < matrix.shape[-1]:
        return ops.swapaxes(orthogonal(ops.swapaxes(matrix, -1, -2)), -1, -2)
    squares = ops.sum(ops.square(matrix), axis=(-2, -1), keepdims=True)
    matrix = matrix / (ops.sqrt(squares) + 1e-15)  # of no gradient comes no step
    first, third, fifth = COEFFICIENTS
    unit = first * ops.eye(matrix.shape[-1], dtype="float32")
    for times in PASSES:
        # Operators of the backend itself: on PyTorch, a call through Keras takes longer than the
        # operation on a small matrix.
        gram = ops.swapaxes(matrix, -1, -2) @ matrix
        product = factor = unit + third * gram + fifth * (gram @ gram)
        for _ in range(times - 1):
            gram = factor @ (gram @ factor)
            factor = unit + third * gram + fifth * (gram @ gram)
            product = product @ factor
        matrix = matrix @ product
    return matrix
