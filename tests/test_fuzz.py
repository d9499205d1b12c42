"""Damaged files and odd options, made at random: the answer is one line, or it works.

    KVAE_FUZZ=700 python -m pytest -m "" tests/test_fuzz.py

says how many of each kind are tried; a few are in every run. What was found is tried again first.
"""

import io
import json
import os
import pathlib
import time
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

import kvae

MANY = int(os.environ.get("KVAE_FUZZ", 0))
SECONDS = 20  # that an answer may take
PLAIN = (ValueError, OSError)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Skipping"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore:.*overflow encountered"),  # of an epsilon of 1e38, say
]


@pytest.fixture(scope="module", autouse=True)
def examples(request):
    """What failed before is in pytest's cache, not in the folder that one is in."""
    cache = request.config.cache
    database = DirectoryBasedExampleDatabase(cache.mkdir("examples")) if MANY and cache else None
    settings.register_profile(
        "kvae",
        max_examples=MANY or 40,
        database=database,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=not MANY,
    )
    settings.load_profile("kvae")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def answered(call, *given, **arguments):
    """Asserts that a call returns, or is refused in one printable line, and soon."""
    begun = time.monotonic()
    try:
        return call(*given, **arguments)
    except PLAIN as error:
        assert str(error).isprintable() and str(error), repr(error)
        assert len(str(error)) < 2_000, str(error)
    finally:
        assert time.monotonic() - begun < SECONDS
    return None


@st.composite
def damages(draw):
    """A function that damages bytes: some are changed, cut out, doubled or put in."""
    changes = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["set", "cut", "double", "insert", "zero"]),
                st.floats(0, 1),
                st.binary(min_size=1, max_size=8),
                st.integers(1, 4_000),
            ),
            min_size=1,
            max_size=4,
        )
    )

    def damage(content):
        for kind, where, some, length in changes:
            start = int(where * len(content))
            before, after = content[:start], content[start:]
            content = {
                "set": before + some + after[len(some) :],
                "cut": before + after[length:],
                "double": before + after[:length] + after,
                "insert": before + some + after,
                "zero": before + bytes(min(length, len(after))) + after[length:],
            }[kind]
        return content

    return damage


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["__class__", "keras", "\x1b[31m", "\u202e", "float16", "Dense"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def members(make_vae, folder):
    """What is in a model's file."""
    make_vae().save(folder / "whole.keras")
    with zipfile.ZipFile(folder / "whole.keras") as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.mark.parametrize("name", [None, "metadata.json", "config.json", "model.weights.h5"])
def test_a_damaged_model_is_refused_or_opened(members, folder, name):
    path = folder / f"{name}.keras"

    @given(damages())
    def check(damage):
        if name is None:
            path.write_bytes(damage((folder / "whole.keras").read_bytes()))
        else:
            with zipfile.ZipFile(path, "w") as file:
                for one, content in members.items():
                    file.writestr(one, damage(content) if one == name else content)
        answered(kvae.load, path)

    check()


def places(value, path=()):
    """Every place in a tree of JSON."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in inner if isinstance(value, (dict, list)) else ():
        if isinstance(one, (dict, list)):
            yield from places(one, (*path, key))
        else:
            yield (*path, key)


def test_a_configuration_with_other_values_is_refused_or_opened(members, folder):
    whole = json.loads(members["config.json"])
    every = [place for place in places(whole) if place]
    path = folder / "changed.keras"

    @given(st.lists(st.tuples(st.sampled_from(every), VALUES), min_size=1, max_size=3))
    def check(changes):
        config = json.loads(members["config.json"])
        for place, value in changes:
            inner = config
            try:
                for key in place[:-1]:
                    inner = inner[key]
                inner[place[-1]] = value
            except (TypeError, KeyError, IndexError):  # an earlier change took it away
                continue
        with zipfile.ZipFile(path, "w") as file:
            for one, content in members.items():
                file.writestr(one, json.dumps(config) if one == "config.json" else content)
        vae = answered(kvae.load, path)
        if vae is not None:
            answered(vae.generate, 1, seed=0)

    check()


def contents():
    """Small files of data, by name."""
    from PIL import Image

    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8)).astype("uint8")
    found = {}
    for name, save in {
        "a.npz": lambda file: np.savez(file, x_train=images, y_train=np.arange(12)),
        "b.npz": lambda file: np.savez_compressed(file, images),
        "a.npy": lambda file: np.save(file, images),
        "a.png": lambda file: Image.fromarray(images[0]).save(file, "png"),
        "a.jpg": lambda file: Image.fromarray(images[0]).save(file, "jpeg"),
        "a.bmp": lambda file: Image.fromarray(images[0]).save(file, "bmp"),
    }.items():
        file = io.BytesIO()
        save(file)
        found[name] = file.getvalue()
    header = (0x0803).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in images.shape)
    found["train-images-idx3-ubyte"] = header + images.tobytes()
    return found


@pytest.mark.parametrize("name", list(contents()))
def test_damaged_data_are_refused_or_read(tmp_path, name):
    content = contents()[name]
    place = tmp_path / "images"
    place.mkdir()
    path = place / name

    @given(damages())
    def check(damage):
        path.write_bytes(damage(content))
        answered(kvae.data.load, path if name.endswith((".npz", ".npy")) else place)

    check()


@pytest.mark.parametrize("name", ["history.csv", "latents.csv"])
def test_a_damaged_history_is_refused_or_drawn(tmp_path, name):
    from kvae.drawing import charts

    content = b"epoch,loss,val_loss\r\n1,2.5,3\r\n2,2.25,2.75\r\n"
    path = tmp_path / name

    @given(damages())
    def check(damage):
        path.write_bytes(damage(content))
        answered(charts.read_columns, path)

    check()


@pytest.mark.parametrize("field", [field for field in kvae.Recipe.__dataclass_fields__])
def test_a_setting_of_any_value_is_taken_or_refused(field):
    @settings(max_examples=max(MANY // 20, 20))
    @given(VALUES)
    def check(value):
        answered(kvae.presets.get("mlp-400").replaced, **{field: value})

    check()


def test_any_count_seed_and_temperature_gives_images_or_a_line(make_vae):
    vae = make_vae()
    numbers = st.integers(-3, 40) | st.integers(10**9, 10**30) | st.floats() | st.none()

    @given(numbers, numbers, numbers)
    def check(count, seed, temperature):
        answered(vae.generate, count, seed=seed, temperature=temperature)

    check()


def test_nothing_is_left_behind(folder):
    assert {path.suffix for path in pathlib.Path(folder).iterdir()} <= {".keras"}
