"""Processor time of a run of five steps, cold and warm: python -m benchmarks.starting.

A run is `experiments.train` from the shell's call to the end: imports, data, compiling, five steps,
an evaluation and a checkpoint. The cold one finds no compiled program, the warm one those of the
cold one.
"""

import os
import resource
import subprocess
import sys
import tempfile

from absl import flags

from experiments import cli, listing

_NAMES = flags.DEFINE_multi_string("name", [], "A config; repeatable. By default all on digits.")
_FIELDS = ("num_steps", "log_every", "eval_every", "checkpoint_every")


def main() -> None:
    """Prints a line for each config."""
    small = [config.name for config in listing.configs() if "_digits" in config.name]
    print(f"{'config':32} cold warm, seconds")
    for name in _NAMES.value or small:
        with tempfile.TemporaryDirectory() as folder:
            cold, warm = (run(name, folder, i) for i in range(2))
        print(f"{name:32} {cold:4.0f} {warm:4.0f}", flush=True)


def run(name: str, folder: str, i: int) -> float:
    """The seconds of a run whose compiled programs stay in `folder`."""
    command = [sys.executable, "-m", "experiments.train"]
    command += [f"--config=experiments/configs/{name}.py", f"--workdir={folder}/{i}"]
    command += [f"--config.training.{field}=5" for field in _FIELDS]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
    before = _seconds()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return _seconds() - before


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    cli.run(main)
