"""The training step on JAX."""

import collections
import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

import jax
import keras
import numpy as np
from keras import tree

from kvae.steps.executions import (
    Ahead,
    Executions,
    ahead_of_each,
    logs_of_each,
    of_one_shape,
)
from kvae.steps.jax_convolutions import with_products
from kvae.steps.jax_devices import odd_batches, one_for_all, stacked_over_devices

# Keras's names for the parts of the state.
STATE = (
    "trainable_variables",
    "non_trainable_variables",
    "optimizer_variables",
    "metrics_variables",
)


class TrainStep(Executions):
    """A model whose `train_step` differentiates `compute_loss` with JAX."""

    most_steps = 16

    def best_jit_compile(self) -> bool | str:
        """The best `jit_compile` for `compile`: Keras chooses well here."""
        return "auto"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.executions.lock = threading.RLock()

    def alone(self) -> Any:
        """A context for one thread at a time.

        Keras's predictions use up the arrays of the weights, and return others with the same
        content. Meanwhile another thread would find "Array has been deleted".
        """
        return self.executions.lock

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.fit`; afterwards weights and their averages have arrays of their own.

        Keras gives the model the arrays of the averages, and the next step would use up both.
        """
        try:
            with self.whole(), odd_batches():
                return super().fit(*args, **kwargs)
        finally:
            optimizer: Any = getattr(self.optimizer, "inner_optimizer", self.optimizer)
            if getattr(optimizer, "use_ema", False) and optimizer.built:
                for average in optimizer._model_variables_moving_average:
                    average.assign(np.array(average))

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.evaluate`; the model keeps its weights however it ends."""
        with self.whole(), odd_batches():
            return super().evaluate(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.predict`; the model keeps its weights however it ends."""
        with self.whole(), odd_batches(whole=True):
            return super().predict(*args, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.train_on_batch`, with any number of images on any number of devices."""
        with odd_batches():
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.test_on_batch`, with any number of images on any number of devices."""
        with odd_batches():
            return super().test_on_batch(*args, **kwargs)

    def predict_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.predict_on_batch`, with any number of images on any number of devices."""
        with odd_batches(whole=True):
            return super().predict_on_batch(*args, **kwargs)

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """A context that restores the weights of the model if batches end in an exception.

        Keras passes the weights from batch to batch meanwhile, and would leave the model without.
        """
        variables = [*self.variables, *self.metrics_variables]
        variables += getattr(getattr(self, "optimizer", None), "variables", [])
        held = [(variable, variable._value) for variable in variables]
        try:
            yield
        except BaseException:
            self.jax_state_sync()
            for variable, value in held:
                if variable._value is None and value is not None:
                    variable._value = value  # no batch has used it up
            raise

    def train_step(self, state: Any, data: Any) -> Any:
        """Maps the state and one batch to the running metrics and the new state."""
        trainable, non_trainable, optimizer_state, metrics_state = state
        x, y, sample_weight = self.with_inputs(data)

        def of_weights(trainable: Any) -> Any:
            # Keras's stateless wrapper of `call` and `compute_loss`, scaled for mixed_float16.
            return self.compute_loss_and_updates(
                trainable,
                non_trainable,
                metrics_state,
                x,
                y,
                sample_weight,
                training=True,
                optimizer_variables=optimizer_state,
            )

        differentiate = jax.value_and_grad(of_weights, has_aux=True)
        alone = keras.distribution.distribution() is None
        if alone and self.is_compiled() and self.convolves():
            differentiate = with_products(differentiate)
        (_, (loss, outputs, non_trainable, metrics_state)), gradients = differentiate(trainable)
        trainable, optimizer_state = self.optimizer.stateless_apply(
            optimizer_state, gradients, trainable
        )
        logs, metrics_state = self._update_metrics_variables(
            metrics_state, loss, x, y, outputs, sample_weight
        )
        return logs, (trainable, non_trainable, optimizer_state, metrics_state)

    def with_inputs(self, data: Any) -> tuple:
        """Returns a batch with the argument of `call` as its first part."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        return self.inputs_of(x, y), y, sample_weight

    def test_step(self, state: Any, data: Any) -> Any:
        """Like Keras's, for images, and labels if the model needs them."""
        return super().test_step(state, self.with_inputs(data))

    def predict_step(self, state: Any, data: Any) -> Any:
        """Like Keras's, for images, and labels if the model needs them."""
        return super().predict_step(state, self.with_inputs(data)[:1])

    def is_compiled(self) -> bool:
        """Whether a step is compiled."""
        settings: Any = jax.config
        return self.jit_compile and not (self.run_eagerly or settings.jax_disable_jit)

    def settle(self) -> None:
        """Writes the state of a running `fit`, which JAX passes on, back to the variables."""
        self.jax_state_sync()

    def make_train_function(self, force: bool = False) -> None:
        """Like that of all backends; also keeps JAX from running steps ahead."""
        super().make_train_function(force)
        if self.executions.ahead == 1:
            self.train_function = not_far_ahead(self.train_function)

    def several_steps_function(self, most: int) -> Any:
        """Runs several steps as one compiled loop; Keras dispatches each from Python."""
        if not self.is_compiled():
            return None
        several_steps = self.loop(most)
        ahead_of = ahead_of_each()

        def dispatched(state: Any, batches: Any) -> Any:
            stacks = tree.map_structure(
                lambda *parts: stacked(parts, most), *batches, none_is_leaf=False
            )
            logs, state = several_steps(state, stacks, len(batches))
            # Otherwise Ctrl-C while waiting would leave Keras with a state that is used up.
            self._jax_state = dict(zip(STATE, state, strict=True))
            return logs, state

        def one_step(state: Any, iterator: Any) -> Any:
            """Like `not_far_ahead`, for steps that were made together."""
            ahead = ahead_of.setdefault(iterator, Ahead())
            if not ahead.logs:
                while len(ahead.running) < 2 and (batches := ahead.next_group(iterator, most)):
                    logs, state = dispatched(state, batches)
                    ahead.running.append((logs, len(batches)))
                if not ahead.running:
                    raise StopIteration
                ahead.logs.extend(logs_of_each(*ahead.running.popleft()))
            return ahead.logs.popleft(), state

        def as_many_as_told(state: Any, iterator: Any) -> Any:
            """Several steps at once, as in Keras, with the logs of the last."""
            logs = None
            for batches in of_one_shape(iterator, most):
                logs, state = dispatched(state, batches)
            if logs is None:
                raise StopIteration
            return tree.map_structure(lambda stack: stack[len(batches) - 1], logs), state

        return one_step if self.steps_per_execution == 1 else as_many_as_told

    def loop(self, most: int) -> Any:
        """Compiles a loop of up to `most` steps over stacked batches.

        It maps the state, the batches and their number to stacked logs and a new state. The former
        state is used up.
        """
        # On several devices, the state stays where it is, and shown values are on each device.
        places: dict = {}
        if keras.distribution.distribution() is not None:
            places["out_shardings"] = (one_for_all(), self._get_state_sharding_spec())

        @functools.partial(jax.jit, donate_argnums=0, **places)
        def several_steps(state: Any, batches: Any, count: Any) -> Any:
            def step(i: Any, carry: Any) -> Any:
                stacks, state = carry
                batch = tree.map_structure(lambda stack: stack[i], batches, none_is_leaf=False)
                logs, state = self.train_step(state, batch)
                stacks = tree.map_structure(lambda stack, log: stack.at[i].set(log), stacks, logs)
                return stacks, state

            first = tree.map_structure(lambda stack: stack[0], batches, none_is_leaf=False)
            logs, _ = jax.eval_shape(self.train_step, state, first)
            stacks = tree.map_structure(
                lambda log: jax.numpy.zeros((most, *log.shape), log.dtype), logs
            )
            return jax.lax.fori_loop(0, count, step, (stacks, state))

        return several_steps


def not_far_ahead(function: Any) -> Any:
    """A train function with at most one call waiting while another runs.

    JAX would dispatch some thirty calls ahead, and Ctrl-C and checkpoints would wait for all of
    them: for minutes, if a step takes seconds.
    """
    running: collections.deque = collections.deque(maxlen=2)

    def step(state: Any, iterator: Any) -> Any:
        if len(running) == 2:
            jax.block_until_ready(running[0])
        logs, state = function(state, iterator)
        running.append(logs)
        return logs, state

    return step


def stacked(parts: Any, length: int) -> Any:
    """Stacks arrays of one shape, padded to a length, so that one loop fits."""
    if keras.distribution.distribution() is not None:
        return stacked_over_devices([*parts, *parts[:1] * (length - len(parts))])
    if isinstance(parts[0], jax.Array):  # on the device already
        return jax.numpy.stack([*parts, *parts[:1] * (length - len(parts))])
    stack = np.empty((length, *parts[0].shape), parts[0].dtype)
    for i, part in enumerate(parts):
        stack[i] = part
    return stack
