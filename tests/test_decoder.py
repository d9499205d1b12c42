import keras
import numpy as np
import pytest
from test_encoder import SHAPES, SMALL

from kvae.networks import build_decoder


@pytest.mark.parametrize("network", SMALL)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("parameters_per_value", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_any_image_shape_gets_its_parameters(network, shape, parameters_per_value):
    decoder = build_decoder(shape, 4, network.split(",")[0], parameters_per_value, **SMALL[network])
    latents = np.random.default_rng(0).normal(size=(30, 4)).astype("float32")
    parameters = decoder.predict_on_batch(latents)
    assert parameters.shape == (30, *shape[:2], shape[2] * parameters_per_value)
    assert parameters.dtype == np.float32
    last = [layer for layer in decoder.layers if hasattr(layer, "kernel")][-1]
    last.kernel.assign(last.kernel * 1e6)
    larger = decoder.predict_on_batch(latents)
    assert abs(larger).max() > 1, "raw parameters, not probabilities"


@pytest.mark.parametrize("network", SMALL)
def test_only_stock_layers_are_used_and_none_is_a_transposed_convolution(network):
    decoder = build_decoder((9, 9, 1), 4, network.split(",")[0], **SMALL[network])
    kinds = {type(layer) for layer in decoder.layers}
    assert all(kind.__module__.startswith("keras.") for kind in kinds)
    assert keras.layers.Conv2DTranspose not in kinds


def test_under_mixed_precision_parameters_stay_float32():
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        for network, arguments in SMALL.items():
            decoder = build_decoder((9, 9, 1), 4, network.split(",")[0], **arguments)
            assert decoder.compute_dtype == "bfloat16"
            assert decoder.output.dtype == "float32"
    finally:
        keras.config.set_dtype_policy(former)
