"""What a recipe is: the runs that make a table or a figure of a paper, and the paper's numbers."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

Fields = Mapping[str, Any]
NONE: Mapping[str, Any] = MappingProxyType({})


class Training(NamedTuple):
    """A run: a config by name, and the fields of it that differ."""

    config: str
    fields: Fields = NONE
    small: Fields = NONE  # what differs too in the budget of two CPU cores
    small_minutes: int = 0  # about what that takes on one of them
    # A step's on a CPU and on a GPU, in steps of the config as it is; by `benchmarks.configs`.
    cost: tuple[float, float] = (1.0, 1.0)


class Recipe(NamedTuple):
    """A table or a figure.

    Attributes:
      source: what of which paper.
      runs: by name.
      paper: the paper's numbers, by where ours stand: "RUN: TASK[FIELD=VALUE,...].COLUMN".
      others: "RUN: TASK", evaluated for pictures, or for numbers that the paper only draws.
      options: of tasks, by the task's name, and then those that differ in the budget of two CPU
        cores, if any do; "{RUN}" is the folder of that run.
    """

    source: str
    runs: Mapping[str, Training]
    paper: Mapping[str, float] = NONE
    others: Sequence[str] = ()
    options: Mapping[str, Sequence[Fields]] = NONE

    @property
    def tasks(self) -> list[tuple[str, str]]:
        """Names of runs and of their evaluations, each pair once, those of numbers first."""
        named = [text.partition(": ")[::2] for text in (*self.paper, *self.others)]
        return list(dict.fromkeys((run, re.split(r"[\[.]", found)[0]) for run, found in named))


def of_runs(found: str, numbers: Mapping[str, float]) -> dict[str, float]:
    """A paper's numbers of several runs, each of which has ours at `found`."""
    return {f"{run}: {found}": number for run, number in numbers.items()}


def schedule(num_steps: int, learning_rate: float, **fields: Any) -> dict[str, Any]:
    """A cosine decay over `num_steps`, ten evaluations, and a checkpoint at each of them."""
    return {
        "optimizer.learning_rate": learning_rate,
        "optimizer.decay_steps": num_steps,
        "training.num_steps": num_steps,
        "training.log_every": num_steps // 50,
        "training.eval_every": num_steps // 10,
        "training.checkpoint_every": num_steps // 10,
    } | fields
