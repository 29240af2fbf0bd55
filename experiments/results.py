"""Fills in the tables of docs/results from the runs' own files: python -m experiments.results.

A table in the file stands between two comments, of which the first says what it is made of:

  <!-- results runs=recall_256,recall_512 task=recall columns=run,num_slots,nll:NLL,seed -->
  <!-- end -->

`runs` are folders in --runs, each as NAME=DIR if it is to be named; `task` is an evaluation, whose
rows the table has (without, it has one row for each run, of its newest metrics); `columns` are
fields of these rows, of the metrics or of the config, or run, step and minutes, each as
FIELD:TITLE:DECIMALS if it is to be titled and rounded; blank in a row that lacks what others have.
TASK[FIELD=VALUE,...] stands for those rows of an evaluation that have the value, or one of
VALUE|VALUE: as `task`, or in a column, where it must leave one row, for a number of another
evaluation. Quotes enclose what holds a space:

  runs=a,b columns="run:system,likelihood[].nll:NLL (nats):2,impute[noise=HALF].mse"

What no comment encloses is left as it is. With --check nothing is written, and the exit status is
1 if a number in a file is not what the runs say.
"""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli, reporting
from experiments.reporting import RunFiles
from memjax import files
from memjax.errors import UserError
from memjax.training import metrics

_FILE = flags.DEFINE_multi_string(
    "file", [], "A file to fill in; repeatable. By default all of docs/results."
)
_RUNS = flags.DEFINE_string("runs", "runs", "Folder of the runs.")
_CHECK = flags.DEFINE_bool("check", False, "Compares, and writes nothing.")

_PAGES = Path(__file__).parents[1] / "docs/results"
_BLOCK = re.compile(r"(<!-- results (?P<fields>.*?) -->\n).*?(?=<!-- end -->)", re.DOTALL)
_COMMA = re.compile(r",(?![^\[]*\])")  # not within brackets


def main() -> None:
    """Fills in, or compares."""
    texts = {}
    for path in [Path(name) for name in _FILE.value] or sorted(_PAGES.glob("*.md")):
        if not path.is_file():
            raise UserError(f"file {path} does not exist")
        before = path.read_text()
        if tables := len(_BLOCK.findall(before)):
            texts[path] = before, fill_in(before, Path(_RUNS.value)), tables
    wrong = [path for path, (before, after, _) in texts.items() if before != after]
    if _CHECK.value:
        for path in wrong:
            print(f"{path} is not what the runs in {_RUNS.value} say; run without --check")
        sys.exit(bool(wrong))
    for path, (_, after, tables) in texts.items():
        files.write_text(path, after)
        print(f"{path}: {tables} tables from {_RUNS.value}")


def fill_in(text: str, runs: Path) -> str:
    """The text with every table made anew.

    Raises:
      UserError: a table that is not well described, or whose runs are not there.
    """
    return _BLOCK.sub(lambda match: f"{match[1]}{table(match['fields'], runs)}\n", text)


def table(description: str, runs: Path) -> str:
    """A Markdown table of what `description`, "runs=... columns=...", asks for."""
    try:
        fields = dict(part.partition("=")[::2] for part in shlex.split(description))
    except ValueError as error:
        raise UserError(f"table {description!r} can't be read: {error}") from error
    if not {"runs", "columns"} <= set(fields) <= {"runs", "task", "columns"}:
        raise UserError(f"table {description!r} must give runs=, columns= and, if any, task=")
    folders = cli.named_folders("runs", fields["runs"].split(","))
    task = fields.get("task")
    rows = [
        (row, run)
        for run in [RunFiles(name, runs / folder) for name, folder in folders.items()]
        for row in (run.select(task) if task else [run.last])
    ]
    columns = [_column(text, rows) for text in _COMMA.split(fields["columns"])]
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))


def _column(text: str, rows: Sequence[tuple[Mapping[str, Any], RunFiles]]) -> list[str]:
    """A column from FIELD:TITLE:DECIMALS, of which the last two may be missing."""
    field, title, decimals, *more = [*text.split(":"), "", ""]
    if any(more):
        raise UserError(f"column {text!r} has too many parts; it is FIELD:TITLE:DECIMALS")
    if decimals and not decimals.isdecimal():
        raise UserError(f"column {text!r} has decimals {decimals!r}; they must be a number")
    # What is a column of these rows is never looked up elsewhere: there it is another number.
    is_of_rows = any(field in row for row, _ in rows)
    column = [title or field, "---"]
    for row, run in rows:
        value = row.get(field) if is_of_rows else _find(field, run)
        is_rounded = decimals and isinstance(value, int | float)
        column.append(f"{value:.{decimals}f}" if is_rounded else reporting.cell(value))
    return column


def _find(field: str, run: RunFiles) -> Any:
    if "[" in field:
        return run.pick(field)
    known = {"run": run.name, "minutes": metrics.minutes(run.entries)}
    for source in (run.last, run.config, known):
        if field in source:
            return source[field]
    raise UserError(
        f"column {field!r} is neither in the table, the metrics nor the config of run {run.name}"
    )


if __name__ == "__main__":
    cli.run(main)
