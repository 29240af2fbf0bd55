"""The wheel: what is in it, and that it stands alone."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]


def test_one_version_and_one_licence_everywhere():
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    version = project["version"]
    assert f'__version__ = "{version}"' in (_ROOT / "memjax/__init__.py").read_text()
    citation = (_ROOT / "CITATION.cff").read_text()
    assert (
        f"\nversion: {version}\n" in citation and f"\nlicense: {project['license']}\n" in citation
    )
    assert f"\n## {version}\n" in (_ROOT / "CHANGELOG.md").read_text()
    assert "Apache License\n" in (_ROOT / "LICENSE").read_text()


# Where files of one machine lie: those of a user, of a build, of a temporary folder.
_MACHINE_PATH = re.compile(
    rb"(?<![\w.$)}/~<-])/(tmp|work|root|home|Users|mnt|opt|srv|private)(?![\w-])"
)


def test_no_tracked_file_is_a_link_or_names_a_path_of_one_machine():
    if not (_ROOT / ".git").exists():
        pytest.skip("not a clone")
    listing = subprocess.run(
        ["git", "ls-files", "--stage", "-z"], cwd=_ROOT, capture_output=True, check=True
    ).stdout.decode()
    found = []
    for entry in filter(None, listing.split("\0")):
        (mode, *_), name = entry.partition("\t")[0].split(), entry.partition("\t")[2]
        path = _ROOT / name
        if mode not in ("100644", "100755") or path.is_symlink():
            found.append(f"{name} is a link or no file")
        elif path.is_file():
            lines = path.read_bytes().splitlines() if b"\0" not in path.read_bytes() else []
            found += [f"{name}: {line[:99]!r}" for line in lines if _MACHINE_PATH.search(line)]
    assert not found


@pytest.mark.slow
def test_the_wheel_installs_and_imports_alone(tmp_path):
    """In an environment of its own: the wheel is installed there, what it needs is looked up here.

    That the needed packages can be installed is what `make demo` on a fresh clone shows.
    """
    source = tmp_path / "source"  # a build leaves files behind
    shutil.copytree(_ROOT / "memjax", source / "memjax")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(_ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--quiet", "--no-deps", f"--wheel-dir={tmp_path}", str(source)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("memjax-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"memjax"}
    assert "memjax/memory/kanerva.py" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)

    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env/bin/python"
    target = next((tmp_path / "env/lib").glob("python*/site-packages"))
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", f"--target={target}", str(wheel)],
        check=True,
        capture_output=True,
    )
    # The dependencies of this environment, without the repository itself.
    (target / "here.pth").write_text(os.path.dirname(pytest.__path__[0]) + "\n")
    program = (
        "import memjax, pkgutil, importlib\n"
        "for module in pkgutil.walk_packages(memjax.__path__, 'memjax.'):\n"
        "    importlib.import_module(module.name)\n"
        "print(memjax.__file__)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    finished = subprocess.run(
        [python, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip().startswith(str(target))
