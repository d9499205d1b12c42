"""Data sets of other libraries: sequences of images, with labels or without."""

import types

import numpy as np
import pytest
from PIL import Image

from kvae.data import load

RNG = np.random.default_rng(0)


def pixels(*shape):
    return RNG.integers(0, 256, shape).astype("uint8")


def pictures(count=12, size=(6, 8), mode="RGB"):
    return [Image.fromarray(pixels(*size, 3)).convert(mode) for _ in range(count)]


class Sequence(list):
    """What is not more than `__len__` and `__getitem__`, as torchvision's data sets are."""


def everyone(dataset):
    return np.concatenate([dataset.train, dataset.validation, dataset.test])


def test_a_list_of_pictures_or_of_arrays_is_read():
    images = pictures()
    dataset = load(images)
    assert dataset.image_shape == (6, 8, 3) and dataset.train_labels is None
    expected = {np.asarray(image).tobytes() for image in images}
    assert {image.tobytes() for image in everyone(dataset)} == expected
    again = load([np.asarray(image) for image in images])
    np.testing.assert_array_equal(again.train, dataset.train)


def test_pairs_have_labels_and_classes_have_names():
    data = Sequence((image, i % 3) for i, image in enumerate(pictures()))
    data.classes = ["cat", "dog", "owl"]
    dataset = load(data)
    assert dataset.class_names == ("cat", "dog", "owl")
    labels = [dataset.train_labels, dataset.validation_labels, dataset.test_labels]
    assert np.bincount(np.concatenate(labels)).tolist() == [4, 4, 4]
    for image, label in zip(dataset.train, dataset.train_labels, strict=True):
        (found,) = [one for one, _ in data if (np.asarray(one) == image).all()]
        assert dict(data_of(data))[found.tobytes()] == label


def data_of(data):
    return [(image.tobytes(), label) for image, label in data]


def test_dicts_by_split_are_read_as_those_of_hugging_face():
    def part(count):
        rows = Sequence({"image": image, "label": i % 2} for i, image in enumerate(pictures(count)))
        rows.features = {"label": types.SimpleNamespace(names=["no", "yes"])}
        return rows

    dataset = load({"train": part(5), "validation": part(2), "test": part(3)})
    sizes = [len(getattr(dataset, split)) for split in ("train", "validation", "test")]
    assert sizes == [5, 2, 3] and dataset.class_names == ("no", "yes")
    np.testing.assert_array_equal(dataset.train_labels, [0, 1, 0, 1, 0])


def test_images_of_any_size_and_mode_are_fitted():
    images = [*pictures(4, (60, 80)), *pictures(4, (90, 70), "L"), *pictures(4, (64, 64), "RGBA")]
    dataset = load(images, image_size=32, background="black")
    assert dataset.image_shape == (32, 32, 3)
    assert "4 of 12 images are grey" in dataset.notice and "cropped to 32×32" in dataset.notice


def test_tensors_with_channels_first_are_turned():
    images = [pixels(3, 10, 12) for _ in range(4)]
    dataset = load(images)
    assert dataset.image_shape == (10, 12, 3)
    expected = {np.moveaxis(image, 0, -1).tobytes() for image in images}
    assert {image.tobytes() for image in everyone(dataset)} == expected


def test_floats_become_bytes_and_an_array_stays_one():
    images = [np.full((4, 4), value, "float32") for value in (0, 0.2, 0.6, 1)]
    assert sorted(everyone(load(images))[:, 0, 0, 0]) == [0, 51, 153, 255]
    array = pixels(10, 4, 4, 3)
    assert len(everyone(load(array))) == 10
    assert load({"train": array, "test": array[:3]}).test.shape == (3, 4, 4, 3)


@pytest.mark.parametrize(
    "data, said",
    [
        ([], "Received: one of length 0"),
        ([1, 2, 3], "must be an image"),
        ([np.zeros((5, 5, 9))] * 3, "must be an image"),
        ([np.full((4, 4, 3), 7.0)] * 3, "must be uint8, or floats in"),
        ({"test": pictures(3)}, "must have train"),
        ({"train": pictures(3), "dev": pictures(3), "val": pictures(3)}, "at most one"),
        ([{"picture": 1}] * 3, "must be an image"),
    ],
)
def test_what_is_no_data_set_of_images_is_refused(data, said):
    with pytest.raises(ValueError, match=said):
        load(data)


def test_a_data_set_with_a_shape_is_no_array():
    """That of Hugging Face's is (rows, columns)."""
    data = Sequence({"image": image, "label": i % 2} for i, image in enumerate(pictures()))
    data.shape = (12, 2)
    assert load(data).image_shape == load({"train": data}).image_shape == (6, 8, 3)


def test_a_part_of_a_data_set_has_its_class_names():
    class Subset(Sequence):
        """As PyTorch has it."""

    whole = Sequence((image, i % 2) for i, image in enumerate(pictures()))
    whole.classes = ["cat", "dog"]
    part = Subset(whole[:8])
    part.dataset = whole
    part_of_it = Subset(part[:6])
    part_of_it.dataset = part
    assert load(part).class_names == load(part_of_it).class_names == ("cat", "dog")


def test_pictures_that_were_not_decoded_are_read(tmp_path):
    """Hugging Face's library gives their bytes, or their path."""
    images, rows = pictures(), []
    for i, image in enumerate(images):
        path = tmp_path / f"{i}.png"
        image.save(path)
        given = {"bytes": path.read_bytes()} if i % 2 else {"bytes": None, "path": str(path)}
        rows.append({"image": given})
    expected = {np.asarray(image).tobytes() for image in images}
    assert {image.tobytes() for image in everyone(load(Sequence(rows)))} == expected
    rows[3] = {"image": {"bytes": None, "path": str(tmp_path / "gone.png")}}
    with pytest.raises(FileNotFoundError, match="gone.png cannot be read"):
        load(Sequence(rows))


@pytest.mark.parametrize("first", [True, False])
def test_grey_with_transparency_as_a_tensor(first):
    grey = pixels(6, 8, 2)
    grey[..., 1] = 255
    data = [np.moveaxis(grey, -1, 0) if first else grey] * 5
    found = load(data, channels="grey").train[0, ..., 0]
    np.testing.assert_array_equal(found, grey[..., 0])


@pytest.mark.parametrize("given", [iter([1]), {1, 2}, 5, 1.5, object(), b"mnist"])
def test_what_has_no_places_is_refused(given):
    with pytest.raises(ValueError, match="must be a name, a path, or a sequence of images"):
        load(given)
