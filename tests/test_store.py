"""More than memory: mapped files that are made once, read again, and never half-written."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import kvae
from kvae.data import decoding, load, workers
from kvae.data.fitting import Fitting
from kvae.data.store import Cache
from kvae.limits import pieces, release


@pytest.fixture
def folder(tmp_path):
    """A folder of 40 pictures in two classes."""
    rng = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype("uint8")).save(path)
    return tmp_path / "photos"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Where mapped files go by default."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "kvae"


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr("kvae.limits.available_memory", lambda: 1000)


def same(one, other):
    """Whether two data sets have the same images, labels and classes."""
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(one, split), getattr(other, split))
        labels = f"{split}_labels"
        np.testing.assert_array_equal(getattr(one, labels), getattr(other, labels))
    assert one.class_names == other.class_names and one.fitting == other.fitting
    return True


def test_what_does_not_fit_memory_is_mapped_and_said_to_be(folder, home, monkeypatch):
    in_memory = load(folder)
    assert not home.exists()
    monkeypatch.setattr("kvae.limits.available_memory", lambda: 1000)
    mapped = load(folder)
    assert same(in_memory, mapped) and isinstance(mapped.train, np.memmap)
    assert "40 images, 7,680 bytes, are kept in" in mapped.notice and str(home) in mapped.notice


def test_mapped_files_are_read_again_without_decoding(folder, home, little_memory, monkeypatch):
    first = load(folder)
    monkeypatch.setattr(decoding, "opened_picture", lambda _: pytest.fail("It decodes again"))
    second = load(folder)
    assert same(first, second) and "are read from" in second.notice
    assert len(list(home.iterdir())) == 1


@pytest.mark.parametrize("change", ["a file", "a new file", "a name", "the size", "the fit"])
def test_another_content_or_fitting_is_decoded_anew(folder, tmp_path, change):
    load(folder, cache_dir=tmp_path / "cache")
    settings = {}
    first = folder / "a" / "00.png"
    if change == "a file":
        Image.new("RGB", (8, 8), "red").save(first)
    elif change == "a new file":
        Image.new("RGB", (8, 8)).save(folder / "a" / "zz.png")
    elif change == "a name":
        first.rename(folder / "b" / "00.png")
    else:
        settings = {"image_size": 4} if change == "the size" else {"fit": "pad"}
    again = load(folder, cache_dir=tmp_path / "cache", **settings)
    assert same(again, load(folder, **settings))
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_nothing_can_be_written_into_mapped_files(folder, tmp_path):
    dataset = load(folder, cache_dir=tmp_path / "cache")
    with pytest.raises(ValueError, match="read-only"):
        dataset.train[0] = 0


def test_all_verbs_take_mapped_images(folder, tmp_path):
    dataset = load(folder, cache_dir=tmp_path / "cache")
    vae = kvae.VAE.from_preset("mlp-400", dataset.image_shape, latent_dim=2)
    vae.compile("adam")
    vae.fit(dataset.train, validation_data=(dataset.validation,), batch_size=8, verbose=0)
    vae.evaluate(dataset.test, verbose=0)
    vae.predict(dataset.test, verbose=0)
    images = np.array(dataset.train)
    np.testing.assert_array_equal(vae.encode(dataset.train)[0], vae.encode(images)[0])
    np.testing.assert_array_equal(vae.reconstruct(dataset.train), vae.reconstruct(images))
    found, expected = (vae.score(x, draws=2).log_prob for x in (dataset.train, images))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("damage", ["facts", "cut", "gone", "other"])
def test_damaged_files_are_made_anew(folder, tmp_path, damage):
    load(folder, cache_dir=tmp_path / "cache")
    (place,) = (tmp_path / "cache").iterdir()
    if damage == "facts":
        (place / "facts.json").write_text("{")
    elif damage == "cut":
        os.truncate(place / "train.npy", 200)
    elif damage == "gone":
        (place / "test.npy").unlink()
    else:
        np.save(place / "train.npy", np.zeros((3, 8, 8, 3), "float32"))
    assert same(load(folder, cache_dir=tmp_path / "cache"), load(folder))
    assert [one.name for one in (tmp_path / "cache").iterdir()] == [place.name]


def test_a_read_that_fails_leaves_nothing(folder, tmp_path, monkeypatch):
    def fails(done, total):
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(folder, cache_dir=tmp_path / "cache", progress=fails)
    assert not list((tmp_path / "cache").iterdir())


def test_a_place_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file cannot be written.*--cache-dir"):
        load(folder, cache_dir=tmp_path / "file")


def test_files_that_cannot_be_read_are_left_out_of_mapped_files_too(folder, tmp_path):
    content = (folder / "a" / "04.png").read_bytes()
    for name in ("04", "20", "38"):
        (folder / "a" / f"{name}.png").write_bytes(content[:-30])
    in_memory = load(folder, skip_bad=True)
    mapped = load(folder, skip_bad=True, cache_dir=tmp_path / "cache")
    assert same(in_memory, mapped)
    again = load(folder, skip_bad=True, cache_dir=tmp_path / "cache")
    assert same(in_memory, again)
    for dataset in (in_memory, mapped, again):
        images = sum(len(getattr(dataset, split)) for split in ("train", "validation", "test"))
        assert images == 37
        assert "3 files that cannot be read are left out: a/04.png, a/20.png" in dataset.notice


def test_two_that_write_at_once_get_the_same(tmp_path):
    """The second finds the name taken, and reads what the first has written."""
    shapes = {"train": (2, 1, 1, 1)}
    caches = [Cache(tmp_path, "x", "key") for _ in range(2)]
    for cache in caches:
        cache.begin(shapes)["train"][:] = 7
    facts = {"labels": {"train": None}}
    results = [cache.end(shapes, dict(facts))["train"] for cache in caches]
    np.testing.assert_array_equal(*results)
    assert [one.name for one in tmp_path.iterdir()] == ["x-key"]
    assert json.loads((tmp_path / "x-key" / "facts.json").read_text())["format"] == 1


def test_mapped_images_train_as_those_in_memory(folder, tmp_path):
    arguments = {"epochs": 2, "verbose": 0, "latent_dim": 2, "batch_size": 7}
    curves = []
    for cache_dir in (None, tmp_path / "cache"):
        dataset = load(folder, cache_dir=cache_dir)
        vae = kvae.train(dataset, "mlp-400", out=tmp_path / "vae.keras", **arguments)
        curves.append((vae.card["test"]["elbo"], (tmp_path / "vae/history.csv").read_text()))
    assert curves[0] == curves[1]


# Memory


def resident():
    """The bytes of memory that this process has of mapped files."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[2])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_memory_lets_go_of_a_mapped_file(tmp_path):
    size = 2**26
    np.save(tmp_path / "x.npy", np.ones(size, "uint8").reshape(64, -1))
    array = np.load(tmp_path / "x.npy", mmap_mode="r")
    before = resident()
    assert array.sum() == size
    assert resident() > before + size // 2
    release(array)
    assert resident() < before + size // 8
    assert sum(int(piece.sum()) for piece in pieces(array, 2**22)) == size
    assert resident() < before + size // 4


# Processes


def bytes_of(folder):
    return [(i, path.read_bytes()) for i, path in enumerate(sorted(folder.rglob("*.png")))]


def test_processes_decode_as_this_one_does_and_say_what_fails(folder, monkeypatch):
    contents = [*bytes_of(folder), (40, b"no image"), (41, "it was not there")]
    alone = dict(workers.decoded_all(contents, 0, Fitting(image_size=4)))
    monkeypatch.setattr(workers, "FEW", 0)
    monkeypatch.setattr(workers, "CHUNK", 500)
    monkeypatch.setattr(workers, "cores", lambda: 2)
    together = dict(workers.decoded_all(contents, 1, Fitting(image_size=4)))
    assert together.keys() == alone.keys() == set(range(42))
    for number, pixels in alone.items():
        np.testing.assert_array_equal(together[number], pixels)
    assert (together[40], together[41]) == ("it is of no such format", "it was not there")


def test_a_process_that_dies_is_said_to_have(folder, monkeypatch):
    monkeypatch.setattr(workers, "FEW", 0)
    monkeypatch.setattr(workers, "cores", lambda: 2)
    monkeypatch.setattr(workers, "PROGRAM", "import os; os._exit(1)")
    with pytest.raises(OSError, match="A process that decodes images came to an end"):
        list(workers.decoded_all(bytes_of(folder), 1, Fitting()))


def test_processes_end_where_the_reader_stops(folder, monkeypatch):
    monkeypatch.setattr(workers, "FEW", 0)
    monkeypatch.setattr(workers, "CHUNK", 500)
    monkeypatch.setattr(workers, "cores", lambda: 2)
    pools = []
    start = workers.Pool.start
    monkeypatch.setattr(workers.Pool, "start", lambda self: pools.append(start(self)) or pools[-1])
    for _ in workers.decoded_all(bytes_of(folder), 1, Fitting()):
        break
    assert pools and all(process.poll() is not None for process in pools)


def test_a_process_knows_nothing_of_keras(folder):
    program = workers.PROGRAM.replace("work(sys.stdin", "print('keras' in sys.modules) #")
    package = str(pathlib.Path(kvae.__file__).parent)
    command = [sys.executable, "-c", program, package, *sys.path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
