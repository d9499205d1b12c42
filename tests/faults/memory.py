"""Memory: what a process holds after many epochs of one model, and after fits of many models.

python tests/faults/memory.py --backend jax --count 300
"""

import argparse
import gc
import os

import numpy as np

PRINTED = (10, 30, 100, 300)  # after so many epochs, or models
GROWTH = 1.05  # from the second quarter on, where memory is called flat


def images():
    """Noise: what is learned does not matter here."""
    return np.random.default_rng(0).integers(0, 256, (600, 28, 28, 1)).astype("uint8")


def new_model():
    """A small model, compiled."""
    import keras

    import kvae

    vae = kvae.VAE.from_preset("mlp-400", (28, 28, 1))
    vae.compile(optimizer=keras.optimizers.Adam(1e-3))
    return vae


def held():
    """Megabytes of this process."""
    import psutil

    gc.collect()
    return psutil.Process().memory_info().rss / 1e6


def by_epochs(count):
    """Memory after each of many epochs of one `fit`."""
    import keras

    found = []
    each = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: found.append(held()))
    x = images()
    new_model().fit(
        x[:500], validation_data=x[500:], epochs=count, batch_size=100, verbose=0, callbacks=[each]
    )
    return found


def by_models(count):
    """Memory after each of many models, which are made, trained, asked and dropped."""
    found = []
    x = images()
    for _ in range(count):
        vae = new_model()
        vae.fit(x[:500], validation_data=x[500:], epochs=1, batch_size=100, verbose=0)
        vae.generate(4)
        del vae
        found.append(held())
    return found


def main():
    """Reads the options, and prints what was held; the exit status says whether it was flat."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "tensorflow"))
    parser.add_argument("--count", type=int, default=300, help="of epochs, and of models")
    arguments = parser.parse_args()
    os.environ["KERAS_BACKEND"] = arguments.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    steady = True
    for what, measure in [("epochs of one model", by_epochs), ("models", by_models)]:
        found = measure(arguments.count)
        after = [f"{found[n - 1]:.0f} after {n}" for n in PRINTED if n <= len(found)]
        growth = found[-1] / found[len(found) // 4]
        steady &= growth < GROWTH
        print(
            f"{arguments.backend}, {what}: {', '.join(after)} MB; last three quarters ×{growth:.3f}"
        )
    raise SystemExit(not steady)


if __name__ == "__main__":
    main()
