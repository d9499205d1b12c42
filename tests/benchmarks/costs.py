"""What kvae costs beside training: start-up, the first step, memory, generating, growth.

Each figure stands beside what it is to be compared with, measured in turns in one run; medians and
the median of the ratios. The model that is started with and generates is the shipped `mnist`.

    pip install -e '.[jax,torch,benchmarks]'
    python tests/benchmarks/costs.py [startup first-step memory generate growth] [--rounds 5]
        [--backends jax tensorflow torch] [--out F.json] [--draw growth.png]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import turns

KINDS = ("startup", "first-step", "memory", "generate", "growth")
BACKENDS = ("jax", "tensorflow", "torch")
GENERATED = 100_000
IMAGES = (15_000, 60_000, 240_000)
DRAWS = (50, 100, 200, 400)
LATENTS = (5, 20, 80, 320)
FAST = "import sys; from kvae_cli import main; sys.argv[0] = 'kvae'; main()"
BARE_LOAD = "import kvae; kvae.load('mnist', compile=False)"
# A process begins with the peak of the one that starts it, so that one must be small.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
unit = 1024 if sys.platform != "darwin" else 1024**2
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit)
"""
TEXTBOOK = """
import sys, time, numpy as np, keras
sys.path.insert(0, {here!r})
import contenders
images = np.load({images!r})
if {plain}:
    model = contenders.plain_keras()
else:
    model = contenders.textbook()
started = time.perf_counter()
model.fit(images[:{count}], batch_size=128, epochs={epochs}, verbose=0)
print(time.perf_counter() - started)
"""


def of_process(command: list[str], backend: str, folder: str) -> tuple[float, str]:
    """Seconds, and what it printed."""
    started = time.perf_counter()
    process = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"{' '.join(command)[:200]} failed:\n{process.stderr}")
    return seconds, process.stdout


def printed(found: tuple[float, str]) -> float:
    """The last number that a process printed."""
    return float(found[1].split()[-1])


def compared(name: str, pairs: list[tuple[float, float]], unit: str) -> dict:
    """A figure of kvae, that of the other, and the median of the ratios; printed too."""
    own, other = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratio = turns.ratio(*map(list, zip(*pairs, strict=True)))
    print(f"{name:<60} {own:>9,.2f} {unit}, {other:,.2f} {unit}: {ratio:.2f} ×", flush=True)
    return {"kvae": own, "other": other, "ratio": ratio, "unit": unit}


def in_turns(name, rounds, unit, own, other, pick=lambda found: found[0]) -> dict:
    """Runs two commands in turns; each is (command, backend, folder)."""
    pairs = [(pick(of_process(*own)), pick(of_process(*other))) for _ in range(rounds)]
    return compared(name, pairs, unit)


def startup(given, folder: str) -> dict:
    """`kvae --help` beside Python alone; `kvae generate` beside importing Keras and loading."""
    python, found = sys.executable, {}
    help_page = [python, "-c", FAST, "--help"]
    found["--help"] = in_turns(
        "kvae --help; python -c pass",
        given.rounds,
        "s",
        (help_page, "jax", folder),
        ([python, "-c", "pass"], "jax", folder),
    )
    for backend in given.backends:
        draws = [python, "-c", FAST, "generate", "--model", "mnist", "--out", "grid.png"]
        found[backend] = in_turns(
            f"{backend}: kvae generate; import and load",
            given.rounds,
            "s",
            (draws, backend, folder),
            ([python, "-c", BARE_LOAD], backend, folder),
        )
    return found


def training_script(folder: str, plain: bool, count: int, epochs: int) -> list[str]:
    """A process that trains the textbook's model, in kvae or in plain Keras."""
    here, images = os.path.dirname(os.path.abspath(__file__)), os.path.join(folder, "images.npy")
    script = TEXTBOOK.format(here=here, images=images, plain=plain, count=count, epochs=epochs)
    return [sys.executable, "-c", script]


def first_step(given, folder: str) -> dict:
    """A `fit` of one update in a fresh process, beside that of plain Keras."""
    return {
        backend: in_turns(
            f"{backend}: fit of one update; plain Keras",
            given.rounds,
            "s",
            (training_script(folder, False, 128, 1), backend, folder),
            (training_script(folder, True, 128, 1), backend, folder),
            printed,
        )
        for backend in given.backends
    }


def memory(given, folder: str) -> dict:
    """Peak memory of `kvae train` on MNIST beside that of a plain `fit` on the same array."""
    found = {}
    for backend in given.backends:
        peak = [sys.executable, "-c", PEAK]
        train = [sys.executable, "-c", FAST, "train", "--dataset", "mnist", "--preset", "mlp-400"]
        found[backend] = in_turns(
            f"{backend}: kvae train; fit of plain Keras",
            max(1, given.rounds // 3),
            "MiB",
            ([*peak, *train, "--epochs", "1", "--quiet"], backend, folder),
            ([*peak, *training_script(folder, True, 55_000, 1)], backend, folder),
            printed,
        )
    return found


def generate(given, folder: str) -> dict:
    """100,000 images beside the decoder alone, on as many latents in one compiled call.

    And beside the decoder in batches of 1,000 whose images are thrown away, which no one can reach
    who returns them.
    """
    found = {}
    processes = {
        backend: turns.start(__file__, backend, "--worker", "generate")
        for backend in given.backends
    }
    times = turns.measured(processes, given.rounds)
    for backend in given.backends:
        speeds = {
            task: [GENERATED / seconds for seconds, _ in times[f"{backend}, {task}"]]
            for task in ("generate", "decoder alone, one call", "decoder alone, thrown away")
        }
        for task, other in speeds.items():
            if task != "generate":
                pairs = list(zip(speeds["generate"], other, strict=True))
                found[f"{backend}, {task}"] = compared(f"{backend}: generate; {task}", pairs, "/s")
        found[f"{backend}, more memory"] = times[f"{backend}, memory"][0][1]
        more = found[f"{backend}, more memory"]
        print(f"{'':<60} {more:.0f} MiB more than for half as many, without the images")
    return found


def generating() -> turns.Tasks:
    """The tasks of a process that generates."""
    import keras

    import kvae

    vae = kvae.load("mnist", compile=False)
    latents = np.random.default_rng(0).standard_normal((GENERATED, vae.latent_dim), "float32")

    def all_of_them():
        return vae.generate(GENERATED, seed=0)[0].mean()

    def decoded(count):
        images = keras.ops.convert_to_numpy(vae.decoder.predict_on_batch(latents[:count]))
        return images[0].mean()

    def one_call():
        return decoded(GENERATED)

    def thrown_away():
        return sum(decoded(1000) for _ in range(GENERATED // 1000))

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    vae.generate(GENERATED // 2, seed=0)
    before = peak()
    vae.generate(GENERATED, seed=0)
    more = peak() - before - GENERATED // 2 * 28 * 28 * 4 / 2**20
    return {
        "generate": all_of_them,
        "decoder alone, one call": one_call,
        "decoder alone, thrown away": thrown_away,
        "memory": lambda: more,
    }


def growth(given, folder: str) -> dict:
    """Seconds against images, importance samples and latents; each step beside what is linear."""
    backend = given.backends[0]
    processes = {backend: turns.start(__file__, backend, "--worker", "growth", "--folder", folder)}
    times = turns.measured(processes, max(1, given.rounds // 2))
    found: dict = {}
    for key, each in times.items():
        kind, _, size = key.partition(", ")[2].rpartition(" ")
        found.setdefault(kind, {})[int(size)] = statistics.median(seconds for seconds, _ in each)
    for kind, seconds in found.items():
        least, most = min(seconds), max(seconds)
        times_more = seconds[most] / seconds[least]
        print(f"{backend}: {kind}: {most / least:.0f} × as many take {times_more:.1f} × as long")
    return found


def growing(folder: str) -> turns.Tasks:
    """The tasks of a process that works on more and more."""
    import contenders
    import keras

    import kvae
    from kvae.model import bounds

    images = np.load(os.path.join(folder, "images.npy"))
    tasks = {}
    vae = contenders.textbook()
    for count in IMAGES:
        more = np.resize(images, (count, *images.shape[1:]))
        tasks[f"images in an epoch {count}"] = contenders.epochs(vae, more)
    of = bounds.posterior(vae, images[:1000])
    for draws in DRAWS:
        tasks[f"importance samples {draws}"] = lambda k=draws: bounds.importance_weighted(
            vae, of, [k]
        )[k].mean()
    for latents in LATENTS:
        other = kvae.VAE.from_preset("mlp-400", (28, 28, 1), latent_dim=latents)
        other.compile(keras.optimizers.Adam(1e-4), jit_compile=other.best_jit_compile())
        tasks[f"latents {latents}"] = contenders.epochs(other, images[:12_800])
    return tasks


def draw(found: dict, path: str) -> None:
    """Seconds against size, one panel for each thing that grows; dashed is linear."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(9, 3), layout="constrained")
    for panel, (kind, seconds) in zip(axes, found.items(), strict=True):
        sizes = sorted(seconds)
        linear = [seconds[sizes[-1]] * size / sizes[-1] for size in sizes]
        panel.loglog(sizes, linear, "--", color="0.6")
        panel.loglog(sizes, [seconds[size] for size in sizes], "o-")
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
        panel.minorticks_off()
        panel.set_xlabel(kind)
        panel.set_ylabel("seconds")
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measures what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}; all where none is given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backends", nargs="*", default=BACKENDS)
    parser.add_argument("--out", help="a JSON file to write")
    parser.add_argument("--draw", help="a picture of the growth to write")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        turns.work(generating() if given.worker == "generate" else growing(given.folder))
        return
    measures = dict(zip(KINDS, (startup, first_step, memory, generate, growth), strict=True))
    strange = set(given.kinds) - set(KINDS)
    if strange:
        parser.error(f"there is no {', '.join(strange)}; there are {', '.join(KINDS)}")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        import kvae

        np.save(os.path.join(folder, "images.npy"), kvae.data.load("mnist").train)
        for kind in given.kinds or KINDS:
            found[kind] = measures[kind](given, folder)
    if given.out:
        with open(given.out, "w") as file:
            json.dump(found, file, indent=2)
    if given.draw and "growth" in found:
        draw(found["growth"], given.draw)


if __name__ == "__main__":
    main()
