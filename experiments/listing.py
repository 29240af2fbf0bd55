"""What --list shows: every config and how long it takes; every task and its options."""

import ast
import importlib
import math
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict

_FOLDER = Path(__file__).parent / "configs"
_COST = re.compile(r"^Time: (.+) on one CPU core; (.+) on a GPU\.$", re.M)


class Listed(NamedTuple):
    """A config or a task as its docstring tells it."""

    name: str
    summary: str
    details: Sequence[str]  # how long a config takes, on one core and on a GPU; a task's options


def configs(folder: Path = _FOLDER) -> list[Listed]:
    """All configs of `folder`, by name, from their files' docstrings; nothing is imported.

    The first line is the summary. One line is "Time: TIME on one CPU core; TIME on a GPU."; files
    without it, such as the defaults that others begin with, are not listed.
    """
    found = []
    for path in sorted(folder.glob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        if cost := _COST.search(docstring):
            found.append(Listed(path.stem, docstring.splitlines()[0], cost.groups()))
    return found


def minutes(time: str) -> float:
    """The minutes of a `Listed` time, such as "an estimated 20 min"; NaN for "unknown"."""
    if time == "unknown":
        return math.nan
    value, unit = time.removeprefix("an estimated ").split()
    return float(value) * {"s": 1.0 / 60.0, "min": 1.0, "h": 60.0}[unit]


def load(name: str) -> ConfigDict:
    """The config `name`."""
    return importlib.import_module(f"experiments.configs.{name}").get_config()


def tasks() -> list[Listed]:
    """All tasks of `experiments.evaluate`, by name, with options as NAME=DEFAULT.

    From the files of `memjax.evaluation.tasks`; nothing is imported.
    """
    found = []
    for path in sorted((_FOLDER.parents[1] / "memjax/evaluation/tasks").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name == "evaluate":
                arguments = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                options = [f"{a.arg}={_default(d)}" for a, d in arguments if d is not None]
                docstring = ast.get_docstring(node) or ""
                summary = " ".join(docstring.partition("\n\n")[0].split())
                found.append(Listed(path.stem, summary, options))
    return found


def _default(node: ast.expr) -> str:
    """The default of an option, as text; of `up_to` its numbers."""
    if not isinstance(node, ast.Call):
        return ast.unparse(node)
    values = [ast.literal_eval(argument) for argument in node.args]
    return repr(values[0] if len(values) == 1 else tuple(values))


def format_configs(configs: Sequence[Listed]) -> str:
    """A paragraph for each config."""
    told = [(c.name, c.summary, "one CPU core: {}; GPU: {}".format(*c.details)) for c in configs]
    example = "python -m experiments.train --config=experiments/configs/NAME.py --workdir=DIR"
    return _paragraphs(told, example)


def format_tasks(tasks: Sequence[Listed]) -> str:
    """A paragraph for each task."""
    example = "python -m experiments.evaluate --workdir=DIR --task=TASK --option=NAME=VALUE"
    return _paragraphs([(t.name, t.summary, f"({', '.join(t.details)})") for t in tasks], example)


def _paragraphs(named: Sequence[tuple[str, str, str]], example: str) -> str:
    """Names, each with two texts below it; then an example."""
    fill = partial(textwrap.fill, width=100, initial_indent="    ", subsequent_indent="    ")
    lines = [line for name, *texts in named for line in (name, *map(fill, texts))]
    return "\n".join([*lines, "", example])


class ListFlag(flags.BooleanFlag):
    """--list, which shows something and ends the program, whatever else is given or missing."""

    def __init__(self, what: str, show: Callable[[], str]):
        """`show` gives what is printed."""
        super().__init__("list", False, f"Shows {what} and ends.")
        self._show = show

    def parse(self, arg: Any) -> None:
        """Acts at once, as --help does."""
        super().parse(arg)
        if self.value:
            print(self._show())
            sys.exit(0)
