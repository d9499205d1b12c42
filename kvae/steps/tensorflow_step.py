"""The training step on TensorFlow."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from keras import tree
from tensorflow.python.framework.ops import gradient_registry

from kvae.steps.executions import (
    Ahead,
    Executions,
    ahead_of_each,
    logs_of_each,
    of_one_shape,
    shapes,
)
from kvae.steps.feed import Feed, in_floatx


class TrainStep(Executions):
    """A model whose `train_step` differentiates `compute_loss` with TensorFlow."""

    most_steps = 16
    feeds_all = True

    def best_jit_compile(self) -> bool | str:
        """What to give `compile(jit_compile=...)`.

        On a CPU XLA trains dense layers faster, and convolutions more slowly.
        """
        return "auto" if self.convolves() else True

    def train_step(self, data: Any) -> Any:
        """Updates the weights on one batch; returns the running metrics."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with nothing_registered():
            with tf.GradientTape() as tape:
                outputs = self(x, training=True)
                loss = self._compute_loss(x, y, outputs, sample_weight, training=True)
                scaled_loss = self.optimizer.scale_loss(loss)  # for mixed_float16
            gradients = tape.gradient(scaled_loss, self.trainable_weights)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(x)[0])
        return self.compute_metrics(x, y, outputs, sample_weight)

    def test_step(self, data: Any) -> Any:
        """As Keras's."""
        with nothing_registered():
            return super().test_step(data)

    def predict_step(self, data: Any) -> Any:
        """As Keras's."""
        with nothing_registered():
            return super().predict_step(data)

    def make_train_function(self, force: bool = False) -> Any:
        """As Keras's; the optimizer's variables, made in the step, would cost a second trace.

        Unless a layer is built when it is first called: then the optimizer cannot know it yet.
        """
        built = all(layer.built for layer in self._flatten_layers(include_self=False))
        if built and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def feed(self, arrays: tuple, batch_size: int, key: Any = None) -> Feed:
        """Batches of arrays as data sets of our own."""
        return TensorFlowFeed(arrays, batch_size, key)

    def distributed(self) -> bool:
        """Whether several devices share a batch."""
        return self._distribute_strategy is not None or tf.distribute.has_strategy()

    def several_steps_function(self, most: int) -> Any:
        """Several steps as one loop within XLA, where Keras's loop calls XLA for each of them."""
        if self.distributed() or not (self.jit_compile or self.steps_per_execution == 1):
            return None
        steps: dict = {}  # traced for batches of any size, by what else they are
        loops: dict = {}  # of these steps, compiled for batches of one size
        ahead_of = ahead_of_each()

        def logs_of(batches: Any) -> list:
            """Makes these steps."""
            kind = str(tree.map_structure(described, batches[0]))
            size = str(shapes(batches[0]))
            if kind not in steps:
                steps[kind] = self.traced(batches[0])
            if len(batches) == 1 and self.is_short(batches[0], (kind, size) in loops):
                # Mostly the last of an epoch: not worth XLA's compiling.
                return [steps[kind](*tensors(batches[0]))]
            if (kind, size) not in loops:
                loops[kind, size] = self.loop(steps[kind], most)
            filled = batches + batches[:1] * (most - len(batches))  # so that one loop fits
            stacks = [tf.stack(parts) for parts in zip(*map(tensors, filled), strict=True)]
            logs = loops[kind, size](stacks, tf.constant(len(batches)))
            return logs_of_each(logs, len(batches))

        def one_step(iterator: Any) -> Any:
            ahead = ahead_of.setdefault(iterator, Ahead())
            if not ahead.logs:
                batches = ahead.next_group(map(without_optionals, iterator), most)
                if not batches:
                    raise StopIteration
                ahead.logs.extend(logs_of(batches))
            return ahead.logs.popleft()

        def as_many_as_told(iterator: Any) -> Any:
            """Several at once, as Keras has it, with the logs of the last."""
            logs = None
            for batches in of_one_shape(map(without_optionals, iterator), most):
                logs = logs_of(batches)[-1]
            if logs is None:
                raise StopIteration
            return logs

        return one_step if self.steps_per_execution == 1 else as_many_as_told

    def is_short(self, batch: Any, compiled: bool) -> bool:
        """Whether a batch is the short one of a feed, or, of another data set, one of a kind.

        Of a feed it does not depend on what was before, so that a run that goes on has the same
        rounding.
        """
        size = self.executions.batch_size
        return not compiled if size is None else tensors(batch)[0].shape[0] != size

    def traced(self, batch: Any) -> Any:
        """`train_step` as a function of the tensors of such a batch, of any size."""
        parts = tree.flatten(batch)

        def step(*tensors: Any) -> Any:
            left = iter(tensors)
            given = [None if part is None else next(left) for part in parts]
            return self.train_step(tree.pack_sequence_as(batch, given))

        sizes = [tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in tensors(batch)]
        return tf.function(step, input_signature=sizes, autograph=False)

    def loop(self, step: Any, most: int) -> Any:
        """Compiles up to `most` steps: stacked batches and their count to stacked logs."""
        structure = step.get_concrete_function().structured_outputs
        each = tree.flatten(structure)

        @tf.function(jit_compile=bool(self.jit_compile), autograph=False)
        def several_steps(stacks: Any, count: Any) -> Any:
            def body(i: Any, arrays: Any) -> Any:
                logs = tree.flatten(step(*(stack[i] for stack in stacks)))
                return i + 1, [array.write(i, log) for array, log in zip(arrays, logs, strict=True)]

            arrays = [
                tf.TensorArray(log.dtype, most, element_shape=log.shape, clear_after_read=False)
                for log in each
            ]
            _, arrays = tf.while_loop(lambda i, _: i < count, body, (tf.constant(0), arrays))
            return tree.pack_sequence_as(structure, [array.stack() for array in arrays])

        return several_steps


@contextlib.contextmanager
def nothing_registered() -> Iterator[None]:
    """Takes back, when a step is traced, what the trace has put into TensorFlow's registry.

    Operations with gradients of their own (silu, and the optimizer's sum over replicas) are there
    for as long as the process lives, and with them the graph and all its variables: 18 MB for each
    `mlp-400`. Once the step is traced nobody looks there for them.
    """
    if tf.executing_eagerly():
        yield
        return
    graph = tf.compat.v1.get_default_graph()
    registry = gradient_registry._registry
    known = set(registry)
    try:
        yield
    finally:
        for name in set(registry) - known:
            if any(one is graph for one in graphs_of(registry[name]["type"])):
                del registry[name]


def graphs_of(function: Any, depth: int = 2) -> Iterator[Any]:
    """The graphs of the tensors that a function closes over."""
    for cell in getattr(function, "__closure__", None) or ():
        for part in tree.flatten(cell.cell_contents):
            if isinstance(part, tf.Tensor):
                yield part.graph
            elif depth and callable(part):
                yield from graphs_of(part, depth - 1)


def without_optionals(batch: Any) -> Any:
    """A batch with None where TensorFlow has an optional in its place."""
    return tree.map_structure(
        lambda part: None if isinstance(part, tf.experimental.Optional) else part, batch
    )


def tensors(batch: Any) -> list:
    """What of a batch is not None."""
    return [part for part in tree.flatten(batch) if part is not None]


def described(part: Any) -> tuple | None:
    """What a step is traced for: type and shape of a part of a batch, of any size."""
    return None if part is None else (part.dtype.name, tuple(part.shape[1:]))


class TensorFlowFeed(Feed):
    """A feed as a data set of TensorFlow.

    Those that Keras makes of arrays wait at the end of each epoch, often for as long as it took,
    until a thread of TensorFlow's that tunes them wakes up.
    """

    def __init__(self, arrays: tuple, batch_size: int, key: Any = None) -> None:
        super().__init__(arrays, batch_size, key)
        with tf.device("cpu"):
            self.order = tf.Variable(self.rows, trainable=False)

    def on_epoch_begin(self) -> None:
        """Puts the images in the order of this epoch."""
        super().on_epoch_begin()
        self.order.assign(self.rows)

    def get_tf_dataset(self) -> tf.data.Dataset:
        """The data set, whose order is anew in each epoch."""
        size = self.batch_size
        with tf.device("cpu"):
            arrays = tuple(tf.convert_to_tensor(in_floatx(array)) for array in self.arrays)
        starts = tf.data.Dataset.range(0, len(self.arrays[0]), size)
        rows = starts.map(lambda start: self.order[start : start + size])
        # The arrays go from step to step: what a function captures lives on for a while.
        pairs = tf.data.Dataset.zip((rows, tf.data.Dataset.from_tensors(arrays).repeat()))
        batches = pairs.map(lambda rows, arrays: tuple(tf.gather(array, rows) for array in arrays))
        batches = batches.apply(tf.data.experimental.assert_cardinality(self.num_batches))
        options = tf.data.Options()
        options.autotune.enabled = False
        return batches.prefetch(2).with_options(options)
