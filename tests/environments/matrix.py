"""The quick tests for several versions of JAX and of Python."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.environments.venvs import HERE, ROOT, Failed, find_python, make, run_tests, versions

_LOCKS = {"oldest": HERE / "oldest.lock", "locked": ROOT / "requirements.lock", "newest": None}


def check(
    build: Path, kinds: Sequence[str], pythons: Sequence[str], for_pytest: Sequence[str]
) -> int:
    """Runs them all; 1 if one fails.

    Raises:
      Failed: a kind that there is not.
    """
    if unknown := set(kinds) - set(_LOCKS):
        raise Failed(f"jax is {', '.join(unknown)}; it must be of {', '.join(_LOCKS)}")
    rows, failed = [], False
    for version in pythons:
        seen: set[str] = set()
        for kind in kinds:
            jax, found, is_bad = _try(build, kind, version, seen, for_pytest)
            rows.append(f"| {version} | {kind} | {jax} | {found} |")
            failed |= is_bad
    print("\n| Python | packages | JAX | tests |\n|---|---|---|---|", *rows, sep="\n")
    return int(failed)


def check_frameworks(build: Path) -> int:
    """Runs the page of the documentation that needs other frameworks, beside the locked packages.

    Raises:
      Failed: the environment can't be made.
    """
    python = find_python("3.11") or Path(sys.executable)
    wanted = ["-e", ".[train]", "dm-haiku", "equinox", "hypothesis", "pytest", "pytest-xdist"]
    own = make(build / "frameworks", python, [*wanted, "-c", str(_LOCKS["locked"])])
    page = ["-n0", "-m", "slow", "tests/test_docs.py", "-k", "test_python_runs and frameworks"]
    return run_tests(own, page, build / "frameworks")[0]


def _try(
    build: Path, kind: str, version: str, seen: set[str], for_pytest: Sequence[str]
) -> tuple[str, str, bool]:
    """JAX's version, what came of the tests, and whether that is bad."""
    python = find_python(version)
    if python is None:
        return "", "this machine has no such Python", False
    lock = _LOCKS[kind]
    folder = build / f"{kind}-{version}"
    try:
        own = make(folder, python, ["-e", ".[dev]", *(["-c", str(lock)] if lock else [])])
    except Failed as error:
        return "", f"does not install: {error}", True
    jax = versions(own)["jax"]
    if jax in seen:
        return jax, "as above", False
    seen.add(jax)
    status, last = run_tests(own, for_pytest, folder)
    return jax, last.strip("= "), bool(status)
