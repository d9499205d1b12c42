"""Marks that depend on the backend."""

import keras
import pytest

once = pytest.mark.once  # see `conftest.py`

not_on_jax = pytest.mark.skipif(
    keras.backend.backend() == "jax",
    reason="the command is tested under TensorFlow and PyTorch; .ci/run has it run on JAX",
)

# In every run under TensorFlow; under the others in CI.
slow_elsewhere = (
    () if keras.backend.backend() == "tensorflow" else (pytest.mark.slow, pytest.mark.every_backend)
)
