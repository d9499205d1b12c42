import keras
import numpy as np
import pytest
from keras import layers, ops

import kvae

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

    def thrice(kernel, x):
        def body(x, _):
            return jax.checkpoint(lambda k, x: loss(k, x)[1])(kernel, x), None

        return loss(kernel, jax.lax.scan(body, x, length=2)[0])[0]

    usual = jax.value_and_grad(thrice)
    quick = with_products(usual)
    expected, gradient = usual(kernel, x)
    found, same = quick(kernel, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(same, gradient, rtol=1e-4, atol=1e-4)
    counts = [
        str(jax.make_jaxpr(one)(kernel, x)).count("conv_general_dilated[") for one in (usual, quick)
    ]
    assert counts[1] == counts[0] - 1, "that outside the loop alone"


def test_layers_have_their_names_in_profiles():
    import jax

    from kvae.steps.jax_convolutions import with_products

    x = np.zeros((2, 12, 12, 3), "float32")
    loss, kernel = of_kernel(layers.Conv2D(3, 3, padding="same", name="mine"), x)

    def named(kernel, x):
        with jax.named_scope("mine"):
            return loss(kernel, x)

    quick = with_products(jax.value_and_grad(named, has_aux=True))
    lowered = jax.jit(quick).lower(kernel, x).as_text(debug_info=True)
    assert "jvp(mine)/conv_general_dilated" in lowered
    assert "transpose(jvp(mine))/while/body" in lowered, "those of the products, too"


def test_where_there_is_none_the_function_itself_is_called():
    import jax

    from kvae.steps.jax_convolutions import with_products

    tracers = []
    quick = with_products(lambda x: (tracers.append(isinstance(x, jax.core.Tracer)), x * 2)[1])
    np.testing.assert_array_equal(quick(np.ones(3)), 2 * np.ones(3))
    assert tracers == [True, False]


@pytest.fixture
def products_made(monkeypatch):
    """How many gradients of kernels were traced as products."""
    from kvae.steps import jax_convolutions

    made = []
    product = jax_convolutions.kernel_gradient
    monkeypatch.setattr(
        jax_convolutions, "kernel_gradient", lambda *given: made.append(1) or product(*given)
    )
    return made


def trained(**compiled):
    keras.utils.set_random_seed(0)
    vae = kvae.VAE(
        kvae.build_encoder((32, 32, 1), 4, "spatial", channels=4),
        kvae.build_decoder((32, 32, 1), 4, "spatial", 1, channels=4),
        kvae.Bernoulli(),
        seed=0,
    )
    vae.compile(keras.optimizers.SGD(1e-4), **compiled)
    images = np.random.default_rng(0).random((8, 32, 32, 1)).astype("float32")
    vae.fit(images, batch_size=4, epochs=1, verbose=0)
    return [np.array(weight) for weight in vae.get_weights()]


def test_a_step_of_a_model_takes_them_on_a_cpu_and_learns_the_same(products_made, monkeypatch):
    import jax

    found = trained()
    assert products_made
    products_made.clear()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for one, other in zip(found, trained(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert not products_made


@pytest.mark.parametrize("how", ["run_eagerly", "jit_compile", "disable_jit"])
def test_a_step_that_is_not_compiled_is_left_as_it_is(products_made, how):
    import jax

    compiled = {"run_eagerly": {"run_eagerly": True}, "jit_compile": {"jit_compile": False}}
    with jax.disable_jit(how == "disable_jit"):
        trained(**compiled.get(how, {}))
    assert not products_made
