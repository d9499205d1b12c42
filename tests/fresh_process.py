"""Runs Python in a fresh process, under a backend of choice."""

import importlib.util
import os
import subprocess
import sys

import keras
import pytest

OWN = keras.backend.backend()


QUICK = {"tensorflow": "tensorflow", "jax": "torch", "torch": "jax"}[OWN]


def backend(name: str):
    """One process is quick: of the other backend, or TensorFlow's own, which may be alone."""
    return pytest.param(name, marks=[] if name == QUICK else pytest.mark.slow)


NAMES = ("tensorflow", "jax", "torch")
BACKENDS = [backend(name) for name in NAMES]
# Where two agree, one may ask the other: TensorFlow asks, and is not asked.
OTHERS = [backend(name) for name in NAMES if name not in (OWN, "tensorflow")]

# As if they were not installed: whoever imports them fails, and nothing stands in sys.modules.
BLOCK = """
import importlib.machinery, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {!r}:
            return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        raise ModuleNotFoundError(spec.name, name=spec.name)

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Blocked())
"""


def run(code: str, backend: str, *arguments, blocked: tuple[str, ...] = (), cwd=None) -> str:
    """What the code prints. Imports of `blocked` fail as if they were not installed."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"the backend {backend} is not installed")
    process = subprocess.run(
        [sys.executable, "-c", BLOCK.format(blocked) + code, *map(str, arguments)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        cwd=cwd,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout
