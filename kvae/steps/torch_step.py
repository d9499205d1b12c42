"""The training step on PyTorch."""

import keras
import torch

from kvae.steps.executions import Executions


class TrainStep(Executions):
    """A model whose `train_step` differentiates `compute_loss` with PyTorch."""

    def best_jit_compile(self) -> bool | str:
        """What to give `compile(jit_compile=...)`: Keras chooses well here."""
        return "auto"

    def train_step(self, data):
        """Updates the weights on one batch; returns the running metrics."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        for weight in self.trainable_weights:
            weight.value.grad = None  # `zero_grad` misses layers that another layer has in a list
        outputs = self(x, training=True)
        loss = self.compute_loss(x, y, outputs, sample_weight, training=True)
        self.optimizer.scale_loss(loss).backward()  # scaled for mixed_float16
        gradients = [weight.value.grad for weight in self.trainable_weights]
        with torch.no_grad():
            self.optimizer.apply(gradients, self.trainable_weights)
        self._loss_tracker.update_state(loss, sample_weight=x.shape[0])
        return self.compute_metrics(x, y, outputs, sample_weight)
