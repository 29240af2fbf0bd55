"""The documentation: every block of code in it runs, the site is built without a warning."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import browser

_ROOT = Path(__file__).parents[1]
# The commands of the results take days.
_PAGES = sorted(p for p in (_ROOT / "docs").rglob("*.md") if p.parent.name != "results")
_CONTRIBUTING = _ROOT / "CONTRIBUTING.md"
_NEEDS = {"frameworks": ("equinox", "haiku")}  # `make frameworks` runs it where they are


def blocks(page, language):
    """The code of a page's fences ```language, as (title, code)."""
    pattern = rf'^```{language}(?: title="(.*?)")?\n(.*?)^```$'
    return re.findall(pattern, page.read_text(), re.M | re.DOTALL)


def in_shell(folder, code):
    """Runs shell commands in `folder` as a user would in the repository's root."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(folder), "JAX_PLATFORMS": "cpu"}
    command = ["bash", "-e", "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def pages_with(language, quick=()):
    """The pages, the costly ones marked slow."""
    return [
        pytest.param(page, id=page.stem, marks=() if page.stem in quick else pytest.mark.slow)
        for page in _PAGES
        if blocks(page, language)
    ]


def test_no_block_is_left_out():
    """Python and shell run here; equations are drawn."""
    languages = {
        language
        for page in [*_PAGES, _CONTRIBUTING]
        for language in re.findall(r"^```(\w*)[^\n]*\n.*?^```$", page.read_text(), re.M | re.DOTALL)
    }
    assert languages == {"python", "sh", "math"}


@pytest.mark.parametrize("page", pages_with("python", quick=("index",)))
def test_python_runs(page, tmp_path, monkeypatch):
    """The blocks of a page one after another; what they assert holds."""
    for name in _NEEDS.get(page.stem, ()):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for _, code in blocks(page, "python"):
        exec(compile(code, str(page), "exec"), names)


@pytest.mark.parametrize("page", pages_with("sh"))
def test_commands_run(page, tmp_path):
    for name in ("memjax", "experiments"):
        (tmp_path / name).symlink_to(_ROOT / name)
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (400, 8, 8), np.uint8)):
        Image.fromarray(image).save(tmp_path / f"pictures/{i}.png")
    for title, code in blocks(page, "python"):
        if title:
            (tmp_path / title).write_text(code)
    for _, code in blocks(page, "sh"):
        finished = in_shell(tmp_path, code)
        assert finished.returncode == 0, finished.stderr


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the extra: docs")
    # -P: the command `mkdocs`, unlike `python -m`, does not find modules in the current folder
    build = [sys.executable, "-P", "-m", "mkdocs", "build", "--strict"]
    build.append(f"--site-dir={tmp_path}/site")
    finished = subprocess.run(build, cwd=_ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    page = (tmp_path / "site/reference/memory.html").read_text()
    assert "memjax.memory.kanerva.write_prefix" in page
    assert "<math" in (tmp_path / "site/systems/vma.html").read_text()
    assert "vma_mnist_recall" in (tmp_path / "site/configs.html").read_text()
    assert "Queries, the slots" in (tmp_path / "site/gallery.html").read_text()
    notebook = (tmp_path / "site/notebooks/02_kanerva_machine.html").read_text()
    assert 'src="02_kanerva_machine_1.png"' in notebook and "memjax 0." in notebook
    pages = list((tmp_path / "site").rglob("*.html"))
    fetched = [page for page in pages if re.search(r'src="https?://', page.read_text())]
    assert len(pages) > 30 and not fetched
    if browser.BROWSER is not None:
        see_in_a_browser(tmp_path / "site")


def see_in_a_browser(site):
    """From the disk: no error, no other host, nothing over the edge of a phone, a search."""
    with browser.opened(390, 844) as (page, requests, errors):
        for name in ("systems/vma", "notebooks/02_kanerva_machine", "gallery", "results/kanerva"):
            page.goto((site / f"{name}.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        page.keyboard.press("s")
        page.keyboard.type("write_prefix")
        page.get_by_text("matching documents").wait_for()
    assert not errors
    assert all(request.startswith(("file:", "data:", "blob:", "about:")) for request in requests)


@pytest.fixture
def followed(tmp_path):
    """A copy of the repository in which CONTRIBUTING.md has been followed."""
    for name in ("memjax", "experiments"):
        shutil.copytree(_ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(_ROOT / "pyproject.toml", tmp_path)
    files = blocks(_CONTRIBUTING, "python")
    assert len(files) == 3 and all(title for title, _ in files)
    for title, code in files:
        assert not (_ROOT / title).exists()
        (tmp_path / title).write_text(code)
    return tmp_path


@pytest.mark.slow
def test_the_recipes_of_contributing_work(followed):
    (commands,) = blocks(_CONTRIBUTING, "sh")
    finished = in_shell(followed, commands[1])
    assert finished.returncode == 0, finished.stderr
    assert (followed / "runs/template/report.html").exists()
    listed = in_shell(followed, "python -m experiments.train --list").stdout
    assert "template_digits\n    The template for a model, on scikit-learn's digits." in listed
    memory = (
        "import jax, jax.numpy as jnp\n"
        "from memjax.memory import averaging\n"
        "memory = averaging.init(2)\n"
        "for codes in (jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0], [5.0, 6.0]])):\n"
        "    memory = jax.jit(averaging.write)(memory, codes)\n"
        "assert jnp.allclose(memory.mean, jnp.array([3.0, 4.0])), memory\n"
    )
    finished = in_shell(followed, f"python - <<'END'\n{memory}END")
    assert finished.returncode == 0, finished.stderr
    for check in ("check", "format --check"):
        finished = in_shell(followed, f"ruff {check} .")
        assert finished.returncode == 0, finished.stdout
