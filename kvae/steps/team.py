"""Team: the devices, and the processes, that train one model together."""

import contextlib
from collections.abc import Iterable
from typing import Any

__all__ = ["Team", "wanted"]


class Team:
    """What shares each batch; as a context, what is built and trained within is shared.

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
        if self.scope is not None:
            self.held.enter_context(self.scope)
        return self

    def __exit__(self, *error: Any) -> None:
        """Ends."""
        self.held.__exit__(*error)

    def told(self, words: bytes) -> bytes:
        """What the first process says to all; others give whatever they like."""
        return words


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
