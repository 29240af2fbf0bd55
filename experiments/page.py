"""One HTML page of a run, or of several side by side; no file beside it is needed."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from experiments import charts, reporting
from experiments.reporting import RunFiles
from memjax import files, plotting
from memjax.errors import UserError
from memjax.evaluation import Curves
from memjax.training import metrics
from memjax.training.workdir import read_about

_TERMS = {
    "nll": "negative log-likelihood of an image, or an upper bound on it, in nats; lower is better",
    "eval/": "on held-out data",
    "reconstruction": "the part of nll that says how badly the image itself is explained",
    "kl_latent": "divergence of q(z | x) from its prior: what z says about the image",
    "kl_address": "divergence of q(a | x) from p(a): what the address says",
    "address_prior_entropy": "of p(a): its exponential says over how many slots p(a) spreads",
    "kl_memory": "divergence of the memory from its prior, which no nll contains",
    "floor": "the least nll that any model can have: that of a look-up table",
    "excess": "nll less floor",
}
_NLL_FIELDS = ("dataset.name", "dataset.binarization")  # where they differ, so does every NLL


def write(workdirs: Mapping[str, str | Path], path: str | Path) -> Path:
    """Writes the page of the runs in `workdirs`, by name, to the file `path`.

    Raises:
      UserError: a folder without a run, a file of it that can't be read, or no way to write `path`.
    """
    path = Path(path)
    if path.suffix != ".html":
        raise UserError(f"output is {path}; it must be a file that ends in .html")
    if not files.is_writable(path.absolute().parent):
        raise UserError(f"output {path} can't be written: choose another folder")
    text = render([RunFiles(name, workdir) for name, workdir in workdirs.items()])
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, text)
    return path


def render(runs: Sequence[RunFiles]) -> str:
    """The page, as HTML."""
    fields = reporting.column_names(run.config for run in runs)
    figures = reporting.column_names(run.pictures for run in runs)
    groups = charts.over_seeds(runs)
    tasks = [
        _describe_task(task, runs, groups)
        for task in reporting.column_names(run.evaluations for run in runs)
    ]
    claimed = {f for run in runs for e in run.evaluations.values() for f in e.figures}
    return template("page").render(
        runs=runs,
        over_seeds=len(groups) < len(runs),
        fields=fields,
        differing=charts.differing(runs),
        comparable=len({tuple(run.config.get(f) for f in _NLL_FIELDS) for run in runs}) == 1,
        headlines=[_headline(run) for run in runs],
        terms=_TERMS,
        metrics=_describe_metrics(runs, groups),
        looks=charts.LOOKS,
        tasks=tasks,
        other_figures=[f for f in figures if f not in claimed | {"learning_curves"}],
    )


def template(name: str) -> jinja2.Template:
    """NAME.html.j2 of this folder; what it is given is escaped, and must be all it asks for."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "cell": reporting.cell,
        "column_names": reporting.column_names,
        "data_address": data_address,
    }
    return environment.get_template(f"{name}.html.j2")


def data_address(png: bytes) -> str:
    """The address of a picture that holds the picture."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _headline(run: RunFiles) -> dict[str, Any]:
    """What a reader wants to know of a run first, by its name."""
    step, num_steps = run.last.get("step", 0), run.config["training.num_steps"]
    held_out = [(e["eval/nll"], e["step"]) for e in run.entries if "eval/nll" in e]
    nll = None
    if held_out:
        (best, when), last = min(held_out), held_out[-1][0]
        nll = f"{last:.3f} nats; the best {best:.3f}, at step {when}"
    told = {
        "held-out nll": nll,
        "model": run.config["model.name"],
        "data": run.config.get("dataset.name"),
        "binarization": run.config.get("dataset.binarization"),
        "step": f"{step} of {num_steps}" + (", unfinished" if step < num_steps else ""),
        "minutes of training": f"{metrics.minutes(run.entries):.1f}",
        **read_about(run.workdir),
    }
    return {name: value for name, value in told.items() if value is not None}


def _describe_metrics(runs: Sequence[RunFiles], groups: charts.Groups) -> dict[str, Any]:
    """The newest metrics as a table, over seeds where there are several; and the curves."""
    names = {name for run in runs for name in run.last} - {"step"}
    rows = [
        {"metric": name} | {run.name: run.last.get(name) for run in runs}
        for name in sorted(sorted(names), key=metrics.order)
    ]
    means = [
        {"metric": row["metric"]}
        | {
            name: charts.mean_and_spread([row[run.name] for run in group])
            for name, group in groups.items()
        }
        for row in rows
        if len(groups) < len(runs)
    ]
    if len(runs) == 1:
        merged = plotting.learning_panels(runs[0].entries)
    else:
        panels = {run.name: plotting.metric_panels(run.entries, held_out=True) for run in runs}
        merged = charts.together(groups, panels)
    return {"rows": rows, "means": means, "charts": _charts(merged, groups)}


def _describe_task(task: str, runs: Sequence[RunFiles], groups: charts.Groups) -> dict[str, Any]:
    """What an evaluation found for the runs that have it: tables, curves, names of figures."""
    found = {run.name: run.evaluations[task] for run in runs if task in run.evaluations}
    means = {}
    for name, group in groups.items():
        members = [found[run.name] for run in group if run.name in found]
        if len(members) == len(group) > 1 and len({repr(m.options) for m in members}) == 1:
            means[name] = charts.table_over_seeds([member.table for member in members])
    panels = {name: evaluation.panels for name, evaluation in found.items()}
    merged = panels[runs[0].name] if len(runs) == 1 else charts.together(groups, panels)
    drawn = {figure for evaluation in found.values() for figure in evaluation.curves}
    figures = dict.fromkeys(f for evaluation in found.values() for f in evaluation.figures)
    return {
        "name": task,
        "evaluations": found,
        "means": {name: table for name, table in means.items() if table},
        "charts": _charts(merged, groups),
        "figures": [figure for figure in figures if figure not in drawn],
    }


def _charts(panels: Mapping[str, Curves], groups: charts.Groups) -> list[dict[str, Any]]:
    return charts.describe(panels, [*groups] if len(groups) > 1 else [])
