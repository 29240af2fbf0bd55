"""Training steps of whole configs beside PyTorch: python -m benchmarks.peers.

memjax, PyTorch and its `torch.compile`, each with one thread and with one for each core, take turns
of a few seconds: of processor time with one thread, so that other work on the machine counts
little, else of the clock. The nets, weights, images and noise of the first step are the same, and
the loss is compared. The floor is a step's operations, as XLA counts them, at the rate of a large
matrix product, which takes its turns too.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from flax import traverse_util

from benchmarks import load, peer, steps
from experiments import cli, listing
from memjax import training

_ALL = ["vae_mnist", "vae_omniglot"]
_VAES = flags.DEFINE_multi_enum("vae", _ALL, _ALL, "A config; repeatable.")


def main() -> None:
    """Prints a table for each config."""
    print("config        threads   memjax    eager compiled    floor   / PyTorch  / floor  loss")
    for name in _VAES.value:
        experiment = training.build(listing.load(name).lock(), steps.random_set)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "first_step.npz")
            ours = write_first_step(experiment, path)
            for threads in sorted({1, os.cpu_count() or 1}):
                compare(name, experiment, path, threads, ours)


def compare(
    name: str, experiment: training.Experiment, path: Path, threads: int, ours: float
) -> None:
    """Prints a row."""
    setting, clock = f"NPROC={threads}", "process_time" if threads == 1 else "perf_counter"
    workers = [load.start(name, setting, clock)]
    losses = []
    for compiled in (False, True):
        worker = _start_torch(path, threads, compiled, clock)
        losses.append(float(worker.stdout.readline()))
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
    difference = max(abs(loss - ours) / abs(ours) for loss in losses)
    print(f"{name:16} {threads:4} {row} {ratios}  {ours:.2f}, {difference:.0e} apart", flush=True)


def write_first_step(experiment: training.Experiment, path: Path) -> float:
    """The loss of random images on the first parameters, all of which go into a file."""
    model, stage = experiment.model, experiment.train
    params = training.init_state(experiment).params
    images = np.asarray(stage.arrays.images[: stage.batch_size], np.float32) / 255
    rng_keys = jax.random.split(jax.random.key(0), len(images))
    shape = (model.num_samples, model.latent_size)
    noise = jax.vmap(lambda rng_key: jax.random.normal(rng_key, shape))(rng_keys)

    @jax.jit
    @jax.vmap
    def bound(rng_key, image):
        return model.apply({"params": params}, rng_key, image, None, train=True)[0]

    arrays = traverse_util.flatten_dict({"params": params}, sep="/")
    arrays |= {"images": images[..., 0], "noise": noise.swapaxes(0, 1)}
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
    return -float(bound(rng_keys, images).mean())


def _start_torch(path: Path, threads: int, compiled: bool, clock: str) -> subprocess.Popen:
    python = peer.environment()
    if python is None:
        raise SystemExit(1)
    script = Path(__file__).with_name("torch_vae.py")
    arguments: dict[str, Any] = {"path": str(path), "threads": threads, "compiled": compiled}
    arguments |= {"seconds": load.SECONDS.value, "clock": clock}
    # What a run that was killed left half compiled is not found there.
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(path.parent)}
    return load.popen([python, script, json.dumps(arguments)], environment)


if __name__ == "__main__":
    cli.run(main)
