"""Arrays that memory does not hold: they are mapped, and are the same images in the same splits."""

import numpy as np
import pytest
from marks import once

import kvae
from kvae.data import load

pytestmark = once
SPLITS = ("train", "validation", "test")
BYTES = np.random.default_rng(0).integers(0, 256, (60, 6, 5, 3)).astype("uint8")
LABELS = np.arange(60) % 4


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Where mapped files go by default."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "kvae"


@pytest.fixture
def little_memory(monkeypatch):
    """A function after whose call there is little memory; of small images are many blocks."""

    def begin():
        monkeypatch.setattr("kvae.limits.available_memory", lambda: 10_000)
        monkeypatch.setattr("kvae.data.numpy_files.PIECE", 500)

    return begin


def assert_same(one, other):
    for split in SPLITS:
        np.testing.assert_array_equal(getattr(one, split), getattr(other, split))
        assert getattr(one, split).dtype == getattr(other, split).dtype
        labels = f"{split}_labels"
        np.testing.assert_array_equal(getattr(one, labels), getattr(other, labels))
    assert (one.name, one.fitting, one.origin) == (other.name, other.fitting, other.origin)


WRITERS = {
    "bytes": lambda path: np.save(path / "x.npy", BYTES),
    "grey": lambda path: np.save(path / "x.npy", BYTES[..., 0].repeat(20, axis=2)),
    "integers": lambda path: np.save(path / "x.npy", BYTES.astype("int64")),
    "floats": lambda path: np.save(path / "x.npy", BYTES / 255),
    "big endian": lambda path: np.save(path / "x.npy", (BYTES / 255).astype(">f4")),
    "bool": lambda path: np.save(path / "x.npy", (BYTES > 127).repeat(2, axis=2)),
    "single": lambda path: np.savez(path / "x.npz", BYTES),
    "labels": lambda path: np.savez(path / "x.npz", x_train=BYTES, y_train=LABELS),
    "packed": lambda path: np.savez_compressed(
        path / "x.npz", x_train=BYTES, y_train=LABELS, x_test=BYTES[:20], y_test=LABELS[:20]
    ),
    "splits": lambda path: np.savez(
        path / "x.npz", x_train=BYTES, x_val=BYTES[5:17], x_test=BYTES[:20]
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_mapped_and_is_as_in_memory(name, tmp_path, home, little_memory):
    WRITERS[name](tmp_path)
    (path,) = tmp_path.glob("x.np*")
    in_memory = load(path)
    assert not home.exists() and in_memory.notice == ""
    little_memory()
    for said in ("do not fit in memory; --cache-dir", "The decoded images are read from"):
        mapped = load(path)
        assert_same(mapped, in_memory)
        assert isinstance(mapped.train, np.memmap) and not mapped.train.flags.writeable
        assert said in mapped.notice and str(home) in mapped.notice
    assert len(list(home.iterdir())) == 1


def test_a_file_that_has_changed_is_read_anew_and_goes_where_it_shall(tmp_path, little_memory):
    little_memory()
    for images in (BYTES, BYTES[::-1]):
        np.save(tmp_path / "x.npy", images)
        found = load(tmp_path / "x.npy", cache_dir=tmp_path / "mine")
        assert found.train[0, 0, 0, 0] in images[:3, 0, 0, 0]
    assert len(list((tmp_path / "mine").iterdir())) == 2


def spoilt(value, dtype="float32"):
    images = (BYTES / 255).astype(dtype) if dtype == "float32" else BYTES.astype(dtype)
    images[-1, 0, 0, 0] = value
    return images


@pytest.mark.parametrize(
    "images, said",
    [
        (spoilt(np.nan), "1 values that are NaN"),
        (spoilt(255), "Divide them by 255"),
        (spoilt(-1), "(images + 1) / 2"),
        (spoilt(300, "int32"), "0…255"),
        (BYTES.transpose(0, 3, 1, 2).repeat(3, 3), "channels last"),
        (BYTES.astype(complex), "complex128"),
        (BYTES.reshape(-1), "must have shape"),
        (np.asfortranarray(BYTES), "numpy.ascontiguousarray"),
        (np.arange(30_000, dtype="int16").reshape(-1, 10, 10) % 2, "Pass bool"),
    ],
)
def test_what_cannot_be_images_is_refused_and_nothing_is_left(
    images, said, tmp_path, home, little_memory
):
    np.save(tmp_path / "x.npy", images)
    little_memory()
    with pytest.raises(ValueError) as caught:
        load(tmp_path / "x.npy")
    assert said in str(caught.value) and str(caught.value).isprintable()
    assert not home.exists() or not list(home.iterdir())


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_file_that_is_cut_off_or_damaged_is_refused(suffix, tmp_path, home, little_memory):
    path = tmp_path / f"x.{suffix}"
    (np.save if suffix == "npy" else np.savez)(path, BYTES)
    content = bytearray(path.read_bytes())
    little_memory()
    path.write_bytes(content[:-3000])
    with pytest.raises(ValueError, match="damaged"):
        load(path)
    if suffix == "npz":  # it has a checksum
        content[5000] ^= 255
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged"):
            load(path)
    assert not home.exists() or not list(home.iterdir())


def test_labels_that_do_not_fit_are_refused(tmp_path, little_memory):
    np.savez(tmp_path / "x.npz", x_train=BYTES, y_train=np.zeros(50_000, "int64"))
    little_memory()
    with pytest.raises(ValueError, match="of memory"):
        load(tmp_path / "x.npz")


def test_a_size_is_made_in_pieces_of_what_is_mapped(tmp_path, little_memory):
    np.save(tmp_path / "x.npy", BYTES)
    expected = load(tmp_path / "x.npy", image_size=4, channels="grey")
    little_memory()
    found = load(tmp_path / "x.npy", image_size=4, channels="grey")
    np.testing.assert_array_equal(found.train, expected.train)
    with pytest.raises(ValueError, match="would need .* of memory"):
        load(tmp_path / "x.npy", image_size=200)


def test_a_mapped_array_that_would_be_copied_is_refused_with_the_way(tmp_path, little_memory):
    np.save(tmp_path / "x.npy", BYTES.repeat(2, axis=0))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    little_memory()
    with pytest.raises(ValueError, match="kvae.data.load"):
        kvae.data.from_arrays(mapped)
    with pytest.raises(ValueError, match="kvae.data.load"):
        load(mapped)
    dataset = kvae.data.from_arrays(mapped, validation=mapped[:5], test=mapped[5:9])
    assert np.shares_memory(dataset.train, mapped)


@pytest.mark.slow
def test_mnist_is_mapped_where_it_does_not_fit(mnist, mnist_dir, home, monkeypatch):
    monkeypatch.setattr("kvae.limits.available_memory", lambda: 2**24)
    for _ in range(2):
        assert_same(load("mnist", mnist_dir), mnist)
    assert len(list(home.iterdir())) == 1
