"""What is installed, under which names and versions, and what is said where something lacks."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import pytest

import memjax
import memjax.__main__

_ROOT = Path(__file__).parents[1]


_CORE = ("memory", "estimators", "nets", "models")


def read_project():
    return tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]


def tracked_files():
    """Path, mode and text of each file; None for what is no text."""
    if not (_ROOT / ".git").exists():
        pytest.skip("not a clone")
    listing = subprocess.run(
        ["git", "ls-files", "--stage", "-z"], cwd=_ROOT, capture_output=True, check=True
    ).stdout.decode()
    for entry in filter(None, listing.split("\0")):
        path = _ROOT / entry.partition("\t")[2]
        if path.exists():  # else it is about to be deleted
            content = b"" if path.is_dir() else path.read_bytes()
            yield path, entry.split()[0], None if b"\0" in content else content


def test_one_version_and_one_licence_everywhere():
    version, citation = memjax.__version__, (_ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {version}\n" in citation
    assert f"\nlicense: {read_project()['license']}\n" in citation
    assert f"\n## {version}\n" in (_ROOT / "CHANGELOG.md").read_text()
    assert "Apache License\n" in (_ROOT / "LICENSE").read_text()


def test_the_core_imports_what_is_installed_with_it():
    """At most eight packages, and none that only training needs."""
    core = {re.split("[<>=]", text)[0] for text in read_project()["dependencies"]}
    assert len(core) <= 8
    assert core == {"jax", "jaxlib", "numpy", "chex", "flax", "numpyro"}
    imported = set()
    for path in [p for floor in _CORE for p in (_ROOT / "memjax" / floor).rglob("*.py")]:
        if path.name == "_onednn_library.py":  # the extra's, imported where it is installed
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.partition(".")[0])
    assert imported - set(sys.stdlib_module_names) - {"memjax"} <= core - {"jaxlib"}


def test_the_floors_are_what_the_oldest_environment_has():
    locked = dict(
        line.split(" ;")[0].split("==")
        for line in (_ROOT / "tests/environments/oldest.lock").read_text().splitlines()
        if "python_full_version >= '3.14'" not in line
    )
    project = read_project()
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["train"], *extras["dev"]]:
        name, _, floor = text.partition(">=")
        if floor and name not in ("mypy", "pre-commit", "ruff"):
            found = locked[name.lower().replace("_", "-")]
            assert f"{found}.".startswith(re.sub(r"(\.0)+$", "", floor) + "."), text


def test_one_address_everywhere():
    address = read_project()["urls"]["Repository"]
    owner = address.removeprefix("https://github.com/").removesuffix("/memjax")
    wrong = [
        f"{path.name}: {found.decode()}"
        for path, _, content in tracked_files()
        for found in re.findall(rb"github(?:\.com)?/[\w-]+/memjax\b", content or b"")
        if found.split(b"/")[1] != owner.encode()
    ]
    assert not wrong, "make address"
    assert owner != "OWNER"


# Where files of one machine lie: those of a user, of a build, of a temporary folder.
_MACHINE_PATH = re.compile(
    rb"(?<![\w.$)}/~<-])/(tmp|work|root|home|Users|mnt|opt|srv|private)(?![\w-])"
)


def test_no_tracked_file_is_a_link_or_names_a_path_of_one_machine():
    found = []
    for path, mode, content in tracked_files():
        if mode not in ("100644", "100755") or path.is_symlink():
            found.append(f"{path.name} is a link or no file")
        lines = (content or b"").splitlines()
        found += [f"{path.name}: {line[:99]!r}" for line in lines if _MACHINE_PATH.search(line)]
    assert not found


def test_what_is_missing_or_too_old_is_named():
    program = """
import importlib, sys
import jax
version, jax.__version_info__ = jax.__version_info__, (0, 7, 1)
for module, lacks in (("memory", "nothing"), ("training", "orbax"), ("plotting", "PIL")):
    sys.modules[lacks] = None
    try:
        importlib.import_module(f"memjax.{module}")
    except ImportError as error:
        print(error)
    jax.__version_info__ = version
    for name in [n for n in sys.modules if n.startswith("memjax") or n == lacks]:
        del sys.modules[name]
"""
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told == [
        f"memjax needs JAX 0.7.2 or newer; this is {jax.__version__}",
        "orbax is not installed: pip install 'memjax[train]'",
        "PIL is not installed: pip install 'memjax[train]'",
    ]


def test_the_commands_name_the_extra_in_one_line():
    program = (
        "import runpy, sys; sys.modules['ml_collections'] = None;"
        "runpy.run_module('experiments.train', run_name='__main__', alter_sys=True)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert finished.returncode == 2
    line = "error: ml_collections is not installed: pip install 'memjax[train]'\n"
    assert finished.stderr == line


def test_memjax_says_what_it_runs_on(capsys):
    assert memjax.__main__.main() == 0
    told = capsys.readouterr().out
    assert f"memjax {memjax.__version__} in " in told and f"jax {jax.__version__}" in told
    assert "\nextra train: installed\n" in told and "\nextra cuda12: lacks " in told


def test_a_device_that_is_not_there_is_one_line():
    finished = subprocess.run(
        [sys.executable, "-m", "memjax"],
        env=os.environ | {"JAX_PLATFORMS": "tpu"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 2 and len(finished.stderr.splitlines()) == 1
    assert finished.stderr.startswith("error: Unable to initialize backend 'tpu'")


@pytest.mark.slow
def test_the_wheel_stands_alone():
    command = [sys.executable, "-m", "tests.environments", "wheel"]
    subprocess.run(command, cwd=_ROOT, check=True)
