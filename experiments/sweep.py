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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import cli, early, processes
from memjax.errors import UserError, did_you_mean, nearest

_CONFIG = config_flags.DEFINE_config_file("config", None, "File of the config.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs.", required=True)
_VARY = flags.DEFINE_multi_string(
    "vary", [], "FIELD=V1,V2,...: a field of the config and its values; repeatable."
)
_PROCESSES = flags.DEFINE_integer(
    "processes", 1, "Runs at once, each on one thread: on a CPU, one for each core.", lower_bound=1
)
flags.mark_flag_as_required("config")


def main() -> None:
    """Trains them all, then compares."""
    folder = Path(_WORKDIR.value)
    settings = {name_of(s): s for s in combine([parse_vary(text) for text in _VARY.value])}
    for name in settings:
        if Path(name).name != name:
            raise UserError(f"vary gives the run {name!r}, which can't be the name of a folder")
    configs = {name: with_fields(_CONFIG.value, fields) for name, fields in settings.items()}
    for name, config in configs.items():
        early.check_config(config, folder / name)
    train_all = _train_at_once if _PROCESSES.value > 1 else _train_in_turn
    if not train_all(configs, settings, folder):
        return  # told to stop
    from experiments import charts, page, reporting
    from memjax.evaluation import Report

    workdirs = {name: folder / name for name in settings}
    reporting.compare(workdirs, folder)
    runs = [page.read(name, workdir) for name, workdir in workdirs.items()]
    groups = charts.over_seeds(runs) or {run.name: [run] for run in runs}
    print("\nOver seeds:\n" + reporting.format_table(charts.nll_over_seeds(groups)))
    curves = {name: charts.average_held_out(group) for name, group in groups.items()}
    reporting.draw_report(folder, Report([], curves={"over_seeds": reporting.merge(curves)}))
    print(f"All of it on one page: {page.write(workdirs, folder / 'report.html')}")


def _train_in_turn(configs: Mapping[str, ConfigDict], _: object, folder: Path) -> bool:
    """Whether all are trained."""
    # Imported when the flags have been looked at, so that a wrong one is answered at once.
    from memjax.training import build, train

    for name, config in configs.items():
        print(f"\n{name}", flush=True)
        state = train(build(config), folder / name)
        if int(state.step) < config.training.num_steps:
            return False
    return True


def _train_at_once(
    configs: Mapping[str, ConfigDict], settings: Mapping[str, Mapping[str, Any]], folder: Path
) -> bool:
    """Whether all are trained; what each prints is in DIR/NAME.log."""
    flag = flags.FLAGS["config"]
    given = config_flags.get_override_values(flag)
    command = [sys.executable, "-m", "experiments.train", "--threads=1"]
    command.append(f"--config={config_flags.get_config_filename(flag)}")
    commands = {}
    for name, varied in settings.items():
        fields = [f"--config.{field}={value}" for field, value in {**given, **varied}.items()]
        commands[folder / f"{name}.log"] = [*command, *fields, f"--workdir={folder / name}"]
    if not processes.run_at_once(commands, _PROCESSES.value):
        return False
    # One that was told to stop ends well too.
    return all(_last_step(folder / name) >= c.training.num_steps for name, c in configs.items())


def _last_step(workdir: Path) -> int:
    return max((int(path.name) for path in workdir.glob("checkpoints/[0-9]*")), default=0)


def parse_vary(text: str) -> tuple[str, list[Any]]:
    """A field and its values, from "FIELD=V1,V2"."""
    field, equals, values = text.partition("=")
    if not equals or not values:
        raise UserError(f"vary is {text!r}; it must be FIELD=V1,V2,...")
    return field, [_literal(value) for value in values.split(",")]


def combine(axes: Sequence[tuple[str, list[Any]]]) -> list[dict[str, Any]]:
    """All combinations of the axes' values."""
    names = [name for name, _ in axes]
    return [
        dict(zip(names, values, strict=True))
        for values in itertools.product(*(values for _, values in axes))
    ]


def name_of(fields: dict[str, Any]) -> str:
    """The folder of a combination."""
    return "_".join(cli.name_parts(fields)) or "run"


def with_fields(config: ConfigDict, fields: dict[str, Any]) -> ConfigDict:
    """A copy of the config with some of its fields set.

    Raises:
      UserError: there is no such field, or it is of another type.
    """
    config = copy.deepcopy(config)
    known = list(_leaves(config))
    for field, value in fields.items():
        if field not in known:
            near = did_you_mean(nearest(field, known))
            raise UserError(f"vary names {field}, a field that the config does not have{near}")
        try:
            config.update_from_flattened_dict({field: value})
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(f"vary {field}={value}: {' '.join(str(error).split())}") from error
    return config


def _leaves(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    """The names of all fields, with dots."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _literal(text: str) -> Any:
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == "__main__":
    cli.run(main)
