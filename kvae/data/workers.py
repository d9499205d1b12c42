"""Workers: processes that decode pictures with Pillow and NumPy, without Keras."""

import concurrent.futures
import contextlib
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from kvae.data.decoding import decoded
from kvae.data.fitting import Fitting

__all__ = ["Decoded", "decoded_all"]

Decoded = tuple[int, np.ndarray | str]  # the picture's number; its pixels, or why there are none
CHUNK = 2**20  # bytes of files that a worker gets at once
FEW = 2**25  # bytes of files that one process decodes as soon as others would have started
MOST_WORKERS = 16
AHEAD = 3  # chunks that are read for each worker

# The code that a process runs. Python's own ways of starting one would import the user's program
# and kvae, and so Keras, into each.
PROGRAM = """
import sys, types
sys.path[:] = sys.argv[2:]
package = types.ModuleType("kvae")
package.__path__ = [sys.argv[1]]
sys.modules["kvae"] = package
from kvae.data.workers import work
work(sys.stdin.buffer, sys.stdout.buffer)
"""


def decoded_all(
    contents: Iterable[tuple[int, bytes | str]], total: int, fitting: Fitting
) -> Iterator[Decoded]:
    """Decodes pictures, in any order, in as many processes as there are cores.

    Args:
        contents: The number of each picture, with the bytes of its file, or with a text that says
            why it cannot be read and is passed on.
        total: Approximate size of all files in bytes.
        fitting: How pictures become images.
    """
    count = min(cores(), MOST_WORKERS)
    if count == 1 or total < FEW:
        for number, content in contents:
            yield number, tried(content, fitting)
        return
    with Pool(count, fitting) as pool:
        yield from pool.decoded(chunks(contents))


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def chunks(contents: Iterable[tuple[int, bytes | str]]) -> Iterator[list[tuple[int, bytes | str]]]:
    """Groups pictures into lists of about a `CHUNK`."""
    chunk: list[tuple[int, bytes | str]] = []
    size = 0
    for number, content in contents:
        chunk.append((number, content))
        size += len(content)
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def tried(content: bytes | str, fitting: Fitting) -> np.ndarray | str:
    """Decodes a picture, or says why it cannot be decoded."""
    if isinstance(content, str):
        return content
    try:
        return decoded(content, fitting)
    except ValueError as error:
        return str(error)


class Pool:
    """A pool of processes, each with a thread that communicates with it.

    Args:
        count: Number of processes.
        fitting: How pictures become images.
    """

    def __init__(self, count: int, fitting: Fitting) -> None:
        self.count = count
        self.fitting = fitting
        self.processes: list[Any] = []
        self.own = threading.local()

    def __enter__(self) -> "Pool":
        self.threads = concurrent.futures.ThreadPoolExecutor(self.count)
        return self

    def __exit__(self, *_: Any) -> None:
        for process in self.processes:
            process.kill()
        self.threads.shutdown(cancel_futures=True)
        for process in self.processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # of a pipe whose other end is gone
                    pipe.close()

    def decoded(self, parts: Iterator[list]) -> Iterator[Decoded]:
        """Yields decoded pictures; reads only a few parts ahead."""
        waiting: set[concurrent.futures.Future] = set()
        for part in parts:
            waiting.add(self.threads.submit(self.answer, part))
            if len(waiting) >= AHEAD * self.count:
                done, waiting = concurrent.futures.wait(
                    waiting, return_when=concurrent.futures.FIRST_COMPLETED
                )
                for future in done:
                    yield from future.result()
        for future in concurrent.futures.as_completed(waiting):
            yield from future.result()

    def answer(self, part: list) -> list[Decoded]:
        """Lets a process decode a list of pictures."""
        process = getattr(self.own, "process", None)
        if process is None:
            process = self.own.process = self.start()
        try:
            pickle.dump((self.fitting, part), process.stdin, pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            return pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            raise OSError(
                "A process that decodes images came to an end, perhaps for want of memory. Close "
                "other programs, or use fewer or smaller images."
            ) from None

    def start(self) -> Any:
        """Starts a process. Ctrl-C reaches this process only, which then ends it."""
        package = str(pathlib.Path(__file__).parents[1])
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, package, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.processes.append(process)
        return process


def work(given: Any, answers: Any) -> None:
    """The loop of a process: decodes its inputs until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            fitting, part = pickle.load(given)
        except EOFError:
            return
        made: Sequence[Decoded] = [(number, tried(content, fitting)) for number, content in part]
        pickle.dump(made, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()
