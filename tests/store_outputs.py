"""Runs notebooks and stores what they show: python -m tests.store_outputs [NOTEBOOK ...].

So that they can be read where nothing runs. Of a progress line its last state is kept; warnings,
which name folders of one machine, are not.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))


def run(path: Path) -> nbformat.NotebookNode:
    """The notebook after it ran where it lies, as a person opens it."""
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=1200, resources=where).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = _tidy(cell.outputs)
    return notebook


def _tidy(outputs: list) -> list:
    progress = [o for o in outputs if o.get("name") == "stderr" and "\r" in o.text]
    others = [o for o in outputs if o.get("name") != "stderr"]
    if progress:
        lines = "".join(o.text for o in progress).strip().split("\r")
        others.insert(0, nbformat.v4.new_output("stream", name="stderr", text=lines[-1] + "\n"))
    return others


def main() -> None:
    """Stores the outputs of all notebooks, or of those named."""
    for path in map(Path, sys.argv[1:] or NOTEBOOKS):
        nbformat.write(run(path.absolute()), path)
        print(path.name)


if __name__ == "__main__":
    main()
