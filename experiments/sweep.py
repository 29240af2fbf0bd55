"""A grid of runs, one after another, or N at a time with --processes=N.

  python -m experiments.sweep --config=experiments/configs/vae_digits.py --workdir=runs/sweep \\
      --vary=seed=0,1,2 --vary=optimizer.learning_rate=1e-4,3e-4

Each combination of values is a run in a folder of its own in DIR; of several at a time, what each
prints is in DIR/NAME.log. The same command again goes on where it was stopped. At the end: a
table, the mean and the spread over seeds, one picture, and DIR/report.html, where curves have a
band over seeds.
"""

import copy
import itertools
import sys
from ast import literal_eval
from collections.abc import Mapping
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
    for name, setting in named.items():
        early.check_config(with_fields(_CONFIG.value, setting), folder / name)
    commands = [train_command(setting, folder / name) for name, setting in named.items()]
    logs = [folder / f"{name}.log" if _PROCESSES.value > 1 else None for name in named]
    if not processes.run_at_once(list(zip(commands, logs, strict=True)), _PROCESSES.value):
        return  # told to stop
    from experiments import charts, page

    workdirs = {name: folder / name for name in named}
    charts.compare(workdirs, folder)
    print(f"All of it on one page: {page.write(workdirs, folder / 'report.html')}")


def train_command(varied: Mapping[str, Any], workdir: Path) -> list[str]:
    """What trains a run in a process of its own."""
    flag, threads = flags.FLAGS["config"], flags.FLAGS.threads
    if threads is None and _PROCESSES.value > 1:
        threads = 1
    fields = {**config_flags.get_override_values(flag), **varied}
    return [
        *(sys.executable, "-m", "experiments.train", f"--workdir={workdir}"),
        f"--config={config_flags.get_config_filename(flag)}",
        *(f"--config.{field}={value}" for field, value in fields.items()),
        *([] if threads is None else [f"--threads={threads}"]),
    ]


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
