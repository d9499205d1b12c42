"""How a network should receive the class: appended to its inputs, or by FiLM in every layer.

Both models have two hidden layers of 400 in encoder and decoder, and the same conditional flow as
the prior. "appended" is how kvae's networks do it: the context stands beside the last features of
the encoder and beside the latents. FiLM (Perez et al. 2018, "FiLM: visual reasoning with a general
conditioning layer", arXiv:1709.07871) replaces each hidden h by h · (1 + γ(c)) + β(c).

    KERAS_BACKEND=jax python tests/benchmarks/context.py [--epochs 5] [--seeds 3]

Means over seeds, ± one standard error: −ELBO of the test images given their class, and how many
of 10,000 new images have the class asked for, by kvae's classifier. MNIST must be at hand.
"""

import argparse
import math
import os
import time

import numpy as np

WIDTHS = (400, 400)
LATENT_DIM, CLASSES = 40, 10


def modulated(x, context, name):
    """FiLM of a hidden layer; it begins as the identity."""
    from keras import layers

    size = x.shape[-1]
    scale = layers.Dense(size, kernel_initializer="zeros", name=f"{name}_scale")(context)
    shift = layers.Dense(size, kernel_initializer="zeros", name=f"{name}_shift")(context)
    return layers.Add()([x, layers.Multiply()([x, scale]), shift])


def hidden(x, context, name):
    """The hidden layers of an encoder or a decoder with FiLM."""
    from keras import layers

    for i, width in enumerate(WIDTHS):
        x = layers.Dense(width, activation="relu", name=f"{name}_{i + 1}")(x)
        x = modulated(x, context, f"{name}_{i + 1}")
    return x


def parts(way):
    """Encoder and decoder."""
    import keras
    from keras import layers

    import kvae

    shape = (28, 28, 1)
    if way == "appended":
        told = {"context_dim": CLASSES, "widths": WIDTHS}
        return (
            kvae.build_encoder(shape, LATENT_DIM, "dense", **told),
            kvae.build_decoder(shape, LATENT_DIM, "dense", **told),
        )
    images, latents = keras.Input(shape), keras.Input((LATENT_DIM,))
    first, second = (keras.Input((CLASSES,), name="context") for _ in range(2))
    x = hidden(layers.Flatten()(images), first, "encoder")
    heads = [layers.Dense(LATENT_DIM, dtype="float32")(x) for _ in range(2)]
    x = layers.Dense(784, dtype="float32")(hidden(latents, second, "decoder"))
    parameters = layers.Reshape(shape)(x)
    return keras.Model([images, first], heads), keras.Model([latents, second], parameters)


def measured(dataset, way, seed, epochs):
    """−ELBO, the share of the class asked for, and seconds of `fit`."""
    import keras

    import kvae

    keras.utils.set_random_seed(seed)
    prior = kvae.RealNVP(LATENT_DIM, context_dim=CLASSES)
    vae = kvae.VAE(*parts(way), prior=prior, classes=CLASSES, seed=seed)
    vae.compile(keras.optimizers.Adam(1e-3))
    begun = time.perf_counter()
    vae.fit(dataset.train, dataset.train_labels, batch_size=128, epochs=epochs, verbose=0)
    seconds = time.perf_counter() - begun
    figures = kvae.evaluate(vae, dataset, importance_samples=1, samples=10_000).figures
    bound = -vae.evaluate(dataset.test, dataset.test_labels, verbose=0, return_dict=True)["elbo"]
    return bound, 100 * figures["samples"]["asked_class"], seconds


def main():
    """Measures in turns, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import kvae

    dataset = kvae.data.load("mnist")
    found = {"appended": [], "FiLM": []}
    for seed in range(given.seeds):
        for way, rows in found.items():
            rows.append(measured(dataset, way, seed, given.epochs))
            print(f"{way}, seed {seed}: {rows[-1]}", flush=True)
    print("| the class is | −ELBO | class asked for | seconds |\n| --- | --- | --- | --- |")
    for way, rows in found.items():
        cells = []
        for values in zip(*rows, strict=True):
            error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0
            cells.append(f"{np.mean(values):.2f} ± {error:.2f}")
        print(f"| {way} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
