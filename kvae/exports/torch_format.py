"""What PyTorch writes: an exported program, whose arguments have the inputs' names."""

import pathlib
import warnings
from typing import Any

import numpy as np
import torch

from kvae.model import Graph

__all__ = ["run_torch", "write_torch"]


def write_torch(graph: Graph, path: pathlib.Path, metadata: str, weights: str) -> None:
    """Writes a `.pt2` file; the metadata in its extra file `kvae.json`."""
    specs = graph.input_specs
    samples = {
        name: torch.zeros((2, *spec.shape[1:]), dtype=getattr(torch, str(spec.dtype)))
        for name, spec in specs.items()
    }
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            named(graph, list(specs)).eval(),
            (),
            samples,
            dynamic_shapes={name: {0: batch} for name in specs},
            strict=False,
        )
        torch.export.save(program, path, extra_files={"kvae.json": metadata})


def named(graph: Graph, names: list[str]) -> torch.nn.Module:
    """The graph as a module whose `forward` has arguments of these names.

    PyTorch reads them off the function, so one is written for each set of names.
    """

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = graph  # `graph` is PyTorch's own

        def of(self, inputs: dict[str, Any]) -> Any:
            return self.model(inputs, training=False)

    arguments, pairs = ", ".join(names), ", ".join(f"{name!r}: {name}" for name in names)
    scope: dict[str, Any] = {}
    exec(f"def forward(self, {arguments}): return self.of({{{pairs}}})", scope)
    Named.forward = scope["forward"]  # type: ignore[method-assign]
    return Named()


def run_torch(path: pathlib.Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of an exported program, by name."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        module = torch.export.load(path).module()
        found = module(**{name: torch.as_tensor(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in found.items()}
