import keras
import numpy as np
import pytest

from kvae.networks import blocks


def apply(block, x, *arguments):
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, block(inputs, *arguments))
    return keras.ops.convert_to_numpy(model(x))


@pytest.mark.parametrize("factor", [2, 4])
def test_depth_to_space_undoes_space_to_depth(factor):
    x = np.random.default_rng(0).random((2, 12, 8, 3)).astype("float32")
    deep = apply(blocks.space_to_depth, x, "down", factor)
    assert deep.shape == (2, 12 // factor, 8 // factor, 3 * factor**2)
    np.testing.assert_array_equal(apply(blocks.depth_to_space, deep, "up", factor), x)


def test_space_to_depth_gathers_each_square_of_four_pixels():
    x = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(apply(blocks.space_to_depth, x, "down")[0, 0, 1], [2, 3, 6, 7])


@pytest.mark.parametrize(
    "block, shape", [(blocks.dense_residual, (6,)), (blocks.conv_residual, (4, 4, 2))]
)
def test_a_residual_block_begins_near_the_identity_and_keeps_the_shape(block, shape):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    y = apply(block, x, "block")
    assert y.shape == x.shape
    assert 0 < np.corrcoef(x.ravel(), y.ravel())[0, 1] <= 1


def test_upsample_doubles_and_downsample_halves():
    x = np.ones((1, 4, 6, 2), "float32")
    assert apply(blocks.upsample, x, 5, "up").shape == (1, 8, 12, 5)
    assert apply(blocks.downsample, x, 5, "down").shape == (1, 2, 3, 5)
    x = np.ones((1, 4, 8, 2), "float32")
    assert apply(blocks.upsample, x, 5, "up", 4).shape == (1, 16, 32, 5)
    assert apply(blocks.downsample, x, 5, "down", 4).shape == (1, 1, 2, 5)


def test_bounded_is_the_identity_for_small_values_and_never_exceeds_the_bound():
    x = np.array([[-1e6, -0.1, 0.0, 0.1, 1e6]], "float32")
    y = apply(blocks.bounded, x, 10.0, "bounded")
    np.testing.assert_allclose(y, [[-10, -0.1, 0, 0.1, 10]], rtol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (28, 28), (31, 17), (64, 48), (128, 128)])
def test_padding_makes_every_level_halve_evenly(size):
    top, bottom, left, right = blocks.padding(size)
    multiple = 2 ** blocks.levels(size)
    assert (size[0] + top + bottom) % multiple == (size[1] + left + right) % multiple == 0
    assert max(top, bottom, left, right) < multiple


def test_no_two_layers_begin_with_the_same_weights():
    inputs = keras.Input((4, 4, 8))
    outputs = blocks.conv_residual(blocks.conv_residual(inputs, "a"), "b")
    kernels = [
        keras.ops.convert_to_numpy(weight).tobytes()
        for weight in keras.Model(inputs, outputs).trainable_variables
        if len(weight.shape) == 4
    ]
    assert len(kernels) == len(set(kernels)) == 4


def test_a_kernel_of_one_is_a_dense_layer_of_each_place():
    x = keras.Input((4, 4, 3))
    model = keras.Model(x, blocks.convolution(2, 1, name="one")(x))
    dense = model.get_layer("one")
    plain = keras.layers.Conv2D(2, 1)
    plain.build((None, 4, 4, 3))
    plain.set_weights([dense.get_weights()[0][None, None], np.array([1.0, -1.0])])
    dense.set_weights([dense.get_weights()[0], np.array([1.0, -1.0])])
    image = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    found, wanted = map(keras.ops.convert_to_numpy, (model(image), plain(image)))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_pixels_of_one_begin_alike_where_that_is_asked_for():
    x = keras.Input((4, 4, 3))
    model = keras.Model(x, blocks.upsample(x, 2, "up", even=True))
    image = np.random.default_rng(0).normal(size=(1, 4, 4, 3))
    found = keras.ops.convert_to_numpy(model(image)).reshape(4, 2, 4, 2, 2)
    np.testing.assert_allclose(found, np.broadcast_to(found[:, :1, :, :1], found.shape), atol=1e-6)
    assert found.std() > 0
