"""Imports go one way, and frameworks stay where they belong: the map of CONTRIBUTING.md."""

import ast
import pathlib
import subprocess
import sys

import pytest
from marks import once

ROOT = pathlib.Path(__file__).parents[1]

# The floors of the house, from the ground up. A wing (a folder) or a room (a file) may import from
# the floors below its own, and of its own floor only what stands beside it here.
FLOORS = [
    {"limits": set(), "markup": {"printable"}, "printable": set(), "share": set()},
    {
        "data": set(),
        "files": set(),
        "muon": set(),
        "networks": set(),
        "noise": set(),
        "parts": set(),
        "presets": {"recipe"},
        "recipe": set(),
        "shipped": set(),
        "steps": set(),
        "version": set(),
    },
    {"likelihoods": set(), "priors": set()},
    {"objectives": set()},
    {"model": set()},
    {"drawing": set(), "evaluation": set(), "exports": set()},
    {"diagnosis": set(), "explorer": set()},
    {"training": set()},
]
MAY_IMPORT = {
    room: beside.union(*FLOORS[:height])
    for height, floor in enumerate(FLOORS)
    for room, beside in floor.items()
}
FRAMEWORKS = {"tensorflow", "jax", "torch", "tensorflow_datasets"}
MAY_KNOW_A_FRAMEWORK = {
    "kvae/steps/tensorflow_step.py": {"tensorflow"},
    "kvae/steps/jax_step.py": {"jax"},
    "kvae/steps/jax_convolutions.py": {"jax"},
    "kvae/steps/jax_transposed.py": {"jax"},
    "kvae/steps/jax_devices.py": {"jax"},
    "kvae/steps/tensorflow_replicas.py": {"tensorflow"},
    "kvae/steps/torch_ranks.py": {"torch"},
    "kvae/steps/torch_step.py": {"torch"},
    "kvae/steps/torch_adam.py": {"torch"},
    "kvae/steps/torch_recording.py": {"torch"},
    "kvae/exports/litert_format.py": {"tensorflow"},
    "kvae/exports/saved_model_format.py": {"tensorflow"},
    "kvae/exports/torch_format.py": {"torch"},
    "kvae/data/tfds.py": {"tensorflow", "tensorflow_datasets"},
}
FILES = [*sorted(ROOT.glob("kvae/**/*.py")), *sorted(ROOT.glob("cli/*.py"))]


def imports(path):
    """Dotted names that a file imports, `from a import b` as both `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path):
    """The wing or room of a file of kvae."""
    return path.relative_to(ROOT / "kvae").parts[0].removesuffix(".py")


def rooms():
    for path in FILES:
        if path.is_relative_to(ROOT / "kvae") and not room_of(path).startswith("__"):
            yield pytest.param(room_of(path), path, id=str(path.relative_to(ROOT)))


def named(dotted):
    """The wing or room of kvae that a dotted name is of; None of what is none."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "kvae" and parts[1:] and parts[1] in MAY_IMPORT else None


@pytest.mark.parametrize("room, path", list(rooms()))
def test_a_file_imports_only_from_the_floors_below(room, path):
    used = {named(dotted) for dotted in imports(path)} - {None, room}
    assert used <= MAY_IMPORT[room]


def test_nothing_of_kvae_imports_all_of_it_or_the_command():
    for path in FILES:
        if path.is_relative_to(ROOT / "kvae") and path.name != "__main__.py":
            names = set(imports(path))
            assert "kvae_cli" not in names, path
            public = {name for name in names if name.startswith("kvae.") and named(name) is None}
            assert not public or path == ROOT / "kvae" / "__init__.py", (path, public)


@pytest.mark.parametrize("wing", sorted({path.parent for path in FILES}), ids=lambda p: p.name)
def test_the_files_of_a_wing_have_no_way_back(wing):
    """Within a wing too no two files import each other, whether straight or round about."""
    below = {
        path.stem: {
            dotted.split(".")[-1]
            for dotted in imports(path)
            if dotted.startswith(".".join(wing.relative_to(ROOT).parts) + ".")
        }
        for path in wing.glob("*.py")
        if path.stem != "__init__"
    }

    def walk(name, way):
        assert name not in way, f"a circle: {' → '.join([*way, name])}"
        for other in below.get(name, ()):
            walk(other, [*way, name])

    for name in below:
        walk(name, [])


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_frameworks_are_known_in_few_places(path):
    used = {dotted.split(".")[0] for dotted in imports(path)} & FRAMEWORKS
    assert used <= MAY_KNOW_A_FRAMEWORK.get(path.relative_to(ROOT).as_posix(), set())


def test_the_floors_are_those_that_are_drawn():
    drawn = (ROOT / "CONTRIBUTING.md").read_text()
    for height, floor in enumerate(FLOORS):
        (line,) = (line for line in drawn.splitlines() if line.startswith(f"{height}  "))
        for room in floor:
            assert room in line, f"{room} is not on floor {height} of CONTRIBUTING.md"


def test_every_public_class_has_an_example():
    import kvae

    for name in kvae.__all__:
        if isinstance(getattr(kvae, name), type):
            assert ">>>" in getattr(kvae, name).__doc__, name


@pytest.mark.slow
@once
def test_importing_kvae_draws_and_writes_nothing(tmp_path):
    code = """
import os, random
import numpy as np
import keras
before = (random.getstate(), np.random.get_state()[1].tolist(), dict(os.environ))
import kvae
after = (random.getstate(), np.random.get_state()[1].tolist(), dict(os.environ))
print(before == after, os.listdir("."))
"""
    printed = subprocess.check_output(
        [sys.executable, "-c", code], cwd=tmp_path, text=True, stderr=subprocess.DEVNULL
    )
    assert printed.strip() == "True []"
