"""Runs a PyTorch twin in a virtual environment of its own, made on demand."""

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

_VENV = Path(__file__).parents[1] / ".venv-torch"


def run(script: str, **arguments: Any) -> dict[str, float] | None:
    """What `benchmarks/script` prints, as JSON, for `arguments`; None where it can't be had."""
    python = _VENV / "bin" / "python"
    try:
        if not (_VENV / ".ready").exists():
            print(f"installing PyTorch into {_VENV.name}", file=sys.stderr)
            venv.create(_VENV, with_pip=True, clear=True)
            install = [python, "-m", "pip", "install", "-q"]
            subprocess.run([*install, "torch", "numpy"], check=True)
            subprocess.run([*install, "--no-deps", "dnc"], check=True)  # it asks for flann, unused
            (_VENV / ".ready").touch()
        command = [python, Path(__file__).with_name(script), json.dumps(arguments)]
        finished = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no peer: {error}", file=sys.stderr)
        return None
    return json.loads(finished.stdout)
