"""Evaluations of a trained run. A file with an `evaluate` function is all that a new task needs."""

import importlib
import pkgutil
from collections.abc import Callable

from memjax.errors import check_one_of
from memjax.evaluation.run import Curves, Report, Run, load_run

__all__ = ["Curves", "Report", "Run", "load_run", "task"]

_NOT_TASKS = ("drawing", "few_shot", "reading", "run")


def tasks() -> list[str]:
    """The names of all tasks."""
    return [m.name for m in pkgutil.iter_modules(__path__) if m.name not in _NOT_TASKS]


def task(name: str) -> Callable[..., Report]:
    """The evaluation `name`: a function from a `Run` and options to a `Report`.

    Raises:
      UserError: there is no such task.
    """
    check_one_of("task", name, tasks())
    return importlib.import_module(f"{__name__}.{name}").evaluate
