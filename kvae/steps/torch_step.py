"""The training step on PyTorch."""

import collections
import time
import types
from typing import Any

import keras
import torch
from keras import ops, tree
from torch.fx.experimental.proxy_tensor import make_fx

from kvae.steps.executions import Executions
from kvae.steps.feed import Feed, arrays_of
from kvae.steps.fingerprint import fingerprint
from kvae.steps.torch_adam import quicken
from kvae.steps.torch_ranks import (
    RankedFeed,
    averaged,
    check_batches,
    check_distribution,
    check_ranks,
    ranks,
    share_of,
    summed,
    with_share,
    with_that_of_the_first,
)

# Number of eager steps with batches of one shape, or their seconds, before a step is recorded. They
# cost about as much as recording, so neither a short nor a long run is much slower than with the
# best choice.
EAGER_STEPS = 64
EAGER_SECONDS = 10.0
MOST_FINGERPRINTS = 32


class TrainStep(Executions):
    """A model whose `train_step` differentiates `compute_loss` with PyTorch.

    Keras spends most of an eager step in Python, layer by layer. Therefore the PyTorch operations
    of a step are recorded once for each frequent batch shape and then replayed. They are recorded
    again if an attribute of the model or of its parts changes. A step that cannot be recorded
    because it depends on values runs eagerly. So does a step that calls code of other packages (a
    layer, a likelihood, a `VAE` or an activation of your own), because such code may read more than
    attributes.
    """

    makes_several_steps = False
    reduces_gradients = False  # whether a `train_step` of your own adds them up over processes

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Hidden from Keras, which would treat them as parts of the model.
        self.graphs = types.SimpleNamespace(
            made={},
            seen=collections.Counter(),
            fingerprints={},
            now=None,
            looked=False,
            seconds=collections.Counter(),
        )

    def best_jit_compile(self) -> bool | str:
        """The best `jit_compile` for `compile`: Keras chooses well here."""
        return "auto"

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.fit`; processes that share batches start with the first one's weights."""
        check_ranks()
        check_distribution()
        if ranks()[1] > 1:
            self.check_own_step()
            check_batches({name: kwargs.get(name) for name in ("x", "validation_data")})
        if self.optimizer is not None and ranks()[1] > 1:
            self.optimizer.build(self.trainable_variables)
            with_that_of_the_first([*self.variables, *self.optimizer.variables])
        return super().fit(*args, **kwargs)

    def check_own_step(self) -> None:
        """Raises a ValueError if each process would train a model of its own."""
        own = type(self).train_step is not TrainStep.train_step
        if own and not self.reduces_gradients:
            raise ValueError(
                f"`{type(self).__name__}.train_step` is your own, and several processes share each "
                "batch: where it adds up gradients over them (torch.distributed.all_reduce), say "
                "so by `reduces_gradients = True` in the class; else train in one process."
            )

    @property
    def feeds_all(self) -> bool:
        """Whether to use a `Feed` without shuffling too: with several processes, for shares."""
        return ranks()[1] > 1

    def fed(self, given: dict, shuffle: bool = False, whole: bool = False) -> dict:
        """Like for every backend; raises a ValueError if processes would see the same images."""
        given = super().fed(given, shuffle, whole)
        if ranks()[1] > 1 and not whole and arrays_of(given.get("x")) is not None:
            raise ValueError(
                "Where several processes share each batch, `steps_per_epoch`, `steps`, "
                '`class_weight` and shuffle="batch" are not for arrays: give a loader of batches, '
                "in each process of its share."
            )
        validation = given.get("validation_data")
        parts = validation if isinstance(validation, (tuple, list)) else (validation,)
        if ranks()[1] > 1 and arrays_of(*parts) is not None:  # `validation_steps` left them there
            raise ValueError(
                "Where several processes share each batch, `validation_steps` is not for arrays: "
                "give fewer of them. "
                f"Received: validation_steps={given.get('validation_steps')}"
            )
        return given

    def feed(self, arrays: tuple, batch_size: int, key: Any = None, whole: bool = False) -> Feed:
        """Makes batches of arrays; with several processes, each has its share."""
        kind = Feed if whole or ranks()[1] == 1 else RankedFeed
        return kind(arrays, batch_size, key)

    def seen_by_batch_norm(self) -> list:
        """The moving statistics of batch norm."""
        return [
            variable
            for layer in self._flatten_layers(include_self=False)
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
            for variable in layer.non_trainable_variables
        ]

    def make_train_function(self, force: bool = False) -> Any:
        """Like Keras's; forgets recordings with another optimizer."""
        if force or self.train_function is None:
            self.forget()
            if self.can_be_recorded():
                quicken(self.optimizer)
        return super().make_train_function(force)

    def train_step(self, data: Any) -> Any:
        """Updates the weights on one batch; returns the running metrics."""
        data = tree.map_structure(
            lambda array: None if array is None else ops.convert_to_tensor(array),
            keras.utils.unpack_x_y_sample_weight(data),
        )
        images = len(data[0])
        data = with_share(data)
        key = self.recording_key(data)
        made = None if key is None else self.recorded(key, data)
        gradients, logs = self.timed(key, data) if made is None else made
        with torch.no_grad():
            self.optimizer.apply(summed(gradients), self.trainable_weights)
            if ranks()[1] > 1:  # checking this at every step would take time
                averaged(self.seen_by_batch_norm(), images)
        return logs

    def test_step(self, data: Any) -> Any:
        """Like Keras's, for the share of this process in a batch."""
        x, y, sample_weight, share = with_share(keras.utils.unpack_x_y_sample_weight(data))
        with self.sharing(share_of(share)):
            x = self.inputs_of(x, y)
            outputs = self(x, training=False)
            loss = self._compute_loss(x, y, outputs, sample_weight, training=False)
        self._loss_tracker.update_state(
            loss, sample_weight=share[2] if share else len(tree.flatten(x)[0])
        )
        return self.compute_metrics(x, y, outputs, sample_weight)

    def predict_step(self, data: Any) -> Any:
        """Like Keras's, for images, and labels if the model needs them."""
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        return super().predict_step((self.inputs_of(x, y),))

    def eager(self, x: Any, y: Any, sample_weight: Any, share: Any) -> tuple[list, dict]:
        """Computes gradients and running metrics layer by layer; `share` is from `with_share`."""
        weights = [weight.value for weight in self.trainable_weights]
        with self.sharing(share_of(share)):
            x = self.inputs_of(x, y)
            outputs = self(x, training=True)
            loss = self._compute_loss(x, y, outputs, sample_weight, training=True)
        scaled = self.optimizer.scale_loss(loss)  # for mixed_float16
        gradients = torch.autograd.grad(scaled, weights, allow_unused=True)
        with torch.no_grad():
            self._loss_tracker.update_state(
                loss, sample_weight=share[2] if share else len(tree.flatten(x)[0])
            )
            return list(gradients), self.compute_metrics(x, y, outputs, sample_weight)

    def timed(self, key: tuple | None, data: tuple) -> tuple[list, dict]:
        """Like `eager`, counted under a key."""
        begun = time.perf_counter()
        made = self.eager(*data)
        self.graphs.seen[key] += 1
        self.graphs.seconds[key] += time.perf_counter() - begun
        return made

    def can_be_recorded(self) -> bool:
        """Whether a step may be recorded: not under another compiler, or with a moving scale."""
        scales = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        return not (self.run_eagerly or self.jit_compile or scales)

    def forget(self) -> None:
        """Forgets all recordings."""
        self.graphs.made, self.graphs.fingerprints = {}, {}
        self.graphs.seen.clear()
        self.graphs.seconds.clear()
        self.graphs.looked = False

    def reset_metrics(self) -> None:
        """Like Keras's, at the start of epochs and single steps, where attributes may change."""
        super().reset_metrics()
        self.graphs.looked = False

    def attributes(self) -> int | None:
        """A number for the current attributes; None if there is user code.

        Computing it takes a tenth of the time of a step, so this is done only where an attribute
        may have changed.
        """
        graphs = self.graphs
        if not (graphs.looked and self.executions.undisturbed):
            scale = (type(self.optimizer).scale_loss, self.optimizer.loss_scale_factor)
            now = fingerprint(self, scale, settings())
            if now not in graphs.fingerprints and len(graphs.fingerprints) == MOST_FINGERPRINTS:
                self.forget()
            number = graphs.fingerprints.setdefault(now, len(graphs.fingerprints))
            graphs.now = None if now is None else number
            graphs.looked = True
        return graphs.now

    def recording_key(self, data: tuple) -> tuple | None:
        """The key of the recording of a step on such a batch; None if it cannot be recorded."""
        if not self.can_be_recorded() or self.attributes() is None:
            return None
        return (self.graphs.now, *(described(part) for part in tree.flatten(data)))

    def recorded(self, key: tuple, data: tuple) -> tuple[list, dict] | None:
        """Like `eager`, replayed; None if it cannot be recorded, or is not worth it yet."""
        graphs = self.graphs
        if key not in graphs.made:
            if graphs.seen[key] < EAGER_STEPS and graphs.seconds[key] < EAGER_SECONDS:
                return None
            graphs.made[key] = self.record(data)
        graph, state, changed = graphs.made[key]
        if graph is None:
            return None
        with torch.no_grad():
            values = [variable.value.detach() for variable in state]
            gradients, logs, news = graph(values, data)
            for variable, new in zip(changed, news, strict=True):
                variable.value.copy_(new)
        return gradients, logs

    def record(self, data: tuple) -> tuple:
        """Records `eager` as a function of all variables.

        Returns:
            A graph module, or None if it cannot be recorded; the variables that it takes; and those
            of them that it changes.
        """
        weights = self.trainable_weights
        state = [*weights, *self.non_trainable_variables, *self.metrics_variables]
        changed: list = []

        def pairs_of(values: Any) -> Any:
            return zip(state, values, strict=True)

        def function(values: Any, data: Any) -> Any:
            values = [value.detach() for value in values]
            for value in values[: len(weights)]:
                value.requires_grad_()
            with keras.StatelessScope(pairs_of(values), collect_losses=True) as scope:
                gradients, logs = self.eager(*data)
            news = [scope.get_current_value(variable) for variable in state]
            pairs = list(zip(state, news, values, strict=True))
            changed[:] = [variable for variable, new, old in pairs if new is not old]
            return gradients, logs, [new.detach() for _, new, old in pairs if new is not old]

        values = [variable.value.detach() for variable in state]
        try:  # eager steps have already built all layers with real numbers
            return make_fx(function, tracing_mode="fake")(values, data), state, changed
        except Exception:  # layers may depend on values in any way
            return None, state, changed
        finally:
            self._clear_losses()  # otherwise a later step would use the losses of the recording


def described(part: Any) -> tuple | None:
    """Shape, dtype and device of an array, for which a graph is made."""
    return None if part is None else (tuple(part.shape), part.dtype, str(part.device))


def settings() -> tuple:
    """The global settings of Keras and PyTorch on which steps depend."""
    return (
        keras.config.floatx(),
        keras.config.epsilon(),
        keras.config.image_data_format(),
        *(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")),
        str(torch.get_default_dtype()),
    )
