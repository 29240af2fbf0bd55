"""What a recipe's commands are, whether they are done, and what they found."""

import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from experiments import listing, page, reporting
from experiments.recipes import Evaluation, Number, Recipe, Training
from memjax import files
from memjax.errors import UserError
from memjax.training import metrics

_GRACE = 120  # seconds that a training has to save itself
_COLUMNS = ("what", "paper", "goal", "ours", "steps", "minutes", "seed", "hardware")


class Command(NamedTuple):
    """A step of a plan, `python -m MODULE ARGUMENTS`, and whether its result is there."""

    module: str
    arguments: Sequence[str]
    is_done: bool

    def __str__(self) -> str:
        """As it is typed."""
        return shlex.join(("python", "-m", self.module, *self.arguments))


class Budgeted(NamedTuple):
    """A recipe at the papers' budget or a small one, and the folder of all runs."""

    recipe: Recipe
    runs: Path
    small: bool

    @property
    def budget(self) -> str:
        """ "paper" or "small"."""
        return "small" if self.small else "paper"

    def fields(self, training: Training) -> dict[str, Any]:
        """What differs from the config."""
        return {**training.fields, **(training.small if self.small else {})}

    def options(self, evaluation: Evaluation) -> dict[str, Any]:
        """The options of the task."""
        return {**evaluation.options, **(evaluation.small if self.small else {})}

    def workdir(self, training: Training) -> Path:
        """Its folder: that of any other recipe's training that is the same."""
        values = {f: re.sub(r"[^\w.]+", "-", str(v)).strip("-") for f, v in training.fields.items()}
        parts = [f"{field.split('.')[-1]}-{value}" for field, value in values.items()]
        return self.runs / self.budget / "_".join([training.config, *parts])

    def num_steps(self, training: Training) -> int:
        """Steps of the whole training."""
        default = listing.load(training.config).training.num_steps
        return self.fields(training).get("training.num_steps", default)

    def train_command(self, training: Training) -> Command:
        """How it is trained; done once the last step's checkpoint is there."""
        workdir = self.workdir(training)
        arguments = [f"--config=experiments/configs/{training.config}.py", f"--workdir={workdir}"]
        arguments += [f"--config.{field}={value}" for field, value in self.fields(training).items()]
        last = workdir / "checkpoints" / str(self.num_steps(training))
        return Command("experiments.train", arguments, last.is_dir())

    def evaluate_command(self, evaluation: Evaluation) -> Command:
        """How it is evaluated; done if the file says so of the last step and these options."""
        training, options = self.recipe.runs[evaluation.run], self.options(evaluation)
        workdir = self.workdir(training)
        arguments = [f"--workdir={workdir}", f"--task={evaluation.task}"]
        arguments += [f"--option={name}={value}" for name, value in options.items()]
        path, is_done = workdir / f"eval_{evaluation.task}.json", False
        if path.is_file():
            found = page.read_evaluation(path)
            is_done = found.step == self.num_steps(training) and found.options == options
        return Command("experiments.evaluate", arguments, is_done)

    def commands(self) -> list[Command]:
        """All steps, trainings first."""
        trainings = map(self.train_command, self.recipe.runs.values())
        return [*trainings, *map(self.evaluate_command, self.recipe.evaluations)]

    def format_plan(self) -> str:
        """The commands, and how long the trainings take."""
        known = {config.name: config for config in listing.configs()}
        lines = [self.recipe.source]
        for name, training in self.recipe.runs.items():
            config = known[training.config]
            time = f"{config.cpu} on one CPU core; {config.gpu} on a GPU"
            if self.small:
                time = f"about {training.small_minutes} min on one CPU core"
            lines += ["", f"# {name}: {self.num_steps(training):,} steps, {time}"]
            lines.append(_line(self.train_command(training)))
        lines += ["", "# evaluations"]
        lines += [_line(self.evaluate_command(e)) for e in self.recipe.evaluations]
        return "\n".join(lines)

    def carry_out(self, seconds: float) -> bool:
        """Runs what is not done, for so long at most unless 0; whether all of it is done now.

        Raises:
          UserError: a command failed.
        """
        stop_at = time.monotonic() + (seconds or math.inf)
        for i in range(len(self.commands())):
            command = self.commands()[i]  # what came before may have changed it
            if command.is_done:
                continue
            if time.monotonic() < stop_at:
                print(f"\n{command}", flush=True)
                _run(command, stop_at)
            if not self.commands()[i].is_done:
                return False
        return True


def report(name: str, budgeted: Budgeted, path: Path) -> None:
    """Prints the recipe's numbers, and puts them into the table of the file `path`."""
    device = jax.devices()[0]
    hardware = device.device_kind if device.platform != "cpu" else f"{os.cpu_count()} CPU cores"
    numbers = budgeted.recipe.numbers
    rows = [measure(number, budgeted) | {"hardware": hardware} for number in numbers]
    if rows:
        print(f"\n{reporting.format_table(rows)}")
    text = path.read_text() if path.exists() else ""
    files.write_text(path, merge(text, name, budgeted.budget, rows))
    print(f"{path}: {len(rows)} rows")


def measure(number: Number, budgeted: Budgeted) -> dict[str, Any]:
    """What the evaluation found for a number of the papers, and what its run took.

    Raises:
      UserError: the evaluation has no such number.
    """
    evaluation = number.evaluation
    training = budgeted.recipe.runs[evaluation.run]
    run = page.read(evaluation.run, budgeted.workdir(training))
    table = run.evaluations[evaluation.task].table
    rows = [row for row in table if number.where.items() <= row.items() and number.column in row]
    if not rows:
        raise UserError(f"{number.name}: {evaluation.task} found no {number.column} for it")
    return {
        "what": number.name,
        "paper": number.paper,
        "goal": number.goal,
        "ours": number.factor * rows[0][number.column],
        "steps": budgeted.num_steps(training),
        "minutes": metrics.minutes(run.entries),
        "seed": run.config["seed"],
    }


def merge(text: str, name: str, budget: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The table `text` with the rows of a recipe and budget replaced, or begun."""
    head = f"| recipe | budget | {' | '.join(_COLUMNS)} |\n|{' --- |' * (2 + len(_COLUMNS))}\n"
    begin = f"| {name} | {budget} |"
    kept = [line for line in text.splitlines()[2:] if not line.startswith(begin)]
    new = [f"{begin} {' | '.join(page.cell(row[c]) for c in _COLUMNS)} |" for row in rows]
    return head + "".join(f"{line}\n" for line in sorted([*kept, *new]))


def _line(command: Command) -> str:
    return f"# done: {command}" if command.is_done else str(command)


def _run(command: Command, stop_at: float) -> None:
    """Runs it until it ends, the clock says `stop_at` or a signal asks; a training saves itself.

    Raises:
      UserError: it failed.
    """
    process = subprocess.Popen([sys.executable, "-m", command.module, *command.arguments])
    previous = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        status = process.wait(None if math.isinf(stop_at) else stop_at - time.monotonic())
    except subprocess.TimeoutExpired:
        process.terminate()
        status = process.wait(_GRACE)
    except KeyboardInterrupt:  # the process got it too
        status = process.wait(_GRACE)
    finally:
        signal.signal(signal.SIGTERM, previous)
    if status > 0:
        raise UserError(f"{command}: it ended with status {status}")
