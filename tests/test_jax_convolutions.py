import keras
import numpy as np
import pytest
from keras import layers, ops

pytestmark = [
    pytest.mark.every_backend,
    pytest.mark.skipif(keras.backend.backend() != "jax", reason="of JAX alone"),
]


def of_kernel(layer, x):
    """The loss of a layer's kernel, as a function; and that kernel."""
    layer.build(x.shape)

    def loss(kernel, x):
        outputs, _ = layer.stateless_call(
            [kernel, *(variable.value for variable in layer.trainable_variables[1:])], [], x
        )
        return ops.sum(ops.sin(outputs)), outputs

    return loss, layer.trainable_variables[0].value


def convolutions(function, *arguments):
    import jax

    equations = jax.make_jaxpr(function)(*arguments).eqns
    return [str(one.primitive) for one in equations].count("conv_general_dilated")


@pytest.mark.parametrize(
    ("layer", "taken"),
    [
        (layers.Conv2D(5, 3, padding="same"), True),
        (layers.Conv2D(5, 3, padding="valid"), True),
        (layers.Conv2D(5, (2, 3), padding="same"), True),
        (layers.Conv2D(5, (1, 3), padding="same"), True),
        (layers.Conv2D(5, 1), False),
        (layers.Conv2D(5, 5, padding="same"), False),
        (layers.Conv2D(5, 3, strides=2, padding="same"), False),
        (layers.Conv2D(5, 3, dilation_rate=2, padding="same"), False),
        (layers.Conv2D(6, 3, groups=2, padding="same"), False),
        (layers.DepthwiseConv2D(3, padding="same"), False),
        (layers.Conv2DTranspose(5, 3, strides=2, padding="same"), False),
    ],
)
def test_gradients_of_kernels_are_those_of_jax(layer, taken):
    import jax

    from kvae.steps.jax_convolutions import with_products

    x = np.random.default_rng(0).normal(size=(3, 15, 12, 4)).astype("float32")
    loss, kernel = of_kernel(layer, x)
    usual = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    quick = with_products(usual)
    (expected, outputs), gradients = usual(kernel, x)
    (found, same_outputs), found_gradients = jax.jit(quick)(kernel, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(same_outputs, outputs, atol=1e-5)
    for one, other in zip(found_gradients, gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5 * float(abs(other).max()))
    assert convolutions(quick, kernel, x) == convolutions(usual, kernel, x) - taken


@pytest.mark.parametrize(("side", "dtype"), [(9, "float32"), (16, "bfloat16")])
def test_small_grids_and_low_precision_are_left_to_jax(side, dtype):
    import jax

    from kvae.steps.jax_convolutions import with_products

    x = np.zeros((2, side, side, 4), "float32")
    loss, kernel = of_kernel(layers.Conv2D(5, 3, padding="same", dtype=dtype), x)
    usual = jax.value_and_grad(loss, has_aux=True)
    assert convolutions(with_products(usual), kernel, x) == convolutions(usual, kernel, x)


def test_what_lies_within_a_loop_or_is_computed_again_stays_as_it_is():
    import jax

    from kvae.steps.jax_convolutions import with_products

    x = np.random.default_rng(0).normal(size=(2, 12, 12, 3)).astype("float32")
    loss, kernel = of_kernel(layers.Conv2D(3, 3, padding="same"), x)

    def twice(kernel, x):
        def body(x, _):
            return jax.checkpoint(lambda k, x: loss(k, x)[1])(kernel, x), None

        return (jax.lax.scan(body, x, length=2)[0] ** 2).sum()

    usual = jax.value_and_grad(twice)
    expected, gradient = usual(kernel, x)
    found, same = with_products(usual)(kernel, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(same, gradient, rtol=1e-4, atol=1e-5)


def test_a_step_of_a_model_takes_them(make_vae, monkeypatch):
    """On a CPU, and not where arrays lie on several devices: with the same weights after it."""
    import jax

    import kvae
    from kvae.steps import jax_step

    def trained():
        keras.utils.set_random_seed(0)
        vae = kvae.VAE(
            kvae.build_encoder((16, 16, 1), 3, "spatial"),
            kvae.build_decoder((16, 16, 1), 3, "spatial", 1),
            kvae.Bernoulli(),
            seed=0,
        )
        vae.compile(keras.optimizers.SGD(1e-3))
        images = np.random.default_rng(0).random((8, 16, 16, 1)).astype("float32")
        vae.fit(images, batch_size=4, epochs=1, verbose=0)
        return [np.array(weight) for weight in vae.get_weights()]

    calls = []
    quick = jax_step.with_products
    monkeypatch.setattr(
        jax_step, "with_products", lambda function: calls.append(1) or quick(function)
    )
    found = trained()
    assert calls
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for one, other in zip(found, trained(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
