"""Curves and tables of several runs as a page shows them: side by side, or over seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import cli, reporting
from experiments.reporting import RunFiles
from memjax import plotting
from memjax.errors import UserError
from memjax.evaluation import Curves, Report

Groups = Mapping[str, Sequence[RunFiles]]  # runs that differ in their seeds, by name
LOOKS = {"colours": plotting.COLOURS, "markers": plotting.MARKERS}  # of lines, for charts.js


def compare(workdirs: Mapping[str, str | Path], output: Path, task: str = "") -> None:
    """Prints tables of runs and over their seeds, and draws both into `output`.

    Without a task the table has the last held-out metrics, and the pictures are learning curves.
    `compare_TASK.json` holds the rows, all with the same names, None where a run lacks one.

    Raises:
      UserError: a run without the evaluation, or never evaluated in training.
    """
    runs = [RunFiles(name, workdir) for name, workdir in workdirs.items()]
    tables: dict[str, Sequence[Mapping[str, Any]]] = {}
    panels: dict[str, Mapping[str, Curves]] = {}
    for run in runs:
        if task:
            evaluation = run.evaluation(task)
            tables[run.name], panels[run.name] = evaluation.table, evaluation.panels
            continue
        panels[run.name] = found = plotting.metric_panels(run.entries, held_out=True)
        if not found:
            raise UserError(f"run {run.name} was never evaluated in training")
        last = {title: panel.lines[""][1][-1] for title, panel in found.items()}
        tables[run.name] = [{"step": found["nll"].lines[""][0][-1]} | last]
    rows = [{"run": name, **row} for name, table in tables.items() for row in table]
    rows = [{name: row.get(name) for name in reporting.column_names(rows)} for row in rows]
    print(reporting.format_table(rows))
    reporting.write_json(output / f"compare_{task or 'training'}.json", {"table": rows})
    curves = {task or "learning_curves": plotting.merge(panels)}
    groups = over_seeds(runs)
    if len(groups) < len(runs):
        means = [
            {"runs": name, **row}
            for name, group in groups.items()
            for row in table_over_seeds([tables[run.name] for run in group])
        ]
        if means:  # else the runs' rows differ
            print(f"\nOver seeds:\n{reporting.format_table(means)}")
        curves["over_seeds"] = together(groups, panels)
    reporting.draw_report(output, Report(rows, curves=curves))


def over_seeds(runs: Sequence[RunFiles]) -> dict[str, list[RunFiles]]:
    """Runs that differ in nothing but the seed, by what sets them apart; each alone if none do."""
    apart = [field for field in differing(runs) if field != "seed"]
    groups: dict[str, list[RunFiles]] = {}
    for run in runs:
        name = ", ".join(cli.name_parts({field: run.config.get(field) for field in apart}))
        groups.setdefault(name or "all", []).append(run)
    num_seeds = [len({run.config.get("seed") for run in group}) for group in groups.values()]
    if len(groups) == len(runs) or sum(num_seeds) < len(runs):
        return {run.name: [run] for run in runs}
    counts = {name: f"{len(group)} run{'s' * (len(group) > 1)}" for name, group in groups.items()}
    return {f"{name} ({counts[name]})": group for name, group in groups.items()}


def differing(runs: Sequence[RunFiles]) -> list[str]:
    """Fields of the runs' configs that are not the same in all."""
    fields = reporting.column_names(run.config for run in runs)
    return [f for f in fields if len({repr(run.config.get(f)) for run in runs}) > 1]


def together(groups: Groups, panels: Mapping[str, Mapping[str, Curves]]) -> dict[str, Curves]:
    """The panels of runs, by name, in one; over seeds, where each run of the groups has them."""
    if all(run.name in panels for group in groups.values() for run in group):
        panels = {
            name: average([panels[run.name] for run in group]) for name, group in groups.items()
        }
    return plotting.merge(panels)


def average(runs: Sequence[Mapping[str, Curves]]) -> dict[str, Curves]:
    """The mean of runs' panels, with the spread, where all of the runs have a point."""
    if len(runs) == 1:
        return dict(runs[0])
    panels = {}
    for title in (title for title in runs[0] if all(title in run for run in runs)):
        members = [run[title].lines for run in runs]
        lines, spread = {}, {}
        for name in (name for name in members[0] if all(name in m for m in members)):
            points = [dict(zip(*member[name], strict=True)) for member in members]
            shared = [x for x in points[0] if all(x in of_run for of_run in points)]
            found = [statistics([of_run[x] for of_run in points]) for x in shared]
            lines[name] = shared, [mean for mean, _ in found]
            spread[name] = [deviation for _, deviation in found]
        panels[title] = runs[0][title]._replace(lines=lines, spread=spread)
    return panels


def table_over_seeds(tables: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Tables with the same rows as one: where numbers differ, their mean and spread.

    Empty where the tables have other rows or columns.
    """
    if len({tuple(map(tuple, table)) for table in tables}) > 1:
        return []
    return [
        {name: mean_and_spread([row[name] for row in rows]) for name in rows[0]}
        for rows in zip(*tables, strict=True)
    ]


def mean_and_spread(values: Sequence[Any]) -> Any:
    """As a text, "12.810 ± 0.050"; what is the same in all, or no number, as it is."""
    if len({repr(value) for value in values}) == 1:
        return values[0]
    if not all(isinstance(value, int | float) for value in values):
        return ", ".join(dict.fromkeys(reporting.cell(value) for value in values))
    return " ± ".join(map(reporting.cell, statistics(values)))


def statistics(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of seeds, that of a sample; NaN or inf where a value is."""
    with np.errstate(invalid="ignore"):
        spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
        return float(np.mean(values)), float(spread)


def describe(panels: Mapping[str, Curves], names: Sequence[str]) -> list[dict[str, Any]]:
    """What charts.js draws of panels, by title; lines with `names` get the first looks."""
    order = list(dict.fromkeys([*names, *(line for p in panels.values() for line in p.lines)]))
    described = []
    for title, panel in panels.items():
        lines = [
            {"name": name, "look": order.index(name), "x": list(x), "y": _short(y)}
            | ({"spread": _short(panel.spread[name])} if name in panel.spread else {})
            for name, (x, y) in panel.lines.items()
        ]
        described.append(panel._asdict() | {"title": title, "lines": lines, "spread": None})
    return described


def _short(values: Sequence[float]) -> list[float | None]:
    """To six digits; None for what JSON can't hold."""
    return [float(f"{v:.6g}") if abs(v) < float("inf") else None for v in values]
