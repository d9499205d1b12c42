"""Runs Python in a fresh process, under a backend of choice."""

import importlib.util
import os
import subprocess
import sys

import pytest

BACKENDS = ("tensorflow", "jax", "torch")

# As if they were not installed. Not None in sys.modules: Keras looks for TensorFlow there.
BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {!r}:
            raise ModuleNotFoundError(name, name=name)

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
