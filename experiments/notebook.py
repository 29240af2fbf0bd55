"""What every notebook begins with: it says what it runs on, and how long each cell took."""

import os
import time
from typing import Any

import jax
from IPython import get_ipython

import memjax
from memjax import devices
from memjax.errors import UserError, one_line

_ACCELERATORS = {"GPU": "/dev/nvidia0", "TPU": "/dev/accel0"}


def begin() -> None:
    """Shows figures in the page, says what there is, and times the cells from the next one on."""
    shell = get_ipython()
    shell.run_line_magic("matplotlib", "inline")
    print(describe())
    started = [0.0]

    def begin_cell(info: Any) -> None:
        started[0] = time.monotonic()

    def end_cell(result: Any) -> None:
        if started[0]:
            print(f"({time.monotonic() - started[0]:.1f} s)")

    shell.events.register("pre_run_cell", begin_cell)
    shell.events.register("post_run_cell", end_cell)


def describe() -> str:
    """One line on memjax, JAX and its devices.

    Raises:
      SystemExit: JAX_PLATFORMS names a device that is not there.
    """
    try:
        found = devices.describe()
    except UserError as error:
        raise SystemExit(one_line(error)) from None
    line = f"memjax {memjax.__version__}, JAX {jax.__version__}: {found}"
    for name, path in _ACCELERATORS.items():
        if jax.default_backend() == "cpu" and os.path.exists(path):
            line += f"; there is a {name}, which this JAX cannot use"
    return line
