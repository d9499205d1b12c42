"""Team: the devices and processes that train one model together."""

import contextlib
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = ["OthersGone", "Team", "wanted"]

# Words in the errors of PyTorch's and JAX's collective operations after a process has died.
GONE = re.compile(
    "closed by peer|connection reset|connection refused|broken pipe|gloo|nccl|"
    "coordination service|clients joined|heartbeat timeout",
    re.I,
)


class OthersGone(ConnectionError):
    """A process that trains with this one has died."""


class Team:
    """The devices and processes that share each batch, as a context for building and training.

    Within the context, only the first process prints. If a process dies, the others raise
    `OthersGone`.

    Args:
        devices: Number of devices that share each batch.
        rank: Number of this process. The first, 0, writes files and prints.
        processes: Number of processes.
        scope: Context in which a model must be built, or None.
        idle: Number of unused devices of this machine.
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
        """Enters the context."""
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
        """Connects to the other processes, and enters the scope."""
        if self.scope is not None:
            self.held.enter_context(self.scope)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Leaves the context."""
        self.held.__exit__(kind, error, trace)
        if self.processes > 1:
            raise_if_others_are_gone(error)

    def told(self, words: bytes) -> bytes:
        """Broadcasts the words of the first process; those of other processes are ignored."""
        return words

    def apart(self) -> contextlib.AbstractContextManager[Any]:
        """A context in which the first process does something that the others do not."""
        return contextlib.nullcontext()

    def gathered(self, numbers: Sequence[float]) -> np.ndarray:
        """Gathers numbers of all processes: (processes, numbers), float32, equally many of each."""
        return np.asarray([numbers], "float32")


def raise_if_others_are_gone(error: BaseException | None) -> None:
    """Raises `OthersGone` if this error means that another process has died."""
    reason = " ".join(str(error).split())[:200]
    # On a CPU, JAX raises a ValueError.
    if isinstance(error, (RuntimeError, ValueError)) and GONE.search(reason):
        raise OthersGone(others_are_gone(reason)) from error


def others_are_gone(reason: str) -> str:
    """The message about another process that has died."""
    return (
        "Another process that trains with this one has stopped, so this one stops too. With "
        f"--resume (in Python resume=True) the run goes on from what is kept. ({reason})"
    )


def wanted(devices: Any, there: Iterable[str]) -> int:
    """The number of devices to use.

    Args:
        devices: "auto" for all of them, or a number.
        there: Names of the available devices.

    Raises:
        ValueError: If there are fewer devices.
    """
    there = list(there)
    if devices == "auto":
        return len(there)
    if isinstance(devices, bool) or not isinstance(devices, int) or devices < 1:
        raise ValueError(f'`devices` must be "auto" or at least 1. Received: devices={devices!r}')
    if devices > len(there):
        names = ", ".join(there)
        raise ValueError(f"There are fewer than {devices} devices here, {len(there)}: {names}.")
    return devices
