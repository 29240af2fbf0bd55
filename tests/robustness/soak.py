"""Trains for long and watches the process: python -m tests.robustness.soak --minutes=60.

Every log interval it notes resident memory, open files and what has been compiled. From the second
evaluation and checkpoint on, memory must stay within 2 %, files must not grow, and nothing may be
compiled.
"""

import os
import signal
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags

from experiments import cli

_SETTLED = 1_000  # steps: two evaluations and checkpoints
_COMPILED = "/jax/core/compile/backend_compile_duration"


def main() -> None:
    """Trains, then prints the figures."""
    from experiments.configs import vma_digits_recall
    from memjax import training
    from memjax.training import metrics

    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if event == _COMPILED else None
    )
    samples: list[tuple[float, int, int, int, int]] = []
    told = False
    start, write = time.monotonic(), metrics.MetricWriter.write

    def watch(writer: metrics.MetricWriter, step: int, values) -> None:
        nonlocal told
        write(writer, step, values)
        samples.append((time.monotonic() - start, step, *_resources(), len(compiled)))
        if time.monotonic() - start > 60 * _MINUTES.value and not told:
            told = True  # a second one would end the process at once
            os.kill(os.getpid(), signal.SIGTERM)

    metrics.MetricWriter.write = watch  # type: ignore[method-assign]
    config = vma_digits_recall.get_config()
    config.training.num_steps, config.training.log_every = 1_000_000_000, 100
    config.training.eval_every = config.training.checkpoint_every = 500
    with tempfile.TemporaryDirectory() as workdir:
        training.train(training.build(config), workdir)
    raise SystemExit(report(np.array(samples)))


def report(samples: np.ndarray) -> int:
    """Prints what grew after the second evaluation and checkpoint; 1 where that is too much."""
    settled = samples[samples[:, 1] > _SETTLED]
    seconds, steps, memory, files, compiled = settled.T
    quarter = max(len(settled) // 4, 1)
    growth = memory[-quarter:].mean() / memory[:quarter].mean() - 1
    grown_files = files[-quarter:].max() - files[:quarter].max()
    print(
        f"{seconds[-1] / 60:.1f} minutes, {int(steps[-1])} steps: memory {memory[0] / 1e6:.0f} MB "
        f"to {memory[-1] / 1e6:.0f} MB, last quarter over first {growth:+.2%}; open files "
        f"{int(files[0])} to {int(files[-1])}, at most {int(files.max())}; compilations after that "
        f"{int(compiled[-1] - compiled[0])}"
    )
    return int(abs(growth) > 0.02 or grown_files > 0 or compiled[-1] > compiled[0])


def _resources() -> tuple[int, int]:
    """Resident memory in bytes, and open files."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))


if __name__ == "__main__":
    _MINUTES = flags.DEFINE_float("minutes", 60.0, "How long.")
    cli.run(main)
