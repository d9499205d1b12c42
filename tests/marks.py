"""Marks that depend on the backend."""

import keras
import pytest


def once(test):
    """A test of what knows no backend: quick under TensorFlow, slow under the others."""
    return test if keras.backend.backend() == "tensorflow" else pytest.mark.slow(test)
