"""What a run or an evaluation leaves behind: figures, tables, JSON."""

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memjax import files, plotting
from memjax.errors import UserError
from memjax.evaluation import Curves, Report, load_run
from memjax.training import metrics
from memjax.training.workdir import flatten, load_config

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


class RunFiles:
    """What a workdir holds.

    Attributes:
      name: of the run.
      workdir: its folder.
      config: fields by dotted name.
      entries: lines of `metrics.jsonl`.
      last: the newest value of each metric.
    """

    def __init__(self, name: str, workdir: str | Path):
        """Reads the config and the metrics.

        Raises:
          UserError: there is no run, or its config can't be read.
        """
        self.name, self.workdir = name, Path(workdir)
        self.config: Mapping[str, Any] = flatten(load_config(workdir).to_dict())
        self.entries: Sequence[Mapping[str, float]] = metrics.read(workdir)
        self.last = {name: value for entry in self.entries for name, value in entry.items()}

    @cached_property
    def evaluations(self) -> dict[str, Evaluation]:
        """All that have been made, by task."""
        tasks = [path.stem.removeprefix("eval_") for path in self.workdir.glob("eval_*.json")]
        return {task: self.evaluation(task) for task in sorted(tasks)}

    @cached_property
    def pictures(self) -> dict[str, Path]:
        """The PNG files in figures/, by name."""
        return {path.stem: path for path in sorted(self.workdir.glob("figures/*.png"))}

    def evaluation(self, task: str) -> Evaluation:
        """What was found for `task`.

        Raises:
          UserError: nothing yet, or it can't be read.
        """
        path = self.workdir / f"eval_{task}.json"
        if not path.is_file():
            raise UserError(f"run {self.name} has no {path.name}: evaluate it")
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

    def select(self, selection: str) -> list[dict[str, Any]]:
        """The rows of an evaluation's table that "TASK[FIELD=VALUE,...]" leaves.

        A VALUE may be several, A|B.

        Raises:
          UserError: there are none.
        """
        task, _, conditions = selection.removesuffix("]").partition("[")
        wanted = dict(part.partition("=")[::2] for part in conditions.split(",") if part)
        rows = [
            row
            for row in self.evaluation(task).table
            if all(str(row.get(field)) in value.split("|") for field, value in wanted.items())
        ]
        if not rows:
            raise UserError(f"eval_{task}.json of run {self.name} has no row with {conditions}")
        return rows

    def pick(self, number: str) -> Any:
        """What "TASK[FIELD=VALUE,...].COLUMN" or "TASK.COLUMN" stands for.

        Raises:
          UserError: it is written otherwise, no row or several have the values, no such column.
        """
        parts = re.fullmatch(r"(\w+(?:\[.*?\])?)\.(.+)", number)
        if not parts:
            raise UserError(f"{number!r} must be TASK[FIELD=VALUE,...].COLUMN")
        selection, column = parts.groups()
        rows = self.select(selection)
        if len(rows) > 1:
            raise UserError(f"{number!r} has {len(rows)} rows of run {self.name}; say which")
        if column not in rows[0]:
            raise UserError(f"{number!r}: run {self.name} has no column {column!r} there")
        return rows[0][column]


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
    content = {"task": name, "step": step, "options": options, "table": report.table}
    content["curves"] = {
        figure: {title: panel._asdict() for title, panel in panels.items()}
        for figure, panels in report.curves.items()
    }
    content["figures"] = [*report.grids, *report.curves, *report.matrices]
    write_json(Path(workdir) / f"eval_{name}.json", content)
    report.write_files(workdir)
    draw_report(workdir, report, f"step {step}")


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


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes `content` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, json.dumps(content, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> dict | list:
    return dict(value) if isinstance(value, Mapping) else np.asarray(value).tolist()


def figure_folder(workdir: str | Path) -> Path:
    """The folder of a run's pictures."""
    folder = Path(workdir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
