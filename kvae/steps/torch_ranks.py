"""What the processes of a `torch.distributed` group have of a batch, and what they do together."""

import datetime
import os
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import torch
import torch.distributed as dist
from keras import tree
from torch.distributed import _functional_collectives as collectives

from kvae.share import Share
from kvae.steps.feed import Feed
from kvae.steps.team import Team, wanted

__all__ = [
    "RankedFeed",
    "averaged",
    "check_batches",
    "check_distribution",
    "check_ranks",
    "ranks",
    "share_of",
    "summed",
    "team",
    "with_share",
    "with_that_of_the_first",
]


PATIENCE = datetime.timedelta(minutes=10)  # with processes that are slower to read their images


class TorchTeam(Team):
    """The processes of a `torch.distributed` group, each with a device of its own."""

    def begin(self) -> None:
        """Finds the others, unless a group is there."""
        if self.processes > 1 and not dist.is_initialized():
            cuda = torch.cuda.is_available()
            local = int(os.environ.get("LOCAL_RANK", "0"))
            if cuda and local >= torch.cuda.device_count():
                raise ValueError(
                    f"Process {local} of this machine has no GPU: there are "
                    f"{torch.cuda.device_count()}. Start so many (--nproc-per-node)."
                )
            if cuda:
                torch.cuda.set_device(local)
            dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
            self.held.callback(dist.destroy_process_group)

    def told(self, words: bytes) -> bytes:
        """What the first process says to all."""
        if self.processes == 1:
            return words
        said = [words]
        dist.broadcast_object_list(said)
        return said[0]

    def gathered(self, numbers: Sequence[float]) -> np.ndarray:
        """What each process says: (processes, numbers), float32."""
        said: list = [None] * self.processes
        if self.processes > 1:
            dist.all_gather_object(said, list(numbers))
        return np.asarray(said if self.processes > 1 else [numbers], "float32")


def team(devices: Any = "auto") -> TorchTeam:
    """The processes that a launcher, such as torchrun, has started together.

    Raises:
        ValueError: If there are not so many.
    """
    rank, count = ranks()
    if count == 1:
        rank, count = (int(os.environ.get(name, "0")) for name in ("RANK", "WORLD_SIZE"))
        count = max(1, count)
    if devices != "auto" and wanted(devices, ["cpu"] * 2**16) != count:
        raise ValueError(
            "On PyTorch each device has a process of its own: start them with torchrun "
            f"--nproc-per-node {devices} -m kvae train, or call kvae.train in each. "
            f"Received: devices={devices} in {'1 process' if count == 1 else f'{count} processes'}"
        )
    there = torch.cuda.device_count() if torch.cuda.is_available() else 1
    return TorchTeam(count, rank, count, idle=there - 1 if count == 1 else 0)


class RankShare(Share):
    """The share of a process."""

    def sum(self, value: Any) -> Any:
        """The sum of a value over all processes; its gradient is that of the own part."""
        return Summed.apply(value)


def share_of(parts: tuple | None) -> RankShare | None:
    """What this process has of a batch, of what `with_share` says; None: all of it."""
    return None if parts is None else RankShare(parts[0], parts[1], parts[2], ranks()[1])


class Summed(torch.autograd.Function):
    """A sum over processes, of which a recorded step makes a node of its graph."""

    @staticmethod
    def forward(context: Any, value: Any) -> Any:
        """The sum."""
        group: Any = dist.group.WORLD
        return collectives.all_reduce(value, "sum", group)

    @staticmethod
    def backward(context: Any, upstream: Any) -> Any:
        """As if the parts of others were constants."""
        return upstream


class RankedFeed(Feed):
    """A feed of which each process takes its share of each batch, as equal as can be."""

    def taken(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """The share of a batch of these rows."""
        rank, count = ranks()
        return super().taken(np.array_split(rows, count)[rank])


def ranks() -> tuple[int, int]:
    """The number of this process, and how many share each batch."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def check_ranks() -> None:
    """Raises a ValueError where processes were started together that know nothing of each other.

    Each would train a model of its own, and all write it.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > 1 and ranks()[1] == 1:
        raise ValueError(
            f"This is one of {started} processes (WORLD_SIZE), which would each train alone. Call "
            "torch.distributed.init_process_group() first; `kvae.train` does."
        )


def check_distribution() -> None:
    """Raises a ValueError where weights lie on several processes, as from Keras 3.16 on they may.

    Its `DataParallel` is no harm: it wraps the model, and its hooks see none of our gradients.
    """
    if isinstance(keras.distribution.distribution(), keras.distribution.ModelParallel):
        raise ValueError(
            "On PyTorch processes share batches, not weights: set no "
            "keras.distribution.ModelParallel, or train with the JAX backend."
        )


def check_batches(given: dict[str, Any]) -> None:
    """Raises a ValueError where processes give unequal numbers of batches, and would wait for ever.

    Args:
        given: By name, arrays, which all processes have, or what gives batches of one's own share.
    """
    own = {name: getattr(one, "num_batches", None) for name, one in given.items()}
    every: list = [None] * ranks()[1]
    dist.all_gather_object(every, own)
    for name in given:
        counts = [each[name] for each in every]
        if len(set(counts)) > 1:
            raise ValueError(
                f"Each process must give equally many batches. Received: `{name}` of "
                f"{', '.join(map(str, counts))} batches"
            )


def with_share(batch: tuple) -> tuple:
    """A batch with what this process has of it, as tensors: what `share_of` takes.

    Where one process has the whole batch that is None. In place of an empty share stands an image.
    """
    rank, count = ranks()
    if count == 1:
        return (*batch, None)
    images = batch[0].shape[0]
    counts = torch.zeros(count, dtype=torch.int32, device=batch[0].device)
    counts[rank] = images
    dist.all_reduce(counts)
    before, total = (part.sum(dtype=torch.int32) for part in (counts[:rank], counts))
    if not images:
        batch = tree.map_structure(
            lambda part: None if part is None else part.new_zeros((1, *part.shape[1:])), batch
        )
    return (*batch, (counts[rank], before, total))


def summed(gradients: list) -> list:
    """Gradients of all processes, added up in one go; as they are where there is but one."""
    return in_one_go(gradients) if ranks()[1] > 1 else gradients


def averaged(variables: Iterable[Any], images: int) -> None:
    """Sets variables to their mean over the processes that had images: what batch norm has seen."""
    variables = list(variables)
    if variables:
        had = torch.ones if images else torch.zeros
        values = [variable.value for variable in variables]
        values = [value if images else torch.zeros_like(value) for value in values]
        count, *sums = in_one_go([had(1, device=values[0].device), *values])
        for variable, value in zip(variables, sums, strict=True):
            variable.value.copy_(value / count)


def in_one_go(parts: list) -> list:
    """Tensors, some of them None, added up over processes."""
    there = [part for part in parts if part is not None]
    flat = torch.cat([part.reshape(-1).float() for part in there])
    dist.all_reduce(flat)
    left = iter(flat.split([part.numel() for part in there]))
    return [None if part is None else next(left).view_as(part).to(part.dtype) for part in parts]


def with_that_of_the_first(variables: Iterable[Any]) -> None:
    """Sets variables to what the first process has."""
    if ranks()[1] > 1:
        with torch.no_grad():
            for variable in variables:
                dist.broadcast(variable.value.data, 0)
