"""Explorer: a model in one HTML file, which decodes and encodes in any browser."""

from kvae.explorer.graph import Unrunnable, graph_of
from kvae.explorer.runnable import runnable
from kvae.explorer.tensors import Tensors

__all__ = ["Tensors", "Unrunnable", "graph_of", "runnable"]
