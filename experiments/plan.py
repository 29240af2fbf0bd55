"""What a recipe's commands are, whether they are done, and what they found."""

import math
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments import cli, listing, page, processes, reporting
from experiments.recipes.recipe import Recipe, Training
from memjax import files
from memjax.errors import UserError
from memjax.training import metrics
from memjax.training.workdir import read_about

_COLUMNS = ("what", "paper", "ours", "steps", "minutes", "seed", "device")
_TITLES = ("recipe", "budget", *_COLUMNS)
_HEAD = f"| {' | '.join(_TITLES)} |\n|{' --- |' * len(_TITLES)}\n"


class Command(NamedTuple):
    """A step of a plan, `python -m MODULE ARGUMENTS`, and whether its result is there by now."""

    module: str
    arguments: Sequence[str]
    is_done: Callable[[], bool]

    def __str__(self) -> str:
        """As one types it."""
        return shlex.join(("python", "-m", self.module, *self.arguments))


class Plan(NamedTuple):
    """A recipe at the papers' budget or a small one, and the folder of all runs."""

    recipe: Recipe
    runs: Path
    small: bool

    @property
    def folder(self) -> Path:
        """The folder of the runs at this budget."""
        return self.runs / ("small" if self.small else "paper")

    def fields(self, training: Training) -> dict[str, Any]:
        """What differs from the config."""
        return {**training.fields, **(training.small if self.small else {})}

    def options(self, task: str) -> dict[str, Any]:
        """Those of an evaluation that are not its own defaults."""
        told = self.recipe.options.get(task, ())[: 2 if self.small else 1]
        options = {name: value for fields in told for name, value in fields.items()}
        folders = {run: self.workdir(training) for run, training in self.recipe.runs.items()}
        return {n: v.format_map(folders) if isinstance(v, str) else v for n, v in options.items()}

    def workdir(self, training: Training) -> Path:
        """The run's folder. Recipes that share a training share the folder."""
        values = {f: re.sub(r"[^\w.]+", "-", str(v)).strip("-") for f, v in training.fields.items()}
        folder = self.folder if training.small else self.runs / "paper"  # the same for both
        return folder / "_".join([training.config, *cli.name_parts(values)])

    def num_steps(self, training: Training) -> int:
        """Steps of the whole training."""
        default = listing.load(training.config).training.num_steps
        return self.fields(training).get("training.num_steps", default)

    def train(self, training: Training) -> Command:
        """How it is trained; done once the last step's checkpoint is there."""
        workdir, num_steps = self.workdir(training), self.num_steps(training)
        arguments = [f"--config=experiments/configs/{training.config}.py", f"--workdir={workdir}"]
        arguments += [f"--config.{field}={value}" for field, value in self.fields(training).items()]
        return Command("experiments.train", arguments, lambda: cli.last_step(workdir) >= num_steps)

    def evaluate(self, run: str, task: str) -> Command:
        """How it is evaluated; done if the file says so of the last step and these options."""
        training, options = self.recipe.runs[run], self.options(task)
        workdir, num_steps = self.workdir(training), self.num_steps(training)
        arguments = [f"--workdir={workdir}", f"--task={task}"]
        arguments += [f"--option={name}={value}" for name, value in options.items()]

        def is_done() -> bool:
            try:
                found = reporting.RunFiles(run, workdir).evaluation(task)
            except UserError:  # there is none, or it is damaged
                return False
            is_last = found.step == cli.last_step(workdir) >= num_steps
            return is_last and found.options == options

        return Command("experiments.evaluate", arguments, is_done)

    def commands(self) -> list[Command]:
        """All steps, trainings first."""
        trainings = [self.train(training) for training in self.recipe.runs.values()]
        return trainings + [self.evaluate(run, task) for run, task in self.recipe.tasks]

    def text(self) -> str:
        """The commands, and how long the trainings take."""
        lines, times = [self.recipe.source], []
        for name, training in self.recipe.runs.items():
            times.append(self.times(training))
            told = f"{self.num_steps(training):,} steps; {self._format(*times[-1])}"
            lines += ["", f"# {name}: {told}", _line(self.train(training))]
        lines += ["", "# evaluations"]
        lines += [_line(self.evaluate(run, task)) for run, task in self.recipe.tasks]
        total = self._format(*map(sum, zip(*times, strict=True)))
        return "\n".join([*lines, "", f"# all trainings: {total}"])

    def times(self, training: Training) -> tuple[float, float]:
        """Minutes of the whole training on one CPU core and on a GPU; NaN where not known."""
        if self.small:
            return training.small_minutes, math.nan
        (config,) = (c for c in listing.configs() if c.name == training.config)
        share = self.num_steps(training) / listing.load(training.config).training.num_steps
        cpu, gpu = map(listing.minutes, config.details)
        return cpu * share * training.cost[0], gpu * share * training.cost[1]

    def _format(self, cpu: float, gpu: float) -> str:
        text = f"{_duration(cpu)} on one CPU core"
        return text if self.small else f"{text}, {_duration(gpu)} on a GPU"

    def carry_out(self, seconds: float) -> bool:
        """Runs what is not done, and returns whether all of it is done now.

        Stops starting new work after `seconds` (0: never). A running training saves first; a
        running evaluation, which can't be resumed, may finish.

        Raises:
          UserError: a command failed.
        """
        stop_at = time.monotonic() + (seconds or math.inf)
        for command in self.commands():
            if command.is_done():
                continue
            if time.monotonic() >= stop_at:
                return False
            can_stop = command.module == "experiments.train"
            seconds_left = stop_at - time.monotonic() if can_stop else math.inf
            typed = [sys.executable, "-m", command.module, *command.arguments]
            if not processes.run_at_once([(typed, None)], seconds=seconds_left):
                return False
            if not command.is_done():
                raise UserError(f"{command}: it ended, but its result is not there")
        return True


def check_table(path: Path) -> None:
    """Refuses a file that `report` could not add to.

    Raises:
      UserError: it is no such table, or can't be written.
    """
    if not files.is_writable(path.absolute().parent):
        raise UserError(f"results {path} can't be written: choose another folder")
    if path.exists() and not path.read_text().startswith(_HEAD):
        raise UserError(f"results {path} is another file than such a table: choose another name")


def report(name: str, plan: Plan, path: Path) -> None:
    """Prints the recipe's numbers, puts them into the table of the file `path`, writes a page.

    Raises:
      UserError: an evaluation lacks a number; the others are written.
    """
    rows, missing = [], []
    for number, paper in plan.recipe.paper.items():
        try:
            rows.append(measure(number, paper, plan))
        except UserError as error:
            missing.append(str(error))
    if rows:
        print(f"\n{reporting.format_table(rows)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.lock(path.with_name(f".{path.name}.lock"), f"results {path} are being written"):
            text = path.read_text() if path.exists() else ""
            files.write_text(path, merge(text, name, plan.folder.name, rows))
        print(f"{path}: {len(rows)} rows")
    workdirs = {run: plan.workdir(training) for run, training in plan.recipe.runs.items()}
    print(page.write(workdirs, plan.folder / f"{name}.html"))
    if missing:
        raise UserError("; ".join(missing))


def measure(number: str, paper: float, plan: Plan) -> dict[str, Any]:
    """A number of a paper, what the evaluation found for it, and what its run took.

    Raises:
      UserError: the evaluation has no such number.
    """
    name, _, found = number.partition(": ")
    run = reporting.RunFiles(name, plan.workdir(plan.recipe.runs[name]))
    return {
        "what": number,
        "paper": paper,
        "ours": run.pick(found),
        "steps": run.last["step"],
        "minutes": metrics.minutes(run.entries),
        "seed": run.config["seed"],
        "device": read_about(run.workdir).get("device", ""),
    }


def merge(text: str, name: str, budget: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The table `text` with the rows of a recipe and budget replaced, or begun."""
    begin = f"| {name} | {budget} |"
    kept = [line for line in text.splitlines()[2:] if not line.startswith(begin)]
    new = [f"{begin} {' | '.join(_cell(row[column]) for column in _COLUMNS)} |" for row in rows]
    lines = sorted([*kept, *new], key=lambda line: line.split("|")[1:3])
    return _HEAD + "".join(f"{line}\n" for line in lines)


def _duration(minutes: float) -> str:
    if math.isnan(minutes):
        return "unknown"
    return f"about {minutes:.0f} min" if minutes < 90.0 else f"about {minutes / 60.0:.0f} h"


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _line(command: Command) -> str:
    return f"# done: {command}" if command.is_done() else str(command)
