"""The training step on TensorFlow."""

import math

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from kvae.steps.executions import Executions, of_one_shape, shapes


class TrainStep(Executions):
    """A model whose `train_step` differentiates `compute_loss` with TensorFlow."""

    most_steps = 16

    def best_jit_compile(self) -> bool | str:
        """What to give `compile(jit_compile=...)`.

        On a CPU XLA trains dense layers faster, and convolutions more slowly.
        """
        return "auto" if self.convolves() else True

    def train_step(self, data):
        """Updates the weights on one batch; returns the running metrics."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            outputs = self(x, training=True)
            loss = self.compute_loss(x, y, outputs, sample_weight, training=True)
            scaled_loss = self.optimizer.scale_loss(loss)  # for mixed_float16
        gradients = tape.gradient(scaled_loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(x)[0])
        return self.compute_metrics(x, y, outputs, sample_weight)

    def make_train_function(self, force=False):
        """As Keras's; the optimizer's variables, made in the step, would cost a second trace."""
        if not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def fed(self, given: dict, shuffle: bool = False) -> dict:
        """Arguments of `fit`, `evaluate` or `predict`, with arrays as data sets of our own.

        Those that Keras makes of arrays wait at the end of each epoch, often for as long as it
        took, until a thread of TensorFlow's that tunes them wakes up; and with a seed set they give
        the images in the same order in every epoch.
        """
        given = dict(given)
        batch_size = given.get("batch_size") or 32
        validation = given.get("validation_data")
        if isinstance(validation, (tuple, np.ndarray)) and not given.get("validation_steps"):
            size = given.get("validation_batch_size") or batch_size
            parts = validation if isinstance(validation, tuple) else (validation,)
            given["validation_data"] = data_set(parts, size) or validation
        shuffle = given.get("shuffle", shuffle)
        left_to_keras = ("class_weight", "validation_split", "steps", "steps_per_epoch")
        if shuffle != "batch" and not any(given.get(name) for name in left_to_keras):
            data = data_set(map(given.get, ("x", "y", "sample_weight")), batch_size, shuffle)
            if data is not None:
                given["x"] = data
                taken = ("y", "sample_weight", "batch_size")
                given = {name: value for name, value in given.items() if name not in taken}
                if "shuffle" in given or shuffle:
                    given["shuffle"] = False  # else Keras warns that the data set does it
        return given

    def several_steps_function(self):
        """Several steps as one loop within XLA, where Keras's loop calls XLA for each of them."""
        if not self.jit_compile or tf.distribute.has_strategy():
            return None
        most = self.steps_per_execution

        def mapped(function, *trees):
            return tree.map_structure(function, *trees, none_is_leaf=False)

        def compiled(batch):
            """A step traced for batches of any size, and XLA's loop of it for those of this one."""
            sizes = mapped(lambda part: tf.TensorSpec((None, *part.shape[1:]), part.dtype), batch)
            step = tf.function(self.train_step, input_signature=[sizes], autograph=False)

            @tf.function(jit_compile=True, autograph=False)
            def loop(batches, count):
                def body(i):
                    step(mapped(lambda stack: stack[i], batches))
                    return [i + 1]

                tf.while_loop(lambda i: i < count, body, [tf.constant(0)])
                return self.get_metrics_result()

            return shapes(batch), step, loop

        usual: list = []

        def train_function(iterator):
            logs = None
            for batches in of_one_shape(iterator, most):
                if not usual:
                    usual.extend(compiled(batches[0]))
                size, step, loop = usual
                if shapes(batches[0]) != size:  # the last of an epoch: not worth XLA's compiling
                    for batch in batches:
                        logs = step(batch)
                    continue
                count = tf.constant(len(batches))
                batches += batches[:1] * (most - len(batches))  # so that one loop fits
                logs = loop(mapped(lambda *parts: tf.stack(parts), *batches), count)
            if logs is None:
                raise StopIteration
            return logs

        return train_function


def data_set(arrays, batch_size: int, shuffle: bool = False) -> tf.data.Dataset | None:
    """Batches of NumPy arrays of one length, shuffled anew in each epoch; None of anything else."""
    arrays = list(arrays)
    while arrays and arrays[-1] is None:
        arrays.pop()
    fit = all(isinstance(array, np.ndarray) and array.dtype.kind in "buif" for array in arrays)
    lengths = {len(array) for array in arrays} if fit else ()
    if len(lengths) != 1 or 0 in lengths or tf.distribute.has_strategy():
        return None
    (count,) = lengths
    floats = keras.config.floatx()
    with tf.device("cpu"):
        arrays = tuple(
            tf.convert_to_tensor(array.astype(floats) if array.dtype.kind == "f" else array)
            for array in arrays
        )

    def epoch(seed):
        order = tf.range(count)
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(order, seed)

        def batch(start):
            rows = order[start : start + batch_size]
            return tuple(tf.gather(array, rows) for array in arrays)

        return tf.data.Dataset.range(0, count, batch_size).map(batch)

    options = tf.data.Options()
    options.autotune.enabled = False
    seeds = tf.data.Dataset.random(rerandomize_each_iteration=True).batch(2).take(1)
    batches = seeds.flat_map(epoch)
    batches = batches.apply(tf.data.experimental.assert_cardinality(math.ceil(count / batch_size)))
    return batches.prefetch(2).with_options(options)
