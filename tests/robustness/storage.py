"""Damages the files of a finished run and restores: python -m tests.robustness.storage --cases=100.

Each case cuts a random file of a random checkpoint short, flips one of its bits, empties or removes
it. What is restored must be, bit for bit, what was saved at its step, and the newest intact step
must be it; else one clear line must say why not. Nothing intact may be deleted or changed.
Then the disk is full: a real one of a few pages, where a file system can be mounted.
"""

import collections
import contextlib
import dataclasses
import logging
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import cli
from memjax.errors import UserError
from tests.robustness import kill

_DISK_KIB = (4, 64, 128, 256)
DAMAGES = ("cut short", "bit flipped", "emptied", "removed")


def main() -> None:
    """Tries them all, prints the figures."""
    logging.getLogger("memjax").setLevel(logging.ERROR)
    outcomes: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "run")
        rng = random.Random(_SEED.value)
        for case in range(_CASES.value):
            outcomes[run.damage_and_restore(Path(folder) / "case", DAMAGES[case % 4], rng)] += 1
        print(f"cases {_CASES.value}: " + ", ".join(f"{v} {k}" for k, v in outcomes.items()))
        for size in _DISK_KIB:
            print(f"disk of {size} KiB: {train_on_full_disk(Path(folder) / 'disk', size)}")
    raise SystemExit(bool(outcomes["WRONG"]))


class Run:
    """A trained run with three checkpoints, and what they hold."""

    def __init__(self, workdir: Path):
        from memjax import training
        from memjax.training import build, init_state
        from tests.robustness.config import get_config

        config = get_config()
        config.training.num_steps, config.training.checkpoint_every = 6, 2
        config.training.eval_every = 6
        training.train(training.build(config), workdir)
        self.workdir = workdir
        self.like = init_state(build(config))
        self.saved = {}
        for step in (6, 4, 2):
            copy = workdir.with_name(f"only_{step}")
            shutil.copytree(workdir / "checkpoints" / str(step), copy / "checkpoints" / str(step))
            self.saved[step] = numbers(self.restore(copy))

    def restore(self, workdir: Path) -> Any:
        """The newest intact state."""
        from memjax.training.checkpoints import Checkpoints

        checkpoints = Checkpoints(workdir)
        try:
            return checkpoints.restore(like=self.like)
        finally:
            checkpoints.close()

    def damage_and_restore(self, workdir: Path, damage: str, rng: random.Random) -> str:
        """What became of a damaged copy of the run; "WRONG" for what must never be."""
        shutil.rmtree(workdir, ignore_errors=True)
        shutil.copytree(self.workdir, workdir)
        damaged = rng.choice([2, 4, 6, 6, 6])
        candidates = sorted((workdir / "checkpoints" / str(damaged)).rglob("*"))
        path = rng.choice([path for path in candidates if path.is_file()])
        break_file(path, damage, rng)
        before = contents(workdir)
        try:
            state = self.restore(workdir)
        except UserError:
            return "refused" if contents(workdir) == before else "WRONG"
        step = int(state.step)
        intact = {k: v for k, v in before.items() if k not in contents(workdir)}
        moved = contents(workdir / "unreadable_checkpoints")
        lost = [k for k in intact if k.relative_to("checkpoints") not in moved]
        right = step >= 4 and numbers(state) == self.saved[step] and not lost
        if not right or (damaged != 6 and step != 6):
            print(f"WRONG: {path.relative_to(workdir)} {damage}: step {step}, lost {lost}")
            return "WRONG"
        return "restored as if nothing had happened" if step == 6 else "restored the step before"


def break_file(path: Path, damage: str, rng: random.Random) -> None:
    """Damages a file in one of the `DAMAGES`."""
    content = bytearray(path.read_bytes())
    if damage == "removed":
        path.unlink()
        return
    if damage == "emptied" or not content:
        content = bytearray()
    elif damage == "cut short":
        content = content[: rng.randrange(len(content))]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def contents(folder: Path) -> dict[Path, bytes]:
    """All files below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def numbers(state: Any) -> list[bytes]:
    """A training state as bytes."""
    state = dataclasses.replace(state, rng_key=jax.random.key_data(state.rng_key))
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def train_on_full_disk(mount: Path, size: int) -> str:
    """What training says that saves onto a disk of `size` KiB."""
    with small_disk(mount, size) as mounted:
        if not mounted:
            return "not tried: this user can't mount a file system"
        finished = subprocess.run(
            kill.command(mount / "run", num_steps=100), capture_output=True, text=True, check=False
        )
        said = [line.strip() for line in finished.stderr.splitlines()]
        lines = [line for line in said if line and not re.match(r"\S+ step \d+: ", line)]
        if finished.returncode != 2 or len(lines) != 1:
            return f"WRONG: status {finished.returncode}\n{finished.stderr[-2000:]}"
        names = [path.name for path in (mount / "run/checkpoints").glob("*")]
        steps = sorted(int(name) for name in names if name.isdigit())
        return f"status 2, checkpoints {steps} kept, {lines[0][:150]}"


@contextlib.contextmanager
def small_disk(mount: Path, size: int) -> Iterator[bool]:
    """Mounts a file system of `size` KiB; false where that is not allowed."""
    mount.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(mount)]
    try:
        mounted = not subprocess.run(command, capture_output=True, check=False).returncode
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(mount)], check=True)


if __name__ == "__main__":
    _CASES = flags.DEFINE_integer("cases", 100, "Damaged files.")
    _SEED = flags.DEFINE_integer("seed", 0, "Of the damage.")
    cli.run(main)
