"""How long each config takes: python -m benchmarks.configs [--name=vma_mnist_recall ...].

Times a few training steps of random images, and multiplies. On a CPU it counts the process's own
time, so that other work beside it does not count; pin it to one core (`taskset -c 0`) and that is
the time on one core. Elsewhere it counts the clock's. The last column is an estimate for a large
GPU: the longer of 1 ms a step and its FLOPs at 5 TFLOP/s, as XLA counts them (a loop's body once,
so that the DNC's and the LRUA's are too few). `experiments.train --list` shows what was found, from
the configs' docstrings.
"""

import jax
from absl import flags

from benchmarks import steps
from experiments import cli, listing
from memjax import training

_NAMES = flags.DEFINE_multi_string("name", [], "A config; repeatable. By default all of them.")
_SECONDS = flags.DEFINE_float("seconds", 5.0, "How long to measure each, at least.")


def main() -> None:
    """Prints a line for each config."""
    titles = f"{'ms a step':>10} {'steps':>10} {'hours':>8} {'GFLOP a step':>14} {'GPU hours':>10}"
    print(f"{'config':36} {titles}  on {jax.devices()[0]}")
    for name in _NAMES.value or [config.name for config in listing.configs()]:
        config = listing.load(name)
        experiment = training.build(config.lock(), steps.random_set)
        seconds = steps.seconds_per_step(experiment, _SECONDS.value)
        count, flops = config.training.num_steps, steps.count_flops(experiment)
        gpu_hours = count * max(1e-3, flops / 5e12) / 3600
        times = f"{1e3 * seconds:10.2f} {count:10,} {seconds * count / 3600:8.2f}"
        print(f"{name:36} {times} {flops / 1e9:14.3f} {gpu_hours:10.2f}", flush=True)


if __name__ == "__main__":
    cli.run(main)
