"""Runs a PyTorch twin in a virtual environment of its own, made on demand."""

import functools
import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

_VENV = Path(__file__).parents[1] / ".venv-torch"


def run(script: str, **arguments: Any) -> dict[str, Any] | None:
    """What `benchmarks/script` prints, as JSON, for `arguments`; None where it can't be had.

    A line then says why. An environment that can't be made is not tried again by this process.
    """
    python = environment()
    if python is None:
        return None
    try:
        return json.loads(_run(python, Path(__file__).with_name(script), json.dumps(arguments)))
    except (OSError, ValueError) as error:
        _say(f"{script}: {error}")
        return None


@functools.cache
def environment() -> Path | None:
    """The environment's Python; one that was not finished is made anew."""
    python, ready = _VENV / "bin" / "python", _VENV / ".ready"
    try:
        if not (ready.exists() and python.exists()):
            if _VENV.is_symlink():  # whose target is not ours to clear
                raise ValueError("it is a link to no finished environment; remove it")
            print(f"installing PyTorch into {_VENV.name}", file=sys.stderr, flush=True)
            venv.create(_VENV, clear=True)
            pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
            _run(*pip, "torch", "numpy")
            _run(*pip, "--no-deps", "dnc")  # it asks for flann, unused
            ready.touch()
    except (OSError, ValueError) as error:
        _say(f"{_VENV.name} can't be made: {error}")
        return None
    return python


def _run(*command: str | Path) -> str:
    """What a command prints.

    Raises:
      ValueError: it failed; the last line that it told of an error.
    """
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise ValueError(
            (finished.stderr.strip() or f"status {finished.returncode}").splitlines()[-1]
        )
    return finished.stdout


def _say(reason: str) -> None:
    print(f"no peer: {reason}", file=sys.stderr, flush=True)
