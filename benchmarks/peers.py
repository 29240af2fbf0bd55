"""Training steps of whole configs beside PyTorch: python -m benchmarks.peers.

memjax, PyTorch and its `torch.compile`, each with one thread and with one for each core that they
may use, take turns of a few seconds: of processor time with one thread, so that other work on the
machine counts little, else of the clock. The nets, weights, images and noise of the first step are
the same, and the loss and its gradient's norm are compared. PyTorch computes no metrics. The floor
is a step's operations, as XLA counts them, at the rate of a large matrix product, which takes its
turns too.
"""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

import experiments
from benchmarks import first_step, load, peer, steps
from experiments import cli
from memjax import training

flags.set_default(load.NAMES, first_step.TWINS)


def main() -> None:
    """Prints a table for each config."""
    print(f"{'config':36} threads   memjax    eager compiled    floor   / PyTorch  / floor  loss")
    for name in load.NAMES.value:
        experiment = training.build(steps.config(name).lock(), steps.random_set)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "first_step.npz")
            ours = first_step.write(experiment, path)
            for threads in sorted({1, experiments.num_cores()}):
                compare(name, experiment, path, threads, ours)


def compare(
    name: str, experiment: training.Experiment, path: Path, threads: int, ours: tuple[float, float]
) -> None:
    """Prints a row."""
    setting, clock = f"NPROC={threads}", "process_time" if threads == 1 else "perf_counter"
    workers = [load.start(name, setting, clock)]
    found = []
    for compiled in (False, True):
        worker = _start_torch(path, threads, compiled, clock)
        found.append(json.loads(worker.stdout.readline()))
        load.take_turn(worker)
        workers.append(worker)
    workers.append(load.start("products", setting, clock))
    speeds = np.median(
        [[load.take_turn(worker) for worker in workers] for _ in range(load.ROUNDS.value)], axis=0
    )
    for worker in workers:
        worker.communicate()
    speeds[3] *= load.PRODUCT_FLOPS / steps.count_flops(experiment)
    row = " ".join(f"{speed:8.2f}" for speed in speeds)
    ratios = f"{speeds[0] / max(speeds[1:3]):11.2f} {speeds[0] / speeds[3]:8.2f}"
    apart = " ".join(f"{gap:.0e}" for gap in np.max(np.abs(np.array(found) / ours - 1), axis=0))
    print(f"{name:36} {threads:7} {row} {ratios}  {ours[0]:.2f}, {apart} apart", flush=True)


def _start_torch(path: Path, threads: int, compiled: bool, clock: str) -> subprocess.Popen:
    python = peer.environment()
    if python is None:
        raise SystemExit(1)
    arguments: dict[str, Any] = {"path": str(path), "threads": threads, "compiled": compiled}
    arguments |= {"seconds": load.SECONDS.value, "clock": clock}
    script = Path(__file__).with_name("torch_steps.py")
    # What a run that was killed left half compiled is not found there.
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(path.parent)}
    return load.popen([python, script, json.dumps(arguments)], environment)


if __name__ == "__main__":
    cli.run(main)
