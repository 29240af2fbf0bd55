"""The commands as a user types them, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_SMALLEST = _ROOT / "tests/robustness/config.py"
_TINY = _ROOT / "tests/experiments/tiny_vma.py"

# Modules after each other, forked from a process that has imported what takes long. At the end it
# prints how each ended.
_IN_TURN = """
import os, runpy, sys
import experiments.reporting, matplotlib.pyplot, memjax.data.builders, sklearn.datasets

statuses = []
for line in sys.argv[1:]:
    if not os.fork():
        sys.argv = line.split()
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        sys.exit()
    statuses.append(os.waitstatus_to_exitcode(os.wait()[1]))
print(*statuses)
"""
_OPTIONS = {"num_rows": 1, "num_columns": 2, "save": "png"}


def run(command, *arguments, **environment):
    return _run("-m", f"experiments.{command}", *map(str, arguments), **environment)


def _run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=_ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def assert_refused(finished, *words):
    """One line that says `error: ...`, and exit status 2."""
    lines = finished.stderr.strip().splitlines()
    assert finished.returncode == 2, finished.stderr
    assert len(lines) == 1 and lines[0].startswith("error: "), finished.stderr
    for word in words:
        assert word in lines[0]


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory):
    """The workdir, what was printed, and the statuses: of training, evaluating, and bad input."""
    workdir = tmp_path_factory.mktemp("in_turn") / "run"
    options = [f"--option={name}={value}" for name, value in _OPTIONS.items()]
    kinds = ["--kind=flags", "--kind=workdir", "--kind=data"]
    finished = _run(
        *("-c", _IN_TURN, f"experiments.train --config={_SMALLEST} --workdir={workdir}"),
        " ".join([f"experiments.evaluate --workdir={workdir} --task=samples", *options]),
        " ".join(["tests.robustness.fuzz --cases=12", *kinds]),
    )
    assert finished.returncode == 0, finished.stderr
    *_, statuses = finished.stdout.splitlines()
    return workdir, finished, statuses.split()


def test_bad_input_ends_in_one_line(in_turn):
    """Flags, a run's files, data files; fields of a config are in `test_robustness`, slow."""
    _, finished, (*_, status) = in_turn
    assert status == "0", finished.stdout + finished.stderr


def test_train_evaluate_and_what_they_leave(in_turn):
    workdir, finished, (*statuses, _) = in_turn
    assert statuses == ["0", "0"], finished.stderr
    left = {path.name for path in workdir.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "figures"} <= left
    assert any(name.startswith("events.out.tfevents") for name in left)
    figures = {path.name for path in (workdir / "figures").iterdir()}
    assert figures == {"learning_curves.png", "samples.png", "reconstructions.png"}

    result = json.loads((workdir / "eval_samples.json").read_text())
    assert result["step"] == 8 and result["options"] == _OPTIONS
    assert str(result["table"][0]["images"]) in finished.stdout
    assert sorted(p.name for p in (workdir / "samples").iterdir()) == ["0000.png", "0001.png"]


@pytest.mark.slow
def test_another_config_leaves_the_run_as_it_is(tmp_path):
    train = ("train", f"--config={_TINY}", f"--workdir={tmp_path}")
    assert run(*train).returncode == 0
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.json*")}
    assert_refused(run(*train, "--config.seed=1"), "another config's run", "seed")
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.json*")} == before
