"""The training step on JAX."""

import jax
import keras


class TrainStep(keras.Model):
    """A model whose `train_step` differentiates `compute_loss` with JAX."""

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
