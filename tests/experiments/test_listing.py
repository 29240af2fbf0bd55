"""--list and --help: what they show is what there is."""

import importlib
import inspect
import math

import pytest

from experiments import listing
from memjax.evaluation import tasks as tasks_lib
from tests.experiments.test_command_line import run
from tests.experiments.test_configs import _NAMES


def test_every_config_is_listed_with_its_cost():
    configs = listing.configs()
    assert [config.name for config in configs] == [name for name in _NAMES if name != "default"]
    for config in configs:
        module = importlib.import_module(f"experiments.configs.{config.name}")
        assert module.__doc__.startswith(config.summary) and config.summary.endswith(".")
        cpu, gpu = map(listing.minutes, config.details)
        assert cpu > 0.0 and not gpu <= 0.0


def test_every_task_is_listed_with_its_options():
    tasks = listing.tasks()
    assert [task.name for task in tasks] == tasks_lib.names()
    for task in tasks:
        parameters = inspect.signature(tasks_lib.find(task.name).evaluate).parameters.values()
        options = [f"{p.name}={p.default!r}" for p in parameters if p.name != "run"]
        assert task.details == options and task.summary.endswith(".")


def test_a_config_without_a_cost_is_not_listed(tmp_path):
    (tmp_path / "one.py").write_text('"""One.\n\nTime: 3 s on one CPU core; 1 s on a GPU.\n"""')
    (tmp_path / "two.py").write_text('"""Two."""')
    (config,) = listing.configs(tmp_path)
    assert config == listing.Listed("one", "One.", ("3 s", "1 s"))
    assert listing.minutes("3 s") == 0.05 and math.isnan(listing.minutes("unknown"))
    assert listing.minutes("an estimated 2 h") == 120.0
    text = listing.format_configs([config])
    assert text.startswith("one\n    One.\n    one CPU core: 3 s; GPU: 1 s\n")


def test_list_needs_no_other_flag_and_ends_well():
    finished = run("train", "--list")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == listing.format_configs(listing.configs()) + "\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        *("train", "evaluate", "report", "compare", "sweep", "quickstart"),
        *("playground", "pretrained", "reproduce"),
    ],
)
def test_help_shows_an_example_and_the_flags(command):
    finished = run(command, "--help")
    assert f"python -m experiments.{command}" in finished.stdout
    assert ("--runs" if command == "reproduce" else "--workdir") in finished.stdout
