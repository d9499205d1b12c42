"""The training step on JAX."""

import collections
import functools

import jax
import keras
import numpy as np
from keras import tree

from kvae.steps.executions import Executions, of_one_shape


class TrainStep(Executions):
    """A model whose `train_step` differentiates `compute_loss` with JAX."""

    most_steps = 16

    def best_jit_compile(self) -> bool | str:
        """What to give `compile(jit_compile=...)`: Keras chooses well here."""
        return "auto"

    def train_step(self, state, data):
        """Maps the state and one batch to the running metrics and the new state."""
        trainable, non_trainable, optimizer_state, metrics_state = state
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        # Keras's stateless wrapper of `call` and `compute_loss`, scaled for mixed_float16.
        differentiate = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
        (_, (loss, outputs, non_trainable, metrics_state)), gradients = differentiate(
            trainable,
            non_trainable,
            metrics_state,
            x,
            y,
            sample_weight,
            training=True,
            optimizer_variables=optimizer_state,
        )
        trainable, optimizer_state = self.optimizer.stateless_apply(
            optimizer_state, gradients, trainable
        )
        logs, metrics_state = self._update_metrics_variables(
            metrics_state, loss, x, y, outputs, sample_weight
        )
        return logs, (trainable, non_trainable, optimizer_state, metrics_state)

    def several_steps_function(self):
        """Several steps as one compiled loop, where Keras dispatches each from Python."""
        if not self.jit_compile or keras.distribution.distribution() is not None:
            return None
        most = self.steps_per_execution

        @functools.partial(jax.jit, donate_argnums=0)
        def several_steps(state, batches, count):
            def step(i, carry):
                batch = tree.map_structure(lambda stack: stack[i], batches, none_is_leaf=False)
                return self.train_step(carry[1], batch)

            first = tree.map_structure(lambda stack: stack[0], batches, none_is_leaf=False)
            logs, _ = jax.eval_shape(self.train_step, state, first)
            logs = tree.map_structure(lambda log: jax.numpy.zeros(log.shape, log.dtype), logs)
            return jax.lax.fori_loop(0, count, step, (logs, state))

        dispatched: collections.deque = collections.deque(maxlen=2)  # the logs of the last two

        def train_function(state, iterator):
            # One may wait while another runs, not more: else Ctrl-C would wait for them all.
            if len(dispatched) == 2:
                jax.block_until_ready(dispatched[0])
            logs = None
            for batches in of_one_shape(iterator, most):
                stacks = tree.map_structure(
                    lambda *parts: stacked(parts, most), *batches, none_is_leaf=False
                )
                logs, state = several_steps(state, stacks, len(batches))
            if logs is None:
                raise StopIteration
            dispatched.append(logs)
            return logs, state

        return train_function


def stacked(parts, length: int):
    """Arrays of one shape on top of each other, filled up to a length, so that one loop fits."""
    if isinstance(parts[0], jax.Array):  # on the device already
        return jax.numpy.stack([*parts, *parts[:1] * (length - len(parts))])
    stack = np.empty((length, *parts[0].shape), parts[0].dtype)
    for i, part in enumerate(parts):
        stack[i] = part
    return stack
