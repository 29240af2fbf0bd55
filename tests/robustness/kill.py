"""Kills a training run again and again, and compares it with one that was left alone.

python -m tests.robustness.kill --kills=50 --workdir=DIR

Each time the same command is started, killed by SIGKILL at a random moment, and started again: one
time in three while a checkpoint is being written, one in three anywhere from the process's first
moment on, else while it trains. Then it runs to its end. Its parameters, optimizer state, random
key and metrics must be those of a run that was never killed, bit for bit.
"""

import collections
import dataclasses
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from absl import flags

from experiments import cli

_CONFIG = Path(__file__).with_name("config.py")
_FIELDS = {"num_steps": 2000, "log_every": 5, "eval_every": 50, "checkpoint_every": 10}
_POLL_SECONDS = 0.002
_START_SECONDS = 10.0


class Process(Protocol):
    """What is killed: a `subprocess.Popen`, or what behaves like one."""

    def poll(self) -> int | None: ...

    def kill(self) -> None: ...

    def wait(self) -> Any: ...


def main() -> None:
    """Kills, compares, prints the figures."""
    folder = Path(_WORKDIR.value)
    whole, killed = folder / "whole", folder / "killed"
    for workdir in (whole, killed):
        shutil.rmtree(workdir, ignore_errors=True)
    subprocess.run(command(whole), check=True)
    rng = random.Random(_SEED.value)
    with (folder / "killed.log").open("w") as log:

        def start() -> Process:
            return subprocess.Popen(command(killed), stdout=log, stderr=log)

        kills = kill_repeatedly(start, killed, _KILLS.value, rng)
        finished = subprocess.run(command(killed), stdout=log, stderr=log, check=False)
    print(f"kills {sum(kills.values())}: " + ", ".join(f"{v} {k}" for k, v in kills.items()))
    if finished.returncode:
        raise SystemExit(f"the last start ended with {finished.returncode}: see {log.name}")
    differences = compare(whole, killed)
    print("\n".join(differences) or "the same, bit for bit: state and metrics")
    raise SystemExit(bool(differences))


def command(workdir: Path, **training: int) -> list[str]:
    """The command that trains, with other fields of `config.training` if need be."""
    fields = [f"--config.training.{name}={value}" for name, value in (_FIELDS | training).items()]
    paths = [f"--config={_CONFIG}", f"--workdir={workdir}"]
    return [sys.executable, "-m", "experiments.train", *paths, *fields]


def kill_repeatedly(
    start: Callable[[], Process], workdir: Path, num_kills: int, rng: random.Random
) -> dict[str, int]:
    """Starts and kills, until a run ends before it is killed; how many, by what they did."""
    kills: collections.Counter[str] = collections.Counter()
    for i in range(num_kills):
        process = start()
        began = time.monotonic()
        wait = (_until_saving, _until_training, _until_whenever)[i % 3]
        wait(process, workdir, began, rng)
        trained = _modified(workdir) > began
        saving = trained and _is_saving(workdir)  # before it, what an earlier kill left
        if process.poll() is not None:
            print(f"after {i} kills the run ended, with {process.poll()}, before the next")
            break
        process.kill()
        process.wait()
        kills["while saving" if saving else "training" if trained else "starting"] += 1
    return dict(kills)


def compare(whole: Path, killed: Path) -> list[str]:
    """How the two runs differ: a line each."""
    from memjax.training import metrics

    differences = []
    states = [_last_state(workdir) for workdir in (whole, killed)]
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(states[0])]
    for path, *leaves in zip(paths, *map(jax.tree.leaves, states), strict=True):
        a, b = map(np.asarray, leaves)
        if a.dtype != b.dtype or a.tobytes() != b.tobytes():
            differences.append(f"state{jax.tree_util.keystr(path)} differs")
    lines = []
    for workdir in (whole, killed):
        text = (workdir / "metrics.jsonl").read_text().splitlines()
        entries = [json.loads(line) for line in text]
        lines.append([{k: v for k, v in e.items() if k != "steps_per_second"} for e in entries])
        assert entries == metrics.read(workdir)
    steps = [[entry["step"] for entry in entries] for entries in lines]
    if steps[0] != steps[1]:
        differences.append(f"metrics.jsonl has the steps {steps[1]}, not {steps[0]}")
    elif lines[0] != lines[1]:
        differences.append("metrics.jsonl has other values")
    return differences


def _last_state(workdir: Path) -> Any:
    from memjax.training import build, init_state
    from memjax.training.checkpoints import Checkpoints
    from memjax.training.workdir import load_config

    config = load_config(workdir)
    checkpoints = Checkpoints(workdir, read_only=True)
    state = checkpoints.restore(like=init_state(build(config)))
    checkpoints.close()
    assert state is not None and int(state.step) == config.training.num_steps
    return dataclasses.replace(state, rng_key=jax.random.key_data(state.rng_key))


def _until_saving(process: Process, workdir: Path, began: float, rng: random.Random) -> None:
    """Until a checkpoint's temporary folder is there, and a little longer."""
    skipped = rng.randrange(4)
    while process.poll() is None and _modified(workdir) <= began:
        time.sleep(_POLL_SECONDS)
    while process.poll() is None and skipped >= 0:
        while process.poll() is None and not _is_saving(workdir):
            time.sleep(_POLL_SECONDS)
        skipped -= 1
        while process.poll() is None and skipped >= 0 and _is_saving(workdir):
            time.sleep(_POLL_SECONDS)
    time.sleep(rng.uniform(0.0, 0.01))


def _until_training(process: Process, workdir: Path, began: float, rng: random.Random) -> None:
    """Until a line of metrics is written, and a little longer."""
    while process.poll() is None and _modified(workdir) <= began:
        time.sleep(_POLL_SECONDS)
    _sleep(process, rng.uniform(0.0, 1.0))


def _until_whenever(process: Process, workdir: Path, began: float, rng: random.Random) -> None:
    """For about as long as a start takes."""
    _sleep(process, rng.uniform(0.0, _START_SECONDS))


def _sleep(process: Process, seconds: float) -> None:
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)


def _is_saving(workdir: Path) -> bool:
    return any("tmp" in path.name for path in (workdir / "checkpoints").glob("*"))


def _modified(workdir: Path) -> float:
    """When metrics were last written, by the monotonic clock."""
    path = workdir / "metrics.jsonl"
    if not path.exists() or not path.stat().st_size:
        return 0.0
    return path.stat().st_mtime - time.time() + time.monotonic()


if __name__ == "__main__":
    _KILLS = flags.DEFINE_integer("kills", 50, "How often.")
    _SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder for the two runs.", required=True)
    cli.run(main)
