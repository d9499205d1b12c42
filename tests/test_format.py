"""Files of every format, written by every backend, open for ever: this test is never deleted."""

import json
import pathlib
import sys
import zipfile

import keras
import numpy as np
import pytest
from keras import ops

import kvae
from kvae.model.format import FORMAT

FILES = pathlib.Path(__file__).parent / "files"
sys.path.insert(0, str(FILES))
import make  # noqa: E402

SAVED = sorted(FILES.glob("format-*/*.keras"))


def quick(path):
    """Whether a file is opened in every run: of each format each kind once, in turn of each writer.

    All are opened where slow tests run, too.
    """
    backend, _, kind = path.stem.partition("-")
    names = [other.stem.partition("-") for other in SAVED if other.parent == path.parent]
    writers, kinds = (sorted({name[i] for name in names}) for i in (0, 2))
    return writers[kinds.index(kind) % len(writers)] == backend


def files(paths):
    """Files as arguments of a test."""
    return pytest.mark.parametrize(
        "path",
        [pytest.param(path, marks=() if quick(path) else pytest.mark.slow) for path in paths],
        ids=[f"{path.parent.name}/{path.stem}" for path in paths],
    )


@files(SAVED)
def test_a_file_opens_and_answers_as_it_did(path):
    backend, _, kind = path.stem.partition("-")
    expected = json.loads((path.parent / f"{backend}.json").read_text())[kind]
    vae = kvae.load(path)
    found = make.answers(vae)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-3, err_msg=name)
    assert vae.card["dataset"] == "noise" and vae.card["backend"] == backend
    assert int(ops.convert_to_numpy(vae.optimizer.iterations)) == found["step"]


@files(SAVED[:: max(1, len(SAVED) // 6)])
def test_what_an_old_file_holds_trains_on_and_is_saved_in_the_format_of_today(path, tmp_path):
    vae = kvae.load(path)
    before = float(ops.convert_to_numpy(vae.step))
    logs = vae.train_on_batch(make.images(), make.told(vae), return_dict=True)
    assert np.isfinite(list(logs.values())).all()
    vae.save(tmp_path / "vae.keras")
    again = keras.saving.load_model(tmp_path / "vae.keras")
    assert float(ops.convert_to_numpy(again.step)) == before + 1
    assert again.get_config()["format"] == FORMAT
    found, expected = (one.encode(make.images(), classes=make.told(vae)) for one in (again, vae))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_there_is_a_file_of_every_kind_of_every_backend():
    folder = FILES / f"format-{FORMAT}"
    wanted = {f"{b}-{kind}" for b in ("tensorflow", "jax", "torch") for kind in make.KINDS}
    assert wanted <= {path.stem for path in folder.glob("*.keras")}
    held = "".join(
        zipfile.ZipFile(path).read("config.json").decode()
        for path in folder.glob(f"{keras.backend.backend()}-*.keras")
    )
    kinds = [
        *kvae.likelihoods.LIKELIHOODS.values(),
        *kvae.priors.PRIORS.values(),
        *kvae.objectives.OBJECTIVES.values(),
    ]
    for kind in kinds:
        assert f"kvae>{kind.__name__}" in held, f"no file holds a {kind.__name__}"
    assert '"classes": 3' in held and '"partly_labelled": true' in held
    networks = {name for (name, _), *_ in make.KINDS.values()}
    assert networks == set(kvae.networks.NETWORKS)


def test_a_file_of_a_later_format_says_so(make_vae):
    config = make_vae().get_config() | {"format": FORMAT + 1}
    with pytest.raises(
        ValueError, match=f"format {FORMAT + 1}, .* up to {FORMAT}. Install a later"
    ):
        kvae.VAE.from_config(config)
