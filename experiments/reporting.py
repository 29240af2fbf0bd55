"""What a run or an evaluation leaves behind: figures, tables, JSON."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from memjax import files, plotting
from memjax.errors import UserError
from memjax.evaluation import Curves, Report, load_run
from memjax.training import metrics

if TYPE_CHECKING:
    from experiments.page import RunFiles

_LOG = logging.getLogger("memjax")


class Evaluation(NamedTuple):
    """What `experiments.evaluate` left of one task."""

    task: str
    step: int
    options: Mapping[str, Any]
    table: Sequence[dict[str, Any]]
    curves: Mapping[str, Mapping[str, Curves]]  # the panels of each figure with lines
    figures: Sequence[str]  # names of all pictures in figures/

    @property
    def panels(self) -> dict[str, Curves]:
        """Of all figures with lines, by title."""
        return {title: panel for panels in self.curves.values() for title, panel in panels.items()}


def draw_run(workdir: str | Path) -> None:
    """Learning curves, generated images and reconstructions of the run in `workdir`."""
    _LOG.info("drawing figures")
    run = load_run(workdir)
    title = f"{run.experiment.name}, step {run.step}"
    path = figure_folder(workdir) / "learning_curves.png"
    plotting.learning_curves(path, metrics.read(workdir), title)
    draw_report(workdir, run.task("samples"), title)


def write_report(
    workdir: str | Path, name: str, step: int, options: Mapping[str, Any], report: Report
) -> None:
    """Writes `eval_NAME.json`, what the evaluation `name` found at `step`, and its pictures."""
    curves = {figure: format_panels(panels) for figure, panels in report.curves.items()}
    figures = [*report.grids, *report.curves, *report.matrices]
    content = {"task": name, "step": step, "options": options, "table": report.table}
    content |= {"curves": curves, "figures": figures}
    write_json(Path(workdir) / f"eval_{name}.json", content)
    report.write_files(workdir)
    draw_report(workdir, report, f"step {step}")


def read_evaluation(path: Path) -> Evaluation:
    """Reads what `write_report` wrote.

    Raises:
      UserError: it can't be read.
    """
    try:
        content = json.loads(path.read_text())
        found = Evaluation(**{name: content[name] for name in Evaluation._fields})._replace(
            table=[dict(row) for row in content["table"]],
            curves={
                figure: {title: Curves(**panel) for title, panel in panels.items()}
                for figure, panels in content["curves"].items()
            },
        )
        lines = [line for panel in found.panels.values() for line in panel.lines.values()]
        if not all(len(x) == len(y) for x, y in lines):
            raise ValueError("a line has not as many y as x")
        return found
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} can't be read ({error!r}): evaluate its task again") from error


def draw_report(workdir: str | Path, report: Report, title: str = "") -> None:
    """The pictures of an evaluation, each with its name before the title, if there is one."""

    def heading(name: str) -> str:
        return title and f"{name.replace('_', ' ')}, {title}"

    folder = figure_folder(workdir)
    for name, rows in report.grids.items():
        plotting.image_grid(folder / f"{name}.png", rows, heading(name), ink=report.ink)
    for name, panels in report.curves.items():
        plotting.curves(folder / f"{name}.png", panels, heading(name))
    for name, matrices in report.matrices.items():
        axes = report.axes.get(name, ("", ""))
        plotting.matrices(folder / f"{name}.png", matrices, heading(name), axes=axes)


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as aligned text, with a column for each name that a row has; blank where it lacks it.

    A last line says which columns are in nats.
    """
    names = column_names(rows)
    cells = [names, *([cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    ]
    if nats := [name for name in names if metrics.rank(name)[0]]:
        lines.append(f"{', '.join(nats)}: nats an image")
    return "\n".join(lines)


def cell(value: Any) -> str:
    """A value as it stands in a table."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e-2 or abs(value) >= 1e5 else f"{value:.3f}"
    return "" if value is None else str(value)


def column_names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of all rows: what was asked first, in its order, then what was found, `nll` first.

    What is found stands in the same order in every table; bounds, divergences and errors of them
    are in nats an image.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return sorted(names, key=metrics.rank)


def format_panels(panels: Mapping[str, Curves]) -> dict[str, Any]:
    """Panels of lines as JSON has them."""
    return {
        title: panel._asdict()
        | {"lines": {name: [list(x), list(y)] for name, (x, y) in panel.lines.items()}}
        | {"spread": dict(panel.spread), "borders": list(panel.borders)}
        for title, panel in panels.items()
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes `content` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, json.dumps(content, indent=2) + "\n")


def figure_folder(workdir: str | Path) -> Path:
    """The folder of a run's pictures."""
    folder = Path(workdir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def compare(runs: Sequence["RunFiles"], output: Path, task: str = "") -> list[dict[str, Any]]:
    """Prints a table of runs and draws pictures of them all into `output`.

    Without a task the table has the last held-out metrics, and the pictures are learning curves.

    Returns:
      The table's rows, each with its `run`; all have the same names, and None where a run of
      another kind of model lacks a metric.

    Raises:
      UserError: a run without the evaluation, or never evaluated in training.
    """
    rows: list[dict[str, Any]] = []
    panels: dict[str, Mapping[str, Curves]] = {}
    for run in runs:
        if task:
            evaluation = run.evaluation(task)
            rows += [{"run": run.name} | row for row in evaluation.table]
            panels[run.name] = evaluation.panels
            continue
        panels[run.name] = found = plotting.metric_panels(run.entries, held_out=True)
        if not found:
            raise UserError(f"run {run.name} was never evaluated in training")
        last = {title: panel.lines[""][1][-1] for title, panel in found.items()}
        rows.append({"run": run.name, "step": found["nll"].lines[""][0][-1]} | last)
    rows = [{name: row.get(name) for name in column_names(rows)} for row in rows]
    print(format_table(rows))
    write_json(output / f"compare_{task or 'training'}.json", {"table": rows})
    draw_report(output, Report(rows, curves={task or "learning_curves": plotting.merge(panels)}))
    return rows
