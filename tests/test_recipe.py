import copy
import dataclasses
import json
import pickle

import pytest

import kvae
from kvae import Recipe
from kvae.presets import PRESETS, Preset


def test_the_default_recipe_is_the_default_preset():
    preset = PRESETS["mlp"].replaced(network_arguments={})
    assert preset == Recipe()


def test_every_setting_has_its_default_and_a_line_of_help():
    for field in dataclasses.fields(Recipe):
        assert field.metadata["help"].endswith("."), field.name
        getattr(Recipe(), field.name)


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_survives_a_card(name):
    recipe = PRESETS[name].replaced(seed=3)
    card = json.loads(json.dumps({"recipe": recipe.as_dict()}))
    assert Recipe.from_card(card) == recipe
    assert not isinstance(recipe, Preset)


def test_a_card_without_a_recipe_or_with_one_of_later_days_says_so():
    with pytest.raises(ValueError, match="no recipe"):
        Recipe.from_card({"preset": "mlp"})
    with pytest.raises(ValueError, match="does not know: temper"):
        Recipe.from_card({"recipe": {**Recipe().as_dict(), "temper": 1}})


def test_replacing_leaves_the_rest_and_none_replaces_nothing():
    recipe = PRESETS["resnet"].replaced(epochs=3, seed=None)
    assert (recipe.epochs, recipe.seed, recipe.batch_size) == (3, 0, 400)
    assert PRESETS["resnet"].differences(recipe) == {"epochs": (10, 3)}


@pytest.mark.parametrize(
    "preset, changes, gone",
    [
        ("resnet", {"likelihood": "bernoulli"}, "scale"),
        ("binary-14", {"likelihood": "gaussian"}, "binarize"),
        ("mlp", {"prior": "standard-normal"}, "couplings"),
        ("mlp", {"network": "dense"}, "network_arguments"),
    ],
)
def test_what_belongs_to_a_part_goes_with_it(preset, changes, gone):
    assert getattr(PRESETS[preset], gone)
    assert not getattr(PRESETS[preset].replaced(**changes), gone)
    (same,) = changes
    kept = PRESETS[preset].replaced(**{same: getattr(PRESETS[preset], same)})
    assert getattr(kept, gone) == getattr(PRESETS[preset], gone)


@pytest.mark.parametrize(
    "settings, what",
    [
        ({"epochs": 0}, "`epochs` must be an integer of at least 1. Received: epochs=0"),
        ({"epochs": 2.5}, "`epochs` must be an integer"),
        ({"epochs": True}, "`epochs` must be an integer"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
        ({"batch_size": "64"}, "`batch_size` must be an integer of at least 1"),
        ({"batch_size": None}, "`batch_size` must be an integer"),
        ({"learning_rate": 0.0}, "`learning_rate` must be a finite number above 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be a finite number above 0"),
        ({"beta": -1}, "`beta` must be a finite number of at least 0"),
        ({"beta": float("inf")}, "`beta` must be a finite number"),
        ({"likelihood": "poisson"}, "`likelihood` must be one of 'auto', 'bernoulli'"),
        ({"likelihood": []}, "`likelihood` must be one of"),
        (
            {"scale": -0.5},
            "`scale` must be one of 'pixel', 'shared' or a finite number above 1e-06",
        ),
        ({"scale": "wide"}, "`scale` must be one of"),
        ({"start_at_mean": "no"}, "`start_at_mean` must be True or False"),
        ({"network_arguments": [3]}, "`network_arguments` must be a dict"),
        ({"seed": 2**31}, "`seed` must be an integer of at least 0 and at most 2147483647"),
        ({"preset": 3}, "`preset` must be a text"),
    ],
    ids=str,
)
def test_what_a_setting_cannot_be_is_refused(settings, what):
    with pytest.raises(ValueError) as caught:
        Recipe(**settings)
    assert str(caught.value).startswith(what) and "\n" not in str(caught.value)


def test_numbers_of_another_kind_are_taken_as_what_they_are():
    import numpy as np

    recipe = Recipe(beta=4, epochs=np.int64(3), learning_rate=np.float32(0.5), scale=1)
    assert json.loads(json.dumps(recipe.as_dict()))["beta"] == 4.0
    assert type(recipe.epochs) is int and recipe == Recipe.from_card({"recipe": recipe.as_dict()})


def test_a_setting_that_is_none_is_named_with_its_neighbour():
    with pytest.raises(ValueError, match="no setting `epoch`. Did you mean `epochs`"):
        Recipe().replaced(epoch=3)


def test_a_recipe_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().beta = 3
    arguments = PRESETS["mlp"].network_arguments
    before = dict(arguments)
    for change in (
        lambda: arguments.update(width=8),
        lambda: arguments.pop("width"),
        lambda: arguments.__setitem__("width", 8),
    ):
        with pytest.raises(TypeError, match="`recipe.replaced"):
            change()
    assert PRESETS["mlp"].network_arguments == before


def test_equal_recipes_are_equal_whatever_their_class():
    preset = PRESETS["mlp"]
    for same in (preset.replaced(), copy.deepcopy(preset), pickle.loads(pickle.dumps(preset))):
        assert same == preset and hash(same) == hash(preset)
    assert preset != PRESETS["conv"] and preset != "mlp"


@pytest.mark.parametrize("card", [None, {}, {"recipe": 3}])
def test_a_card_without_a_recipe_says_so(card):
    with pytest.raises(ValueError, match="card has no recipe"):
        Recipe.from_card(card)


@pytest.mark.slow
def test_train_takes_a_preset_or_a_recipe_and_replaces_fields(images, tmp_path):
    data = kvae.data.from_arrays(images)
    small = {
        "network_arguments": {"width": 8, "depth": 1},
        "prior": "standard-normal",
        "couplings": None,
        "latent_dim": 3,
        "batch_size": 32,
    }
    recipe = Recipe(epochs=1, **small)
    out = tmp_path / "vae.keras"
    one = kvae.train(data, recipe, beta=4, out=out, verbose=0)
    other = kvae.train(data, "mlp", epochs=1, beta=4, out=out, verbose=0, **small)
    assert Recipe.from_card(one.card) == Recipe.from_card(other.card)
    found = Recipe.from_card(kvae.load(out).card)
    assert recipe.differences(found) == {
        "beta": (None, 4.0),
        "precision": (None, "float32"),
        "binarize": (None, "dynamic"),
        "samples": (None, 1),
        "likelihood": ("auto", "bernoulli"),
        "image_size": (None, [8, 8]),
        "channels": (None, "grey"),
        "fit": (None, "crop"),
    }
    assert float(other.beta) == 4.0
