"""The notebooks: as they are read in the repository, and running from first cell to last."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.store_outputs import NOTEBOOKS, run

_COLAB = "https://colab.research.google.com/github/memjax/memjax/blob/main/colabs"


def read(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def pictures(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output for output in outputs if "image/png" in output.get("data", {})]


def test_they_show_their_pictures_where_nothing_runs():
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06", "07"]
    for path in NOTEBOOKS:
        notebook = read(path)
        assert len(pictures(notebook)) >= 2, f"make outputs: {path.name}"
        assert path.stat().st_size < 1_000_000, path.name
        for cell in notebook.cells:
            assert cell.source.count("\n") < 40, (path.name, cell.source)
            for output in cell.get("outputs", []):
                assert output.output_type != "error", (path.name, cell.source)


def test_each_opens_in_colab_and_leads_to_the_next():
    following = [*NOTEBOOKS[1:], NOTEBOOKS[0]]
    for path, after in zip(NOTEBOOKS, following, strict=True):
        first, *_, last = (cell.source for cell in read(path).cells)
        assert f"]({_COLAB}/{path.name})" in first
        assert last.startswith("**Next") and f"]({_COLAB}/{after.name})" in last


def first_cell():
    (cell,) = {read(path).cells[1].source for path in NOTEBOOKS}
    return cell


@pytest.mark.parametrize("in_colab", [False, True])
def test_the_first_cell_says_what_it_lacks(tmp_path, in_colab):
    """Outside of Colab and of a clone; without a network."""
    program = first_cell().replace("https://github.com/memjax/memjax", str(tmp_path / "nowhere"))
    if in_colab:
        program = f"import sys; sys.modules['google.colab'] = sys\n{program}"
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    last = finished.stderr.splitlines()[-1]
    assert last.startswith(
        "this failed, is there a network? git clone" if in_colab else "open this notebook in Colab"
    )
    assert "Traceback" not in finished.stderr


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path):
    """What it asserts holds, and it shows pictures."""
    assert len(pictures(run(path))) >= 2
