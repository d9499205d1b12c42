"""The training step on TensorFlow."""

import keras
import tensorflow as tf
from keras import tree

from kvae.steps.executions import Executions, of_one_shape


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

    def several_steps_function(self):
        """Several steps as one loop within XLA, where Keras's loop calls XLA for each of them."""
        if not self.jit_compile or tf.distribute.has_strategy():
            return None
        most = self.steps_per_execution

        def mapped(function, *trees):
            return tree.map_structure(function, *trees, none_is_leaf=False)

        @tf.function(jit_compile=True, reduce_retracing=True, autograph=False)
        def several_steps(batches, count):
            def step(i):
                self.train_step(mapped(lambda stack: stack[i], batches))
                return [i + 1]

            tf.while_loop(lambda i: i < count, step, [tf.constant(0)])
            return self.get_metrics_result()

        def train_function(iterator):
            logs = None
            for batches in of_one_shape(iterator, most):
                count = tf.constant(len(batches))
                batches += batches[:1] * (most - len(batches))  # so that one loop fits
                stacks = mapped(lambda *parts: tf.stack(parts), *batches)
                logs = several_steps(stacks, count)
            if logs is None:
                raise StopIteration
            return logs

        return train_function
