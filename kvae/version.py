"""The version, apart from `kvae/__init__`, so that models can name it in their card."""

__version__ = "0.1.0"
