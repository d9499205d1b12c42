"""Contenders in processes of their own, timed in turns: what all benchmarks of speed share.

A script gives `run` what each of its processes can do: names of tasks, and functions without
arguments that return the figure reached. Each task runs once unmeasured, to compile; then each runs
once a round, so that what else the machine does falls on all alike.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

Tasks = dict[str, Callable[[], float]]


def work(tasks: Tasks) -> None:
    """The process of a contender: runs what it is told to, and says how long it took."""
    answers, sys.stdout = sys.stdout, sys.stderr  # some contenders print
    for task in tasks.values():
        task()
    print(json.dumps(list(tasks)), file=answers, flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        value = tasks[line.strip()]()
        seconds = time.perf_counter() - started
        print(json.dumps([seconds, float(value)]), file=answers, flush=True)


def start(script: str, backend: str, *arguments: str) -> subprocess.Popen:
    """A process of the script, on a backend; it should call `work`."""
    return subprocess.Popen(
        [sys.executable, script, *arguments],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if not os.environ.get("KVAE_BENCHMARK_ERRORS") else None,
        text=True,
    )


def measured(processes: dict[str, subprocess.Popen], rounds: int) -> dict[str, list]:
    """Seconds and figure reached of every task in every round: "process, task" to pairs."""
    tasks = {}
    for name, process in processes.items():
        line = process.stdout.readline()
        if not line:
            sys.exit(f"{name} failed: KVAE_BENCHMARK_ERRORS=1 shows why")
        tasks[name] = json.loads(line)
    found: dict[str, list] = {f"{n}, {task}": [] for n, each in tasks.items() for task in each}
    for _ in range(rounds):
        for name, process in processes.items():
            for task in tasks[name]:
                process.stdin.write(f"{task}\n")
                process.stdin.flush()
                found[f"{name}, {task}"].append(json.loads(process.stdout.readline()))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return found


def ratio(values: list[float], base: list[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(values, base, strict=True))


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
