"""Team: the devices, and the processes, that train one model together."""

import contextlib
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = ["OthersGone", "Team", "wanted"]

# What collective operations of PyTorch and JAX say where a process has died.
GONE = re.compile(
    "closed by peer|connection reset|connection refused|broken pipe|gloo|nccl|"
    "coordination service|clients joined|heartbeat timeout",
    re.I,
)


class OthersGone(ConnectionError):
    """A process that trains with this one has died."""


class Team:
    """What shares each batch; as a context, what is built and trained within is shared.

    Within it all processes but the first print nothing, and where one of them has died the others
    raise `OthersGone`.

    Args:
        devices: That share each batch.
        rank: The number of this process; the first, 0, is the one that writes files and prints.
        processes: How many there are.
        scope: Within which a model must be built; None where nothing needs one.
        idle: Devices of this machine that are not used.
    """

    def __init__(
        self,
        devices: int = 1,
        rank: int = 0,
        processes: int = 1,
        scope: Any = None,
        idle: int = 0,
    ) -> None:
        self.devices = devices
        self.rank = rank
        self.processes = processes
        self.idle = idle
        self.held = contextlib.ExitStack()
        self.scope = scope

    def __enter__(self) -> "Team":
        """Begins to share."""
        try:
            self.begin()
        except RuntimeError as error:
            self.held.close()
            raise_if_others_are_gone(error)
            raise
        if self.rank:
            self.held.enter_context(contextlib.redirect_stdout(io.StringIO()))
            self.held.enter_context(contextlib.redirect_stderr(io.StringIO()))
        return self

    def begin(self) -> None:
        """Finds the others, and begins the scope."""
        if self.scope is not None:
            self.held.enter_context(self.scope)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Ends."""
        self.held.__exit__(kind, error, trace)
        if self.processes > 1:
            raise_if_others_are_gone(error)

    def told(self, words: bytes) -> bytes:
        """What the first process says to all; others give whatever they like."""
        return words

    def apart(self) -> contextlib.AbstractContextManager[Any]:
        """While the first process does something that the others do not."""
        return contextlib.nullcontext()

    def gathered(self, numbers: Sequence[float]) -> np.ndarray:
        """What each process says: (processes, numbers), float32. All must say equally many."""
        return np.asarray([numbers], "float32")


def raise_if_others_are_gone(error: BaseException | None) -> None:
    """Raises `OthersGone` in place of an error that says that another process has died."""
    reason = " ".join(str(error).split())[:200]
    # JAX raises a ValueError on a CPU.
    if isinstance(error, (RuntimeError, ValueError)) and GONE.search(reason):
        raise OthersGone(others_are_gone(reason)) from error


def others_are_gone(reason: str) -> str:
    """What is said where another process has died."""
    return (
        "Another process that trains with this one has stopped, so this one stops too. With "
        f"--resume (in Python resume=True) the run goes on from what is kept. ({reason})"
    )


def wanted(devices: Any, there: Iterable[str]) -> int:
    """How many of the devices that there are to take.

    Args:
        devices: "auto", all of them, or a number.
        there: Their names.

    Raises:
        ValueError: If there are not so many.
    """
    there = list(there)
    if devices == "auto":
        return len(there)
    if isinstance(devices, bool) or not isinstance(devices, int) or devices < 1:
        raise ValueError(f'`devices` must be "auto" or at least 1. Received: devices={devices!r}')
    if devices > len(there):
        names = ", ".join(there)
        raise ValueError(f"Of {devices} devices there are {len(there)} here: {names}.")
    return devices
