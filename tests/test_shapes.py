"""The data set of shapes: each image is what its factors say, and the same everywhere."""

import colorsys
import hashlib

import numpy as np
import pytest
from marks import once

import kvae
from kvae.data import shapes

pytestmark = once

MIDDLE = {"shape": 0, "size": 16.0, "angle": 0.0, "x": 32.0, "y": 32.0, "hue": 200.0}


@pytest.fixture(scope="module")
def dataset():
    return kvae.data.load("shapes")


def one(**changes):
    """The image of some factors; the others are in the middle."""
    return shapes.draw([[{**MIDDLE, **changes}[name] for name in shapes.FACTORS]])[0]


def covered(image):
    """The share of each pixel that the shape covers."""
    colour = image[np.unravel_index(distance(image).argmax(), distance(image).shape)]
    span = colour.astype(float) - shapes.BACKGROUND
    return ((image - shapes.BACKGROUND) @ span) / (span @ span)


def distance(image):
    return np.abs(image - shapes.BACKGROUND).sum(axis=-1)


def test_the_data_set_has_what_a_model_needs(dataset):
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (6000, 500, 1000)
    assert dataset.image_shape == (64, 64, 3) and dataset.train.dtype == np.uint8
    assert dataset.class_names == shapes.SHAPES and len(shapes.SHAPES) == 6
    assert dataset.origin == dataset.name == "shapes" and "drawn by kvae" in dataset.source
    for split in ("train", "validation", "test"):
        labels = getattr(dataset, f"{split}_labels")
        np.testing.assert_array_equal(labels, shapes.factors(split)[:, 0])


def test_an_image_depends_on_the_seed_and_its_number_alone(dataset):
    few = shapes.factors("test", 7)
    np.testing.assert_array_equal(few, shapes.factors("test")[:7])
    np.testing.assert_array_equal(shapes.draw(few[5:]), dataset.test[5:7])
    assert (shapes.factors("test", 7, seed=1) != few).all(axis=1).any()
    assert (shapes.factors("train", 7)[:, 1:] != few[:, 1:]).all()


def test_the_images_are_the_same_on_every_machine(dataset):
    digest = hashlib.sha256(dataset.test.tobytes()).hexdigest()
    assert digest.startswith("59951d3e04c77b8a")


def test_factors_are_uniform_and_independent():
    found = shapes.factors("train")
    for (name, (low, high)), values in zip(shapes.RANGES.items(), found.T, strict=True):
        assert low <= values.min() and values.max() <= high, name
        shares, _ = np.histogram(values, bins=6, range=(low, high))
        assert abs(shares - 1000).max() < 4 * np.sqrt(1000 * 5 / 6), name
    correlation = np.corrcoef(found.T) - np.eye(6)
    assert abs(correlation).max() < 4 / np.sqrt(6000)


@pytest.mark.parametrize("shape", range(6), ids=shapes.SHAPES)
@pytest.mark.parametrize("size, x, y, angle", [(20, 32, 32, 0), (13.3, 22.7, 41.2, 33)])
def test_a_shape_has_its_size_and_its_place(shape, size, x, y, angle):
    share = covered(one(shape=shape, size=size, x=x, y=y, angle=angle))
    assert abs(np.sqrt(share.sum()) - size) < 0.15  # edges along the pixels: 4 samples
    rows, columns = np.mgrid[:64, :64] + 0.5
    assert abs((share * columns).sum() / share.sum() - x) < 0.1
    assert abs((share * rows).sum() / share.sum() - y) < 0.1


@pytest.mark.parametrize("shape", range(6), ids=shapes.SHAPES)
def test_a_quarter_turn_turns_the_picture_clockwise(shape):
    upright, turned = one(shape=shape), one(shape=shape, angle=90)
    difference = abs(np.rot90(upright, -1).astype(int) - turned)
    assert (difference > 40).mean() < 0.001  # samples on the very edge fall to either side


@pytest.mark.parametrize("shape", range(6), ids=shapes.SHAPES)
@pytest.mark.parametrize("name", shapes.FACTORS[1:])
def test_no_two_values_of_a_factor_give_one_image(shape, name):
    images = [one(shape=shape, **{name: v}) for v in np.linspace(*shapes.RANGES[name], 9)]
    for i, first in enumerate(images):
        for second in images[:i]:
            assert (abs(first.astype(int) - second) > 40).any(axis=-1).sum() >= 8


@pytest.mark.parametrize("hue", [0, 77, 120, 240, 300])
def test_the_colour_has_the_hue(hue):
    red, green, blue = one(hue=hue)[32, 32] / 255
    found, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    assert abs((360 * found - hue + 180) % 360 - 180) < 1
    assert abs(saturation - shapes.SATURATION) < 0.01 and abs(value - shapes.VALUE) < 0.01


def test_edges_are_antialiased():
    share = covered(one(angle=20))
    partly = (share > 0.1) & (share < 0.9)
    assert 20 < partly.sum() < 100 and (share > 0.95).sum() > 150


def test_what_lies_outside_is_cut_off():
    whole, half = covered(one(x=32.0)).sum(), covered(one(x=0.0)).sum()
    assert abs(half / whole - 0.5) < 0.01
    assert (one(x=500.0) == np.rint(shapes.BACKGROUND)).all()


def test_the_data_set_comes_in_any_size(dataset):
    small = kvae.data.load("shapes", image_size=32)
    assert small.test.shape == (1000, 32, 32, 3) and small.class_names == shapes.SHAPES
    halved = dataset.test.reshape(1000, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    assert abs(small.test - halved).mean() < 2


@pytest.mark.parametrize(
    "call, what",
    [
        (lambda: shapes.factors("trial"), "split='trial'"),
        (lambda: shapes.factors(count=-1), "count=-1"),
        (lambda: shapes.factors(seed=0.5), "seed=0.5"),
        (lambda: shapes.draw([[0, 1, 2]]), r"shape \(1, 3\)"),
        (lambda: shapes.draw([[np.nan] * 6]), "must be finite"),
        (lambda: shapes.draw([[6, 10, 0, 32, 32, 0]]), "an integer in 0…5"),
        (lambda: shapes.draw([[0.5, 10, 0, 32, 32, 0]]), "an integer in 0…5"),
        (lambda: shapes.draw([[0, 0, 0, 32, 32, 0]]), "above 0 pixels"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, what):
    with pytest.raises(ValueError, match=what):
        call()
