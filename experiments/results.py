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
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags

from experiments import cli
from memjax.errors import UserError

if TYPE_CHECKING:
    from experiments import reporting

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
    from memjax import files

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
    from experiments import reporting

    try:
        fields = dict(part.partition("=")[::2] for part in shlex.split(description))
    except ValueError as error:
        raise UserError(f"table {description!r} can't be read: {error}") from error
    if not {"runs", "columns"} <= set(fields) <= {"runs", "task", "columns"}:
        raise UserError(f"table {description!r} must give runs=, columns= and, if any, task=")
    folders = cli.named_folders("runs", fields["runs"].split(","))
    columns = [Column.parse(text) for text in _COMMA.split(fields["columns"])]
    titles = [column.title for column in columns]
    lines = [titles, ["---"] * len(titles)]
    read = [reporting.RunFiles(name, runs / folder) for name, folder in folders.items()]
    task = fields.get("task")
    rows = [
        (row, files) for files in read for row in (files.select(task) if task else [files.last])
    ]
    names = reporting.column_names(row for row, _ in rows)
    for row, files in rows:
        lines.append([column.cell(row, names, files) for column in columns])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class Column(NamedTuple):
    """A column of a table: FIELD:TITLE:DECIMALS; the last two may be missing."""

    field: str
    title: str
    decimals: int | None

    @classmethod
    def parse(cls, text: str) -> "Column":
        """From its text."""
        field, title, decimals, *more = [*text.split(":"), "", ""]
        if any(more):
            raise UserError(f"column {text!r} has too many parts; it is FIELD:TITLE:DECIMALS")
        if decimals and not decimals.isdecimal():
            raise UserError(f"column {text!r} has decimals {decimals!r}; they must be a number")
        return cls(field, title or field, int(decimals) if decimals else None)

    def cell(
        self, row: Mapping[str, Any], names: Sequence[str], files: "reporting.RunFiles"
    ) -> str:
        """What stands in the column beside `row`, one of rows that have `names` between them."""
        from experiments import reporting

        # What is a column of these rows is never looked up elsewhere: there it is another number.
        value = row.get(self.field) if self.field in names else _find(self.field, row, files)
        if self.decimals is None or not isinstance(value, int | float):
            return reporting.cell(value)
        return f"{value:.{self.decimals}f}"


def _find(field: str, row: Mapping[str, Any], files: "reporting.RunFiles") -> Any:
    from memjax.training import metrics

    if "[" in field:
        return files.pick(field)
    known: dict[str, Any] = {"run": files.name, "minutes": metrics.minutes(files.entries)}
    for source in (row, files.last, files.config, known):
        if field in source:
            return source[field]
    raise UserError(
        f"column {field!r} is neither in the table, the metrics nor the config of run {files.name}"
    )


if __name__ == "__main__":
    cli.run(main)
