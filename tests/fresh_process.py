"""Runs Python in a fresh process, under a backend of choice."""

import importlib.util
import os
import subprocess
import sys

import pytest

BACKENDS = ("tensorflow", "jax", "torch")


def run(code: str, backend: str, *arguments, blocked: tuple[str, ...] = (), cwd=None) -> str:
    """What the code prints. Imports of `blocked` fail as if they were not installed."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"the backend {backend} is not installed")
    block = f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
    process = subprocess.run(
        [sys.executable, "-c", block + code, *map(str, arguments)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        cwd=cwd,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout
