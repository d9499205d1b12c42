"""Distributes batches of any size over the devices of a `keras.distribution`."""

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
    """The devices of a `keras.distribution`, in one process or in several."""

    def begin(self) -> None:
        """Enters the scope; aborts of processes that print nothing become one line."""
        super().begin()
        if self.rank:
            self.held.enter_context(aborts_in_one_line())

    def told(self, words: bytes) -> bytes:
        """Broadcasts the words of the first process."""
        if self.processes == 1:
            return words
        mine = np.frombuffer(words if self.rank == 0 else b"", "uint8")
        length = int(multihost_utils.broadcast_one_to_all(np.int32(len(mine))))
        said = np.resize(mine, length) if len(mine) else np.zeros(length, "uint8")
        return np.asarray(multihost_utils.broadcast_one_to_all(said)).astype("uint8").tobytes()

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """A context in which the first process does something alone, such as saving.

        Saving makes variables, and for that all processes of a distribution must take part.
        """
        former: Any = keras.distribution.distribution()
        if self.processes > 1:
            keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(former)

    def gathered(self, numbers: Sequence[float]) -> np.ndarray:
        """Gathers numbers of all processes: (processes, numbers), float32."""
        said = np.asarray(numbers, "float32")
        return np.asarray(multihost_utils.process_allgather(said)).reshape(self.processes, -1)


def team(devices: Any = "auto") -> JaxTeam:
    """Makes a team of all devices, or of some, also those of other processes of this job.

    A `keras.distribution` that is already set stays. In a job of several processes (of Slurm or
    Open MPI, or given by `KERAS_DISTRIBUTION_JOB_ADDRESSES`), each finds the others.

    Raises:
        ValueError: If there are fewer devices.
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
    """Connects this process to the others of its job, if there are any.

    It works like `keras.distribution.initialize`, which would notice a dead process only after 100
    s.
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
    """A context in which the death of another process ends this one with one line, status 1.

    As soon as the first process has gone, or 40 s after another, jaxlib 0.10 (`client.h`) writes a
    page and aborts, in a thread of its own and in the middle of other work. It offers no callback
    to Python. The output of jaxlib and other libraries is suppressed meanwhile.
    """
    error_stream = os.dup(2)

    def end(signal_number: int) -> None:
        time.sleep(GRACE)
        os.write(error_stream, f"Error: {others_are_gone('JAX has aborted')}\n".encode())
        os._exit(1)

    # Not with Python's `signal`, whose handlers run later, in the main thread, when it is too late.
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
        os.close(nowhere)  # the other end stays open: `end` may be running


def number_in(name: str) -> int:
    """The number in an environment variable.

    Raises:
        ValueError: If it is not a number.
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
    """A context in which batches may have any size.

    In Keras 3.15.1 `JAXEpochIterator._get_distributed_iterator` (keras/src/backend/jax/trainer.py)
    asks for the layout of the first batch, by images, and lays all batches of the epoch so by
    `_distribute_data`; JAX raises an `IndivisibleError` at the last one where the devices do not
    divide its images, after which the model has no weights. With several processes it also takes
    what each gives for its own share. So that one function is ours while ours run;
    `tests/test_devices.py` looks whether Keras still fails.

    Args:
        whole: Whether each device gets the whole of each batch if several processes share it,
            because a process cannot return what it has no part of.
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
    """Places a batch on all devices: a share on each, or all of it if it does not divide.

    Args:
        batch: Arrays, or None.
        layouts: Keras's layouts of the first batch of the epoch; not used.
        everywhere: Whether each device gets the whole batch.
    """

    def part_placed(part: Any) -> Any:
        if part is None:
            return None
        return on_devices(part, one_for_all() if everywhere else sharding_of(part.shape))

    return tree.map_structure(part_placed, batch)


def stacked_over_devices(parts: list) -> Any:
    """Stacks batches of one shape, each over all devices."""
    sharding = sharding_of(parts[0].shape)
    spec = jax.sharding.PartitionSpec(None, *sharding.spec)
    return stacker(jax.sharding.NamedSharding(sharding.mesh, spec))(parts)


@functools.cache
def stacker(sharding: Any) -> Any:
    """A function that stacks arrays so that the stack has this sharding."""
    return jax.jit(jax.numpy.stack, out_shardings=sharding)


def on_devices(array: Any, sharding: Any) -> Any:
    """Distributes an array that this process has whole over all devices."""
    if isinstance(array, jax.Array):
        return jax.device_put(array, sharding)
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def sharding_of(shape: tuple) -> Any:
    """The sharding of an array of this shape: by images, if they can be divided."""
    layout = data_layout(shape)
    mesh, spec = layout.mesh, layout.spec
    axis = spec[0] if len(spec) else None
    names = () if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if shape[0] % math.prod(mesh.shape[name] for name in names):
        spec = jax.sharding.PartitionSpec()
    return jax.sharding.NamedSharding(mesh, spec)


def one_for_all() -> Any:
    """The sharding of an array of which each device has a copy."""
    return jax.sharding.NamedSharding(data_layout((1,)).mesh, jax.sharding.PartitionSpec())


def data_layout(shape: tuple) -> Any:
    """Keras's layout of an array of a batch."""
    distribution: Any = keras.distribution.distribution()
    return distribution.get_data_layout(shape).backend_layout
