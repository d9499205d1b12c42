"""How fast the importance-weighted likelihood is: kvae on each backend beside pythae.

The same model (784-400-20, Bernoulli), the same weights, the same binarised images, 200 draws of z
each; in one run, in turns, several rounds; medians. "decoder alone" decodes as many draws in one
compiled call of that backend and sums the logits: what the arithmetic allows. The estimate reached
for the first 100 images stands beside each, so that nobody wins by doing less.

    pip install -e '.[jax,torch,benchmarks]'
    python tests/benchmarks/likelihood.py [--rounds 5] [--out likelihood.json]
"""

import argparse
import json
import os
import statistics
import tempfile

import numpy as np
import turns

DRAWS = 200
IMAGES = {"pythae": 100}
MOST_IMAGES = 10_000
BACKENDS = ("jax", "tensorflow", "torch")


def inputs(folder: str) -> None:
    """Weights and images, in a file for all contenders."""
    generator = np.random.default_rng(0)

    def layer(rows, columns):
        return (generator.normal(size=(rows, columns)) / np.sqrt(rows)).astype("float32")

    images = generator.random((MOST_IMAGES, 784)) < 0.2
    np.savez(
        os.path.join(folder, "inputs.npz"),
        images=images.astype("float32"),
        hidden=layer(784, 400),
        mean=layer(400, 20),
        log_variance=0.1 * layer(400, 20),
        decode=layer(20, 400),
        logits=layer(400, 784),
    )


def kvae_worker(folder: str):
    """The contender kvae, and the decoder alone."""
    import keras
    from keras import ops

    import kvae
    from kvae.model import bounds

    given = np.load(os.path.join(folder, "inputs.npz"))
    vae = kvae.VAE.from_preset("mlp-400", (28, 28, 1), likelihood=kvae.Bernoulli("threshold"))
    values = [given[n] for n in ("hidden", "mean", "log_variance", "decode", "logits")]
    kernels = [v for v in vae.trainable_variables if len(v.shape) == 2]
    for kernel, value in zip(kernels, values, strict=True):
        assert kernel.shape == value.shape, (kernel.path, value.shape)
        kernel.assign(value)
    images = given["images"].reshape(-1, 28, 28, 1)
    of = bounds.posterior(vae, images)

    class Alone(keras.Model):
        def call(self, z):
            return ops.sum(vae.decoder(z), axis=(1, 2, 3))

    alone = Alone()
    alone.built = True
    alone.compile(optimizer=None, jit_compile=vae.best_jit_compile())
    rows = bounds.values_at_a_time() // bounds.widest(vae.decoder)
    z = np.random.default_rng(0).standard_normal((rows, 20), dtype="float32")

    def likelihood():
        return bounds.importance_weighted(vae, of, [DRAWS])[DRAWS][: IMAGES["pythae"]].mean()

    def decoder_alone():
        for _ in range(round(len(images) * DRAWS / rows)):
            ops.convert_to_numpy(alone.predict_on_batch(z))
        return float("nan")

    return {"likelihood": likelihood, "decoder alone": decoder_alone}


def pythae_worker(folder: str):
    """The contender pythae."""
    import torch
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    given = np.load(os.path.join(folder, "inputs.npz"))

    def linear(name):
        layer = torch.nn.Linear(*given[name].shape)
        layer.weight.data = torch.tensor(given[name].T.copy())
        torch.nn.init.zeros_(layer.bias)
        return layer

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.hidden, self.mean, self.log_variance = map(
                linear, ("hidden", "mean", "log_variance")
            )

        def forward(self, x):
            h = torch.relu(self.hidden(x.reshape(-1, 784)))
            raw = self.log_variance(h)  # bounded as in kvae, so that the figures are the same
            return ModelOutput(embedding=self.mean(h), log_covariance=10 * torch.tanh(raw / 10))

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.hidden, self.logits = map(linear, ("decode", "logits"))

        def forward(self, z):
            h = torch.relu(self.hidden(z))
            return ModelOutput(reconstruction=torch.sigmoid(self.logits(h)).reshape(-1, 1, 28, 28))

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=20, reconstruction_loss="bce")
    model = VAE(config, Encoder(), Decoder()).eval()
    images = torch.tensor(given["images"][: IMAGES["pythae"]].reshape(-1, 1, 28, 28))

    def likelihood():
        with torch.no_grad():
            return -model.get_nll(images, n_samples=DRAWS, batch_size=100)

    return {"likelihood": likelihood}


def main() -> None:
    """Runs the comparison and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", help="A JSON file to write.")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker = pythae_worker if arguments.worker == "pythae" else kvae_worker
        turns.work(worker(arguments.folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        inputs(folder)
        processes = {
            name: turns.start(
                __file__,
                "torch" if name == "pythae" else name,
                "--worker",
                name,
                "--folder",
                folder,
            )
            for name in ("pythae", *BACKENDS)
        }
        found = turns.measured(processes, arguments.rounds)
    speeds = {
        key: [IMAGES.get(key.partition(",")[0], MOST_IMAGES) / seconds for seconds, _ in each]
        for key, each in found.items()
    }
    reached = {key: each[-1][1] for key, each in found.items()}
    base = speeds["pythae, likelihood"]
    print(f"{DRAWS} draws an image, {arguments.rounds} rounds: medians (lowest to highest)")
    report = {}
    for key, values in speeds.items():
        ratio = turns.ratio(values, base)
        report[key] = {
            "images_per_second": statistics.median(values),
            "lowest": min(values),
            "highest": max(values),
            "times_pythae": ratio,
            "reached": reached[key],
        }
        alone = speeds.get(f"{key.partition(',')[0]}, decoder alone")
        share = ""
        if alone and key.endswith("likelihood"):
            part = turns.ratio(values, alone)
            report[key]["share_of_decoder"] = part
            share = f", {part:.0%} of the decoder alone"
        print(
            f"{key:<26} {statistics.median(values):>7,.0f} images/s ({min(values):,.0f} to "
            f"{max(values):,.0f}), {ratio:.2f} × pythae{share}, −log p(x) {reached[key]:.2f}"
        )
    if arguments.out:
        with open(arguments.out, "w") as file:
            json.dump(report, file, indent=2)


if __name__ == "__main__":
    main()
