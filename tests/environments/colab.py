"""The versions of a stock Colab runtime, and memjax beside them."""

import json
import subprocess
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from tests.environments.venvs import (
    HERE,
    ROOT,
    Failed,
    find_python,
    install,
    make,
    pins,
    run_tests,
    versions,
)

# What the tests need and Colab lacks; no package of Colab's is among what these need newer.
_TOOLS = ("flatbuffers", "hypothesis", "playwright", "pytest-xdist")


# As much of Colab's own module as JAX looks for.
_COLAB = """
import sys, types
sys.modules["google.colab"] = types.ModuleType("google.colab")
sys.modules["google.colab"].output = None
"""


def check(build: Path, for_pytest: Sequence[str]) -> int:
    """Installs, compares, runs notebooks and quick tests.

    Raises:
      Failed: the environment can't be made.
    """
    python = find_python("3.13") or find_python("3.12")
    if python is None:
        raise Failed("there is no Python 3.13 or 3.12, and Colab has 3.13")
    ours = pins((ROOT / "requirements.lock").read_text().splitlines())
    # Of Colab's packages, those that memjax or its tests have to do with.
    everything = pins((HERE / "colab.lock").read_text().splitlines())
    stock = {name: version for name, version in everything.items() if name in ours}
    wanted = [f"{name}=={version}" for name, version in stock.items()]
    own = make(build / "colab", python, [*wanted, "-c", str(HERE / "colab.lock")])
    _install_by_notebook(own)
    install(own, _TOOLS)
    now = versions(own)
    changed = {
        name: f"{version} -> {now.get(name, 'gone')}"
        for name, version in stock.items()
        if now.get(name) != version
    }
    print(f"{len(stock)} of Colab's packages, {len(now)} in all; changed: {changed or 'none'}")
    if changed:
        return 1
    notebooks = ["-n0", "-m", "slow or not slow", "tests/test_colabs.py"]
    status = 0
    for arguments in [for_pytest] if for_pytest else [notebooks, []]:
        status |= run_tests(own, arguments, build / "colab")[0]
    return status


def _install_by_notebook(python: Path) -> None:
    """Runs the cell with which every notebook begins, in a folder such as Colab's: the last commit.

    Raises:
      Failed: it does not end well.
    """
    notebook = json.loads(sorted((ROOT / "colabs").glob("*.ipynb"))[0].read_text())
    address = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    cell = "".join(notebook["cells"][1]["source"]).replace(address, ROOT.as_uri())
    program = f"{_COLAB}\n{cell}\nprint('it ended well')"
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", "IPython", "--colors=NoColor", "-c", program]
        finished = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    print(finished.stdout, end="")
    if "it ended well" not in finished.stdout:
        raise Failed(f"the first cell: {(finished.stdout + finished.stderr).splitlines()[-1]}")
