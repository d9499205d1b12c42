"""Marks that depend on the backend."""

import keras
import pytest

once = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="knows no backend: tested under TensorFlow"
)
