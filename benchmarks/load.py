"""Training steps a second, quiet and beside busy processes: python -m benchmarks.load.

Each config is trained by processes of their own, one for each `--setting` of the environment, in
turns of a few seconds: quiet, then beside the busy processes. A process that only counts takes its
turns too; its loss of speed is the fair share of one thread, whatever else the machine does.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from absl import flags

from experiments import cli

NAMES = flags.DEFINE_multi_string("name", ["kanerva_digits"], "See `steps.config`; repeatable.")
_SETTINGS = flags.DEFINE_multi_string("setting", [""], "NAME=VALUE NAME=VALUE ...; repeatable.")
_BUSY = flags.DEFINE_integer("busy", 2, "Busy processes.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "The median counts.")
SECONDS = flags.DEFINE_float("seconds", 1.0, "How long a turn takes, at least.")
_CLOCK = flags.DEFINE_enum(
    "clock",
    "perf_counter",
    ["perf_counter", "process_time"],
    "Python's; the second: processor time.",
)
_WORKER = flags.DEFINE_string("worker", None, "Used by this program itself.")

_SIZE = 1024
PRODUCT_FLOPS = 2 * _SIZE**3  # of a step of "products"


def main() -> None:
    """Prints a line for each config and setting."""
    if _WORKER.value is not None:
        return work(_WORKER.value)
    print(f"{'config':24} {'quiet':>8} {f'beside {_BUSY.value}':>8} {'of its share':>12}  setting")
    for name in NAMES.value:
        contestants = [("counting", ""), *((name, setting) for setting in _SETTINGS.value)]
        workers = [start(*contestant) for contestant in contestants]
        quiet, beside = [], []
        for _ in range(ROUNDS.value):
            quiet.append([take_turn(worker) for worker in workers])
            with busy(_BUSY.value):
                beside.append([take_turn(worker) for worker in workers])
        for worker in workers:
            worker.communicate()  # no more turns
        quiet, beside = np.median(quiet, axis=0), np.median(beside, axis=0)
        shares = beside / quiet
        for i, (_, setting) in list(enumerate(contestants))[1:]:
            share = shares[i] / shares[0]
            speeds = f"{quiet[i]:8.1f} {beside[i]:8.1f}"
            print(f"{name:24} {speeds} {share:12.2f}  {setting}", flush=True)
        print(f"  {shares[0]:.2f}: the share of one thread")


def start(name: str, setting: str, clock: str | None = None) -> subprocess.Popen:
    """A process that trains a config, ready for its first turn."""
    command = [sys.executable, "-m", "benchmarks.load", f"--worker={name}"]
    command += [f"--seconds={SECONDS.value}", f"--clock={clock or _CLOCK.value}"]
    worker = popen(command, dict(pair.split("=", 1) for pair in setting.split()))
    take_turn(worker)
    return worker


def popen(command: Sequence[Any], environment: Mapping[str, str] | None = None) -> subprocess.Popen:
    """A process that is told of its turns by its standard input."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, **(environment or {})}, **pipes)


def take_turn(worker: subprocess.Popen) -> float:
    """Its steps a second."""
    worker.stdin.write("\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def work(name: str) -> None:
    """Takes a turn for each line that comes in."""
    kinds = {"counting": _counting, "products": _products}
    call, steps_per_call = kinds[name]() if name in kinds else _training(name)
    clock = getattr(time, _CLOCK.value)
    for _ in sys.stdin:
        start, taken, seconds = clock(), 0, 0.0
        while seconds < SECONDS.value:
            call()
            taken += steps_per_call
            seconds = clock() - start
        print(taken / seconds, flush=True)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Runs busy processes beside."""
    command = ["sh", "-c", "while :; do :; done"]
    processes = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _counting() -> tuple[Callable[[], object], int]:
    return (lambda: sum(range(100_000))), 1


def _products() -> tuple[Callable[[], object], int]:
    import jax

    matrix = jax.numpy.ones((_SIZE, _SIZE))
    product = jax.jit(jax.numpy.matmul)
    return lambda: product(matrix, matrix).block_until_ready(), 1


def _training(name: str) -> tuple[Callable[[], object], int]:
    # Imported here, so that the counting process has no thread but its own.
    from benchmarks import steps
    from memjax import data, training

    load = data.load if name.endswith("_digits") else steps.random_set
    experiment = training.build(steps.config(name).lock(), load)
    steps_per_call = steps.steps_per_call(experiment)
    if steps_per_call > 1:
        steps_per_call = 10
    return steps.compile_steps(experiment, steps_per_call), steps_per_call


if __name__ == "__main__":
    cli.run(main)
