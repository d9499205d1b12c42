"""Model files from strangers: whatever they are, the answer is one line, and takes no memory."""

import io
import json
import os
import pathlib
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

import kvae
from kvae.model import archive

pytestmark = pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
CONFIG, WEIGHTS = archive.CONFIG, archive.WEIGHTS
BOMB = 2**22  # bytes of what is large here


@pytest.fixture(scope="module")
def saved(make_vae, tmp_path_factory):
    """The members of a model's file."""
    path = tmp_path_factory.mktemp("saved") / "vae.keras"
    make_vae().save(path)
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def written(path, members, packed=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", packed) as file:
        for name, content in members.items():
            if content is not None:
                file.writestr(name, content)
    return path


def config(saved, change):
    content = json.loads(saved[CONFIG])
    change(content["config"])
    return {CONFIG: json.dumps(content)}


def layer(config, part="encoder"):
    """The settings of the first dense layer."""
    every = config[part]["config"]["layers"]
    return next(one["config"] for one in every if "units" in one["config"])


def weights(saved, change):
    file = io.BytesIO(saved[WEIGHTS])
    with h5py.File(file, "r+") as store:
        names = []
        store.visititems(lambda name, one: names.append(name) if hasattr(one, "shape") else None)
        name = next(name for name in names if store[name].size > 10)
        change(store, name)
    return {WEIGHTS: file.getvalue()}


def replaced(store, name, shape, **arguments):
    del store[name]
    store.create_dataset(name, shape, "float32", **arguments)


def linked(store, name):
    del store[name]
    store[name] = h5py.ExternalLink("other.h5", "/weights")


def texts(store, name):
    del store[name]
    store[name] = np.array([b"text"] * 8)


def nested(levels):
    inner = {"layers": []}
    for _ in range(levels):
        inner = {"class_name": "Sequential", "config": {"layers": [inner]}}
    return inner


CONTENTS = {
    "a list": (lambda s: {CONFIG: "[]"}, "holds no configuration"),
    "null": (lambda s: {CONFIG: "null"}, "holds no configuration"),
    "deep": (lambda s: {CONFIG: "[" * 10_000 + "]" * 10_000}, "is damaged|more than 100 levels"),
    "no json": (lambda s: {CONFIG: "{"}, "is damaged"),
    "no text": (lambda s: {CONFIG: b"\xff\xfe"}, "is damaged"),
    "levels": (
        lambda s: config(s, lambda c: c.update(encoder=nested(40))),
        "configuration has more than 100 levels",
    ),
    "objects": (
        lambda s: config(s, lambda c: c.update(card=[{"class_name": "X"}] * 5_001)),
        "has 5,... objects, and may have 5,000",
    ),
    "no configuration": (lambda s: {CONFIG: None}, "has no config.json"),
    "no weights": (lambda s: {WEIGHTS: None}, "has no model.weights.h5"),
    "other members": (lambda s: {"assets/../../x": b"x"}, "has 1 members that a model of kvae"),
    "wide": (
        lambda s: config(s, lambda c: layer(c).update(units=5_000_000)),
        "would have more weights than the file",
    ),
    "many layers": (
        lambda s: config(s, lambda c: c["prior"]["config"].update(latent_dim=10**9)),
        "cannot be loaded: .",
    ),
    "no layers": (
        lambda s: config(s, lambda c: c["encoder"]["config"].update(layers=None)),
        "Functional: 'NoneType' object is not iterable",
    ),
    "an escape": (
        lambda s: config(s, lambda c: c["encoder"].update(class_name="\x1b[31m\u202eX")),
        "\ufffd\\[31m\ufffdX",
    ),
    "no hdf5": (lambda s: {WEIGHTS: b"nonsense" * 100}, "is damaged"),
    "declared": (
        lambda s: weights(s, lambda h, name: replaced(h, name, (60_000, 60_000))),
        "weights are larger than the file",
    ),
    "filtered": (
        lambda s: weights(s, lambda h, name: replaced(h, name, (9, 9), compression="gzip")),
        "weights are larger than the file",
    ),
    "linked": (lambda s: weights(s, linked), "refer to other files"),
    "texts": (lambda s: weights(s, texts), "are not all numbers"),
    "nan": (
        lambda s: weights(s, lambda h, name: h[name].__setitem__(0, np.nan)),
        "has values that are NaN or infinite",
    ),
    "missing": (
        lambda s: weights(s, lambda h, name: h.__delitem__("decoder")),
        "<Dense .*>: Layer '.*' expected 2 variables, but received 0",
    ),
}


@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.parametrize("fault", CONTENTS)
def test_what_is_wrong_with_a_file_is_said_in_a_line(saved, tmp_path, fault):
    change, said = CONTENTS[fault]
    path = written(tmp_path / "vae.keras", {**saved, **change(saved)})
    with pytest.raises(ValueError, match=said) as caught:
        kvae.load(path)
    assert str(path) in str(caught.value) and str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_what_would_unpack_to_much_more_is_not_unpacked(saved, tmp_path, monkeypatch, name):
    monkeypatch.setattr(archive, "SMALL", 2**20)
    path = written(tmp_path / "vae.keras", {**saved, name: bytes(BOMB)}, zipfile.ZIP_DEFLATED)
    refused_without_memory(path, f"its {name} would unpack from .* to 4.0 MiB")


def test_a_configuration_of_megabytes_is_not_read(saved, tmp_path, monkeypatch):
    monkeypatch.setitem(archive.MOST_BYTES, CONFIG, 2**20)
    path = written(tmp_path / "vae.keras", {**saved, CONFIG: bytes(BOMB)})
    refused_without_memory(path, "its config.json has 4.0 MiB")


def test_an_archive_of_very_many_members_is_not_listed(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_OF_DIRECTORY", 70_000)
    path = written(tmp_path / "vae.keras", {**saved, **{f"{i}.txt": b"" for i in range(3_000)}})
    refused_without_memory(path, "is not a .keras file, or is damaged")


def test_weights_that_do_not_fit_the_memory_are_not_read(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "available_memory", lambda: 1_000)
    path = written(tmp_path / "vae.keras", saved)
    refused_without_memory(path, "its weights have .*, and 1,000 bytes of memory are available")


def refused_without_memory(path, said):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=said):
            kvae.load(path)
        assert tracemalloc.get_traced_memory()[1] < BOMB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packed", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_unusual_compression_is_refused(saved, tmp_path, packed):
    path = written(tmp_path / "vae.keras", saved, packed)
    with pytest.raises(ValueError, match="packed in a way that Keras does not use"):
        kvae.load(path)


def test_an_archive_that_was_packed_anew_is_opened(saved, tmp_path, images):
    path = written(tmp_path / "vae.keras", saved, zipfile.ZIP_DEFLATED)
    assert kvae.load(path).generate(2, seed=0).shape == (2, 8, 8, 1)


def test_an_encrypted_archive_is_refused(saved, tmp_path):
    path = written(tmp_path / "vae.keras", saved)
    content = bytearray(path.read_bytes())
    start = 0
    while (start := content.find(b"PK\x01\x02", start)) >= 0:
        content[start + 8] |= archive.ENCRYPTED
        start += 4
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="it is encrypted"):
        kvae.load(path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x05\x06" + bytes(18), b"PK\x03\x04"])
def test_what_is_no_archive_is_said_to_be_none(tmp_path, content):
    path = tmp_path / "vae.keras"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a .keras file, or is damaged|has no config"):
        kvae.load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "vae.keras")
    with pytest.raises(FileNotFoundError, match="There is no model"):
        kvae.load(tmp_path / "vae.keras")


def test_a_folder_is_looked_at_too(make_vae, tmp_path):
    make_vae().save(tmp_path / "vae", zipped=False)
    kvae.load(tmp_path / "vae")
    (tmp_path / "vae" / WEIGHTS).unlink()
    with pytest.raises(ValueError, match="has no model.weights.h5"):
        kvae.load(tmp_path / "vae")


# Cards -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("origin", 5, "a text"),
        ("preset", ["mlp"], "a text"),
        ("class_names", "0123", "a list of texts"),
        ("class_names", [1, 2], "a list of texts"),
        ("images", [1], "a dict"),
        ("recipe", "mlp", "a dict"),
        ("epochs", True, "an integer"),
        ("epochs", "10", "an integer"),
        ("fit_seconds", float("nan"), "a number"),
    ],
)
def test_a_card_of_other_kinds_is_refused(saved, tmp_path, name, value, what):
    changed = config(saved, lambda c: c["card"].update({name: value}))
    path = written(tmp_path / "vae.keras", {**saved, **changed})
    with pytest.raises(ValueError, match=f"'{name}' of the model's card must be {what}"):
        kvae.load(path)


def test_a_card_says_nothing_that_a_terminal_would_obey(saved, tmp_path):
    strange = {"dataset": "\x1b]0;mine\x07\u202etxt.exe\u2066", "note": {"by\n": ["a" * 10_000]}}
    changed = config(saved, lambda c: c["card"].update(strange))
    card = kvae.load(written(tmp_path / "vae.keras", {**saved, **changed})).card
    assert card["dataset"].isprintable() and "txt.exe" in card["dataset"]
    assert len(card["note"]["by"][0]) == 2_000


def test_a_card_does_not_change_what_the_model_is(saved, tmp_path):
    lies = {"latent_dim": 10**9, "image_shape": "large", "protocol": 7}
    changed = config(saved, lambda c: c["card"].update(lies))
    vae = kvae.load(written(tmp_path / "vae.keras", {**saved, **changed}))
    assert (vae.card["latent_dim"], vae.card["image_shape"]) == (3, [8, 8, 1])
    assert vae.card["protocol"] == vae.likelihood.protocol


def test_a_card_is_a_dict(make_vae):
    with pytest.raises(ValueError, match="card must be a dict. Received: list"):
        make_vae(card=["mine"])
    assert pathlib.PurePath(make_vae(card={"dataset": "mine"}).card["dataset"]).name == "mine"


@pytest.mark.parametrize("value", [[], "small", {}, [1e-6]])
def test_what_is_no_number_in_a_layer_is_refused_when_the_file_is_opened(saved, tmp_path, value):
    """Keras builds such a layer, and would fail when it is used."""

    def change(content):
        for one in content["encoder"]["config"]["layers"]:
            if "epsilon" in one["config"]:
                one["config"]["epsilon"] = value

    path = written(tmp_path / "x.keras", {**saved, **config(saved, change)})
    with pytest.raises(ValueError, match="`epsilon` of the layer .* must be a number") as caught:
        kvae.load(path)
    assert str(caught.value).isprintable()
