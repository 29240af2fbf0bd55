"""Commands that run side by side, each in a process of its own."""

import math
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from memjax.errors import UserError


def run_at_once(
    commands: Sequence[tuple[Sequence[str], Path | None]],
    count: int = 1,
    seconds: float = math.inf,
) -> bool:
    """Runs commands, `count` at a time; whether all ran to their end.

    What each prints goes into its file; of None, to the terminal. Several share a GPU: each takes
    memory as it needs it, unless XLA_PYTHON_CLIENT_PREALLOCATE is set. SIGTERM, Ctrl-C and a closed
    terminal are passed on, as SIGTERM, which is also sent after `seconds`; none goes on without
    this process.

    Raises:
      UserError: one failed; the others were told to stop.
    """
    waiting, environment = list(commands), dict(os.environ)
    if count > 1:  # the first would take three quarters of a GPU's memory
        environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    running: dict[subprocess.Popen, tuple[Sequence[str], Path | None]] = {}
    stopped, failure, stop_at = False, "", time.monotonic() + seconds

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        for process in running:
            process.terminate()

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    previous = {number: signal.signal(number, stop) for number in numbers}
    try:
        while running or (waiting and not stopped):
            if waiting and len(running) < count and not stopped:
                process = _begin(*waiting[0], environment)
                running[process] = waiting.pop(0)
                if stopped:  # while it was made
                    process.terminate()
                continue
            time.sleep(0.05)
            if not stopped and time.monotonic() >= stop_at:
                stop()
            for process in [process for process in running if process.poll() is not None]:
                told = running.pop(process)
                if process.returncode and not stopped:
                    failure = _failure(*told, process.returncode)
                    stop()
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        for number, handler in previous.items():
            signal.signal(number, handler)
    if failure:
        raise UserError(failure)
    return not stopped


def _begin(
    command: Sequence[str], path: Path | None, environment: Mapping[str, str]
) -> subprocess.Popen:
    """A process in a session of its own: Ctrl-C comes from here only."""
    print(f"begun: {path or shlex.join(command)}", flush=True)
    if path is None:
        return subprocess.Popen(command, env=environment, start_new_session=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        return subprocess.Popen(
            command, env=environment, stdout=file, stderr=file, start_new_session=True
        )


def _failure(command: Sequence[str], path: Path | None, status: int) -> str:
    if path is None:
        return f"{shlex.join(command)}: it ended with status {status}"
    lines = path.read_text().strip().splitlines()
    return f"a run failed, see {path}: {lines[-1] if lines else 'no message'}"
