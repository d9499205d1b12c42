"""The version, in a module of its own so that the cards of models can contain it."""

__version__ = "0.1.0"
