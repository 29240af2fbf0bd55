"""Feeds bad input to the commands and the readers: python -m tests.robustness.fuzz --cases=2000.

Four kinds of input, each made from a good one by a few random changes: fields of the config,
command-line flags, a run's files, data files. Every case must end in success or in one clear line
and status 2; never in a traceback, a hang, a file outside the case's folder, or in code that was
run from a data file. Each is run in a process of its own, forked from one that has imported all.
"""

import collections
import importlib
import logging
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from experiments import cli
from tests.robustness import bad_input

_PRELOADED = (
    *("memjax.training", "memjax.models.vae", "memjax.models.vma", "memjax.data.builders"),
    *("experiments.reporting", "experiments.configs.default", "memjax.evaluation.tasks.samples"),
    *("sklearn.datasets", "tensorboardX", "matplotlib.pyplot", "scipy.io", "optax"),
)
_SECONDS = 300  # after which a case hangs
_BYTES = 16 << 30  # of addresses, more than which are out of memory
_LOG_LINE = re.compile(r"\d\d:\d\d:\d\d ")


def main() -> None:
    """Tries them all, prints the figures and what failed."""
    kinds = [kind for kind, (_, share) in bad_input.KINDS.items() for _ in range(share)]
    kinds = [kind for kind in kinds if kind in (_KIND.value or kinds)]
    failures, counts = run_cases(range(_FIRST.value, _FIRST.value + _CASES.value), kinds)
    for (kind, outcome), count in sorted(counts.items()):
        print(f"{count:6d} {kind}: {outcome}")
    raise SystemExit(bool(failures))


def run_cases(cases: Sequence[int], kinds: Sequence[str]) -> tuple[list[str], dict]:
    """Runs the cases of these numbers: what failed, and how many ended how."""
    for name in _PRELOADED:
        importlib.import_module(name)
    failures = []
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for case in cases:
            kind = kinds[case % len(kinds)]
            outcome, detail = _try_one(kind, folder, random.Random(f"memjax {case}"))
            counts[kind, outcome] += 1
            if outcome not in ("success", "one line"):
                failures.append(f"case {case}, {kind}: {outcome}: {detail}")
                print(failures[-1], flush=True)
    return failures, dict(counts)


def _try_one(kind: str, folder: Path, rng: random.Random) -> tuple[str, str]:
    """How a case ended, and what it printed."""
    case_folder, printed = folder / "case", folder / "printed"
    case = bad_input.make(kind, case_folder, rng)
    pid = os.fork()
    if not pid:
        _run_in_child(case, case_folder, printed)
    status = _wait(pid)
    text = printed.read_text(errors="replace")
    lines = [line for line in text.splitlines() if line.strip() and not _LOG_LINE.match(line)]
    arguments = getattr(case, "args", case)
    strangers = {path.name for path in folder.iterdir()} - {"case", "printed"}
    if bad_input.CANARY.exists() or bad_input.EVIL.with_suffix(".npy").exists() or strangers:
        return "a file outside", f"{arguments} {strangers}"
    if status == 0 and "Traceback" not in text:
        return "success", ""
    errors = [line for line in lines if line.startswith("error: ")]
    if status == 2 and len(errors) == 1 and "Traceback" not in text and lines[-1] == errors[0]:
        return "one line", ""
    return f"status {status}", f"{arguments}\n{text[-1500:]}"


def _run_in_child(case: Callable[[], None], folder: Path, printed: Path) -> None:
    """Runs a case as a command of its own would run, and exits."""
    os.setsid()
    os.chdir(folder)
    output = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    os.environ |= {"MEMJAX_DATA_DIR": "data", "MEMJAX_CACHE_DIR": "cache", "HOME": str(folder)}
    logging.getLogger("memjax").handlers.clear()
    status: object = 0
    try:
        with cli.exit_on_user_error():
            case()
    except SystemExit as error:
        status = error.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    if isinstance(status, str):
        print(status, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


def _wait(pid: int) -> int | str:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return f"none, it hung for {_SECONDS} seconds"


if __name__ == "__main__":
    _CASES = flags.DEFINE_integer("cases", 2000, "How many.")
    _FIRST = flags.DEFINE_integer("first", 0, "Number of the first; a number fixes a case.")
    _KIND = flags.DEFINE_multi_string("kind", [], "Kinds; all by default.")
    cli.run(main)
