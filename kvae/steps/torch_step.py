"""The training step on PyTorch."""

import types

import keras
import torch
from keras import tree
from torch.fx.experimental.proxy_tensor import make_fx

from kvae.steps.executions import Executions
from kvae.steps.torch_adam import quicken


class TrainStep(Executions):
    """A model whose `train_step` differentiates `compute_loss` with PyTorch.

    Keras spends most of an eager step in Python, layer by layer. So what a step asks of PyTorch is
    recorded once for each shape of a batch, and then replayed. What cannot be recorded, since it
    depends on values, is run eagerly.
    """

    def best_jit_compile(self) -> bool | str:
        """What to give `compile(jit_compile=...)`: Keras chooses well here."""
        return "auto"

    def make_train_function(self, force=False):
        """As Keras's; forgets what was recorded for another optimizer."""
        if force or self.train_function is None:
            # Out of sight of Keras, which would take them for parts of the model.
            self.graphs = types.SimpleNamespace(made={})
            quicken(self.optimizer)
        return super().make_train_function(force)

    def train_step(self, data):
        """Updates the weights on one batch; returns the running metrics."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        gradients, logs = self.recorded(x, y, sample_weight) or self.eager(x, y, sample_weight)
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

    def recorded(self, x, y, sample_weight) -> tuple[list, dict] | None:
        """The same, replayed; None where it cannot be recorded."""
        given = (x, y, sample_weight)
        key = (len(self.trainable_weights), *(described(part) for part in tree.flatten(given)))
        if key not in self.graphs.made:
            self.graphs.made[key] = self.record(given)
        if self.graphs.made[key] is None:
            return None
        graph, state, changed = self.graphs.made[key]
        with torch.no_grad():
            values = [variable.value.detach() for variable in state]
            gradients, logs, news = graph(values, given)
            for variable, new in zip(changed, news, strict=True):
                variable.value.copy_(new)
        return gradients, logs

    def record(self, given):
        """Records `eager` as a function of all variables; None where that is not possible.

        Returns:
            A graph module, the variables it takes, and those of them that it changes.
        """
        if self.run_eagerly or isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            return None
        weights = self.trainable_weights
        state = [*weights, *self.non_trainable_variables, *self.metrics_variables]
        changed: list = []

        def function(values, given):
            values = [value.detach() for value in values]
            for value in values[: len(weights)]:
                value.requires_grad_()
            with keras.StatelessScope(zip(state, values, strict=True)) as scope:
                gradients, logs = self.eager(*given)
            news = [scope.get_current_value(variable) for variable in state]
            pairs = list(zip(state, news, values, strict=True))
            changed[:] = [variable for variable, new, old in pairs if new is not old]
            return gradients, logs, [new.detach() for _, new, old in pairs if new is not old]

        try:
            graph = make_fx(function, tracing_mode="fake")(
                [variable.value.detach() for variable in state], given
            )
        except Exception:  # whatever a layer does that depends on values
            return None
        return graph, state, changed


def described(part) -> tuple | None:
    """What a graph is made for: shape, type and place of an array."""
    return None if part is None else (tuple(part.shape), part.dtype, str(part.device))
