"""What a recipe is: the runs that make a table or a figure of a paper, and the paper's numbers."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

Fields = Mapping[str, Any]
NONE: Fields = MappingProxyType({})


class Cost(NamedTuple):
    """What a step takes, in steps of its config as it is; by `benchmarks.configs`."""

    cpu: float = 1.0
    gpu: float = 1.0


class Training(NamedTuple):
    """A run: a config by name, and the fields of it that differ."""

    config: str
    fields: Fields = NONE
    small: Fields = NONE  # what differs too in the budget of two CPU cores
    small_minutes: int = 0  # about what that takes on one of them
    cost: Cost = Cost()


class Workdir(NamedTuple):
    """A task's option that is the folder of another of the recipe's runs."""

    run: str


class Task(NamedTuple):
    """An evaluation of one of the recipe's runs."""

    run: str  # "": not said yet
    name: str
    options: Fields = NONE  # by name; a `Workdir` stands for a folder
    small: Fields = NONE  # options that differ in the budget of two CPU cores


class Number(NamedTuple):
    """A number of a paper, and where ours stands: `column` of the first row that has `where`."""

    name: str
    task: Task
    column: str
    paper: float = math.nan
    goal: float = math.nan
    where: Fields = NONE
    factor: float = 1.0  # ours is the column times this

    def of(self, run: str, paper: float, goal: float | None = None) -> "Number":
        """The same of a run; without another goal it is the paper's."""
        task = self.task._replace(run=run)
        goal = paper if goal is None else goal
        return self._replace(name=f"{self.name}, {run}", task=task, paper=paper, goal=goal)


class Recipe(NamedTuple):
    """A table or a figure."""

    source: str
    runs: Mapping[str, Training]
    numbers: Sequence[Number]
    others: Sequence[Task] = ()  # for their pictures, or for numbers that the paper only draws

    @property
    def tasks(self) -> list[Task]:
        """All of them, each once, those of numbers first."""
        found = [*(number.task for number in self.numbers), *self.others]
        return [task for i, task in enumerate(found) if task not in found[:i]]


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
