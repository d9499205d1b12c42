"""How many devices pay: a model of the time of a step, its constants measured, and a check of it.

    step(N) = dispatch + compute(batch / N) + sums * latency + 2 (N - 1) / N * bytes / bandwidth

is the time on N devices that share a batch, with a ring that adds up so many bytes of gradients
(Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms", J. Parallel Distrib. Comput.
69), and sums in all, of which the others are of single numbers, such as the images of a share.
Measured here, in processes of PyTorch with one thread each: dispatch (the time of a step that does
not depend on the batch), the time for an image, what a sum takes by its bytes, how many there are;
and, on JAX, a step that is nearly all dispatch, on one device and on 8 virtual ones. From them
follows the time in 2 and 4 processes on these cores, which stands beside what it was: to be
believed where nothing else runs, for a process waits for the slowest. Then, for GPUs that are
assumed (ASSUMED), the efficiency: the speed of N devices by N times that of one, for one batch of
all (strong) and for a batch of each (weak), where the host takes as long as it does here for a
step of a small model on one image. No GPU was measured for it.

    pip install -e '.[jax,torch]'
    python tests/benchmarks/scaling.py [mlp conv-large resnet-flow] [--processes 2 4] [--steps 30]
        [--out F.json]
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time

# An H100 SXM: NVIDIA's data sheet says 67e12 float32 operations a second, 900e9 bytes a second of
# NVLink in both directions together; between hosts one port of 400 Gb/s InfiniBand for each GPU. Of
# operations a quarter, of bandwidths 70 % are taken to be had; 30 µs to begin a reduction.
ASSUMED = {
    "operations a second": 0.25 * 67e12,
    "bytes a second in a host": 0.7 * 450e9,
    "bytes a second between hosts": 0.7 * 50e9,
    "seconds to begin in a host": 30e-6,
    "seconds to begin between hosts": 60e-6,
}
SHAPE = (28, 28, 1)
BATCH = 128
SMALL = 16  # the other batch that is measured, to tell dispatch from compute
PLACES = ((8, 1), (64, 8), (64, 64))  # GPUs, hosts


def spawned(count: int, *arguments: object, **settings: str) -> dict:
    """What the first of so many processes of this script says."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    common = {**os.environ, **settings, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common |= {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "WORLD_SIZE": str(count)}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "work", *map(str, arguments)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    said = [one.communicate()[0] for one in started]
    if any(one.returncode for one in started):
        sys.exit("A process failed.")
    return json.loads(said[0].splitlines()[-1])


def seconds_of_a_step(vae: object, images: object, batch: int, steps: int) -> float:
    """Seconds that a step on such a batch takes, the best of three times so many."""
    images = images[: batch * steps]
    vae.fit(images[: batch * 8], batch_size=batch, shuffle=False, verbose=0)
    took = []
    for _ in range(3):
        begun = time.perf_counter()
        vae.fit(images, batch_size=batch, shuffle=False, verbose=0)
        took.append(time.perf_counter() - begun)
    return min(took) / steps


def work_on_torch(preset: str, batches: list[int], steps: int) -> dict:
    """Seconds of steps, and of reductions by their bytes, in the processes that there are."""
    import numpy as np
    import torch
    import torch.distributed as dist

    import kvae
    from kvae.steps import torch_step

    torch.set_num_threads(1)
    torch_step.EAGER_STEPS = 2
    with kvae.training.team() as team:
        vae = kvae.VAE.from_preset(preset, SHAPE)
        vae.compile("adam")
        size = 4 * vae.count_params()
        images = np.random.default_rng(0).integers(0, 256, (max(batches) * steps, *SHAPE), "uint8")
        said = {"bytes": size, "steps": {}, "reductions": {}, "sums": 0}
        if team.processes > 1:
            said["sums"] = sums_of_a_step(vae, images[:SMALL])
        for batch in batches:
            said["steps"][batch] = seconds_of_a_step(vae, images, batch, steps)
        for count in (1, size // 4) if team.processes > 1 else ():
            flat = torch.zeros(count)
            took = []
            for _ in range(20):
                begun = time.perf_counter()
                dist.all_reduce(flat)
                took.append(time.perf_counter() - begun)
            said["reductions"][4 * count] = sorted(took)[len(took) // 2]
        if not team.rank:
            print(json.dumps(said))
    return said


def sums_of_a_step(vae: object, images: object) -> int:
    """How often processes add something up in a step."""
    import torch.distributed as dist

    from kvae.steps import torch_ranks

    places = (
        (dist, dist.all_reduce),
        (torch_ranks.collectives, torch_ranks.collectives.all_reduce),
    )
    calls = []

    def counted(function: object) -> object:
        return lambda *given, **more: calls.append(1) or function(*given, **more)

    for place, function in places:
        place.all_reduce = counted(function)
    vae.train_on_batch(images)
    for place, function in places:
        place.all_reduce = function
    return len(calls)


def count_operations(preset: str) -> None:
    """Bytes of gradients, and operations of a step for an image."""
    import numpy as np
    from torch.utils.flop_counter import FlopCounterMode

    import kvae

    vae = kvae.VAE.from_preset(preset, SHAPE)
    vae.compile("adam")
    with FlopCounterMode(display=False) as counter:
        vae.train_on_batch(np.zeros((2, *SHAPE), "uint8"))
    operations = counter.get_total_flops() / 2
    print(json.dumps({"bytes": 4 * vae.count_params(), "operations": operations}))


def work_on_jax(devices: int, steps: int) -> None:
    """Seconds of a step of a small model, of which nearly all is dispatch."""
    import keras
    import numpy as np

    import kvae

    with kvae.training.team(devices):
        vae = kvae.VAE.from_preset("mlp-400", (8, 8, 1), latent_dim=2)
        vae.compile(keras.optimizers.SGD(0.01))
        images = np.zeros((16 * steps, 8, 8, 1), "uint8")
        print(json.dumps({"seconds": seconds_of_a_step(vae, images, 16, steps)}))


def main(presets: list[str], processes: list[int], steps: int, out: str | None) -> None:
    """Measures, checks, predicts."""
    jax = {"KERAS_BACKEND": "jax", "NPROC": "32"}
    jax["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    torch = {"KERAS_BACKEND": "torch"}
    found: dict = {"assumed": ASSUMED, "cores": os.cpu_count(), "checked": {}, "predicted": {}}
    one = spawned(1, "torch", "mlp", steps, SMALL, BATCH, **torch)
    small, large = one["steps"][str(SMALL)], one["steps"][str(BATCH)]
    an_image = (large - small) / (BATCH - SMALL)
    dispatch = max(0.0, small - SMALL * an_image)
    found["dispatch"], found["an image"], found["step alone"] = dispatch, an_image, large
    print(
        f"mlp on PyTorch, ms: dispatch {1e3 * dispatch:.2f}, an image {1e3 * an_image:.3f}, "
        f"so {BATCH} images {1e3 * large:.1f}"
    )
    sums = 1
    for count in processes:
        said = spawned(count, "torch", "mlp", steps, BATCH, **torch)
        begin, whole = said["reductions"].values()
        sums = said["sums"]
        busy = max(1.0, count / (os.cpu_count() or 1))  # processes that share a core
        wait = max(begin, whole) + (said["sums"] - 1) * begin
        predicted = dispatch * busy + an_image * BATCH / count * busy + wait
        measured = said["steps"][str(BATCH)]
        bandwidth = 2 * (count - 1) / count * said["bytes"] / max(whole - begin, 1e-6)
        found["checked"][count] = {"predicted": predicted, "measured": measured, **said}
        print(
            f"{count} processes, ms: {sums} sums of {1e3 * begin:.2f} + {said['bytes'] / 1e6:.1f} "
            f"MB at {bandwidth / 1e9:.2f} GB/s; a step {1e3 * measured:.1f}, predicted "
            f"{1e3 * predicted:.1f} ({predicted / measured:.2f})"
        )
    on = {count: spawned(1, "jax", count, steps, **jax)["seconds"] for count in (1, 8)}
    found["jax"] = on
    print(
        f"JAX, a step that is nearly all dispatch, ms: {1e3 * on[1]:.2f} on one device, "
        f"{1e3 * on[8]:.2f} on 8 virtual ones of {os.cpu_count()} cores"
    )
    host = spawned(1, "torch", "mlp-400", steps, 1, **torch)["steps"]["1"]
    found["host"] = host
    print(f"PyTorch, a step of mlp-400 on one image, ms: {1e3 * host:.2f}")
    heads = "".join(f"{gpus:4} GPUs, {hosts:2} hosts " for gpus, hosts in PLACES)
    print(f"\npreset        MB    Mflop   {heads}")
    for preset in presets:
        said = spawned(1, "operations", preset, **torch)
        said["sums"] = sums
        rows = {str(place): efficiencies(said, host, *place) for place in PLACES}
        found["predicted"][preset] = {**said, "efficiency": rows}
        words = "".join(f"   {strong:5.0%} / {weak:4.0%}    " for strong, weak in rows.values())
        print(f"{preset:12} {said['bytes'] / 1e6:4.1f} {said['operations'] / 1e6:7.0f}  {words}")
    print(f"Strong (one batch of {BATCH}) / weak ({BATCH} images for each GPU).")
    if out:
        with open(out, "w") as file:
            json.dump(found, file, indent=1)


def efficiencies(said: dict, host: float, devices: int, hosts: int) -> tuple[float, float]:
    """Of the assumed GPUs: for one batch of all, and for a batch of each."""
    where = "in a host" if hosts == 1 else "between hosts"
    reduction = said["sums"] * ASSUMED[f"seconds to begin {where}"] + (
        2 * (devices - 1) / devices * said["bytes"] / ASSUMED[f"bytes a second {where}"]
    )
    compute = BATCH * said["operations"] / ASSUMED["operations a second"]
    alone = host + compute
    strong = alone / devices / (host + compute / devices + reduction)
    return strong, alone / (alone + reduction)


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        kind, *rest = sys.argv[2:]
        if kind == "torch":
            work_on_torch(rest[0], [int(one) for one in rest[2:]], int(rest[1]))
        elif kind == "jax":
            work_on_jax(int(rest[0]), int(rest[1]))
        else:
            count_operations(rest[0])
    else:
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
        parser.add_argument("presets", nargs="*", default=["mlp", "conv-large", "resnet-flow"])
        parser.add_argument("--processes", type=int, nargs="*", default=[2, 4])
        parser.add_argument("--steps", type=int, default=30)
        parser.add_argument("--out")
        given = parser.parse_args()
        main(given.presets, given.processes, given.steps, given.out)
