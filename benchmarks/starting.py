"""Processor time to the first step, and of five, cold and warm: python -m benchmarks.starting.

A run is `experiments.train` from the shell's call on: imports, data, compiling, five steps; then,
until its end, an evaluation, a checkpoint, figures and a report. The cold one finds no compiled
program, the warm one those of the cold one. Linux alone, whose `/proc` tells the time.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli, listing

_NAMES = flags.DEFINE_multi_string("name", [], "A config; repeatable. By default all on digits.")
_FIELDS = {
    "training.num_steps": 5,
    "training.log_every": 1,
    "training.eval_every": 5,
    "training.checkpoint_every": 5,
    "optimizer.anneal_factor": 1.0,  # which MEM-VAE's would begin after the run
}


def main() -> None:
    """Prints a line for each config."""
    small = [config.name for config in listing.configs() if "_digits" in config.name]
    print(f"{'config':32} to the first step: cold warm   whole run: cold warm, seconds")
    for name in _NAMES.value or small:
        with tempfile.TemporaryDirectory() as folder:
            cold, warm = (run(name, folder, i) for i in range(2))
        first, whole = zip(cold, warm, strict=True)
        print(
            f"{name:32} {first[0]:23.1f} {first[1]:4.1f} {whole[0]:17.1f} {whole[1]:4.1f}",
            flush=True,
        )


def run(name: str, folder: str, i: int) -> tuple[float, float]:
    """The seconds to the first step and in all; compiled programs stay in `folder`."""
    command = [sys.executable, "-m", "experiments.train"]
    command += [f"--config=experiments/configs/{name}.py", f"--workdir={folder}/{i}"]
    command += [f"--config.{field}={value}" for field, value in _FIELDS.items()]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
    before, first = _seconds(), float("nan")
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if " step 1: " in line:
                times = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
                first = sum(map(int, times[11:13])) / os.sysconf("SC_CLK_TCK")
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return first, _seconds() - before


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    cli.run(main)
