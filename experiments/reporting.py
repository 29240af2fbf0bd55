"""What a run or an evaluation leaves behind: figures, tables, JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memjax import files, plotting
from memjax.evaluation import Report, load_run, task
from memjax.training import metrics


def draw_run(workdir: str | Path) -> None:
    """Learning curves, generated images and reconstructions of the run in `workdir`."""
    run = load_run(workdir)
    title = f"{run.experiment.config.model.name}, step {run.step}"
    folder = _folder(workdir)
    plotting.learning_curves(folder / "learning_curves.png", metrics.read(workdir), title)
    draw_report(workdir, task("samples")(run), title)


def draw_report(workdir: str | Path, report: Report, title: str = "") -> None:
    """The pictures of an evaluation."""
    for name, rows in report.grids.items():
        plotting.image_grid(_folder(workdir) / f"{name}.png", rows, title)
    for name, panels in report.curves.items():
        plotting.curves(_folder(workdir) / f"{name}.png", panels, title)
    for name, matrices in report.matrices.items():
        plotting.matrices(_folder(workdir) / f"{name}.png", matrices, title)


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as aligned text."""
    cells = [list(rows[0])]
    cells += [
        [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes `content` whole or not at all."""
    files.write_text(path, json.dumps(content, indent=2) + "\n")


def _folder(workdir: str | Path) -> Path:
    folder = Path(workdir) / "figures"
    folder.mkdir(exist_ok=True)
    return folder
