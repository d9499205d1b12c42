"""Threads: a model that many use at once, as behind a web server, answers as when it is alone.

python tests/faults/threads.py --backend jax --calls 1000
"""

import argparse
import concurrent.futures
import os
import threading
import time

import numpy as np

THREADS = 8


def answers(vae, images):
    """What can be asked of a model, by name."""
    latents = np.random.default_rng(0).normal(size=(3, vae.latent_dim))
    return {
        "generate": lambda: vae.generate(3, seed=0),
        "encode": lambda: vae.encode(images)[0],
        "decode": lambda: vae.decode(latents),
        "reconstruct": lambda: vae.reconstruct(images),
        "predict": lambda: vae.predict(images, verbose=0)["mean"],
        "predict_on_batch": lambda: np.asarray(vae.predict_on_batch(images)["mean"]),
    }


def ask(vae, images, calls, threads=THREADS):
    """Asks from many threads at once, all of them from the very first call on.

    Returns:
        A list of what was wrong: nothing, if all is well.
    """
    questions = answers(vae, images)
    found, wrong = [], []
    barrier = threading.Barrier(threads)

    def work(number):
        order = np.random.default_rng(number).integers(len(questions), size=calls)
        names = list(questions)
        barrier.wait()
        for i in order:
            try:
                found.append((names[i], questions[names[i]]()))
            except Exception as error:
                wrong.append(f"{names[i]}: {type(error).__name__}: {error}")

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    expected = {name: question() for name, question in questions.items()}
    for name, answer in found:
        # Batches of another size may be computed in another order; nothing else may differ.
        if not np.allclose(answer, expected[name], atol=1e-5):
            wrong.append(f"{name}: another answer")
    return wrong


def main():
    """Reads the options, and prints how it went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "tensorflow"))
    parser.add_argument("--calls", type=int, default=1000, help="of each thread")
    parser.add_argument("--rounds", type=int, default=4, help="in each a new model")
    arguments = parser.parse_args()
    os.environ["KERAS_BACKEND"] = arguments.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import kvae

    begun = time.perf_counter()
    wrong = []
    for seed in range(arguments.rounds):
        images = np.random.default_rng(seed).integers(0, 256, (5, 28, 28, 1)).astype("uint8")
        # Of a likelihood that draws nothing, so that every answer can be compared.
        vae = kvae.VAE.from_preset("mlp", (28, 28, 1), likelihood=kvae.ContinuousBernoulli())
        wrong += ask(vae, images, arguments.calls // arguments.rounds)
    calls = THREADS * (arguments.calls // arguments.rounds) * arguments.rounds
    print(
        f"{arguments.backend}: {THREADS} threads, {calls:,} calls, {len(wrong)} wrong; "
        f"{time.perf_counter() - begun:.0f} s"
    )
    for line in wrong[:5]:
        print(line)
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
