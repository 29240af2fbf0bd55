"""Environments of their own, and what runs in them."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
_PIP = ("-m", "pip", "--disable-pip-version-check")
# As `make setup` brings it; pip may look for versions that fit each other for minutes. But where
# only pip's own settings name the package index, uv finds none.
_UV = Path(sys.executable).parent / "uv"


class Failed(Exception):
    """An environment can't be made; one line says why."""


def find_python(version: str) -> Path | None:
    """An interpreter of a version such as "3.12", on the path or among pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    on_path = shutil.which(f"python{version}")
    for python in [on_path, *pyenv.glob(f"{version}.*/bin/python")]:
        if python is None:
            continue
        command = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        answer = subprocess.run(command, capture_output=True, text=True)
        if answer.stdout.strip() == version:  # pyenv's shims are there for what is not chosen too
            return Path(python)
    return None


def make(folder: Path, python: Path, requirements: Sequence[str]) -> Path:
    """The interpreter of an environment with what is installed for `requirements`.

    It is kept while these and the files that decide about them are the same.

    Raises:
      Failed: they can't be installed.
    """
    own = folder / "bin" / "python"
    deciding = [ROOT / "pyproject.toml", ROOT / "requirements.lock", *sorted(HERE.glob("*.lock"))]
    text = "\n".join([*map(str, requirements), *(path.read_text() for path in deciding)])
    stamp, digest = folder / ".ready", hashlib.sha256(text.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([python, "-m", "venv", folder], check=True)
        install(own, requirements)
        stamp.write_text(digest)
    return own


def install(python: Path, requirements: Sequence[str]) -> None:
    """Installs with uv, or with pip where uv is missing or fails.

    Raises:
      Failed: it can't.
    """
    ways = [[python, *_PIP, "install"]]
    if _UV.exists():
        ways.insert(0, [_UV, "pip", "install", "--python", python])
    for way in ways:
        command = [*way, "--quiet", *requirements]
        finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if not finished.returncode:
            return
    why = finished.stderr.strip().splitlines() or ["no reason given"]
    raise Failed(f"can't install {' '.join(requirements)}: {why[-1]}")


def versions(python: Path) -> dict[str, str]:
    """What is installed, by name as pip compares names."""
    command = [python, *_PIP, "list", "--format=freeze"]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return pins(listing.splitlines())


def pins(lines: Sequence[str]) -> dict[str, str]:
    """The versions in lines NAME==VERSION, by name."""
    parts = [line.partition(";")[0].partition("==") for line in lines if "==" in line]
    return {
        re.sub("[_.]", "-", name.strip().lower()): version.strip() for name, _, version in parts
    }


def run_tests(python: Path, arguments: Sequence[str], folder: Path) -> tuple[int, str]:
    """pytest's exit status and last line; what it compiles is kept in `folder`."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment |= {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax_cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        # Flags that XLA has known for long: it ends a process at one that it does not know.
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
        " --xla_cpu_parallel_codegen_split_count=1",
    }
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    last = ""
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line.strip() or last
    return process.wait(), last
