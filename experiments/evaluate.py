"""Evaluates a trained run.

  python -m experiments.evaluate --list
      shows every task: what it measures, and its options.

  python -m experiments.evaluate --workdir=runs/vma --task=recall --option=num_slots=64
      evaluates the newest checkpoint. Repeat --option for several; a list is [64,256].

Prints a table, writes DIR/eval_TASK.json and figures, and adds both to DIR/report.html.
"""

import inspect
from ast import literal_eval
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli, listing
from memjax.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
_TASK = flags.DEFINE_string("task", None, "What to evaluate; see --list.", required=True)
_OPTION = flags.DEFINE_multi_string("option", [], "NAME=VALUE, an option of the task; repeatable.")
flags.DEFINE_flag(
    listing.ListFlag(
        "list", "Shows every task and ends.", lambda: listing.format_tasks(listing.tasks())
    )
)
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where the data sets are, if they have moved.")


def main(argv: Sequence[str]) -> None:
    """Loads the newest checkpoint, evaluates, reports."""
    del argv
    from experiments import page, reporting
    from memjax import evaluation, files

    workdir = Path(_WORKDIR.value)
    if not files.is_writable(workdir):
        raise UserError(f"workdir {workdir} can't be written: results have to go there")
    evaluate = evaluation.task(_TASK.value)
    options = parse_options(evaluate, _OPTION.value)
    run = evaluation.load_run(workdir, _DATA_DIR.value)
    report = evaluate(run, **options)
    print(reporting.format_table(report.table))
    reporting.write_report(workdir, _TASK.value, run.step, options, report)
    page.write({workdir.absolute().name: workdir}, workdir / "report.html")


def parse_options(evaluate: Callable, options: Sequence[str]) -> dict[str, Any]:
    """The keyword arguments of `evaluate` from strings NAME=VALUE.

    VALUE is a Python literal, or what stands there where the option is a text.
    """
    parameters = inspect.signature(evaluate).parameters
    known = [name for name in parameters if name != "run"]
    parsed: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or name not in known:
            raise UserError(
                f"option is {option!r}; it must be NAME=VALUE, NAME: {', '.join(known)}"
            )
        if isinstance(parameters[name].default, str):
            parsed[name] = value
            continue
        try:
            parsed[name] = literal_eval(value)
        except (ValueError, SyntaxError) as error:
            raise UserError(f"option {name} is {value!r}; it must be a number or a list") from error
    return parsed


if __name__ == "__main__":
    cli.run(main)
