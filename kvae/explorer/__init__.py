"""Explorer: a model in one HTML file, which decodes and encodes in any browser."""

from kvae.explorer.explorer import Explorer, explore
from kvae.explorer.graph import graph_of
from kvae.explorer.operations import OPERATIONS, Unrunnable
from kvae.explorer.runnable import runnable
from kvae.explorer.tensors import Tensors

__all__ = ["OPERATIONS", "Explorer", "Tensors", "Unrunnable", "explore", "graph_of", "runnable"]
