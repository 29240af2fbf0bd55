"""Draws what a run or an evaluation leaves in `figures/`."""

from pathlib import Path

from memjax import plotting
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


def _folder(workdir: str | Path) -> Path:
    folder = Path(workdir) / "figures"
    folder.mkdir(exist_ok=True)
    return folder
