"""Batches over the devices of a `keras.distribution`, whatever their size."""

import contextlib
import ctypes
import functools
import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import keras
import numpy as np
from jax.experimental import multihost_utils
from keras import tree
from keras.src.backend.jax import trainer

from kvae.steps.team import Team, others_are_gone, wanted

__all__ = ["odd_batches", "one_for_all", "stacked_over_devices", "team"]

PATIENCE = 40  # seconds without a sign of life from another process
GRACE = 5  # seconds for an error of the operation under way, which says more than an abort


class JaxTeam(Team):
    """Devices of a `keras.distribution`, of one process or of several."""

    def begin(self) -> None:
        """Begins the scope; in a process that prints nothing, aborts become one line."""
        super().begin()
        if self.rank:
            self.held.enter_context(aborts_in_one_line())

    def told(self, words: bytes) -> bytes:
        """What the first process says to all."""
        if self.processes == 1:
            return words
        mine = np.frombuffer(words if self.rank == 0 else b"", "uint8")
        length = int(multihost_utils.broadcast_one_to_all(np.int32(len(mine))))
        said = np.resize(mine, length) if len(mine) else np.zeros(length, "uint8")
        return np.asarray(multihost_utils.broadcast_one_to_all(said)).astype("uint8").tobytes()

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """While the first process does something that the others do not, such as to save.

        To make a variable, as Keras does to save, all processes of a distribution must come.
        """
        former: Any = keras.distribution.distribution()
        if self.processes > 1:
            keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(former)

    def gathered(self, numbers: Sequence[float]) -> np.ndarray:
        """What each process says: (processes, numbers), float32."""
        said = np.asarray(numbers, "float32")
        return np.asarray(multihost_utils.process_allgather(said)).reshape(self.processes, -1)


def team(devices: Any = "auto") -> JaxTeam:
    """All devices there are, or so many, also those of other processes of this job.

    A `keras.distribution` that is set already stays. Of a job of several processes (of Slurm or
    Open MPI, or as `KERAS_DISTRIBUTION_JOB_ADDRESSES` says) each finds the others.

    Raises:
        ValueError: If there are not so many.
    """
    begin_job()
    mine = {"rank": jax.process_index(), "processes": jax.process_count()}
    there = keras.distribution.list_devices()
    former: Any = keras.distribution.distribution()
    if mine["processes"] > 1 and isinstance(former, keras.distribution.ModelParallel):
        raise ValueError(
            "Where several processes train together, each must have all weights, to write them: "
            "set a keras.distribution.DataParallel, or none, not a ModelParallel."
        )
    if former is not None:
        return JaxTeam(math.prod(former.device_mesh.shape), **mine)
    count = wanted(devices, there)
    if mine["processes"] > 1 and count < len(there):
        raise ValueError(
            f"Where several processes train together they take all {len(there)} devices. "
            f"Received: devices={devices}"
        )
    if count == 1:
        return JaxTeam(1, **mine)
    shared = keras.distribution.DataParallel(devices=there[:count], auto_shard_dataset=False)
    return JaxTeam(count, **mine, scope=shared.scope())


def begin_job() -> None:
    """Has this process find the others of its job, where something says that there are any.

    As `keras.distribution.initialize`, which would notice that one has died only after 100 s.
    """
    told = os.environ.get("KERAS_DISTRIBUTION_JOB_ADDRESSES")
    names = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
    started = max(int(os.environ.get(name, "1")) for name in names)
    if (told or started > 1) and not jax.distributed.is_initialized():
        settings: dict[str, Any] = {"heartbeat_timeout_seconds": PATIENCE}
        if told:
            settings["coordinator_address"] = told.split(",")[0]
            settings["num_processes"] = number_in("KERAS_DISTRIBUTION_NUM_PROCESSES")
            settings["process_id"] = number_in("KERAS_DISTRIBUTION_PROCESS_ID")
        try:
            jax.distributed.initialize(**settings)
        except RuntimeError as error:
            raise ValueError(
                "This process cannot find the others of its job: call "
                f"keras.distribution.initialize() before all else. ({error})"
            ) from error


@contextlib.contextmanager
def aborts_in_one_line() -> Iterator[None]:
    """While the death of the first process of a job ends this one with one line, and status 1.

    As soon as the first has gone, or 40 s after another, jaxlib 0.10 (`client.h`) writes a page and
    aborts, in a thread of its own and in the middle of whatever goes on; it has no callback that
    Python can be. What it and other libraries write is left out while this lasts.
    """
    error_stream = os.dup(2)

    def end(signal_number: int) -> None:
        time.sleep(GRACE)
        os.write(error_stream, f"Error: {others_are_gone('JAX has aborted')}\n".encode())
        os._exit(1)

    # Not by Python's `signal`, whose handlers run later, in the main thread: there is no later.
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(end)
    library = ctypes.CDLL(None)
    library.signal.restype = ctypes.c_void_p
    library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    former = library.signal(signal.SIGABRT, ctypes.cast(handler, ctypes.c_void_p))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(error_stream, 2)
        library.signal(signal.SIGABRT, former)
        os.close(nowhere)  # and the other stays open: `end` may be under way


def number_in(name: str) -> int:
    """What an environment variable says.

    Raises:
        ValueError: If that is no number.
    """
    try:
        return int(os.environ[name])
    except (KeyError, ValueError):
        raise ValueError(
            f"KERAS_DISTRIBUTION_JOB_ADDRESSES is set, so {name} must be a number too. "
            f"Received: {os.environ.get(name)!r}"
        ) from None


@contextlib.contextmanager
def odd_batches(whole: bool = False) -> Iterator[None]:
    """While batches may be of any size.

    In Keras 3.15.1 `JAXEpochIterator._get_distributed_iterator` (keras/src/backend/jax/trainer.py)
    asks for the layout of the first batch, by images, and lays all batches of the epoch so by
    `_distribute_data`; JAX raises an `IndivisibleError` at the last one where the devices do not
    divide its images, after which the model has no weights. With several processes it also takes
    what each gives for its own share. So that one function is ours while ours run;
    `tests/test_devices.py` looks whether Keras still fails.

    Args:
        whole: Whether each device gets all of each batch where several processes share it, since
            what a process has no part of it cannot return.
    """
    if keras.distribution.distribution() is None:
        yield
        return
    kerass = trainer._distribute_data
    everywhere = whole and jax.process_count() > 1
    trainer._distribute_data = functools.partial(placed, everywhere=everywhere)
    try:
        yield
    finally:
        trainer._distribute_data = kerass


def placed(batch: Any, layouts: Any = None, everywhere: bool = False) -> Any:
    """A batch on all devices: to each its share, or where it cannot be divided evenly, all of it.

    Args:
        batch: Arrays, and None where there is none.
        layouts: Keras's, of the first batch of the epoch: not looked at.
        everywhere: Whether each device gets all of it.
    """

    def part_placed(part: Any) -> Any:
        if part is None:
            return None
        return on_devices(part, one_for_all() if everywhere else sharding_of(part.shape))

    return tree.map_structure(part_placed, batch)


def stacked_over_devices(parts: list) -> Any:
    """Batches of one shape on top of each other, each over all devices."""
    sharding = sharding_of(parts[0].shape)
    spec = jax.sharding.PartitionSpec(None, *sharding.spec)
    return stacker(jax.sharding.NamedSharding(sharding.mesh, spec))(parts)


@functools.cache
def stacker(sharding: Any) -> Any:
    """Puts arrays on top of each other, so that the stack lies on the devices in this way."""
    return jax.jit(jax.numpy.stack, out_shardings=sharding)


def on_devices(array: Any, sharding: Any) -> Any:
    """An array that this process has whole, over all devices."""
    if isinstance(array, jax.Array):
        return jax.device_put(array, sharding)
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def sharding_of(shape: tuple) -> Any:
    """How an array of this shape lies on the devices: by images, where they can be divided."""
    layout = data_layout(shape)
    mesh, spec = layout.mesh, layout.spec
    axis = spec[0] if len(spec) else None
    names = () if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if shape[0] % math.prod(mesh.shape[name] for name in names):
        spec = jax.sharding.PartitionSpec()
    return jax.sharding.NamedSharding(mesh, spec)


def one_for_all() -> Any:
    """How an array lies of which each device has all."""
    return jax.sharding.NamedSharding(data_layout((1,)).mesh, jax.sharding.PartitionSpec())


def data_layout(shape: tuple) -> Any:
    """How Keras would have an array of a batch lie."""
    distribution: Any = keras.distribution.distribution()
    return distribution.get_data_layout(shape).backend_layout
