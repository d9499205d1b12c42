"""PyTorch: an exported program, whose arguments have the inputs' names."""

import inspect
import pathlib
import warnings
from typing import Any

import numpy as np
import torch

from kvae.model import Graph

__all__ = ["run", "write"]


def write(graph: Graph, path: pathlib.Path, metadata: str, weights: str) -> None:
    """Writes a .pt2 file, with float32 weights; the metadata in its extra file `kvae.json`."""
    specs = graph.input_specs
    samples = {
        name: torch.zeros((2, *spec.shape[1:]), dtype=getattr(torch, str(spec.dtype)))
        for name, spec in specs.items()
    }
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            with_arguments(graph, list(specs)).eval(),
            (),
            samples,
            dynamic_shapes={name: {0: batch} for name in specs},
            strict=False,
        )
        torch.export.save(program, path, extra_files={"kvae.json": metadata})


def with_arguments(graph: Graph, names: list[str]) -> torch.nn.Module:
    """The graph as a module whose `forward` has arguments of these names: PyTorch reads them."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    arguments = [inspect.Parameter(name, kind) for name in ("self", *names)]

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part: Any = graph  # with Keras on PyTorch a module; the name `graph` is taken

        def forward(self, **inputs: Any) -> Any:
            return self.part(inputs, training=False)

        forward.__signature__ = inspect.Signature(arguments)  # type: ignore[attr-defined]

    return Module()


def run(path: pathlib.Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of the program, by name."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        module = torch.export.load(path).module()
        outputs = module(**{name: torch.as_tensor(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in outputs.items()}
