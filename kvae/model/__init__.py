"""The model: a VAE made of parts, its file, and its stock generator."""

from kvae.model.batches import in_batches
from kvae.model.file import found, load
from kvae.model.generator import build_generator
from kvae.model.graph import GRAPHS, Graph, check_part
from kvae.model.scoring import Scores
from kvae.model.vae import VAE

__all__ = [
    "GRAPHS",
    "VAE",
    "Graph",
    "Scores",
    "build_generator",
    "check_part",
    "found",
    "in_batches",
    "load",
]
