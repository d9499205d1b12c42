"""The wheel carries all that the command needs, and works from another folder."""

import email
import os
import pathlib
import shutil
import subprocess
import sys
import venv
import zipfile

import numpy as np
import pytest

from kvae.shipped import SHIPPED

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parents[1]
USER = """
import numpy as np

import kvae

data = kvae.data.load("digits")
vae = kvae.VAE.from_preset("mlp", data.image_shape)
reveal_type(vae)
reveal_type(kvae.load("mnist"))
reveal_type(kvae.VAE(vae.encoder, vae.decoder))
scores = vae.score(data.test)
mean: np.ndarray = scores.elbo
scores.elbow
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("kvae", "cli", "saved_models"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", target, source], check=True, capture_output=True)
    (file,) = target.glob("*.whl")
    return file


def test_it_is_called_keras_vae_and_has_every_module(wheel):
    assert wheel.name.startswith("keras_vae-")
    files = set(zipfile.ZipFile(wheel).namelist())
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "kvae").rglob("*.py")}
    expected |= {f"kvae_cli/{path.name}" for path in (ROOT / "cli").glob("*.py")}
    assert {file for file in files if file.endswith(".py")} == expected
    assert {"kvae/evaluation/mnist_classifier.keras", "kvae/py.typed"} <= files
    assert not [file for file in files if file.endswith(".ipynb")]
    page = {path.relative_to(ROOT).as_posix() for path in (ROOT / "kvae/explorer/page").iterdir()}
    assert len(page) > 10 and page <= files
    assert {file for file in files if file.startswith("kvae/saved_models/")} == {
        f"kvae/saved_models/{name}.keras" for name in SHIPPED
    }


def test_its_metadata_says_whose_it_is_and_what_it_needs(wheel):
    archive = zipfile.ZipFile(wheel)
    (folder,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    metadata = email.message_from_bytes(archive.read(f"{folder}/METADATA"))
    assert metadata["Name"] == "keras-vae" and metadata["License-Expression"] == "MIT"
    assert metadata["Author"] == "The kvae authors"
    assert metadata["Requires-Python"] == "<3.14,>=3.11"
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    assert metadata.get_payload().startswith("# kvae")
    assert b"MIT License" in archive.read(f"{folder}/licenses/LICENSE")


def test_types_are_known_to_who_installs_it(wheel, tmp_path):
    pytest.importorskip("mypy", reason="pip install mypy")
    venv.create(tmp_path / "venv", with_pip=False)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    numpy = pathlib.Path(np.__file__).parent  # nothing else, whose types would take minutes
    (site / "numpy").symlink_to(numpy, target_is_directory=True)
    (tmp_path / "mine.py").write_text(USER)
    mypy = [sys.executable, "-m", "mypy", "--python-executable", tmp_path / "venv/bin/python"]
    others = {"MYPYPATH", "PYTHONPATH"}  # where kvae may lie too, as source
    settings = {name: value for name, value in os.environ.items() if name not in others}
    said = subprocess.run(
        [*mypy, "--cache-dir", tmp_path / "cache", "mine.py"],
        cwd=tmp_path,
        env=settings,
        capture_output=True,
        text=True,
    ).stdout
    assert said.count('Revealed type is "kvae.model.vae.VAE"') == 3, said
    (error,) = (line for line in said.splitlines() if ": error: " in line)
    assert '"Scores" has no attribute "elbow"' in error, said


def test_the_command_works_from_another_folder(wheel, tmp_path):
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", site, wheel]
    subprocess.run(install, check=True, capture_output=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(*command):
        return subprocess.run(
            [sys.executable, *command],
            cwd=elsewhere,
            env={**os.environ, "PYTHONPATH": str(site)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    assert run("-c", "import kvae; print(kvae.__file__)").startswith(str(site))
    command = site / "bin" / "kvae"
    assert run(command, "--version").startswith("kvae, version ")
    assert "from mnist" in run(command, "generate", "--out", "shipped.png")
    assert "Test: -ELBO" in run(command, "train", "--dataset", "digits", "--epochs", "1")
    run(command, "generate", "--out", "grid.png")
    assert (elsewhere / "grid.png").stat().st_size > 0
