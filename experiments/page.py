"""One HTML page of a run, or of several side by side; no file beside it is needed."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from matplotlib.figure import Figure

from experiments import reporting
from memjax import files, plotting
from memjax.errors import UserError
from memjax.training import metrics
from memjax.training.workdir import flatten, load_config, read_about

_TERMS = {
    "nll": "negative log-likelihood of an image, or an upper bound on it, in nats; lower is better",
    "eval/": "on held-out data",
    "reconstruction": "the part of nll that says how badly the image itself is explained",
    "kl_latent": "divergence of q(z | x) from its prior: what the latent code tells of the image",
    "kl_address": "divergence of q(a | x) from p(a): what the address tells",
    "kl_memory": "divergence of the memory from its prior, which no nll contains",
    "floor": "the least nll that any model can have: that of a look-up table",
    "excess": "nll less floor",
}


class RunFiles(NamedTuple):
    """What a workdir holds, as a page shows it."""

    name: str
    config: Mapping[str, Any]  # fields by dotted name
    entries: Sequence[Mapping[str, float]]  # lines of metrics.jsonl
    evaluations: Mapping[str, reporting.Evaluation]
    pictures: Mapping[str, str]  # names and data addresses of the PNG files in figures/
    about: Mapping[str, Any]  # what about.json says of the model, the machine and the command

    @property
    def last(self) -> dict[str, float]:
        """The newest value of each metric."""
        return {name: value for entry in self.entries for name, value in entry.items()}

    @property
    def headline(self) -> dict[str, Any]:
        """What a reader wants to know first, by its name."""
        step, num_steps = self.last.get("step", 0), self.config["training.num_steps"]
        held_out = [(e["eval/nll"], e["step"]) for e in self.entries if "eval/nll" in e]
        nll = None
        if held_out:
            (best, when), last = min(held_out), held_out[-1][0]
            nll = f"{last:.3f} nats; the best {best:.3f}, at step {when}"
        told = {
            "held-out nll": nll,
            "model": self.config["model.name"],
            "data": self.config.get("dataset.name"),
            "binarization": self.config.get("dataset.binarization"),
            "step": f"{step} of {num_steps}" + (", unfinished" if step < num_steps else ""),
            "minutes of training": f"{metrics.minutes(self.entries):.1f}",
            **self.about,
        }
        return {name: value for name, value in told.items() if value is not None}


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
    text = render([read(name, workdir) for name, workdir in workdirs.items()])
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, text)
    return path


def read(name: str, workdir: str | Path) -> RunFiles:
    """Reads the files of the run in `workdir`.

    Raises:
      UserError: there is no run, or one of its files can't be read.
    """
    workdir = Path(workdir)
    config = flatten(load_config(workdir).to_dict())
    pictures = {path.stem: _data_address(path) for path in sorted(workdir.glob("figures/*.png"))}
    evaluations = [reporting.read_evaluation(path) for path in sorted(workdir.glob("eval_*.json"))]
    by_task = {evaluation.task: evaluation for evaluation in evaluations}
    return RunFiles(name, config, metrics.read(workdir), by_task, pictures, read_about(workdir))


def render(runs: Sequence[RunFiles]) -> str:
    """The page, as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"cell": cell, "column_names": reporting.column_names}
    fields = reporting.column_names(run.config for run in runs)
    differing = [f for f in fields if len({repr(run.config.get(f)) for run in runs}) > 1]
    tasks = reporting.column_names(run.evaluations for run in runs)
    claimed = {f for run in runs for e in run.evaluations.values() for f in e.figures}
    figures = reporting.column_names(run.pictures for run in runs)
    metric_names = set(reporting.column_names(run.last for run in runs)) - {"step"}
    return environment.get_template("page.html.j2").render(
        runs=runs,
        fields=fields,
        differing=differing,
        headlines=reporting.column_names(run.headline for run in runs),
        terms=_TERMS,
        metrics=sorted(metric_names, key=metrics.order),
        curves=_draw_curves(runs),
        tasks=tasks,
        other_figures=[f for f in figures if f not in claimed | {"learning_curves"}],
    )


def _draw_curves(runs: Sequence[RunFiles]) -> list[str]:
    """Learning curves as data addresses; of several runs, those on held-out data, one by one."""
    if len(runs) == 1:
        return [encode_figure(plotting.learning_curves(None, runs[0].entries))]
    panels = reporting.held_out_panels({run.name: run.entries for run in runs})
    names = [run.name for run in runs]
    return [
        encode_figure(plotting.curves(None, {t: panel}, names=names)) for t, panel in panels.items()
    ]


def encode_figure(figure: Figure, kind: str = "svg") -> str:
    """A figure as a data address: of curves as "svg", of images rather as "png"."""
    buffer = io.BytesIO()
    if kind == "svg":
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        return _encode(buffer.getvalue(), "image/svg+xml")
    figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
    return _encode(buffer.getvalue(), "image/png")


def _data_address(path: Path) -> str:
    return _encode(path.read_bytes(), "image/png")


def _encode(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def cell(value: Any) -> str:
    """A value as it stands in a table."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e-2 or abs(value) >= 1e5 else f"{value:.3f}"
    return "" if value is None else str(value)
