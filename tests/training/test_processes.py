"""One run on several processes, over loopback."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from memjax.errors import UserError
from memjax.evaluation import load_run
from memjax.training import processes
from tests.conftest import simulated_devices

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("host:1", None, 0), "--num_processes missing"),
        ((None, 2, None), "--coordinator, --process_id missing"),
        (("host", 2, 0), "coordinator is 'host'; it must be host:port"),
        (("host:1", 2, 2), "process_id is 2; it must be from 0 to 1"),
    ],
)
def test_flags_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        processes.join(*arguments)


def test_one_process_goes_on_alone():
    for arguments in ((None, None, None), ("localhost:1", 1, 0)):
        processes.join(*arguments)
    assert not jax.distributed.is_initialized()
    with pytest.raises(ZeroDivisionError), processes.ending_together():
        raise ZeroDivisionError


@pytest.fixture
def start():
    """Starts a run's processes; none outlives its test."""
    started = []

    def start(*arguments):
        started.extend(new := start_processes(*arguments))
        return new

    yield start
    for process in started:
        process.kill()


def start_processes(workdir, num_processes, num_devices, num_steps, name="tiny_vma"):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = simulated_devices(num_devices)
    command = [
        *(sys.executable, "-m", "experiments.train", f"--workdir={workdir}"),
        f"--config={_ROOT / 'tests/experiments' / name}.py",
        "--config.optimizer.name=sgd",
        "--config.optimizer.learning_rate=0.001",
        f"--config.training.num_steps={num_steps}",
    ]
    if num_processes > 1:
        command += [f"--coordinator={coordinator}", f"--num_processes={num_processes}"]
    return [
        subprocess.Popen(
            [*command, f"--process_id={i}"] if num_processes > 1 else command,
            env=environment,
            cwd=_ROOT,
            stderr=(workdir.parent / f"{workdir.name}.{i}.log").open("w"),
        )
        for i in range(num_processes)
    ]


def train(start, workdir, num_processes, *arguments):
    statuses = [p.wait(1200) for p in start(workdir, num_processes, *arguments)]
    assert statuses == [0] * num_processes, (workdir.parent / f"{workdir.name}.0.log").read_text()


def wait_for_lines(workdir, processes, count):
    deadline = time.monotonic() + 600
    while not (workdir / "metrics.jsonl").exists() or len(steps(workdir)) < count:
        assert time.monotonic() < deadline and all(p.poll() is None for p in processes)
        time.sleep(0.2)


def steps(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def assert_same_parameters(left, right):
    left, right = (jax.tree.leaves(load_run(w).variables) for w in (left, right))
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_processes_of_four_devices_give_what_one_device_gives(start, tmp_path):
    """After 50 steps; and after 24 on two processes and the rest on one."""
    train(start, tmp_path / "one", 1, 1, 50)
    train(start, tmp_path / "two", 2, 4, 50)
    assert steps(tmp_path / "two") == steps(tmp_path / "one")
    assert_same_parameters(tmp_path / "one", tmp_path / "two")
    train(start, tmp_path / "resumed", 2, 4, 24)
    train(start, tmp_path / "resumed", 1, 2, 50)
    assert steps(tmp_path / "resumed") == steps(tmp_path / "one")
    assert_same_parameters(tmp_path / "one", tmp_path / "resumed")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny_kanerva", "tiny_mem_vae"])
def test_two_processes_give_what_one_gives_for_other_models(start, tmp_path, name):
    train(start, tmp_path / "one", 1, 1, 50, name)
    train(start, tmp_path / "two", 2, 4, 50, name)
    assert_same_parameters(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_is_killed_ends_the_other_and_the_run_resumes(start, tmp_path, lost):
    workdir = tmp_path / "run"
    both = start(workdir, 2, 2, 1_000_000)
    wait_for_lines(workdir, both, 4)
    both[lost].send_signal(signal.SIGKILL)
    assert both[1 - lost].wait(60) != 0
    log = (tmp_path / f"run.{1 - lost}.log").read_text()
    line = f"error: process {1 - lost} of 2 lost another; run the same commands to resume"
    # JAX's own runtime is often quicker than the error that reaches Python, and ends the process.
    assert line in log or "another task died" in log, log
    saved = max(
        int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()
    )
    train(start, workdir, 2, 2, saved + 4)
    assert load_run(workdir).step == saved + 4


@pytest.mark.slow
def test_sigterm_to_one_process_stops_and_saves_all(start, tmp_path):
    workdir = tmp_path / "run"
    both = start(workdir, 2, 2, 1_000_000)
    wait_for_lines(workdir, both, 1)
    both[1].send_signal(signal.SIGTERM)
    assert [p.wait(300) for p in both] == [0, 0]
    assert load_run(workdir).step >= steps(workdir)[-1]
