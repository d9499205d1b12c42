"""The share of a `torch.distributed` process in a batch, and its communication."""

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
        """Connects to the other processes, unless a group exists."""
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
        """Broadcasts the words of the first process."""
        if self.processes == 1:
            return words
        said = [words]
        dist.broadcast_object_list(said)
        return said[0]

    def gathered(self, numbers: Sequence[float]) -> np.ndarray:
        """Gathers numbers of all processes: (processes, numbers), float32."""
        said: list = [None] * self.processes
        if self.processes > 1:
            dist.all_gather_object(said, list(numbers))
        return np.asarray(said if self.processes > 1 else [numbers], "float32")


def team(devices: Any = "auto") -> TorchTeam:
    """Makes a team of the processes that a launcher, such as torchrun, has started.

    Raises:
        ValueError: If there are fewer processes.
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
    """The share of a process in a batch."""

    def sum(self, value: Any) -> Any:
        """The sum of a value over all processes; its gradient is that of the own part."""
        return Summed.apply(value)


def share_of(parts: tuple | None) -> RankShare | None:
    """The share of this process in a batch, from `with_share`; None: all of it."""
    return None if parts is None else RankShare(parts[0], parts[1], parts[2], ranks()[1])


class Summed(torch.autograd.Function):
    """A sum over processes, as a node of the graph of a recorded step."""

    @staticmethod
    def forward(context: Any, value: Any) -> Any:
        """The sum."""
        group: Any = dist.group.WORLD
        return collectives.all_reduce(value, "sum", group)

    @staticmethod
    def backward(context: Any, upstream: Any) -> Any:
        """Treats the parts of other processes as constants."""
        return upstream


class RankedFeed(Feed):
    """A feed from which each process takes its share of each batch, as equal as possible."""

    def taken(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """The share of a batch of these rows."""
        rank, count = ranks()
        return super().taken(np.array_split(rows, count)[rank])


def ranks() -> tuple[int, int]:
    """The number of this process, and the number of processes that share each batch."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def check_ranks() -> None:
    """Raises a ValueError if processes were started together without a process group.

    Each would train a model of its own, and all would write it.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > 1 and ranks()[1] == 1:
        raise ValueError(
            f"This is one of {started} processes (WORLD_SIZE), which would each train alone. Call "
            "torch.distributed.init_process_group() first; `kvae.train` does."
        )


def check_distribution() -> None:
    """Raises a ValueError if weights lie on several processes, as Keras 3.16 allows.

    Keras's `DataParallel` does no harm: it wraps the model, and its hooks do not see kvae's
    gradients.
    """
    if isinstance(keras.distribution.distribution(), keras.distribution.ModelParallel):
        raise ValueError(
            "On PyTorch processes share batches, not weights: set no "
            "keras.distribution.ModelParallel, or train with the JAX backend."
        )


def check_batches(given: dict[str, Any]) -> None:
    """Raises a ValueError if processes give unequal numbers of batches, and would wait forever.

    Args:
        given: Arguments by name: arrays, which all processes have, or iterables of each process's
            own share.
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
    """Returns a batch and the share of this process as tensors, for `share_of`.

    The share is None if one process has the whole batch. An empty share is replaced by an image.
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
    """Adds up the gradients of all processes in one operation; unchanged with one process."""
    return in_one_go(gradients) if ranks()[1] > 1 else gradients


def averaged(variables: Iterable[Any], images: int) -> None:
    """Averages variables over the processes that had images: statistics of batch norm."""
    variables = list(variables)
    if variables:
        had = torch.ones if images else torch.zeros
        values = [variable.value for variable in variables]
        values = [value if images else torch.zeros_like(value) for value in values]
        count, *sums = in_one_go([had(1, device=values[0].device), *values])
        for variable, value in zip(variables, sums, strict=True):
            variable.value.copy_(value / count)


def in_one_go(parts: list) -> list:
    """Adds up tensors over processes in one operation; some may be None."""
    there = [part for part in parts if part is not None]
    flat = torch.cat([part.reshape(-1).float() for part in there])
    dist.all_reduce(flat)
    left = iter(flat.split([part.numel() for part in there]))
    return [None if part is None else next(left).view_as(part).to(part.dtype) for part in parts]


def with_that_of_the_first(variables: Iterable[Any]) -> None:
    """Sets variables to the values of the first process."""
    if ranks()[1] > 1:
        with torch.no_grad():
            for variable in variables:
                dist.broadcast(variable.value.data, 0)
