import numpy as np
import pytest
from keras import ops

from kvae.networks import build_encoder

SHAPES = [
    (1, 1, 1),
    (9, 31, 3),
    pytest.param((8, 8, 1), marks=pytest.mark.slow),
    pytest.param((28, 28, 1), marks=pytest.mark.slow),
    pytest.param((40, 20, 2), marks=pytest.mark.slow),
]


SMALL = {
    "mlp": {"width": 8, "depth": 1},
    "conv": {"channels": 4, "depth": 1, "width": 8},
    "conv, light": {"patch": 4, "channels": 4, "convolutions": 1, "squeeze": 3, "width": 8},
    "spatial": {"channels": 4},
    "dense": {"widths": (8, 6), "activation": "tanh"},
    "pooled": {"channels": (4, 6), "last_channels": 4, "widths": (10, 8)},
    "resnet": {"channels": (2, 4, 6), "depth": 1},
}


@pytest.mark.parametrize("network", SMALL)
@pytest.mark.parametrize("shape", SHAPES)
def test_any_image_shape_gives_a_mean_and_a_bounded_log_variance(network, shape):
    encoder = build_encoder(shape, 5, network.split(",")[0], **SMALL[network])
    images = np.random.default_rng(0).random((3, *shape)).astype("float32")
    mean, log_variance = encoder.predict_on_batch(images)
    assert mean.shape == log_variance.shape == (3, 5)
    assert mean.dtype == log_variance.dtype == np.float32
    assert abs(log_variance).max() <= 10


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="must be one of mlp, conv, .* Received: 'rnn'"):
        build_encoder((8, 8, 1), 2, "rnn")


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_depth_adds_blocks(network):
    shallow, deep = (build_encoder((8, 8, 1), 2, network, width=8, depth=n) for n in (1, 3))
    assert deep.count_params() > shallow.count_params()


def test_a_patch_halves_as_often_as_levels_do_and_is_a_power_of_two():
    sides = {}
    for patch in (2, 4, 8):
        encoder = build_encoder((64, 64, 1), 2, "conv", channels=2, width=8, patch=patch)
        convolutions = [layer for layer in encoder.layers if "down" in layer.name]
        sides[patch] = [layer.output.shape[1] for layer in convolutions if "conv" in layer.name]
    assert sides == {2: [32, 16, 8], 4: [16, 8], 8: [8]}
    with pytest.raises(ValueError, match="`patch` must be a power of two.* Received: 3"):
        build_encoder((28, 28, 1), 2, "conv", patch=3)


@pytest.mark.parametrize("network", SMALL)
def test_only_stock_layers_are_used(network):
    encoder = build_encoder((9, 9, 1), 2, network.split(",")[0], **SMALL[network])
    strangers = [
        layer.name for layer in encoder.layers if not type(layer).__module__.startswith("keras.")
    ]
    assert not strangers


@pytest.mark.parametrize("latent_dim", [1, 5, 16, 30, 32])
@pytest.mark.parametrize("size, grid", [((32, 32), (8, 8)), ((24, 40), (6, 10)), ((9, 9), (5, 5))])
def test_latents_on_a_grid_are_as_many_as_are_asked_for(size, grid, latent_dim):
    from kvae.networks import blocks, build_decoder

    assert blocks.grid(size) == grid
    shape = (*size, 3)
    encoder = build_encoder(shape, latent_dim, "spatial", channels=2)
    decoder = build_decoder(shape, latent_dim, "spatial", 2, channels=2)
    assert [tuple(output.shape) for output in encoder.outputs] == [(None, latent_dim)] * 2
    assert tuple(decoder.output.shape) == (None, *size, 6)


def test_a_latent_on_a_grid_has_a_say_on_its_own_part():
    from kvae.networks import build_decoder

    decoder = build_decoder((128, 128, 1), 64, "spatial", channels=2)
    latents = np.zeros((2, 64), "float32")
    latents[1, 0] = 3.0  # at the upper left
    one, other = decoder.predict_on_batch(latents)
    changed = np.abs(one - other)[..., 0] > 1e-6
    assert changed[:16, :16].any() and not changed[112:, 112:].any()


def test_context_is_known_at_each_place_of_a_grid():
    encoder = build_encoder((16, 16, 1), 4, "spatial", context_dim=3, channels=2)
    images = np.zeros((2, 16, 16, 1), "float32")
    means, _ = encoder.predict_on_batch([images, np.array([[0, 0, 0], [1, 2, 3]], "float32")])
    assert np.abs(means[0] - means[1]).max() > 1e-6


@pytest.mark.parametrize("network", ["spatial", "ladder"])
def test_a_mean_does_not_run_away_with_its_features(network):
    """As it did on large pictures, with the flow and the decoder after it."""
    arguments = {"channels": 2} | ({"groups": ((4, 2),)} if network == "ladder" else {})
    latents = 18 if network == "ladder" else 32
    encoder = build_encoder((136, 136, 3), latents, network, **arguments)
    images = np.random.default_rng(0).uniform(size=(4, 136, 136, 3)).astype("float32")
    before = ops.convert_to_numpy(encoder(images)[0])
    for weight in encoder.weights:
        if "down_1_conv" in weight.path:
            weight.assign(1e4 * ops.convert_to_numpy(weight))
    after = ops.convert_to_numpy(encoder(images)[0])
    assert 0 < abs(after).max() < 10 * abs(before).max()
