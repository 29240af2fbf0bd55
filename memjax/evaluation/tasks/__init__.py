"""The evaluations by name: a file here with an `evaluate` function is all that a new one needs.

`NEEDS` in it is the protocol of `memjax.models` that the run's model has to keep to; None for any.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple

from memjax.errors import check_one_of


class Task(NamedTuple):
    """One evaluation.

    Attributes:
      name: of the task.
      evaluate: a function from a `Run` and options to a `Report`.
      needs: the protocol of `memjax.models` that it needs of a model; None: it takes any.
    """

    name: str
    evaluate: Callable[..., Any]
    needs: type | None


def names() -> list[str]:
    """The names of all tasks."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


def find(name: str) -> Task:
    """The task `name`.

    Raises:
      UserError: there is none.
    """
    check_one_of("task", name, names())
    module = importlib.import_module(f"{__name__}.{name}")
    return Task(name, module.evaluate, module.NEEDS)
