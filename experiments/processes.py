"""Commands that run side by side, each in a process of its own."""

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from memjax.errors import UserError


def run_at_once(commands: Mapping[Path, Sequence[str]], count: int) -> bool:
    """Runs commands, `count` at a time; whether all ran to their end.

    What each prints goes into its file. SIGTERM, Ctrl-C and a closed terminal are passed on, as
    SIGTERM; none goes on without this process.

    Raises:
      UserError: one failed; the others were told to stop.
    """
    waiting, running = list(commands.items()), dict[Path, subprocess.Popen]()
    stopped, failed = False, list[Path]()

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        for process in running.values():
            process.terminate()

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    previous = {number: signal.signal(number, stop) for number in numbers}
    try:
        while running or (waiting and not stopped):
            if waiting and len(running) < count and not stopped:
                path, command = waiting.pop(0)
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a") as file:  # a session of its own: Ctrl-C comes from here only
                    running[path] = subprocess.Popen(
                        command, stdout=file, stderr=file, start_new_session=True
                    )
                if stopped:  # while it was made
                    running[path].terminate()
                print(f"begun: {path}", flush=True)
                continue
            time.sleep(0.05)
            for path, process in list(running.items()):
                if process.poll() is not None:
                    del running[path]
                    if process.returncode and not stopped:
                        failed.append(path)
                        stop()
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
        for number, handler in previous.items():
            signal.signal(number, handler)
    if failed:
        lines = failed[0].read_text().strip().splitlines()
        raise UserError(f"a run failed, see {failed[0]}: {lines[-1] if lines else 'no message'}")
    return not stopped
