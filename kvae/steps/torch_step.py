"""The training step on PyTorch."""

import collections
import types

import keras
import torch
from keras import ops, tree
from torch.fx.experimental.proxy_tensor import make_fx

from kvae.steps.executions import Executions
from kvae.steps.torch_adam import quicken

# Eager steps with batches of one shape before it is recorded: what they lose is about what
# recording takes, so that neither a short nor a long run is much worse than if it had known.
EAGER_STEPS = 64


class TrainStep(Executions):
    """A model whose `train_step` differentiates `compute_loss` with PyTorch.

    Keras spends most of an eager step in Python, layer by layer. So what a step asks of PyTorch is
    recorded once for each shape of a batch that comes often, and then replayed. What cannot be
    recorded, since it depends on values, is run eagerly.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Out of sight of Keras, which would take them for parts of the model.
        self.graphs = types.SimpleNamespace(made={}, seen=collections.Counter())

    def best_jit_compile(self) -> bool | str:
        """What to give `compile(jit_compile=...)`: Keras chooses well here."""
        return "auto"

    def make_train_function(self, force=False):
        """As Keras's; forgets what was recorded for another optimizer."""
        if force or self.train_function is None:
            self.graphs.made = {}
            self.graphs.seen.clear()
            if self.can_be_recorded():
                quicken(self.optimizer)
        return super().make_train_function(force)

    def train_step(self, data):
        """Updates the weights on one batch; returns the running metrics."""
        data = tree.map_structure(
            lambda array: None if array is None else ops.convert_to_tensor(array),
            keras.utils.unpack_x_y_sample_weight(data),
        )
        gradients, logs = self.recorded(data) or self.eager(*data)
        with torch.no_grad():
            self.optimizer.apply(gradients, self.trainable_weights)
        return logs

    def eager(self, x, y, sample_weight) -> tuple[list, dict]:
        """The gradients and the running metrics, layer by layer."""
        weights = [weight.value for weight in self.trainable_weights]
        outputs = self(x, training=True)
        loss = self.compute_loss(x, y, outputs, sample_weight, training=True)
        scaled = self.optimizer.scale_loss(loss)  # for mixed_float16
        gradients = torch.autograd.grad(scaled, weights, allow_unused=True)
        with torch.no_grad():
            self._loss_tracker.update_state(loss, sample_weight=x.shape[0])
            return list(gradients), self.compute_metrics(x, y, outputs, sample_weight)

    def can_be_recorded(self) -> bool:
        """Whether a step may be: not where somebody else compiles or looks, or the scale moves."""
        scales = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        return not (self.run_eagerly or self.jit_compile or scales)

    def recorded(self, data: tuple) -> tuple[list, dict] | None:
        """As `eager`, replayed; None where it cannot be recorded, or is not yet worth it."""
        if not self.can_be_recorded():
            return None
        # The variables are those of the graph too, so that no other can have their identity.
        weights = (id(weight) for weight in self.trainable_weights)
        key = (*weights, *(described(part) for part in tree.flatten(data)))
        if key not in self.graphs.made:
            self.graphs.seen[key] += 1
            if self.graphs.seen[key] <= EAGER_STEPS:
                return None
            self.graphs.made[key] = self.record(data)
        graph, state, changed = self.graphs.made[key]
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
            A graph module, or None where it cannot be recorded; the variables it takes; and those
            of them that it changes.
        """
        weights = self.trainable_weights
        state = [*weights, *self.non_trainable_variables, *self.metrics_variables]
        changed: list = []

        def function(values, data):
            values = [value.detach() for value in values]
            for value in values[: len(weights)]:
                value.requires_grad_()
            with keras.StatelessScope(zip(state, values, strict=True)) as scope:
                gradients, logs = self.eager(*data)
            news = [scope.get_current_value(variable) for variable in state]
            pairs = list(zip(state, news, values, strict=True))
            changed[:] = [variable for variable, new, old in pairs if new is not old]
            return gradients, logs, [new.detach() for _, new, old in pairs if new is not old]

        values = [variable.value.detach() for variable in state]
        try:  # what layers make when first called, eager steps have made, of real numbers
            return make_fx(function, tracing_mode="fake")(values, data), state, changed
        except Exception:  # whatever a layer does that depends on values
            return None, state, changed


def described(part) -> tuple | None:
    """What a graph is made for: shape, type and place of an array."""
    return None if part is None else (tuple(part.shape), part.dtype, str(part.device))
