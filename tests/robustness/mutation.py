"""Do the tests notice a wrong line? `make mutate ARGS="memjax/memory/sdm.py --sample=40"`.

Cosmic Ray makes the mutants of a source file, one small change each; each is written into a copy of
the repository and the quick tests that concern the file run there until one fails. Prints the
mutants that none of them noticed, and a table.

What costs time is starting Python: the libraries are imported once, and a process is forked for
each mutant. JAX allows that as long as nothing has run in it, so that memjax and the tests are
imported by the forked processes only. Tests that killed a mutant go first for the next one.
"""

import argparse
import ast
import collections
import concurrent.futures
import difflib
import importlib
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.robustness import mutants

_ROOT = Path(__file__).parents[2]
_LIBRARIES = """
    chex flax.linen flax.serialization hypothesis jax.numpy ml_collections numpyro.distributions
    optax orbax.checkpoint pytest scipy.special scipy.stats sklearn.datasets
"""


class TestsFail(Exception):
    """Without any mutant."""


def main() -> None:
    """Prints survivors as they come, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sources", nargs="+", type=Path, help="files under memjax")
    parser.add_argument("--tests", nargs="*", help="instead of the quick tests that concern them")
    parser.add_argument("--lines", type=int, nargs="*", help="only the mutants of these")
    parser.add_argument("--sample", type=int, help="so many mutants of a file, drawn at random")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    options = parser.parse_args()
    _import_libraries()
    rows = ["| file | mutants | killed | share | seconds a mutant |", "|---|---|---|---|---|"]
    for source in options.sources:
        source = source.resolve().relative_to(_ROOT)
        try:
            rows.append(_try_all(source, options))
        except TestsFail as error:
            sys.exit(f"{source}: {error}")
    print("\n" + "\n".join(rows))


def _try_all(source: Path, options: argparse.Namespace) -> str:
    """Prints the survivors; returns the table's row."""
    original = (_ROOT / source).read_text()
    made = list(mutants.make(original))
    if options.lines is not None:
        made = [mutant for mutant in made if mutant.line in options.lines]
    if options.sample is not None and options.sample < len(made):
        made = sorted(random.Random(0).sample(made, options.sample))
    names = _names(source)
    tests = options.tests or _tests(source, names)
    print(f"{source}: {len(made)} mutants; {' '.join(tests)}", flush=True)
    killed, seconds = 0, 0.0
    with (
        tempfile.TemporaryDirectory() as folder,
        concurrent.futures.ProcessPoolExecutor(
            options.jobs,
            multiprocessing.get_context("fork"),
            _Bench.make,
            (folder, source, tests, names),
        ) as pool,
    ):
        for mutant, (survived, took) in zip(made, pool.map(_try, made), strict=True):
            killed, seconds = killed + (not survived), seconds + took
            if survived:
                print(f"\n{source}:{mutant.line}: {mutant.what}")
                print("\n".join(_diff(original, mutant.code)), flush=True)
    count = max(1, len(made))
    return f"| {source} | {len(made)} | {killed} | {killed / count:.1%} | {seconds / count:.1f} |"


def _names(source: Path) -> set[str]:
    """The module, and if no test file bears its name those that import it, and so on."""
    names, tests = {source.stem}, _ROOT / "tests" / source.parent.name
    imports = {path.stem: _imports(path) for path in (_ROOT / source.parent).glob("*.py")}
    while not any(path for name in names for path in tests.glob(f"test_{name}*.py")):
        wider = names | {stem for stem, imported in imports.items() if imported & names}
        if wider == names:
            break
        names = wider
    return names - {"__init__"}


def _imports(path: Path) -> set[str]:
    """The last parts of the names of what a file imports, and from where."""
    nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
    imported = [n.module or "" for n in nodes] + [a.name for n in nodes for a in n.names]
    return {name.rpartition(".")[2] for name in imported}


def _tests(source: Path, names: set[str]) -> list[str]:
    """Test files that bear one of the names or speak of one; without any, the folder's."""
    files = sorted((_ROOT / "tests" / source.parent.name).glob("test_*.py"))
    word = re.compile(rf"\b({'|'.join(map(re.escape, names))})\b")
    chosen = [path for path in files if word.search(path.stem[5:] + "\n" + path.read_text())]
    general = {"memory": "function", "estimators": "function", "models": "model", "nets": "model"}
    if source.parent.name in general:
        chosen.append(_ROOT / f"tests/test_every_{general[source.parent.name]}.py")
    return [str(path.relative_to(_ROOT)) for path in chosen or files]


class _Bench:
    """A copy of the repository in which a process tries mutants, one after another."""

    own: "_Bench"

    def __init__(self, folder: str, source: Path, tests: list[str], names: set[str]):
        self.root = Path(tempfile.mkdtemp(dir=folder))
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        files = subprocess.run(listed, cwd=_ROOT, capture_output=True, text=True, check=True).stdout
        for name in files.splitlines():
            if name.endswith((".py", ".toml", ".md")) and (_ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(_ROOT / name, self.root / name)
        self.source, self.tests, self.names = source, tests, names
        self.kills: collections.Counter[str] = collections.Counter()
        self.seconds: dict[str, float] = {}
        self.limit = 0.0

    @classmethod
    def make(cls, *arguments) -> None:
        """This process's own."""
        cls.own = cls(*arguments)

    def learn(self) -> None:
        """Runs the tests as they are: how long they take; compiled programs and bytecode."""
        start = time.monotonic()
        status, failed = self.run(limit=1_200.0, learns=True)
        if status != 0:
            raise TestsFail(f"the tests fail without any mutant: {failed or f'status {status}'}")
        self.limit = 3.0 * (time.monotonic() - start) + 20.0
        for path in (self.root / self.source).parent.glob(f"__pycache__/{self.source.stem}.*"):
            path.unlink()  # Python takes one of the same second and size for the mutant's

    def run(self, limit: float, learns: bool = False) -> tuple[int, str]:
        """Pytest's status, 1 after `limit` seconds; and which test failed."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            status = 3
            try:
                status = self._test(write, learns)
            finally:
                os._exit(status)
        os.close(write)
        deadline, ended, status = time.monotonic() + limit, 0, 1
        try:
            while not ended and time.monotonic() < deadline:
                time.sleep(0.02)
                ended, status = os.waitpid(child, os.WNOHANG)
        finally:
            if not ended:
                status = 1
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
        with os.fdopen(read) as pipe:
            said = [line.split("\t") for line in pipe.read().splitlines()]
        if learns:
            self.seconds = {name: float(seconds) for name, seconds, _ in said}
        failed = [name for name, _, outcome in said if outcome == "failed"]
        return status, failed[0] if failed else ""

    def _test(self, pipe: int, learns: bool) -> int:
        """In the forked process."""
        import jax
        import pytest

        os.chdir(self.root)
        sys.path.insert(0, str(self.root))
        for name in [name for name in sys.modules if name.split(".")[0] in ("memjax", "tests")]:
            del sys.modules[name]
        sys.dont_write_bytecode = not learns
        # Of programs only the right ones are kept.
        least = 0.0 if learns else 1e9
        jax.config.update("jax_persistent_cache_min_compile_time_secs", least)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        arguments = ["-x", "-n0", "-q", "-p", "no:cacheprovider", "-W", "ignore", *self.tests]
        return int(pytest.main(arguments, plugins=[_Plugin(self, pipe)]))


class _Plugin:
    """Puts the tests in order, and tells of each how it went."""

    def __init__(self, bench: _Bench, pipe: int):
        self.bench, self.pipe = bench, pipe

    def pytest_collection_modifyitems(self, items) -> None:
        """Of files for many modules only what names this one; what killed before goes first."""
        names, kills, seconds = self.bench.names, self.bench.kills, self.bench.seconds

        def is_own(item) -> bool:
            return item.path.stem.startswith(tuple(f"test_{name}" for name in names))

        def concerns(item) -> bool:
            return any(
                name in item.nodeid for name in (*names, f"{self.bench.source.parent.name}.")
            )

        speaking = {item.path for item in items if concerns(item)}
        items[:] = [item for item in items if concerns(item) or item.path not in speaking]
        items.sort(key=lambda i: (-kills[i.nodeid], not is_own(i), seconds.get(i.nodeid, 0.0)))

    def pytest_runtest_logreport(self, report) -> None:
        if report.when == "call" or report.failed:
            line = f"{report.nodeid}\t{report.duration}\t{report.outcome}\n"
            os.write(self.pipe, line.encode())


def _try(mutant: mutants.Mutant) -> tuple[bool, float]:
    """Whether it survived, and the seconds that took."""
    bench = _Bench.own
    if not bench.limit:
        bench.learn()
    start, path = time.monotonic(), bench.root / bench.source
    original = path.read_text()
    path.write_text(mutant.code)
    try:
        status, failed = bench.run(bench.limit)
    finally:
        path.write_text(original)
    bench.kills[failed] += 1
    return status == 0, time.monotonic() - start


def _diff(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if line[:2] not in ("--", "++", "@@")]


def _import_libraries() -> None:
    """All that is slow to import; of the environment JAX reads its cache's place then."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    for name in _LIBRARIES.split():
        importlib.import_module(name)


if __name__ == "__main__":
    main()
