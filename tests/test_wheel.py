"""The wheel carries all that the command needs, and works from another folder."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from kvae.shipped import SHIPPED

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parents[1]


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
    assert "kvae/evaluation/mnist_classifier.keras" in files
    page = {path.relative_to(ROOT).as_posix() for path in (ROOT / "kvae/explorer/page").iterdir()}
    assert len(page) > 10 and page <= files
    assert {file for file in files if file.startswith("kvae/saved_models/")} == {
        f"kvae/saved_models/{name}.keras" for name in SHIPPED
    }


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
