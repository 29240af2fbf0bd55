"""Sdist and wheel: built, checked, and used where no clone is."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.environments.venvs import ROOT, install, make, versions
from tests.test_docs import blocks

# Which need no extra.
_PAGES = ("README.md", "docs/functions.md", "docs/choosing.md", "docs/sequences.md")
_SMOKE = """
import importlib, pathlib, pkgutil
import memjax
assert pathlib.Path(memjax.__file__).is_relative_to(pathlib.Path.cwd()), memjax.__file__
for floor in ("memory", "estimators", "nets", "models"):
    package = importlib.import_module(f"memjax.{floor}")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
for name in ("training", "evaluation", "plotting"):
    try:
        importlib.import_module(f"memjax.{name}")
    except ImportError as error:
        assert "pip install 'memjax[train]'" in str(error), error
    else:
        raise SystemExit(f"memjax.{name} needs nothing beside the core: is this its environment?")
"""


def check(build: Path) -> int:
    """Builds, checks, installs the wheel's core into an empty environment, and uses it."""
    needed = [".[release]", "-c", "requirements.lock"]
    tools = make(build / "release", Path(sys.executable), needed)
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    _run([tools, "-m", "build", "--outdir", dist, ROOT])
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    _run([tools, "-m", "twine", "check", "--strict", wheel, sdist])
    _run([tools, "-m", "check_wheel_contents", wheel])
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        _run([sys.executable, "-m", "venv", Path(folder) / "empty"])
        python = Path(folder) / "empty" / "bin" / "python"
        install(python, [str(wheel)])
        seconds = time.monotonic() - start
        megabytes = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file()) / 1e6
        print(f"{len(versions(python)) - 1} packages, {megabytes:.0f} MB, {seconds:.0f} s")
        _run([python, "-c", _SMOKE], folder, "the smoke test")
        for page in _PAGES:
            program = "\n".join(code for _, code in blocks(ROOT / page, "python"))
            _run([python, "-c", program], folder, f"the code of {page}")
        _run([python, "-m", "memjax"], folder)
    return 0


def _run(command: list, folder: str | Path = ROOT, told: str = "") -> None:
    print("$", told or " ".join(map(str, command[:6])), flush=True)
    subprocess.run(command, cwd=folder, check=True)
