"""The training step on TensorFlow."""

import contextlib
import functools
import weakref
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
from keras.src.trainers.data_adapters.tf_dataset_adapter import TFDatasetAdapter
from tensorflow.python.eager import context
from tensorflow.python.framework.ops import gradient_registry

from kvae.limits import is_mapped
from kvae.steps.executions import (
    Ahead,
    Executions,
    ahead_of_each,
    logs_of_each,
    of_one_shape,
    shapes,
)
from kvae.steps.feed import Feed, in_floatx
from kvae.steps.stream import EMPTY, Look, Stream
from kvae.steps.tensorflow_replicas import summed_over_replicas, with_share

MOST_COPIED = 2**30  # bytes of an array that TensorFlow may copy
GONE: list[bool] = []  # one entry for each model deleted since kernels were released
MOST_GONE = 16  # deleted models whose kernels may stay


class TrainStep(Executions):
    """A model whose `train_step` differentiates `compute_loss` with TensorFlow."""

    most_steps = 16

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        forget_the_dropped()
        super().__init__(*args, **kwargs)
        weakref.finalize(self, GONE.append, True).atexit = False

    @property
    def feeds_all(self) -> bool:
        """Whether to use a `Feed` without shuffling too: Keras's data sets wait for a thread."""
        return True

    def best_jit_compile(self) -> bool | str:
        """The best `jit_compile` for `compile`.

        On a CPU, XLA trains dense layers faster, and convolutions more slowly.
        """
        # On several devices, XLA does not find all variables.
        return "auto" if self.convolves() or not self.alone_here() else True

    def train_step(self, data: Any) -> Any:
        """Updates the weights on one batch; returns the running metrics."""
        batch, share = with_share(keras.utils.unpack_x_y_sample_weight(data))
        x, y, sample_weight = batch
        # Otherwise a graph would count a step whose batch never came.
        with nothing_registered(), tf.control_dependencies(tensors(data)):
            with tf.GradientTape() as tape, self.sharing(share):
                x = self.inputs_of(x, y)
                outputs = self(x, training=True)
                loss = self._compute_loss(x, y, outputs, sample_weight, training=True)
                scaled_loss = self.optimizer.scale_loss(loss)  # for mixed_float16
            gradients = tape.gradient(scaled_loss, self.trainable_weights)
            with summed_over_replicas(self.optimizer, gradients) as gradients:
                self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self._loss_tracker.update_state(
            loss, share.total if share else tf.shape(tree.flatten(x)[0])[0]
        )
        return self.compute_metrics(x, y, outputs, sample_weight)

    def test_step(self, data: Any) -> Any:
        """Like Keras's, whose loss would count once for each device with a share of a batch."""
        batch, share = with_share(keras.utils.unpack_x_y_sample_weight(data))
        x, y, sample_weight = batch
        with nothing_registered(), self.sharing(share):
            x = self.inputs_of(x, y)
            outputs = self(x, training=False)
            loss = self._compute_loss(x, y, outputs, sample_weight, training=False)
            self._loss_tracker.update_state(
                loss, share.total if share else tf.shape(tree.flatten(x)[0])[0]
            )
            return self.compute_metrics(x, y, outputs, sample_weight)

    def predict_step(self, data: Any) -> Any:
        """Like Keras's, for the share of a replica in a batch."""
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        inputs = self.inputs_of(x, y)
        # Keras's `add` fails for a share that is known to be empty.
        parts, share = with_share(tuple(tree.flatten(inputs)))
        with nothing_registered(), self.sharing(share):
            outputs = super().predict_step((tree.pack_sequence_as(inputs, parts),))
        if share is None:
            return outputs
        count = tf.shape(parts[0])[0]
        return tree.map_structure(
            lambda output: output[: share.images * (tf.shape(output)[0] // count)], outputs
        )

    def make_train_function(self, force: bool = False) -> Any:
        """Like Keras's; makes the optimizer's variables first, which saves a second trace.

        If a layer is built in its first call, the optimizer cannot be built before.
        """
        built = all(layer.built for layer in self._flatten_layers(include_self=False))
        if built and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Like Keras's, for the share of one replica; Keras adds up shares, which may differ."""
        if iterator is not None and self._distribute_strategy is not None:
            locally = self.distribute_strategy.experimental_local_results
            _, _, batches = next(iter(iterator))
            data_batch = tree.map_structure(lambda part: locally(part)[0], next(batches))
        super()._maybe_symbolic_build(data_batch=data_batch)

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.fit`, which raises the errors of a stream of batches."""
        if self._distribute_strategy is not None:
            self.check_replicas()
        with as_streams_say(*args, *kwargs.values()):
            return super().fit(*args, **kwargs)

    def check_replicas(self) -> None:
        """Raises a ValueError if Keras would fail on several devices, with a page of errors."""
        optimizer: Any = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        given = {
            "gradient_accumulation_steps": getattr(optimizer, "gradient_accumulation_steps", None),
            "steps_per_execution": self.steps_per_execution,
        }
        for name, value in given.items():
            if (value or 1) > 1 and not self.alone_here():
                raise ValueError(
                    f"On several devices TensorFlow takes no `{name}`: choose a larger batch, or "
                    f"one device. Received: {name}={value}"
                )

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.evaluate`, which raises the errors of a stream of batches."""
        with as_streams_say(*args, *kwargs.values()):
            return super().evaluate(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.predict`, which raises the errors of a stream of batches."""
        with as_streams_say(*args, *kwargs.values()):
            return super().predict(*args, **kwargs)

    def feed(self, arrays: tuple, batch_size: int, key: Any = None, whole: bool = False) -> Feed:
        """Makes batches of arrays as data sets of kvae."""
        return TensorFlowFeed(arrays, batch_size, key)

    def fed(self, given: dict, shuffle: bool = False, whole: bool = False) -> dict:
        """Like for every backend; large arrays that are left to Keras are not copied."""
        given = super().fed(given, shuffle, whole)
        if "_use_cached_eval_dataset" in given:
            return given
        names = ("x", "y", "sample_weight")
        if stays(given.get("x")):
            taken = {name: given.pop(name, None) for name in (*names, "batch_size", "class_weight")}
            steps = given.get("steps") or given.get("steps_per_epoch")
            shuffle = given.get("shuffle", shuffle)
            given["x"] = TensorFlowArrays(**taken, steps=steps, shuffle=shuffle)
        validation = given.get("validation_data")
        parts = validation if isinstance(validation, tuple) else (validation,)
        if stays(parts[0]):
            size, steps = given.get("validation_batch_size"), given.get("validation_steps")
            given["validation_data"] = TensorFlowArrays(*parts, batch_size=size, steps=steps)
        return given

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, *given: Any, **named: Any
    ) -> Any:
        """`keras.Model.train_on_batch`, also for a batch that several devices share."""
        if self.alone_here():
            return super().train_on_batch(x, y, sample_weight, *given, **named)
        named |= dict(zip(("class_weight", "return_dict"), given, strict=False))
        weights = {"sample_weight": sample_weight, "class_weight": named.get("class_weight")}
        history = self.fit(x, y, len(x), verbose=0, shuffle=False, **weights)
        logs = {name: values[-1] for name, values in history.history.items()}
        return logs if named.get("return_dict") else self._flatten_metrics_in_order(logs)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """`keras.Model.test_on_batch`, also for a batch that several devices share."""
        if self.alone_here():
            return super().test_on_batch(x, y, sample_weight, return_dict)
        given = {"batch_size": len(x), "verbose": 0, "return_dict": return_dict}
        return self.evaluate(x, y, sample_weight=sample_weight, **given)

    def predict_on_batch(self, x: Any) -> Any:
        """`keras.Model.predict_on_batch`; Keras lets each device compute and return all of it."""
        found = super().predict_on_batch(x)
        return (
            found if self.alone_here() else tree.map_structure(lambda part: part[: len(x)], found)
        )

    def alone_here(self) -> bool:
        """Whether each batch is on one device."""
        return self.distribute_strategy.num_replicas_in_sync == 1

    def stream(self, data: Any, look: Look, shuffle: Any = False) -> Any:
        """Wraps an iterable of batches, each of which is checked, as a data set."""
        if isinstance(data, tf.distribute.DistributedDataset):
            return data  # its batches lie on several devices
        if isinstance(data, tf.data.Dataset):
            return TensorFlowData(data, look)
        return TensorFlowStream(data, look, shuffle)

    def distributed(self) -> bool:
        """Whether several devices share a batch."""
        return self._distribute_strategy is not None or tf.distribute.has_strategy()

    def several_steps_function(self, most: int) -> Any:
        """Runs several steps as one loop within XLA; Keras's loop calls XLA for each step."""
        if self.distributed() or not (self.jit_compile or self.steps_per_execution == 1):
            return None
        steps: dict = {}  # traced for batches of any size, keyed by their other properties
        loops: dict = {}  # of these steps, compiled for batches of one size
        ahead_of = ahead_of_each()

        def logs_of(batches: Any) -> list:
            """Runs these steps."""
            kind = str(tree.map_structure(described, batches[0]))
            size = str(shapes(batches[0]))
            if kind not in steps:
                steps[kind] = self.traced(batches[0])
            if len(batches) == 1 and self.is_short(batches[0], (kind, size) in loops):
                # Usually the last batch of an epoch: not worth compiling with XLA.
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
            """Several steps at once, as in Keras, with the logs of the last."""
            logs = None
            for batches in of_one_shape(map(without_optionals, iterator), most):
                logs = logs_of(batches)[-1]
            if logs is None:
                raise StopIteration
            return logs

        return one_step if self.steps_per_execution == 1 else as_many_as_told

    def is_short(self, batch: Any, compiled: bool) -> bool:
        """Whether a batch is the short one of a feed or, in other data sets, of a rare shape.

        For a feed this does not depend on earlier batches, so that a resumed run has the same
        rounding.
        """
        size = self.executions.batch_size
        return not compiled if size is None else tensors(batch)[0].shape[0] != size

    def traced(self, batch: Any) -> Any:
        """Traces `train_step` as a function of the tensors of such a batch, of any size."""
        parts = tree.flatten(batch)

        def step(*tensors: Any) -> Any:
            left = iter(tensors)
            given = [None if part is None else next(left) for part in parts]
            return self.train_step(tree.pack_sequence_as(batch, given))

        sizes = [tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in tensors(batch)]
        return tf.function(step, input_signature=sizes, autograph=False)

    def loop(self, step: Any, most: int) -> Any:
        """Compiles a loop of up to `most` steps: stacked batches and their count to logs."""
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


def forget_the_dropped() -> None:
    """Makes TensorFlow release what it keeps for operations of deleted models.

    For the life of the process, TensorFlow keeps a kernel for each operation with its attributes,
    one of which is the name of a variable: 0.2 MB for a model that is built, 1 MB for one that is
    trained. From time to time, this function releases all of them. Kernels of models in use are
    made again at their next call, which takes up to some seconds, and TensorFlow's random
    operations with a seed of their own start anew.
    """
    if len(GONE) >= MOST_GONE and tf.executing_eagerly():
        GONE.clear()
        context.context().clear_kernel_cache()


@contextlib.contextmanager
def nothing_registered() -> Iterator[None]:
    """A context that removes what tracing a step adds to TensorFlow's registry.

    Operations with custom gradients (silu, and the optimizer's sum over replicas) stay there for
    the life of the process, and with them the graph and all its variables: 18 MB for each
    `mlp-400`. They are not needed after tracing.
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
    """Returns a batch with None in place of TensorFlow's optionals."""
    return tree.map_structure(
        lambda part: None if isinstance(part, tf.experimental.Optional) else part, batch
    )


def tensors(batch: Any) -> list:
    """The parts of a batch that are not None."""
    return [part for part in tree.flatten(batch) if part is not None]


def described(part: Any) -> tuple | None:
    """Dtype and shape of a part of a batch, of any size, for which a step is traced."""
    return None if part is None else (part.dtype.name, tuple(part.shape[1:]))


class TensorFlowFeed(Feed):
    """A feed as a data set of TensorFlow.

    Data sets that Keras makes from arrays wait at the end of each epoch until a thread of
    TensorFlow that tunes them wakes up, often as long as the epoch took.
    """

    def __init__(self, arrays: tuple, batch_size: int, key: Any = None) -> None:
        super().__init__(arrays, batch_size, key)
        with tf.device("cpu"):
            self.order = tf.Variable(self.rows, trainable=False)

    def on_epoch_begin(self) -> None:
        """Shuffles the images for this epoch."""
        super().on_epoch_begin()
        self.order.assign(self.rows)

    def get_tf_dataset(self) -> tf.data.Dataset:
        """The data set, with a new order in each epoch."""
        if tf.distribute.has_strategy():
            return generated(self.get_numpy_iterator, self.taken(self.rows[:1]), 2)
        size = self.batch_size
        starts = tf.data.Dataset.range(0, len(self.arrays[0]), size)
        rows = starts.map(lambda start: self.order[start : start + size])
        batches = self.picked(rows) if any(map(stays, self.arrays)) else self.gathered(rows)
        batches = batches.apply(tf.data.experimental.assert_cardinality(self.num_batches))
        return prefetched(batches, 2)

    def gathered(self, rows: tf.data.Dataset) -> tf.data.Dataset:
        """Yields batches that TensorFlow takes from a copy of the arrays."""
        with tf.device("cpu"):
            arrays = tuple(tf.convert_to_tensor(in_floatx(array)) for array in self.arrays)
        # The arrays are passed from step to step: what a function captures stays alive for a while.
        pairs = tf.data.Dataset.zip((rows, tf.data.Dataset.from_tensors(arrays).repeat()))
        return pairs.map(lambda rows, arrays: tuple(tf.gather(array, rows) for array in arrays))

    def picked(self, rows: tf.data.Dataset) -> tf.data.Dataset:
        """Yields batches that NumPy takes from the arrays, which reads no other rows."""
        kinds = [in_floatx(array[:0]) for array in self.arrays]

        def pick(rows: np.ndarray) -> list[np.ndarray]:
            return list(self.taken(rows))

        def batch(rows: Any) -> tuple:
            parts = tf.numpy_function(pick, [rows], [kind.dtype for kind in kinds])
            shapes = [(None, *kind.shape[1:]) for kind in kinds]
            return tuple(map(tf.ensure_shape, parts, shapes))

        return rows.map(batch)


class TensorFlowStream(Stream):
    """A stream as a data set of TensorFlow."""

    def get_tf_dataset(self) -> tf.data.Dataset:
        """The data set, of batches of any size."""
        # The workers of a Keras data set fetch batches ahead themselves.
        has_workers = getattr(self.indexed, "enqueuer", None) is not None
        return generated(self.get_numpy_iterator, self.first, 0 if has_workers else 2)


class TensorFlowArrays(ArrayDataAdapter):
    """Arrays as Keras feeds them, but without letting TensorFlow copy all of each."""

    def get_tf_dataset(self) -> tf.data.Dataset:
        """The data set, of batches that NumPy takes from the arrays."""
        return generated(self.tuples, next(self.tuples()), 2)

    def tuples(self) -> Iterator[tuple]:
        """The batches of one epoch; images alone are passed on as they are, as in Keras."""
        for batch in self.get_numpy_iterator():
            yield batch if isinstance(batch, tuple) else (batch,)


class TensorFlowData(TFDatasetAdapter):
    """A TensorFlow data set, whose batches are checked if their values matter.

    Attributes:
        fault: The exception of a check that ended the last iteration, if any.
    """

    def __init__(self, data: tf.data.Dataset, look: Look) -> None:
        self.look = look
        self.fault: Exception | None = None
        spec, count = data.element_spec, int(data.cardinality())
        flat = tree.flatten(spec)
        plain = all(isinstance(part, tf.TensorSpec) for part in flat)
        settled, self.wants_unit = plain and look.settles(spec), plain and look.wants_unit(spec)
        shape: tuple = ()
        if not settled or count in (0, tf.data.UNKNOWN_CARDINALITY):
            batch = next(iter(data), None)
            if batch is None:
                raise ValueError(EMPTY.format(look.name))
            shape = tuple(look(1, batch)[0].shape[1:])
        if not settled:
            seen = tf.autograph.experimental.do_not_convert(functools.partial(self.seen, shape))
            data = data.enumerate(1).map(seen).prefetch(1)
        elif len(flat) > 1 or isinstance(spec, dict) or flat[0].shape.rank == 3:
            data = data.map(tf.autograph.experimental.do_not_convert(self.arranged))
        super().__init__(data, class_weight=look.class_weight)

    def arranged(self, *batch: Any) -> tuple:
        """A batch as Keras takes it."""
        return self.look.arranged(batch[0] if len(batch) == 1 else batch)

    def seen(self, shape: tuple[int, int, int], number: Any, batch: Any) -> tuple:
        """Returns a batch for Keras after a check of its values, when the batch is made."""
        parts = self.look.arranged(batch)
        given = self.look.arranged(batch, as_given=True)

        def values(number: np.ndarray, *arrays: np.ndarray) -> list:
            try:
                self.look(int(number), tree.pack_sequence_as(given, arrays))
            except Exception as error:
                self.fault = error
                raise
            return []

        images, *rest = parts

        def look() -> Any:
            seen = tf.numpy_function(values, [number, *tree.flatten(given)], [])
            with tf.control_dependencies([seen]):
                return tf.constant(True)

        if self.wants_unit:  # then Python is only needed for the error message
            fine = tf.logical_and(tf.reduce_min(images) >= 0, tf.reduce_max(images) <= 1)
            looked = tf.cond(fine, lambda: tf.constant(True), look)
        else:
            looked = look()
        with tf.control_dependencies([looked]):
            images = tf.identity(images)
        if images.shape.rank is None or tuple(images.shape[1:]) != shape:
            images = tf.reshape(images, (-1, *shape))
        return (images, *rest)


@contextlib.contextmanager
def as_streams_say(*given: Any) -> Iterator[None]:
    """A context that raises the errors of streams, which TensorFlow wraps.

    It also explains a failure of TensorFlow's collective operations, which number themselves as
    they come on each device, and may mix up those of two devices.
    """
    streams = [one for one in given if isinstance(one, (Stream, TensorFlowData))]
    try:
        yield
    except tf.errors.OpError as error:
        for stream in streams:
            if stream.fault is not None:
                raise stream.fault from None
        if "mismatch in the collective instance" in str(error):
            raise ValueError(
                "TensorFlow's collective operations fail at times where devices are CPUs: make the "
                "strategy with cross_device_ops=tf.distribute.ReductionToOneDevice()."
            ) from error
        raise


def stays(array: Any) -> bool:
    """Whether TensorFlow must not copy an array, because it is in a file or large."""
    return is_mapped(array) or isinstance(array, np.ndarray) and array.nbytes > MOST_COPIED


def generated(batches: Any, first: tuple, ahead: int) -> tf.data.Dataset:
    """Yields batches of any size from a function, some ahead."""

    def spec(part: Any) -> tf.TensorSpec:
        dtype = keras.backend.standardize_dtype(part.dtype)
        return tf.TensorSpec((None, *part.shape[1:]), dtype)

    specs = tree.map_structure(spec, first)
    data = tf.data.Dataset.from_generator(batches, output_signature=specs)
    return prefetched(data, ahead)


def prefetched(batches: tf.data.Dataset, ahead: int) -> tf.data.Dataset:
    """Fetches batches ahead without TensorFlow's tuning, which waits at the end of an epoch."""
    options = tf.data.Options()
    options.autotune.enabled = False
    if not ahead:
        options.threading.private_threadpool_size = 1
    return (batches.prefetch(ahead) if ahead else batches).with_options(options)
