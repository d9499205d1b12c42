"""Images of which some have no known class: −1 in arrays, a folder of its own, an empty field."""

import numpy as np
import pytest
from marks import once
from PIL import Image

import kvae

KNOWN = 300


@pytest.fixture(scope="module")
def digits():
    """Real digits, of which 300 have a label."""
    whole = kvae.data.load("digits")
    labels = np.full(len(whole.train), -1)
    labels[:KNOWN] = whole.train_labels[:KNOWN]
    return kvae.data.from_arrays(
        whole.train, train_labels=labels, class_names=whole.class_names, name="digits"
    )


@once
def test_images_that_are_held_out_have_a_class(digits):
    labels = digits.train_labels
    assert 0 < (labels >= 0).sum() < KNOWN and labels.min() == -1
    held = [digits.validation_labels, digits.test_labels]
    assert min(map(np.min, held)) == 0 and [len(one) for one in held] == [27, 30]
    assert len(labels) + 57 == len(kvae.data.load("digits").train)


@once
@pytest.mark.parametrize(
    "labels, what",
    [
        ({"train_labels": np.full(30, -2)}, "0 or more, or −1 where they are not known. Rec.* -2"),
        ({"train_labels": np.full(30, -1)}, "known of 3 images or more.*known of 0"),
        ({"test": np.zeros((2, 8, 8), "uint8"), "test_labels": [0, -1]}, "0 or more. Received: -1"),
    ],
)
def test_labels_that_cannot_be_are_refused(labels, what):
    with pytest.raises(ValueError, match=what):
        kvae.data.from_arrays(np.zeros((30, 8, 8), "uint8"), **labels)


def pictures(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), len(name), "uint8")).save(path)


@once
@pytest.mark.parametrize("folder", ["unlabelled", "Unlabeled", "not labelled"])
def test_a_folder_of_that_name_has_images_of_no_known_class(tmp_path, folder):
    names = [f"{top}/{i}.png" for top in ("a", "b", folder) for i in range(10)]
    pictures(tmp_path, names)
    data = kvae.data.load(tmp_path)
    assert data.class_names == ("a", "b")
    assert (data.train_labels == -1).sum() == 10 and len(data.train_labels) == 27
    assert data.validation_labels.min() >= 0 and data.test_labels.min() >= 0


@once
def test_a_table_may_leave_the_class_of_training_images_open(tmp_path):
    pictures(tmp_path, [f"{i}.png" for i in range(20)])
    rows = [f"{i}.png,{'ab'[i % 2] if i < 12 else ''},{'test' if i < 2 else 'train'}"
            for i in range(20)]  # fmt: skip
    (tmp_path / "list.csv").write_text("\n".join(["file,label,split", *rows]))
    data = kvae.data.load(tmp_path)
    assert (data.train_labels == -1).sum() == 8 and data.class_names == ("a", "b")
    (tmp_path / "list.csv").write_text("\n".join(["file,label,split", *rows, "0.png,,test"]))
    with pytest.raises(ValueError, match="a label for each of its test images"):
        kvae.data.load(tmp_path)


@once
def test_a_sequence_may_have_items_of_no_known_class():
    items = [(Image.new("L", (8, 8), i), [i % 2, -1][i > 11]) for i in range(20)]
    data = kvae.data.load(items)
    assert (data.train_labels == -1).sum() == 8 and data.class_names == ("0", "1")


@pytest.mark.every_backend
def test_a_conditional_run_learns_of_all_images_and_says_of_how_many_it_knows(
    digits, tmp_path, capsys, monkeypatch
):
    small = {"network_arguments": {"width": 8, "depth": 1}, "prior": "standard-normal"}
    recipe = kvae.presets.get("mlp").replaced(latent_dim=3, batch_size=200, epochs=1, **small)
    vae = kvae.train(digits, recipe, conditional=True, out=tmp_path / "vae.keras", verbose=2)
    known, count = (digits.train_labels >= 0).sum(), len(digits.train)
    said = f"conditional on 10 classes, known of {known} of {count:,} train images"
    assert said in capsys.readouterr().out
    assert vae.partly_labelled and np.isfinite(vae.card["test"]["elbo"])
    again = kvae.load(tmp_path / "vae.keras")
    assert again.partly_labelled and again.generate(2, classes=[3]).shape == (2, 8, 8, 1)

    found = kvae.evaluate(again, digits, samples=0, importance_samples=2, images=20)
    assert found.figures["representation"]["training_images"] == known
    drawn = kvae.latent(again, digits.train[:40], digits.train_labels[:40], method="pca")
    assert drawn is not None
    labels = np.r_[digits.train_labels[:2], -1, -1]
    some = np.r_[digits.train[:2], digits.train[-2:]]
    filled = again.filled(labels, some)
    np.testing.assert_array_equal(filled[2:], again.classify(some[2:]))
    np.testing.assert_array_equal(filled[:2], labels[:2])
    assert kvae.diagnose(again, digits, count=30).finding("gradients").severity != "problem"


@once
def test_classes_that_are_not_known_stay_so_where_names_have_other_numbers(make_vae):
    from test_conditional import conditional

    vae = conditional(partly_labelled=True)
    vae.card["class_names"] = ["a", "b", "c"]
    np.testing.assert_array_equal(vae.known([1, -1, 0], ["c", "b"]), [1, -1, 2])
