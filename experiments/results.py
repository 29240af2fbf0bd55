"""Fills in the tables of RESULTS.md from the runs' own files: python -m experiments.results.

A table in the file stands between two comments, of which the first says what it is made of:

  <!-- results runs=recall_256,recall_512 task=recall columns=run,num_slots,nll:NLL,seed -->
  <!-- end -->

`runs` are folders in --runs, each as NAME=DIR if it is to be named; `task` is an evaluation, whose
rows the table has (without, it has one row for each run, of its newest metrics); `columns` are
fields of these rows, of the metrics or of the config, each as FIELD:TITLE if it is to be titled,
or run, step and minutes. What no comment encloses is left as it is. With --check nothing is
written, and the exit status is 1 if a number in the file is not what the runs say.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli
from memjax.errors import UserError

_FILE = flags.DEFINE_string("file", "RESULTS.md", "The file to fill in.")
_RUNS = flags.DEFINE_string("runs", "runs", "Folder of the runs.")
_CHECK = flags.DEFINE_bool("check", False, "Compares, and writes nothing.")

_BLOCK = re.compile(r"<!-- results (?P<fields>.*?) -->\n.*?<!-- end -->", re.DOTALL)
_FIELDS = ("runs", "task", "columns")


def main(argv: Sequence[str]) -> None:
    """Fills in, or compares."""
    del argv
    from memjax import files

    path = Path(_FILE.value)
    if not path.is_file():
        raise UserError(f"file {path} does not exist")
    before = path.read_text()
    after = fill_in(before, Path(_RUNS.value))
    tables = len(_BLOCK.findall(before))
    if not _CHECK.value:
        files.write_text(path, after)
        print(f"{path}: {tables} tables from {_RUNS.value}")
    elif after != before:
        print(f"{path} is not what the runs in {_RUNS.value} say; run without --check")
        sys.exit(1)


def fill_in(text: str, runs: Path) -> str:
    """The text with every table made anew.

    Raises:
      UserError: a table that is not well described, or whose runs are not there.
    """
    return _BLOCK.sub(
        lambda match: (
            f"<!-- results {match['fields']} -->\n{table(match['fields'], runs)}\n<!-- end -->"
        ),
        text,
    )


def table(description: str, runs: Path) -> str:
    """A Markdown table of what `description`, "runs=... columns=...", asks for."""
    from experiments import page

    fields = dict(part.partition("=")[::2] for part in description.split())
    if not {"runs", "columns"} <= set(fields) <= set(_FIELDS):
        raise UserError(f"table {description!r} must give runs=, columns= and, if any, task=")
    folders = cli.named_folders("runs", fields["runs"].split(","))
    columns = [column.partition(":")[::2] for column in fields["columns"].split(",")]
    titles = [title or field for field, title in columns]
    lines = [titles, ["---"] * len(titles)]
    for name, folder in folders.items():
        files = page.read(name, runs / folder)
        task = fields.get("task")
        if task and task not in files.evaluations:
            raise UserError(f"{runs / folder} has no eval_{task}.json: evaluate it")
        for row in files.evaluations[task].table if task else [files.last]:
            lines.append([page.cell(_find(field, row, files)) for field, _ in columns])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _find(field: str, row: Mapping[str, Any], files: Any) -> Any:
    from memjax.training import metrics

    known: dict[str, Any] = {"run": files.name, "minutes": metrics.minutes(files.entries)}
    for source in (row, files.last, files.config, known):
        if field in source:
            return source[field]
    raise UserError(
        f"column {field!r} is neither in the table, the metrics nor the config of run {files.name}"
    )


if __name__ == "__main__":
    cli.run(main)
