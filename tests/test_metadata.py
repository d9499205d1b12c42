"""What the project says of itself, in one place and in the other, is the same."""

import pathlib
import re
import tomllib

import pytest

import kvae

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def cited(name):
    """An entry of CITATION.cff."""
    (value,) = re.findall(rf"^\W*{name}: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    return value.strip('"')


def test_the_citation_is_of_this_version_and_these_authors():
    assert cited("version") == kvae.__version__
    assert cited("cff-version") == "1.2.0" and cited("type") == "software"
    assert [author["name"] for author in PROJECT["authors"]] == [cited("name")]
    assert cited("title").startswith("kvae: ")


def test_the_licence_is_the_same_everywhere():
    licence = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == cited("license") == "MIT" and licence.startswith("MIT License")
    assert f"Copyright (c) 2026 {cited('name')}" in licence


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_each_python_that_is_asked_for_is_listed(version):
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]
    assert PROJECT["requires-python"] == ">=3.11,<3.14"


def test_types_are_marked():
    assert (ROOT / "kvae" / "py.typed").read_bytes() == b""
