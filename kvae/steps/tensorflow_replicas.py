"""The share of a `tf.distribute` replica in a batch, and its communication."""

import collections
import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from keras import tree

from kvae.share import Share
from kvae.steps.team import Team, wanted

__all__ = ["share_of", "summed_over_replicas", "team", "with_share"]

# Optimizers, by identity, with the number of replicas that are passing them summed gradients.
SUMMED: collections.Counter[int] = collections.Counter()


def team(devices: Any = "auto") -> Team:
    """Makes a team of all devices of this machine, or of some; keeps an active strategy.

    Raises:
        ValueError: If there are fewer devices.
    """
    if tf.distribute.has_strategy():
        return Team(tf.distribute.get_strategy().num_replicas_in_sync)
    there = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    names = [device.name.removeprefix("/device:") for device in there]
    count = wanted(devices, names)
    return Team(count, scope=mirrored(names[:count]) if count > 1 else None)


def mirrored(names: list[str]) -> Any:
    """The scope of a strategy on these devices, without TensorFlow's messages.

    TensorFlow's collective operations are slow on a CPU, and at times fail there because shapes
    differ.
    """
    on_cpu = all(name.startswith("CPU") for name in names)
    ways = {"cross_device_ops": tf.distribute.ReductionToOneDevice()} if on_cpu else {}
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        return tf.distribute.MirroredStrategy(names, **ways).scope()
    finally:
        logger.setLevel(level)


class ReplicaShare(Share):
    """The share of a replica in a batch."""

    def sum(self, value: Any) -> Any:
        """The sum of a value over all replicas; its gradient is that of the own part."""

        @tf.custom_gradient
        def summed(value: Any) -> tuple:
            return over_replicas(value), lambda upstream: upstream

        return summed(value)


def share_of(images: Any) -> ReplicaShare | None:
    """The share of the running replica in a batch; None if it has all of it."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return None
    own, devices = tf.shape(images)[0], context.num_replicas_in_sync
    number = context.replica_id_in_sync_group
    counts = over_replicas(tf.one_hot(number, devices, on_value=own, off_value=0))
    before = tf.reduce_sum(tf.where(tf.range(devices) < number, counts, 0))
    return ReplicaShare(own, before, tf.reduce_sum(counts), devices)


def with_share(batch: tuple) -> tuple[tuple, ReplicaShare | None]:
    """Returns a batch and the share of the running replica; None if it has all of it.

    An empty share is replaced by an image, because some kernels have no gradient without images.
    """
    share = share_of(batch[0])
    if share is None:
        return batch, None
    missing = tf.maximum(1 - share.images, 0)

    def filled(part: Any) -> Any:
        if part is None:
            return None
        rest = tf.zeros(tf.concat([[missing], tf.shape(part)[1:]], axis=0), part.dtype)
        return tf.concat([part, rest], axis=0)

    return tree.map_structure(filled, batch), share


def over_replicas(value: Any) -> Any:
    """The sum of a tensor, or of each of a list, over all replicas."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)


@contextlib.contextmanager
def summed_over_replicas(optimizer: Any, gradients: list) -> Iterator[list]:
    """Sums gradients over all replicas for the optimizer.

    Keras's optimizer would add them up itself, but only after clipping those of each replica.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        yield gradients
        return
    there = [gradient for gradient in gradients if gradient is not None]
    left = iter(over_replicas([tf.convert_to_tensor(gradient) for gradient in there]))
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner._all_reduce_sum_gradients = functools.partial(unless_summed, inner)
    SUMMED[id(inner)] += 1
    try:
        yield [None if gradient is None else next(left) for gradient in gradients]
    finally:
        SUMMED[id(inner)] -= 1


def unless_summed(optimizer: Any, pairs: Any) -> Any:
    """Replaces the optimizer's own sum over replicas."""
    if SUMMED[id(optimizer)]:
        return pairs
    return type(optimizer)._all_reduce_sum_gradients(optimizer, pairs)
