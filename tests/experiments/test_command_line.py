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


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def run(command, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{command}", *map(str, arguments)],
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        slow([f"--config={_TINY}"], ["workdir"]),
        slow(["--workdir=W", "--config=nothing.py"], ["config nothing.py is not there"]),
        slow(["--workdir=W", "--config=vae_digit"], ["mean experiments/configs/vae_digits.py?"]),
        slow(["--workdir=W", "--config=README.md"], ["README.md, line ", ": invalid "]),
        slow(
            ["--workdir=W", f"--config={_TINY}", "--config.training.num_stepz=1"],
            ["no field num_stepz; did you mean num_steps?"],
        ),
        slow(["--workdir=W", f"--config={_TINY}", "--config.nothing=1"], ["no field nothing"]),
        slow(["--workdir=W", f"--config={_TINY}", "--config.training.num_steps=many"], ["many"]),
        slow(["--workdir=W", f"--config={_TINY}", "--steps=1"], ["steps"]),
        slow(["--workdir=W", f"--config={_TINY}", "extra"], ["'extra'"]),
    ],
)
def test_wrong_flags_are_refused(tmp_path, arguments, words):
    arguments = [argument.replace("=W", f"={tmp_path / 'run'}") for argument in arguments]
    assert_refused(run("train", *arguments), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("dataset.name=mnits", ["'mnits'", "digits, mnist"]),
        ("dataset.name=mnist", ["mnist is not in", "memjax.data mnist"]),
        ("episodes.num_slots=1501", ["num_slots is 1501", "1500"]),
    ],
)
def test_configs_that_do_not_fit_are_refused(tmp_path, field, words):
    finished = run(
        "train",
        f"--config={_TINY}",
        f"--workdir={tmp_path / 'run'}",
        f"--config.{field}",
        MEMJAX_DATA_DIR=str(tmp_path / "empty"),
        MEMJAX_CACHE_DIR=str(tmp_path / "empty"),
    )
    assert_refused(finished, *words)
    assert not (tmp_path / "run").exists()


def test_train_evaluate_and_what_they_leave(tmp_path):
    workdir = tmp_path / "run"
    finished = run("train", f"--config={_SMALLEST}", f"--workdir={workdir}")
    assert finished.returncode == 0, finished.stderr
    left = {path.name for path in workdir.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "figures"} <= left
    assert any(name.startswith("events.out.tfevents") for name in left)
    figures = {path.name for path in (workdir / "figures").iterdir()}
    assert figures == {"learning_curves.png", "samples.png", "reconstructions.png"}

    options = {"num_rows": 1, "num_columns": 2, "save": "png"}
    flags = [f"--option={name}={value}" for name, value in options.items()]
    finished = run("evaluate", f"--workdir={workdir}", "--task=samples", *flags)
    assert finished.returncode == 0, finished.stderr
    result = json.loads((workdir / "eval_samples.json").read_text())
    assert result["step"] == 8 and result["options"] == options
    assert str(result["table"][0]["images"]) in finished.stdout
    assert sorted(p.name for p in (workdir / "samples").iterdir()) == ["0000.png", "0001.png"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments,words",
    [
        (["--task=recal"], ["task is 'recal'", "likelihood, preference, probe, recall"]),
        (["--task=recall", "--option=num_slots=0"], ["num_slots is 0"]),
        (["--task=recall", "--option=slots=3"], ["'slots=3'", "num_slots, num_memories, seed"]),
    ],
)
def test_evaluations_that_are_refused(tmp_path, arguments, words):
    assert run("train", f"--config={_TINY}", f"--workdir={tmp_path}").returncode == 0
    assert_refused(run("evaluate", f"--workdir={tmp_path}", *arguments), *words)
    assert not (tmp_path / "eval_recall.json").exists()


@pytest.mark.slow
def test_another_config_leaves_the_run_as_it_is(tmp_path):
    train = ("train", f"--config={_TINY}", f"--workdir={tmp_path}")
    assert run(*train).returncode == 0
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.json*")}
    assert_refused(run(*train, "--config.seed=1"), "another config's run", "seed")
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.json*")} == before


@pytest.mark.slow
def test_evaluating_nothing_is_refused(tmp_path):
    finished = run("evaluate", f"--workdir={tmp_path}", "--task=samples")
    assert_refused(finished, str(tmp_path), "no config.json")
