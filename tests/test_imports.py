"""Imports go one way, and frameworks stay where they belong: the map of CONTRIBUTING.md."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# What each module of kvae may import of kvae. The order is that of the floors.
MAY_IMPORT = {
    "version": set(),
    "shipped": set(),
    "files": set(),
    "presets": set(),
    "noise": set(),
    "likelihoods": {"noise"},
    "blocks": set(),
    "steps": set(),
    "data": set(),
    "plots": {"files"},
    "charts": {"plots"},
    "encoder": {"blocks"},
    "decoder": {"blocks"},
    "priors": {"blocks"},
    "generator": {"likelihoods", "priors"},
    "model": {
        "decoder",
        "encoder",
        "generator",
        "likelihoods",
        "noise",
        "presets",
        "priors",
        "shipped",
        "steps",
        "version",
    },
    "checks": {"charts", "likelihoods"},
    "callbacks": {"checks", "plots", "files"},
    "runs": {"charts", "plots", "files"},
    "evaluation": {"checks", "data", "files", "likelihoods", "model", "priors", "version"},
    "pictures": {"model", "charts", "plots", "priors"},
    "doctor": {"model", "likelihoods", "priors", "evaluation", "charts", "checks", "data"},
    "training": {
        "callbacks",
        "data",
        "evaluation",
        "likelihoods",
        "model",
        "presets",
        "priors",
        "runs",
    },
}
FRAMEWORKS = {"tensorflow", "jax", "torch", "tensorflow_datasets"}
MAY_KNOW_A_FRAMEWORK = {
    "kvae/steps/tensorflow_step.py": {"tensorflow"},
    "kvae/steps/jax_step.py": {"jax"},
    "kvae/steps/torch_step.py": {"torch"},
    "kvae/steps/torch_adam.py": {"torch"},
    "kvae/data/tfds.py": {"tensorflow", "tensorflow_datasets"},
}


def imports(path):
    """Dotted names that a file imports, `from a import b` as both `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules():
    for path in sorted((ROOT / "kvae").rglob("*.py")):
        name = path.relative_to(ROOT / "kvae").parts[0].removesuffix(".py")
        if name != "__init__":
            yield pytest.param(name, path, id=str(path.relative_to(ROOT)))


@pytest.mark.parametrize("name, path", list(modules()))
def test_a_module_imports_only_from_the_floors_below(name, path):
    used = {dotted.split(".")[1] for dotted in imports(path) if dotted.startswith("kvae.")}
    assert used - {name} <= MAY_IMPORT[name]


def test_the_floors_have_no_way_back():
    seen = set()
    for name, below in MAY_IMPORT.items():
        assert below <= seen, f"{name} imports a module that does not stand before it"
        seen.add(name)


@pytest.mark.parametrize(
    "path", [*ROOT.glob("kvae/**/*.py"), *ROOT.glob("cli/*.py")], ids=lambda p: str(p.name)
)
def test_frameworks_are_known_in_few_places(path):
    used = {dotted.split(".")[0] for dotted in imports(path)} & FRAMEWORKS
    assert used <= MAY_KNOW_A_FRAMEWORK.get(path.relative_to(ROOT).as_posix(), set())


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
