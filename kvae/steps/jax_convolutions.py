"""Fast gradients of convolution kernels, on JAX and a CPU."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core, source_info_util

__all__ = ["with_products"]

# JAX's axis numbers, with channels last. The sum is over images instead of channels.
KERNEL_GRADIENT = ((3, 0, 1, 2), (3, 0, 1, 2), (2, 3, 0, 1))
LEAST_PLACES = 100  # places of a grid; with fewer, XLA's own way is as fast


def with_products(function: Callable) -> Callable:
    """Wraps a function of arrays so that gradients of kernels are matrix products.

    For XLA, the gradient of a 3×3 kernel is a convolution whose kernel is as large as the image,
    which takes a CPU two to five times as long as the convolution itself. It is also a product of
    two matrices for each place in the kernel, which takes about as long as the convolution.

    Without such gradients, and on devices other than CPUs, the function is returned unchanged.
    """
    if jax.default_backend() != "cpu":
        return function

    def computed(*arguments: Any) -> Any:
        traced, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        if not any(map(is_kernel_gradient, traced.jaxpr.eqns)):
            return function(*arguments)
        leaves = jax.tree.leaves(arguments)
        return jax.tree.unflatten(jax.tree.structure(shapes), evaluated(traced, leaves))

    return computed


def evaluated(traced: Any, arguments: list) -> list:
    """Evaluates a traced function, with its gradients of kernels as products."""
    found = dict(zip(traced.jaxpr.constvars, traced.consts, strict=True))
    found.update(zip(traced.jaxpr.invars, arguments, strict=True))

    def value(name: Any) -> Any:
        return name.val if isinstance(name, core.Literal) else found[name]

    for equation in traced.jaxpr.eqns:
        inputs = [value(name) for name in equation.invars]
        source = equation.source_info  # what profiles and tracebacks name
        names = source_info_util.current_name_stack() + source.name_stack
        with (
            source_info_util.user_context(source.traceback, name_stack=names),
            equation.ctx.manager,
        ):
            results = computed_by(equation, inputs)
        found.update(zip(equation.outvars, results, strict=True))
    return [value(name) for name in traced.jaxpr.outvars]


def computed_by(equation: Any, inputs: list) -> list:
    """Evaluates one equation."""
    if is_kernel_gradient(equation):
        images, gradients = inputs
        return [kernel_gradient(images, gradients, equation.params["padding"])]
    given = equation.primitive.get_bind_params(equation.params)
    functions, parameters = given if isinstance(given, tuple) else ((), given)  # by JAX's version
    results = equation.primitive.bind(*functions, *inputs, **parameters)
    return results if equation.primitive.multiple_results else [results]


def is_kernel_gradient(equation: Any) -> bool:
    """Whether it is the gradient of a convolution without strides, on a large enough grid."""
    if equation.primitive is not core.primitives.conv_general_dilated_p:
        return False
    images, gradients = (name.aval for name in equation.invars)
    kernel = equation.outvars[0].aval
    given = equation.params
    return (
        tuple(given["dimension_numbers"]) == KERNEL_GRADIENT
        and all(
            set(given[name]) == {1} for name in ("window_strides", "lhs_dilation", "rhs_dilation")
        )
        and given["feature_group_count"] == given["batch_group_count"] == 1
        and min(min(sides) for sides in given["padding"]) >= 0
        and images.dtype == gradients.dtype == kernel.dtype == "float32"
        and 1 < kernel.shape[0] * kernel.shape[1] <= 9
        and gradients.shape[1] * gradients.shape[2] >= LEAST_PLACES
    )


def kernel_gradient(images: Any, gradients: Any, padding: Any) -> Any:
    """(batch, height, width, in) and (batch, height, width, out) to (rows, columns, in, out)."""
    around = jax.numpy.pad(images, ((0, 0), *padding, (0, 0)))
    batch, height, width, channels = gradients.shape
    rows, columns = around.shape[1] - height + 1, around.shape[2] - width + 1
    size = (batch, height, width, around.shape[-1])
    gradients = gradients.reshape(-1, channels)

    def at(place: Any) -> Any:
        part = jax.lax.dynamic_slice(around, (0, place // columns, place % columns, 0), size)
        return part.reshape(-1, size[-1]).T @ gradients

    # One after another, so that all parts are in one place, which stays in the cache: two to three
    # times as fast as all at once.
    products = jax.lax.map(at, jax.numpy.arange(rows * columns))
    return products.reshape(rows, columns, size[-1], channels)
