"""A grid of runs, one after another, or N at a time with --processes=N.

  python -m experiments.sweep --config=experiments/configs/vae_digits.py --workdir=runs/sweep \\
      --vary=seed=0,1,2 --vary=optimizer.learning_rate=1e-4,3e-4

Each combination of values is a run in a folder of its own in DIR. The same command again goes on
where it was stopped. At the end: a table, the mean and the spread over seeds, one picture, and
DIR/report.html, where curves have a band over seeds.
"""

import copy
import itertools
import sys
from ast import literal_eval
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import cli, early, processes
from memjax.errors import UserError, one_line

_CONFIG = config_flags.DEFINE_config_file("config", None, "File of the config.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs.", required=True)
_VARY = flags.DEFINE_multi_string(
    "vary", [], "FIELD=V1,V2,...: a field of the config and its values; repeatable."
)
_PROCESSES = flags.DEFINE_integer(
    "processes", 1, "Runs at once, each on --threads, or else one.", lower_bound=1
)
flags.mark_flag_as_required("config")


def main() -> None:
    """Trains them all, then compares."""
    folder, axes = Path(_WORKDIR.value), [parse_vary(text) for text in _VARY.value]
    fields = [field for field, _ in axes]
    combinations = itertools.product(*(values for _, values in axes))
    settings = [dict(zip(fields, values, strict=True)) for values in combinations]
    named = {"_".join(cli.name_parts(setting)) or "run": setting for setting in settings}
    for name in named:
        if Path(name).name != name:
            raise UserError(f"vary gives the run {name!r}, which can't be the name of a folder")
    configs = {name: with_fields(_CONFIG.value, setting) for name, setting in named.items()}
    for name, config in configs.items():
        early.check_config(config, folder / name)
    if _PROCESSES.value > 1:
        train_at_once(named, folder)
    else:
        train_in_turn(configs, folder)
    if any(cli.last_step(folder / n) < c.training.num_steps for n, c in configs.items()):
        return  # told to stop
    compare({name: folder / name for name in named}, folder)


def train_in_turn(configs: Mapping[str, ConfigDict], folder: Path) -> None:
    """Trains until one is told to stop."""
    # Imported when the flags have been looked at, so that a wrong one is answered at once.
    from memjax.training import build, train

    for name, config in configs.items():
        print(f"\n{name}", flush=True)
        state = train(build(config), folder / name)
        if int(state.step) < config.training.num_steps:
            return


def train_at_once(settings: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Trains in processes of their own; what each prints is in DIR/NAME.log."""
    flag = flags.FLAGS["config"]
    given = config_flags.get_override_values(flag)
    command = [sys.executable, "-m", "experiments.train", f"--threads={flags.FLAGS.threads or 1}"]
    command.append(f"--config={config_flags.get_config_filename(flag)}")
    commands: dict[Path | None, Sequence[str]] = {}
    for name, varied in settings.items():
        fields = [f"--config.{field}={value}" for field, value in {**given, **varied}.items()]
        commands[folder / f"{name}.log"] = [*command, *fields, f"--workdir={folder / name}"]
    processes.run_at_once(commands, _PROCESSES.value)


def compare(workdirs: Mapping[str, Path], folder: Path) -> None:
    """Prints tables of the runs and over their seeds, and draws both."""
    from experiments import charts, page, reporting
    from memjax import plotting
    from memjax.evaluation import Report

    runs = [reporting.RunFiles(name, workdir) for name, workdir in workdirs.items()]
    charts.compare(runs, folder)
    groups = charts.over_seeds(runs)
    means = [
        {"runs": name, "nll": charts.mean_and_spread([run.last["eval/nll"] for run in group])}
        for name, group in groups.items()
    ]
    print("\nOver seeds:\n" + reporting.format_table(means))
    panels = {run.name: plotting.metric_panels(run.entries, held_out=True) for run in runs}
    curves = {"over_seeds": charts.together(groups, panels)}
    reporting.draw_report(folder, Report([], curves=curves))
    print(f"All of it on one page: {page.write(workdirs, folder / 'report.html')}")


def parse_vary(text: str) -> tuple[str, list[Any]]:
    """A field and its values, from "FIELD=V1,V2"."""
    field, equals, values = text.partition("=")
    if not field or not equals or not values:
        raise UserError(f"vary is {text!r}; it must be FIELD=V1,V2,...")
    return field, [_literal(value) for value in values.split(",")]


def _literal(text: str) -> Any:
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def with_fields(config: ConfigDict, fields: Mapping[str, Any]) -> ConfigDict:
    """A copy of the config with some of its fields set.

    Raises:
      UserError: there is no such field, or it is of another type.
    """
    config = copy.deepcopy(config)
    for field, value in fields.items():
        try:
            held = reduce(getitem, field.split("."), config)  # an error names what is near
            if isinstance(held, ConfigDict):
                raise TypeError("it is not one field")
            config.update_from_flattened_dict({field: value})
        except KeyError as error:
            raise UserError(f"vary {field}: {cli.explain(error)}") from error
        except (TypeError, ValueError) as error:
            raise UserError(f"vary {field}={value}: {one_line(error)}") from error
    return config


if __name__ == "__main__":
    cli.run(main)
