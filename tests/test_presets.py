import pytest

import kvae
from kvae import presets

FIRST = {recipe.network: name for name, recipe in reversed(presets.PRESETS.items())}


@pytest.mark.parametrize(
    "name",  # in every run the first of each network
    [
        pytest.param(name, marks=() if name in FIRST.values() else pytest.mark.slow)
        for name in presets.PRESETS
    ],
)
@pytest.mark.parametrize("shape", [pytest.param((8, 8, 1), marks=pytest.mark.slow), (9, 7, 3)])
def test_every_preset_builds_for_any_image_shape(name, shape):
    vae = kvae.VAE.from_preset(name, shape)
    assert vae.image_shape == shape
    assert sum(vae.groups) == vae.latent_dim
    if presets.PRESETS[name].network != "ladder":  # whose latents the shape decides on
        own = presets.PRESETS[name].latent_dim
        assert vae.latent_dim == (own or 40)
        assert own or name in ("mlp", "conv", "conv-large", "resnet-flow")
    assert vae.generate(2, seed=0).shape == (2, *shape)
    assert vae.card["preset"] == name


def test_an_unknown_preset_names_those_there_are_and_the_nearest():
    with pytest.raises(ValueError, match="'mlp', 'conv'.*Did you mean 'conv"):
        presets.get("convv")
