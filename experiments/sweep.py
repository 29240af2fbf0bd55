"""A grid of runs, one after another, or N at a time with --processes=N.

  python -m experiments.sweep --config=experiments/configs/vae_digits.py --workdir=runs/sweep \\
      --vary=seed=0,1,2 --vary=optimizer.learning_rate=1e-4,3e-4

Each combination of values is a run in a folder of its own in DIR; of several at a time, what each
prints is in DIR/NAME.log. The same command again goes on where it was stopped. At the end: a
table, the mean and the spread over seeds, one picture, and DIR/report.html, where curves have a
band over seeds.
"""

import itertools
import sys
from functools import reduce
from operator import getitem
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import cli, early, processes
from memjax.errors import UserError

config_flags.DEFINE_config_file("config", None, "File of the config.")
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
    folder, axes = Path(_WORKDIR.value), dict(parse_vary(text) for text in _VARY.value)
    if len(axes) < len(_VARY.value):
        raise UserError(f"vary is {' and '.join(_VARY.value)}; it must name each field once")
    flag, several = flags.FLAGS["config"], _PROCESSES.value > 1
    command = [sys.executable, "-m", "experiments.train"]
    if threads := flags.FLAGS.threads or int(several):
        command.append(f"--threads={threads}")
    given = [f"--config={config_flags.get_config_filename(flag)}"]
    given += [f"--config.{f}={v}" for f, v in config_flags.get_override_values(flag).items()]
    workdirs, commands = {}, []
    for values in itertools.product(*axes.values()):
        typed = given + [f"--config.{f}={v}" for f, v in zip(axes, values, strict=True)]
        config = parse_config(typed)
        varied = {field: reduce(getitem, field.split("."), config) for field in axes}
        name = "_".join(cli.name_parts(varied)) or "run"
        if Path(name).name != name:
            raise UserError(f"vary gives the run {name!r}, which can't be the name of a folder")
        if name in workdirs:
            raise UserError(f"vary gives the run {name!r} twice")
        workdirs[name] = folder / name
        early.check_config(config, folder / name)
        log = folder / f"{name}.log" if several else None
        commands.append(([*command, *typed, f"--workdir={folder / name}"], log))
    if not processes.run_at_once(commands, _PROCESSES.value):
        return  # told to stop
    from experiments import charts, page

    charts.compare(workdirs, folder)
    print(f"All of it on one page: {page.write(workdirs, folder / 'report.html')}")


def parse_vary(text: str) -> tuple[str, list[str]]:
    """A field and its values, from "FIELD=V1,V2"."""
    field, equals, values = text.partition("=")
    if not field or not equals or not values:
        raise UserError(f"vary is {text!r}; it must be FIELD=V1,V2,...")
    return field, values.split(",")


def parse_config(arguments: list[str]) -> ConfigDict:
    """The config that a training with these arguments has."""
    values, argv = flags.FlagValues(), ["sweep", *arguments]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    cli.parse_flags(argv, values)
    return values.config


if __name__ == "__main__":
    cli.run(main)
