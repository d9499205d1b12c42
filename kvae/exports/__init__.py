"""Exports: writes a part of a model as a file that runs without kvae, and checks it."""

from kvae.exports.export import Exported, export
from kvae.exports.formats import FORMATS, WEIGHTS

__all__ = ["FORMATS", "WEIGHTS", "Exported", "export"]
