import contextlib
import gzip
import io
import pathlib
import struct
import subprocess
import sys
import threading
import types
import urllib.error
import zipfile

import numpy as np
import pytest
from PIL import Image

import kvae
from kvae.data import from_arrays, load
from kvae.data import tfds as reader

REACHABLE = reader.reachable


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(reader, "reachable", lambda: False)


@pytest.fixture
def empty_dir(tmp_path, monkeypatch):
    """A folder in which TensorFlow Datasets has prepared nothing, used by default."""
    folder = tmp_path / "nothing_prepared"
    folder.mkdir()
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    return folder


def grey(count=20, height=4, width=5, channels=1, seed=0):
    shape = (count, height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape).astype("uint8")


def numbers(count):
    """Images that are told apart by their first pixel."""
    images = np.zeros((count, 2, 2, 1), "uint8")
    images[:, 0, 0, 0] = np.arange(count)
    images[:, 1, 1, 0] = 255
    return images


@contextlib.contextmanager
def fails(error, *parts):
    """Expects an error whose message has these parts and is one line."""
    with pytest.raises(error) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


# from_arrays


def test_missing_splits_are_held_out_without_loss_or_overlap():
    dataset = from_arrays(numbers(200), train_labels=np.arange(200))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (162, 18, 20)
    labels = [dataset.train_labels, dataset.validation_labels, dataset.test_labels]
    assert sorted(np.concatenate(labels)) == list(range(200))


def test_labels_stay_with_their_images():
    dataset = from_arrays(numbers(200), train_labels=np.arange(200))
    for split in ("train", "validation", "test"):
        first_pixels = getattr(dataset, split)[:, 0, 0, 0]
        np.testing.assert_array_equal(first_pixels, getattr(dataset, f"{split}_labels"))


def test_the_split_is_the_same_every_time():
    first, second = from_arrays(numbers(100)), from_arrays(numbers(100))
    np.testing.assert_array_equal(first.test, second.test)
    np.testing.assert_array_equal(first.validation, second.validation)


def test_splits_that_are_given_are_left_as_they_are():
    dataset = from_arrays(grey(10), validation=grey(3, seed=1), test=grey(4, seed=2))
    np.testing.assert_array_equal(dataset.train, grey(10))
    np.testing.assert_array_equal(dataset.validation, grey(3, seed=1))
    np.testing.assert_array_equal(dataset.test, grey(4, seed=2))


def test_no_more_than_5000_images_validate():
    dataset = from_arrays(np.zeros((60_000, 1, 2), "uint8"), test=np.zeros((1, 1, 2), "uint8"))
    assert (len(dataset.train), len(dataset.validation)) == (55_000, 5_000)


def test_three_images_are_one_for_each_split():
    dataset = from_arrays(grey(3))
    assert len(dataset.train) == len(dataset.validation) == len(dataset.test) == 1


def test_two_images_are_too_few_to_split():
    with fails(ValueError, "At least 3", "Received: 2"):
        from_arrays(grey(2))


def test_images_without_a_channel_axis_get_one():
    dataset = from_arrays(grey()[..., 0])
    assert dataset.image_shape == (4, 5, 1)


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint16", "uint32"])
def test_integers_become_bytes(dtype):
    images = (grey() // 2).astype(dtype)
    dataset = from_arrays(images, validation=images, test=images)
    assert dataset.train.dtype == np.uint8
    np.testing.assert_array_equal(dataset.train, images)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_become_float32(dtype):
    images = np.linspace(0, 1, 400).reshape(20, 4, 5, 1).astype(dtype)
    dataset = from_arrays(images, validation=images, test=images)
    assert dataset.train.dtype == np.float32
    np.testing.assert_allclose(dataset.train, images)


def test_bool_becomes_black_and_white():
    images = grey() > 99
    dataset = from_arrays(images, validation=images, test=images)
    assert dataset.train.dtype == np.uint8
    np.testing.assert_array_equal(dataset.train, np.where(images, 255, 0))


def test_arrays_that_cannot_be_written_to_are_copied():
    images = grey()
    images.flags.writeable = False
    assert from_arrays(images, validation=images, test=images).train.flags.writeable


def with_value(value):
    images = np.full((5, 4, 4), 0.5)
    images[0, :2, 0] = value
    return images


@pytest.mark.parametrize(
    ("images", "parts"),
    [
        (np.zeros(5), ["(count, height, width)", "(5,)"]),
        (np.zeros((5, 4, 4, 1, 1)), ["(5, 4, 4, 1, 1)"]),
        (np.zeros((0, 4, 4)), ["(0, 4, 4)"]),
        (np.zeros((5, 0, 4)), ["(5, 0, 4)"]),
        (np.zeros((5, 3, 8, 8)), ["channels last", "moveaxis", "(5, 3, 8, 8)"]),
        (np.zeros((5, 4, 4), complex), ["uint8, or floats", "complex128"]),
        (np.zeros((5, 4, 4), object), ["object"]),
        (np.full((5, 4, 4), "x"), ["<U1"]),
        (with_value(np.nan), ["finite", "2 values"]),
        (with_value(-np.inf), ["finite", "2 values"]),
        (with_value(200), ["[0, 1]", "Divide them by 255", "0.5 to 200"]),
        (with_value(-1), ["[0, 1]", "(images + 1) / 2", "-1 to 0.5"]),
        (with_value(65535), ["[0, 1]", "Divide them by the greatest", "65535"]),
        (np.full((5, 4, 4), 256), ["0…255", "256"]),
        (np.full((5, 4, 4), -1), ["0…255", "-1"]),
        (np.ones((5, 4, 4), int), ["nearly black", "bool"]),
    ],
)
def test_images_that_cannot_be_used_are_refused(images, parts):
    with fails(ValueError, "train images of", "my photos", *parts):
        from_arrays(images, source="my photos")


def test_a_fault_in_the_test_images_is_said_of_them():
    with fails(ValueError, "test images", "1 values"):
        from_arrays(np.zeros((5, 2, 2)), test=np.array([[[0, np.nan]]]))


def test_all_splits_have_one_image_shape():
    with fails(ValueError, "one shape", "(4, 5, 1)", "(5, 4, 1)"):
        from_arrays(grey(), test=grey(height=5, width=4))


def test_labels_in_a_column_become_a_row():
    dataset = from_arrays(grey(), test=grey(), train_labels=np.ones((20, 1), "uint8"))
    assert dataset.train_labels.shape == (18,)
    assert dataset.train_labels.dtype == np.int64
    assert dataset.test_labels is None


@pytest.mark.parametrize(
    "labels", [np.zeros(19, int), np.zeros((20, 2), int), np.zeros(20), np.full(20, "cat")]
)
def test_labels_are_integers_one_for_each_image(labels):
    with fails(ValueError, "labels of the train images", "20", labels.dtype, labels.shape):
        from_arrays(grey(), train_labels=labels)


def test_labels_without_images_are_refused():
    with fails(ValueError, "labels of the test images", "0 images"):
        from_arrays(grey(), test_labels=np.zeros(20, int))


def test_each_label_has_a_class_name():
    with fails(ValueError, "below 2", "Received: 2"):
        from_arrays(grey(), train_labels=np.full(20, 2), class_names=["cat", "dog"])


# load


def test_digits_are_bundled(empty_dir):
    dataset = load("digits")
    counts = [len(dataset.train), len(dataset.validation), len(dataset.test)]
    assert sum(counts) == 1797
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.train.dtype == np.uint8
    assert (dataset.train.min(), dataset.train.max()) == (0, 255)
    assert dataset.class_names == tuple("0123456789")
    assert set(dataset.test_labels) == set(range(10))
    assert dataset.notice == ""


def test_without_mnist_digits_stand_in_with_a_notice(empty_dir):
    dataset = load()
    assert dataset.name == "digits"
    for part in ("mnist", str(empty_dir), "no network", "TFDS_DATA_DIR", "IDX"):
        assert part in dataset.notice
    assert "\n" not in dataset.notice


def test_without_tensorflow_datasets_digits_stand_in_with_a_notice(empty_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    dataset = load()
    assert dataset.name == "digits"
    assert "pip install" in dataset.notice


@pytest.mark.parametrize(
    "path", ["no.npz", "./no", "~/no_such_folder", "/no/such", "no/such/folder", "no/folder"]
)
def test_a_path_without_a_file_is_named(path, empty_dir):
    if path == "no/folder":  # which could be a name and its configuration
        pytest.importorskip("tensorflow_datasets")
    with fails(FileNotFoundError, "no file or folder", path.removeprefix("./").lstrip("~")):
        load(path)


# .npz and .npy files


def test_npz_in_the_layout_of_keras(tmp_path):
    arrays = {
        "x_train": grey(30)[..., 0],
        "y_train": np.arange(30, dtype="uint8"),
        "x_test": grey(7)[..., 0],
        "y_test": np.arange(7, dtype="uint8"),
    }
    np.savez(tmp_path / "mine.npz", **arrays)
    dataset = load(tmp_path / "mine.npz")
    assert dataset.name == "mine"
    assert str(tmp_path / "mine.npz") in dataset.source
    assert (len(dataset.train), len(dataset.validation)) == (27, 3)
    np.testing.assert_array_equal(dataset.test, grey(7))
    np.testing.assert_array_equal(dataset.test_labels, np.arange(7))


@pytest.mark.parametrize("name", ["val", "validation"])
def test_npz_with_validation_images(name, tmp_path):
    arrays = {"x_train": grey(), f"x_{name}": grey(3), f"y_{name}": np.arange(3)}
    np.savez_compressed(tmp_path / "mine.npz", **arrays)
    dataset = load(str(tmp_path / "mine.npz"))
    np.testing.assert_array_equal(dataset.validation, grey(3))
    np.testing.assert_array_equal(dataset.validation_labels, np.arange(3))


def test_npz_with_a_single_array_of_any_name(tmp_path):
    np.savez(tmp_path / "mine.npz", pictures=grey(100))
    assert len(load(tmp_path / "mine.npz").train) == 81


def test_npy(tmp_path):
    np.save(tmp_path / "mine.npy", grey(100))
    assert len(load(tmp_path / "mine.npy").train) == 81


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": grey(), "labels": np.arange(20)},
        {"x_train": grey(), "weights": np.arange(20)},
        {},
    ],
)
def test_npz_with_other_names_lists_them(arrays, tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays)
    found = ", ".join(arrays) or "none"
    with fails(ValueError, "mine.npz", "x_train", f"Found: {found}"):
        load(tmp_path / "mine.npz")


def npz_with_objects():
    file = io.BytesIO()
    np.savez(file, np.array([{}, None], dtype=object), allow_pickle=True)
    return file.getvalue()


def npz_cut_short():
    file = io.BytesIO()
    np.savez(file, grey(100))
    return file.getvalue()[:1500]


def npz_with_a_wrong_byte():
    file = io.BytesIO()
    np.savez(file, grey(100))
    content = bytearray(file.getvalue())
    content[600] ^= 1
    return bytes(content)


def npy_cut_short():
    file = io.BytesIO()
    np.save(file, grey(100))
    return file.getvalue()[:500]


@pytest.mark.parametrize(
    "content",
    [
        npz_with_objects(),
        npz_cut_short(),
        npz_with_a_wrong_byte(),
        npy_cut_short(),
        b"",
        b"not an array",
    ],
    ids=["objects", "cut short", "wrong byte", "npy cut short", "empty", "text"],
)
def test_damaged_npz_is_named(content, tmp_path):
    (tmp_path / "mine.npz").write_bytes(content)
    with fails(ValueError, "mine.npz", "damaged"):
        load(tmp_path / "mine.npz")


def test_npz_with_a_file_that_is_no_array_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "mine.npz", "w") as archive:
        archive.writestr("notes.txt", "no array")
    with fails(ValueError, "mine.npz"):
        load(tmp_path / "mine.npz")


def test_npz_with_unfit_images_names_the_file(tmp_path):
    np.savez(tmp_path / "mine.npz", x_train=np.full((5, 2, 2), 200.0))
    with fails(ValueError, "mine.npz", "train images", "Divide them by 255"):
        load(tmp_path / "mine.npz")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "mine.csv").write_text("1,2")
    with fails(ValueError, "mine.csv", "a column file"):
        load(tmp_path / "mine.csv")


# IDX files


def idx(array, magic=None):
    magic = 0x0800 + array.ndim if magic is None else magic
    return struct.pack(f">I{array.ndim}I", magic, *array.shape) + array.tobytes()


IDX_FILES = {
    "train-images-idx3-ubyte": idx(grey(20)[..., 0]),
    "train-labels-idx1-ubyte": idx(np.arange(20, dtype="uint8")),
    "t10k-images-idx3-ubyte": idx(grey(6)[..., 0]),
    "t10k-labels-idx1-ubyte": idx(np.arange(6, dtype="uint8")),
}


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dot", [True, False])
def test_idx_files(zipped, dot, tmp_path):
    for name, content in IDX_FILES.items():
        name = name.replace("-idx", ".idx") if dot else name
        write(tmp_path, {f"{name}.gz": gzip.compress(content)} if zipped else {name: content})
    dataset = load(tmp_path)
    assert dataset.name == tmp_path.name
    assert dataset.source == f"IDX files in {tmp_path}"
    assert len(dataset.train) == 18
    np.testing.assert_array_equal(dataset.test, grey(6))
    np.testing.assert_array_equal(dataset.test_labels, np.arange(6))
    assert dataset.test.flags.writeable


def test_idx_train_images_are_enough(tmp_path):
    write(tmp_path, {name: IDX_FILES[name] for name in list(IDX_FILES)[:1]})
    dataset = load(tmp_path)
    assert len(dataset.test) == 2
    assert dataset.train_labels is None


def test_idx_without_train_images_names_what_is_there(tmp_path):
    write(tmp_path, {name: IDX_FILES[name] for name in list(IDX_FILES)[1:]})
    with fails(FileNotFoundError, "train-images-idx3-ubyte", "Found: t10k-images-idx3-ubyte"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (gzip.compress(idx(grey()[..., 0]))[:-20], ["damaged"]),
        (gzip.compress(b"x" * 99)[:12] + b"x" * 50, ["damaged"]),
        (idx(grey()[..., 0], magic=2049), ["2051", "2049"]),
        (b"<html>not found</html>", ["2051"]),
        (b"", ["2051", "0 bytes"]),
        (idx(grey()[..., 0])[:9], ["2051", "9 bytes"]),
        (idx(grey()[..., 0])[:-1], ["416 bytes", "(20, 4, 5)", "415 bytes"]),
        (idx(grey()[..., 0]) + b"x", ["416 bytes", "417 bytes"]),
    ],
    # Not the contents: gzip writes the time into them, and two workers must name a test alike.
    ids=["cut short", "wrong bytes", "labels", "text", "empty", "no sizes", "one less", "one more"],
)
def test_damaged_idx_is_named(content, parts, tmp_path):
    write(tmp_path, IDX_FILES | {"train-images-idx3-ubyte": content})
    with fails(ValueError, "train-images-idx3-ubyte", *parts):
        load(tmp_path)


# Folders of images


def png(array, mode=None, suffix="png"):
    file = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, suffix)
    return file.getvalue()


GREY, COLOUR = grey()[..., 0], grey(channels=3)


def test_a_folder_of_images_is_read_in_the_order_of_names(tmp_path):
    write(tmp_path, {f"{i:02}.png": png(image) for i, image in enumerate(GREY)})
    write(tmp_path, {".hidden.png": b"", "notes.txt": b""})
    dataset = load(tmp_path)
    expected = from_arrays(GREY)
    np.testing.assert_array_equal(dataset.train, expected.train)
    np.testing.assert_array_equal(dataset.test, expected.test)
    assert dataset.train_labels is None
    assert str(tmp_path) in dataset.source


def test_sub_folders_are_classes(tmp_path):
    write(tmp_path, {f"zebra/{i}.png": png(np.full((4, 4), 10, "uint8")) for i in range(10)})
    write(tmp_path, {f"ant/{i}.PNG": png(np.full((4, 4), 20, "uint8")) for i in range(10)})
    (tmp_path / ".cache").mkdir()
    dataset = load(tmp_path)
    assert dataset.class_names == ("ant", "zebra")
    np.testing.assert_array_equal(dataset.train_labels == 0, dataset.train[:, 0, 0, 0] == 20)


def test_sub_folders_can_be_splits(tmp_path):
    write(tmp_path, {f"train/{c}/{i}.png": png(GREY[i]) for c in "ab" for i in range(9)})
    write(tmp_path, {f"test/b/{i}.png": png(GREY[i]) for i in range(2)})
    write(tmp_path, {f"val/{i}.png": png(GREY[i]) for i in range(3)})
    dataset = load(tmp_path)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (18, 3, 2)
    assert dataset.class_names == ("a", "b")
    np.testing.assert_array_equal(dataset.train_labels, [0] * 9 + [1] * 9)
    np.testing.assert_array_equal(dataset.test_labels, [1, 1])
    assert dataset.validation_labels is None
    np.testing.assert_array_equal(dataset.validation[..., 0], GREY[:3])


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("1", 1), ("L", 1), ("LA", 1), ("RGB", 3), ("RGBA", 3), ("P", 3)],
)
def test_grey_images_have_one_channel_and_others_three(mode, channels, tmp_path):
    write(tmp_path, {f"{i}.png": png(image, mode) for i, image in enumerate(COLOUR)})
    assert load(tmp_path).image_shape == (4, 5, channels)


def test_palettes_with_transparency_are_read_without_a_warning(tmp_path):
    image = Image.fromarray(COLOUR[0]).convert("P")
    for i in range(3):
        image.save(tmp_path / f"{i}.png", transparency=bytes(range(20)))
    assert load(tmp_path).image_shape == (4, 5, 3)


def test_grey_among_colour_becomes_colour(tmp_path):
    write(tmp_path, {f"a{i}.png": png(image) for i, image in enumerate(GREY[:9])})
    write(tmp_path, {f"b{i}.png": png(image) for i, image in enumerate(COLOUR[:9])})
    dataset = load(tmp_path)
    assert dataset.image_shape == (4, 5, 3)
    greys = np.ptp(dataset.train, axis=-1).max(axis=(1, 2)) == 0
    assert 0 < greys.sum() < len(greys)


def test_jpeg_is_turned_as_the_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(3):
        Image.fromarray(COLOUR[i]).save(tmp_path / f"{i}.jpg", exif=exif)
    assert load(tmp_path).image_shape == (5, 4, 3)


@pytest.mark.parametrize("content", [b"", b"no image", png(COLOUR[0])[:60], png(COLOUR[0])[:-30]])
def test_an_unreadable_image_is_named(content, tmp_path):
    write(tmp_path, {f"{i}.png": png(COLOUR[i]) for i in range(3)})
    write(tmp_path, {"bad.png": content})
    with fails(ValueError, "bad.png", "cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize("files", [{}, {"notes.txt": b""}, {"a/notes.txt": b""}])
def test_a_folder_without_images_is_named(files, tmp_path):
    write(tmp_path, files)
    with fails(ValueError, tmp_path, "must have images", "Found: 0"):
        load(tmp_path)


def test_images_beside_classes_are_refused(tmp_path):
    write(tmp_path, {"a.png": png(GREY[0]), "cat/b.png": png(GREY[0])})
    with fails(ValueError, "either", "1 in it, 1 in sub-folders", "--flat"):
        load(tmp_path)


# TensorFlow Datasets


def test_mnist_is_read_from_tensorflow_datasets(mnist):
    dataset = mnist
    counts = (len(dataset.train), len(dataset.validation), len(dataset.test))
    assert counts == (55_000, 5_000, 10_000)
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split.dtype == np.uint8
        assert split.shape[1:] == dataset.image_shape == (28, 28, 1)
    assert dataset.class_names == tuple("0123456789")
    # The test images of each digit, as LeCun's page counts them.
    known = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    np.testing.assert_array_equal(np.bincount(dataset.test_labels), known)
    assert dataset.name == "mnist"
    assert dataset.source.startswith("TensorFlow Datasets mnist/3.")


def test_mnist_at_hand_is_the_default(mnist):
    assert mnist.name == "mnist"
    assert mnist.notice == ""


def test_damaged_mnist_is_said_to_be_so(mnist_dir, tmp_path):
    for path in mnist_dir.glob("mnist/**/*.*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(mnist_dir)
            write(tmp_path, {copy: path.read_bytes()[:100_000]})
    with fails(ValueError, "mnist", "cannot be read", tmp_path):
        load("mnist", data_dir=tmp_path)


def test_without_network_what_is_not_prepared_is_refused(empty_dir):
    pytest.importorskip("tensorflow_datasets")
    with fails(ConnectionError, "mnist", empty_dir, "no network", "TFDS_DATA_DIR", "'digits'"):
        load("mnist")


def test_without_network_the_answer_comes_without_tensorflow(empty_dir):
    pytest.importorskip("tensorflow_datasets")
    # Alone, because `import kvae` imports the backend.
    code = """if True:
        import sys, types
        package = sys.modules["kvae"] = types.ModuleType("kvae")
        package.__path__ = [sys.argv[1]]
        from kvae import data
        assert not {"tensorflow_datasets", "sklearn", "PIL"} & set(sys.modules)
        data.tfds.reachable = lambda: False
        try:
            data.load("mnist")
        except ConnectionError:
            print("tensorflow" in sys.modules, "keras" in sys.modules)
    """
    command = [sys.executable, "-c", code, kvae.__path__[0]]
    assert subprocess.check_output(command, text=True).split() == ["False", "False"]


@pytest.mark.parametrize(
    ("name", "meant"), [("mnsit", "mnist"), ("Fashion-MNIST", "fashion_mnist")]
)
def test_an_unknown_name_gets_the_nearest_ones(name, meant, empty_dir):
    pytest.importorskip("tensorflow_datasets")
    with fails(ValueError, name, meant, ".npz", "'digits'"):
        load(name)


@pytest.mark.parametrize("missing", ["tensorflow_datasets", "tensorflow"])
def test_without_tensorflow_it_is_said_what_to_install(missing, empty_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(reader, "reachable", lambda: True)
    with fails(ImportError, "pip install", "tensorflow-datasets", ".npz"):
        load("mnist")


@pytest.fixture
def fake_builder(tmp_path, monkeypatch):
    """Prepares, in appearance, a data set `odd` with the features and splits that are given."""
    tf = pytest.importorskip("tensorflow")
    tfds = pytest.importorskip("tensorflow_datasets")

    def prepare(features, splits):
        write(tmp_path, {"odd/1.0.0/dataset_info.json": b""})
        tensors = {
            "image": tf.zeros((20, 4, 4, 1), tf.uint8),
            "label": tf.ones(20, tf.int64),
        }
        top = tfds.features.FeaturesDict(features(tfds.features))
        builder = types.SimpleNamespace(
            info=types.SimpleNamespace(
                name="odd",
                full_name="odd/1.0.0",
                features=top,
                splits={split: types.SimpleNamespace(num_examples=20) for split in splits},
            ),
            as_dataset=lambda split, batch_size, decoders, read_config: [
                [{key: tensors[key] for key in decoders.extract_features(top)}] for _ in split
            ],
            download_and_prepare=lambda **_: print("Preparing"),
            data_dir=tmp_path,
        )
        monkeypatch.setattr(tfds, "builder_from_directory", lambda folder: builder)
        monkeypatch.setattr(tfds, "builder", lambda name, data_dir: builder)
        monkeypatch.setattr(tfds, "list_builders", lambda **_: ["odd", "new"])
        return tmp_path

    return prepare


def test_all_splits_of_tensorflow_datasets_are_used(fake_builder):
    home = fake_builder(
        lambda f: {"image": f.Image(shape=(4, 4, 1)), "label": f.ClassLabel(names=["cat", "dog"])},
        ["train", "validation", "test", "extra"],
    )
    dataset = load("odd", home)
    assert len(dataset.train) == len(dataset.validation) == len(dataset.test) == 20
    assert dataset.class_names == ("cat", "dog")
    assert dataset.source == "TensorFlow Datasets odd/1.0.0"


def test_images_of_any_size_of_tensorflow_datasets_are_fitted(tmp_path):
    pytest.importorskip("tensorflow")
    tfds = pytest.importorskip("tensorflow_datasets")

    class AnySize(tfds.core.GeneratorBasedBuilder):
        """Images whose sizes differ."""

        name = "any_size"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(),
                "label": tfds.features.ClassLabel(names=["dark", "light"]),
            }
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(12), "test": self._generate_examples(3)}

        def _generate_examples(self, count):
            for i in range(count):
                shape = (40 + i, 50 - i, 3)
                yield i, {"image": np.full(shape, 200 * (i % 2), "uint8"), "label": i % 2}

    AnySize(data_dir=tmp_path).download_and_prepare()
    dataset = load("any_size", tmp_path, image_size=16)
    assert dataset.image_shape == (16, 16, 1) and dataset.class_names == ("dark", "light")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (11, 1, 3)
    np.testing.assert_array_equal(dataset.train[:, 3, 3, 0], 200 * dataset.train_labels)
    assert "from 39×51 to 45×45 pixels are cropped to 16×16" in dataset.notice


def test_labels_that_are_no_classes_are_left_out(fake_builder):
    home = fake_builder(lambda f: {"image": f.Image(shape=(4, 4, 1)), "label": f.Text()}, ["train"])
    assert load("odd", home).train_labels is None


@pytest.mark.parametrize(
    ("features", "splits"),
    [
        (lambda f: {"text": f.Text()}, ["train"]),
        (lambda f: {"image": f.Image(shape=(4, 4, 1))}, ["test"]),
    ],
    ids=["no image", "no train"],
)
def test_data_sets_that_are_not_of_images_are_refused(features, splits, fake_builder):
    home = fake_builder(features, splits)
    with fails(ValueError, "'odd'", "feature 'image' and a split", "Found:"):
        load("odd", home)


def test_a_download_prints_nothing_to_stdout(fake_builder, monkeypatch, capsys):
    monkeypatch.setattr(reader, "reachable", lambda: True)
    home = fake_builder(lambda f: {"image": f.Image(shape=(4, 4, 1))}, ["train"])
    load("new", home)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Preparing" in captured.err


def test_a_failed_download_is_one_line_and_leaves_nothing(empty_dir, monkeypatch):
    pytest.importorskip("tensorflow")
    tfds = pytest.importorskip("tensorflow_datasets")

    def download_and_prepare(download_dir, download_config):
        (pathlib.Path(download_dir) / "half.tmp").touch()
        raise AssertionError("Checksum\nwrong")

    builder = types.SimpleNamespace(download_and_prepare=download_and_prepare)
    monkeypatch.setattr(reader, "reachable", lambda: True)
    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: builder)
    with fails(OSError, "mnist", empty_dir, "Checksum wrong"):
        load("mnist")
    assert not list(empty_dir.iterdir())
    assert load().name == "digits"


def test_the_newest_prepared_version_is_read(tmp_path):
    for version in ("3.0.1", "10.0.0", "9.1.0"):
        write(tmp_path, {f"mnist/{version}/dataset_info.json": b""})
    write(tmp_path, {"mnist/99.0.0.incomplete/dataset_info.json": b""})
    assert reader.prepared("mnist", tmp_path).name == "10.0.0"
    assert reader.prepared("mnist:9.*.*", tmp_path).name == "9.1.0"
    assert reader.prepared("mnist:4.0.0", tmp_path) is None


def test_one_of_several_configurations_must_be_named(tmp_path):
    for config in ("one", "two"):
        write(tmp_path, {f"many/{config}/1.0.0/dataset_info.json": b""})
    assert reader.prepared("many/two", tmp_path) == tmp_path / "many/two/1.0.0"
    with fails(ValueError, "many/one, many/two"):
        load("many", tmp_path)


# The network


def status(code):
    def urlopen(request, timeout):
        assert request.get_method() == "HEAD"
        raise urllib.error.HTTPError(request.full_url, code, "", {}, io.BytesIO())

    return urlopen


def no_route(request, timeout):
    raise urllib.error.URLError("no route")


@pytest.mark.parametrize("code", [400, 403, 503])
def test_any_status_is_an_answer(code, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", status(code))
    assert REACHABLE()


def test_a_refused_connection_is_no_answer(monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", no_route)
    assert not REACHABLE()


def test_a_network_that_hangs_is_given_up(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: released.wait())
    assert not REACHABLE(seconds=0.05)
    released.set()


def test_a_data_set_says_how_it_is_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("bars.npz", np.zeros((9, 4, 4), "uint8") + np.uint8(7))
    data = kvae.data.load("bars.npz")
    assert data.origin == str(tmp_path.resolve() / "bars.npz")
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(kvae.data.load(data.origin).train, data.train)
    assert kvae.data.load("digits").origin == "digits"


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_fitted_images_keep_a_plane_of_grey_and_the_order_of_channels(dtype):
    white = 255 if dtype == "uint8" else 1
    images = np.zeros((2, 8, 6, 3), dtype)
    images[0, ..., 1] = white
    fitted = kvae.data.fitted(images, (4, 12, 3))
    assert fitted.shape == (2, 4, 12, 3) and fitted.dtype == dtype
    np.testing.assert_allclose(fitted[0], np.broadcast_to([0, white, 0], (4, 12, 3)), atol=1e-6)


def test_halving_a_picture_averages():
    images = np.random.default_rng(0).random((1, 28, 28, 1), "float32")
    fitted = kvae.data.fitted(images, (14, 14, 1))
    np.testing.assert_allclose(fitted.mean(), images.mean(), atol=0.02)
    assert fitted.std() < images.std()


def test_images_that_fit_are_left_alone():
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), "uint8")
    np.testing.assert_array_equal(kvae.data.fitted(images, (4, 4, 3)), images)


def test_grey_and_colour_are_exchanged_where_nothing_is_lost():
    grey = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1), "uint8")
    colour = kvae.data.fitted(grey, (4, 4, 3))
    np.testing.assert_array_equal(kvae.data.fitted(colour, (4, 4, 1)), grey)
    with pytest.raises(ValueError, match="takes images of grey. Received: images of colour"):
        kvae.data.fitted(colour + np.array([0, 0, 1], "uint8"), (4, 4, 1))


@pytest.mark.parametrize("size", [(5, 3), (11, 13)])
def test_resized_floats_stay_in_the_unit_interval(size):
    whites = from_arrays(np.ones((30, 7, 9, 1), "float32"))
    images = kvae.data.resized(whites, *size).train
    assert images.shape[1:] == (*size, 1) and images.dtype == np.float32
    assert images.max() <= 1 and images.min() > 0.999
