"""What trains in the benchmarks: kvae, and the same models as people write them by hand.

Each worker is given images and returns the tasks of a process, an epoch each.
"""

import math
import tempfile

import numpy as np
import turns

BATCH = 128
HIDDEN, LATENTS = 400, 20


def epochs(model, images: np.ndarray):
    """A task that trains a compiled Keras model for one epoch; returns its loss."""

    def task():
        return model.fit(images, batch_size=BATCH, epochs=1, verbose=0).history["loss"][0]

    return task


def dense_worker(images: np.ndarray, profile: bool) -> turns.Tasks:
    """kvae, plain Keras, and the matrix products alone, on the active backend."""
    import keras

    tasks = {
        "kvae": epochs(textbook(), images),
        "plain Keras": epochs(plain_keras(), images),
    }
    if profile:
        one = textbook()
        one.most_steps = 1
        if keras.backend.backend() != "torch":  # there a step with code of one's own is eager
            unmeasured = textbook()
            for tracker in [*unmeasured.trackers.values(), unmeasured._loss_tracker]:
                tracker.update_state = lambda *_, **__: None
            tasks["without metrics"] = epochs(unmeasured, images)
        tasks |= {
            "data, dispatch, callbacks alone": epochs(idle(), images),
            "one step at a time": epochs(one, images),
            "grey values": epochs(textbook(binarize="none"), images),
            "grey values, SGD": epochs(textbook(keras.optimizers.SGD(1e-3), "none"), images),
        }
    return {**tasks, "products": products(len(images) // BATCH)}


def textbook(optimizer="adam", binarize: str = "dynamic"):
    """The textbook's model in kvae."""
    import kvae

    likelihood = kvae.Bernoulli(binarize)
    vae = kvae.VAE.from_preset("mlp-400", (28, 28, 1), likelihood=likelihood, seed=0)
    vae.compile(optimizer, jit_compile=vae.best_jit_compile())
    return vae


def idle():
    """The textbook's model with a step that does nothing."""
    import keras
    from keras import ops

    import kvae

    class Idle(kvae.VAE):
        def train_step(self, *given):
            logs = {"loss": ops.zeros(())}
            return (logs, given[0]) if keras.backend.backend() == "jax" else logs

    vae = Idle.from_preset("mlp-400", (28, 28, 1), seed=0)
    vae.compile("adam", jit_compile=vae.best_jit_compile())
    return vae


def products(updates: int):
    """A task: the matrix products of so many updates of the dense model, and nothing else."""
    import keras
    from keras import ops

    rng = np.random.default_rng(0)
    pixels = 28 * 28
    sizes = [(pixels, HIDDEN), (HIDDEN, 2 * LATENTS), (LATENTS, HIDDEN), (HIDDEN, pixels)]
    kernels = [(rng.normal(size=size) / np.sqrt(size[0])).astype("float32") for size in sizes]
    layers = [
        (*(keras.Variable(array) for array in (kernel, given, back)), i > 0)
        for i, kernel in enumerate(kernels)
        for given in [rng.normal(size=(BATCH, kernel.shape[0])).astype("float32")]
        for back in [rng.normal(size=(BATCH, kernel.shape[1])).astype("float32")]
    ]

    class Products(keras.Model):
        def call(self, scale):
            total = 0.0
            for kernel, given, back, further in layers:
                made = [given * scale @ kernel, ops.transpose(given) @ (back * scale)]
                made += [back * scale @ ops.transpose(kernel)] if further else []
                total = total + sum(ops.max(product) for product in made)
            return ops.reshape(total, (1,))

    model = Products()
    model.built = True
    model.compile(jit_compile=keras.backend.backend() != "torch")
    one = np.ones((1,), "float32")

    def task():
        for _ in range(updates):
            ops.convert_to_numpy(model.predict_on_batch(one))
        return math.nan

    return task


def plain_keras():
    """The same model as people write it in Keras; its step is Keras's own."""
    import keras
    from keras import layers, ops

    class PlainVAE(keras.Model):
        def __init__(self):
            super().__init__()
            self.seed = keras.random.SeedGenerator(0)
            self.hidden = layers.Dense(HIDDEN, activation="relu")
            self.mean, self.log_variance = layers.Dense(LATENTS), layers.Dense(LATENTS)
            self.decoder = keras.Sequential(
                [layers.Dense(HIDDEN, activation="relu"), layers.Dense(784)]
            )

        def call(self, images):
            x = ops.reshape(ops.cast(images, "float32") / 255, (-1, 784))
            x = ops.cast(keras.random.uniform(ops.shape(x), seed=self.seed) < x, "float32")
            h = self.hidden(x)
            mean, log_variance = self.mean(h), self.log_variance(h)
            noise = keras.random.normal(ops.shape(mean), seed=self.seed)
            logits = self.decoder(mean + ops.exp(0.5 * log_variance) * noise)
            return x, mean, log_variance, logits

        def compute_loss(self, x, y=None, y_pred=None, sample_weight=None, training=True):
            observed, mean, log_variance, logits = y_pred
            error = ops.sum(ops.softplus(logits) - observed * logits, axis=1)
            kl = ops.square(mean) + ops.exp(log_variance) - 1 - log_variance
            return ops.mean(error + 0.5 * ops.sum(kl, axis=1))

    model = PlainVAE()
    model.compile("adam")
    return model


def scan_worker(images: np.ndarray) -> turns.Tasks:
    """JAX by hand: the data on the device, an epoch in one compiled loop."""
    import functools

    import jax
    import jax.numpy as jnp

    data = jnp.asarray(images.reshape(-1, 784))
    updates = len(images) // BATCH
    rng = np.random.default_rng(0)

    def layer(rows, columns):
        bound = math.sqrt(6 / (rows + columns))
        return jnp.asarray(rng.uniform(-bound, bound, (rows, columns)), "float32"), jnp.zeros(
            columns
        )

    sizes = [(784, HIDDEN), (HIDDEN, LATENTS), (HIDDEN, LATENTS), (LATENTS, HIDDEN), (HIDDEN, 784)]
    weights = [layer(*size) for size in sizes]

    def loss(weights, x, key):
        encode, mean, log_variance, decode, logits = (
            lambda h, w=w, b=b: h @ w + b for w, b in weights
        )
        pixels, latents = jax.random.split(key)
        x = (jax.random.uniform(pixels, x.shape) < x / 255.0).astype("float32")
        h = jax.nn.relu(encode(x))
        m, v = mean(h), log_variance(h)
        z = m + jnp.exp(0.5 * v) * jax.random.normal(latents, m.shape)
        out = logits(jax.nn.relu(decode(z)))
        error = jnp.sum(jax.nn.softplus(out) - x * out, axis=1)
        return jnp.mean(error + 0.5 * jnp.sum(m**2 + jnp.exp(v) - 1 - v, axis=1))

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(state, key):
        shuffle, draws = jax.random.split(key)
        order = jax.random.permutation(shuffle, len(data)).reshape(updates, BATCH)

        def update(state, given):
            weights, first, second, step = state
            rows, key = given
            value, gradients = jax.value_and_grad(loss)(weights, data[rows], key)
            step = step + 1
            rate = 1e-3 * jnp.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            tree = jax.tree_util.tree_map
            first = tree(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
            second = tree(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
            weights = tree(
                lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-7), weights, first, second
            )
            return (weights, first, second, step), value

        return jax.lax.scan(update, state, (order, jax.random.split(draws, updates)))

    zeros = jax.tree_util.tree_map(jnp.zeros_like, weights)
    state = [(weights, zeros, jax.tree_util.tree_map(jnp.copy, zeros), jnp.zeros(()))]
    keys = iter(range(10_000))

    def task():
        state[0], losses = epoch(state[0], jax.random.key(next(keys)))
        return float(losses.mean())

    return {"scan by hand": task}


def torch_worker(images: np.ndarray) -> turns.Tasks:
    """PyTorch by hand: the data in memory, a loop over batches."""
    import torch
    from torch import nn
    from torch.nn import functional

    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(784, HIDDEN)
            self.mean, self.log_variance = nn.Linear(HIDDEN, LATENTS), nn.Linear(HIDDEN, LATENTS)
            self.decoder = nn.Sequential(
                nn.Linear(LATENTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 784)
            )

        def forward(self, x):
            h = torch.relu(self.hidden(x))
            mean, log_variance = self.mean(h), self.log_variance(h)
            z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            return self.decoder(z), mean, log_variance

    data = torch.from_numpy(images.reshape(-1, 784)).float() / 255
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def task():
        total = 0.0
        for rows in torch.randperm(len(data)).split(BATCH):
            x = torch.bernoulli(data[rows])
            logits, mean, log_variance = model(x)
            error = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            kl = 0.5 * torch.sum(mean**2 + log_variance.exp() - 1 - log_variance)
            loss = (error + kl) / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total / (len(data) // BATCH)

    return {"loop by hand": task}


def pythae_worker(images: np.ndarray) -> turns.Tasks:
    """pythae's trainer; it knows no dynamic binarisation, so its images are drawn once."""
    import logging

    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from torch import nn

    logging.disable(logging.CRITICAL)

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(784, HIDDEN)
            self.mean, self.log_variance = nn.Linear(HIDDEN, LATENTS), nn.Linear(HIDDEN, LATENTS)

        def forward(self, x):
            h = torch.relu(self.hidden(x.reshape(-1, 784)))
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_variance(h))

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(LATENTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 784), nn.Sigmoid()
            )

        def forward(self, z):
            return ModelOutput(reconstruction=self.layers(z).reshape(-1, 1, 28, 28))

    drawn = np.random.default_rng(0).random(images.shape) < images / 255
    data = torch.from_numpy(drawn.astype("float32").reshape(-1, 1, 28, 28))
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENTS, reconstruction_loss="bce")
    model = VAE(config, Encoder(), Decoder())
    given = BaseTrainerConfig(
        output_dir=tempfile.mkdtemp(),
        num_epochs=1,
        per_device_train_batch_size=BATCH,
        learning_rate=1e-3,
        no_cuda=True,
    )
    trainer = BaseTrainer(
        model, train_dataset=BaseDataset(data, torch.ones(len(data))), training_config=given
    )
    trainer.prepare_training()

    def task():
        return trainer.train_step(1)  # what pythae calls an epoch

    return {"its trainer": task}


def conv_worker(images: np.ndarray) -> turns.Tasks:
    """The preset `conv`, and the tutorial's network, on the active backend."""
    import kvae

    vae = kvae.VAE.from_preset("conv", (28, 28, 1), seed=0)
    vae.start_at_mean(images)
    vae.compile("adam", jit_compile=vae.best_jit_compile())
    return {"kvae": epochs(vae, images), "Keras tutorial": epochs(tutorial(), images / 255.0)}


def tutorial():
    """The convolutional VAE of the Keras tutorial: two latents, transposed convolutions."""
    import keras
    from keras import layers, ops

    class TutorialVAE(keras.Model):
        def __init__(self):
            super().__init__()
            self.seed = keras.random.SeedGenerator(0)
            self.encoder = keras.Sequential(
                [
                    layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
                    layers.Conv2D(64, 3, strides=2, padding="same", activation="relu"),
                    layers.Flatten(),
                    layers.Dense(16, activation="relu"),
                    layers.Dense(4),
                ]
            )
            self.decoder = keras.Sequential(
                [
                    layers.Dense(7 * 7 * 64, activation="relu"),
                    layers.Reshape((7, 7, 64)),
                    layers.Conv2DTranspose(64, 3, strides=2, padding="same", activation="relu"),
                    layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu"),
                    layers.Conv2DTranspose(1, 3, padding="same"),
                ]
            )

        def call(self, x):
            x = ops.cast(keras.random.uniform(ops.shape(x), seed=self.seed) < x, "float32")
            mean, log_variance = ops.split(self.encoder(x), 2, axis=1)
            noise = keras.random.normal(ops.shape(mean), seed=self.seed)
            logits = self.decoder(mean + ops.exp(0.5 * log_variance) * noise)
            return x, mean, log_variance, logits

        def compute_loss(self, x, y=None, y_pred=None, sample_weight=None, training=True):
            observed, mean, log_variance, logits = y_pred
            error = ops.sum(ops.softplus(logits) - observed * logits, axis=(1, 2, 3))
            kl = ops.square(mean) + ops.exp(log_variance) - 1 - log_variance
            return ops.mean(error + 0.5 * ops.sum(kl, axis=1))

    model = TutorialVAE()
    model.compile("adam")
    return model


# Processes that are not kvae's: how they work, and the backend that Keras is told, unused.
OTHERS = {
    "loop": (torch_worker, "torch"),
    "scan": (scan_worker, "jax"),
    "pythae": (pythae_worker, "torch"),
}
