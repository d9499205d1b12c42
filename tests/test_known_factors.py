"""Factors that TensorFlow Datasets knows: of a small data set with the features of dsprites."""

import numpy as np
import pytest
from marks import once

import kvae

pytestmark = once
SIDE = 32  # so many places across, and down


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where a small dsprites is prepared: one dot of 0 and 1 in images of 0, at every place."""
    pytest.importorskip("tensorflow")
    tfds = pytest.importorskip("tensorflow_datasets")
    folder = tmp_path_factory.mktemp("tfds")
    with tfds.core.registered.skip_registration():

        class Dsprites(tfds.core.GeneratorBasedBuilder):
            """As the real one, with two factors."""

            name = "dsprites"
            VERSION = tfds.core.Version("2.0.0")

            def _info(self):
                features = {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 1)),
                    "label_x_position": tfds.features.ClassLabel(num_classes=SIDE),
                    "label_y_position": tfds.features.ClassLabel(num_classes=SIDE),
                    "value_x_position": tfds.features.Scalar(np.float32),
                    "id": tfds.features.Text(),
                }
                features = tfds.features.FeaturesDict(features)
                return tfds.core.DatasetInfo(builder=self, features=features)

            def _split_generators(self, dl_manager):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                for i in range(SIDE * SIDE):
                    image = np.zeros((SIDE, SIDE, 1), "uint8")
                    image[i // SIDE, i % SIDE] = 1
                    yield (
                        i,
                        {
                            "image": image,
                            "label_x_position": i % SIDE,
                            "label_y_position": i // SIDE,
                            "value_x_position": i / SIDE,
                            "id": str(i),
                        },
                    )

        Dsprites(data_dir=folder).download_and_prepare()
    return folder


@pytest.mark.parametrize("mapped", [False, True], ids=["in memory", "mapped"])
def test_the_factors_are_those_of_each_image(home, tmp_path, monkeypatch, mapped):
    if mapped:
        monkeypatch.setattr(kvae.data.tfds, "fits_copied", lambda size: False)
    data = kvae.data.load("dsprites", home, cache_dir=tmp_path)
    again = kvae.data.load("dsprites", home, cache_dir=tmp_path) if mapped else data
    assert data.factor_names == ("x_position", "y_position") and data.train_labels is None
    for split in ("train", "validation", "test"):
        images, rows, names = kvae.data.known_factors(again, split)
        assert images.max() == 255 and len(images) == len(getattr(data, split)) > 80
        dots = np.argwhere(images[..., 0])
        np.testing.assert_array_equal(dots[:, [2, 1]], rows)
        np.testing.assert_array_equal(again.factors[split], data.factors[split])
    some, rows, _ = kvae.data.known_factors(data, "train", 200)
    assert len(some) == 200 and set(rows[:, 1]) == set(range(SIDE))  # spread evenly
    few = kvae.data.reduced(data, 7)
    assert [len(few.factors[split]) for split in ("train", "test")] == [7, 7]


def test_latents_are_scored_by_them(home):
    data = kvae.data.load("dsprites", home)
    vae = kvae.VAE.from_preset("mlp-400", data.image_shape, latent_dim=3)
    arguments = {"samples": 0, "importance_samples": 2, "split": "train", "images": 150}
    found = kvae.evaluate(vae, data, factors=True, **arguments).figures["factors"]
    assert "x_position, y_position" in str(found)


def test_images_with_a_label_or_one_factor_have_none():
    from types import SimpleNamespace as Feature

    number, other = Feature(shape=(), np_dtype=np.int64), Feature(shape=(), np_dtype=np.float32)
    kinds = kvae.data.tfds.factors_of
    assert kinds({"label_a": number, "label_b": number, "value_a": other}) == ["label_a", "label_b"]
    assert kinds({"label_a": number, "label_b": other}) == []
    assert kinds({"label": number, "label_a": number, "label_b": number}) == []
    digits = kvae.data.load("digits")
    with pytest.raises(ValueError, match="factors of digits are not known.*dsprites and shapes3d"):
        kvae.data.known_factors(digits)
