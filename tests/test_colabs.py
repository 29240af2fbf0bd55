"""The notebooks: clean as they lie in the repository, and running from first cell to last."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

_ROOT = Path(__file__).parents[1]
_NOTEBOOKS = sorted((_ROOT / "colabs").glob("*.ipynb"))
_QUICK = "01_memory_functions"


def read(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_outputs_are_stripped_and_cells_are_short():
    assert [path.stem[:2] for path in _NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]
    for path in _NOTEBOOKS:
        for cell in read(path).cells:
            assert cell.source.count("\n") < 40, (path.name, cell.source)
            if cell.cell_type == "code":
                assert not cell.outputs and cell.execution_count is None, path.name


def test_all_begin_with_the_same_installation():
    first = {read(path).cells[1].source for path in _NOTEBOOKS}
    assert len(first) == 1
    (cell,) = first
    for word in ("google.colab", "git clone", "pip install", "ACCELERATOR", "FULL = False"):
        assert word in cell


@pytest.mark.parametrize(
    ("full", "accelerator", "target"),
    [
        (False, "none", "./memjax"),
        (False, "tpu", "./memjax[tpu]"),
        (True, "cuda", "./memjax[prepare,cuda]"),
    ],
)
def test_what_is_installed_is_something_that_pip_takes(full, accelerator, target):
    lines = read(_NOTEBOOKS[0]).cells[1].source.splitlines()
    names = {"FULL": full, "ACCELERATOR": accelerator}
    exec("\n".join(line for line in lines if line.startswith(("extras", "target"))), names)
    assert names["target"] == target


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=() if path.stem == _QUICK else pytest.mark.slow)
        for path in _NOTEBOOKS
    ],
)
def test_a_notebook_runs(path):
    """Where it lies, as a person opens it; what it asserts holds, and it shows pictures."""
    notebook = read(path)
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=540, resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 2
