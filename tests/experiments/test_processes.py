"""Commands side by side."""

import json
import os
import signal
import threading
import time

import pytest

from experiments import processes
from memjax.errors import UserError
from tests.experiments.test_command_line import _TINY, run


def test_so_many_at_once_and_what_each_says(tmp_path):
    # The first two end only where both run: each waits for the other's folder.
    wait = 'until [ -d "$1" ]; do sleep 0.02; done'
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    commands = [
        (["sh", "-c", f'mkdir "$0"; {wait}; echo one', a, b], tmp_path / "1.log"),
        (["sh", "-c", f'mkdir "$0"; {wait}; echo two', b, a], tmp_path / "2.log"),
        (["echo", "three"], tmp_path / "3.log"),
    ]
    assert processes.run_at_once(commands, 2)
    assert [path.read_text() for _, path in commands] == ["one\n", "two\n", "three\n"]


@pytest.mark.parametrize(
    ("count", "own", "told"), [(1, None, ""), (2, None, "false"), (2, "true", "true")]
)
def test_several_share_a_gpu_unless_told_otherwise(count, own, told, tmp_path, monkeypatch):
    name = "XLA_PYTHON_CLIENT_PREALLOCATE"
    monkeypatch.delenv(name, raising=False)
    if own is not None:
        monkeypatch.setenv(name, own)
    processes.run_at_once([(["sh", "-c", f"echo ${name}"], tmp_path / "1.log")], count)
    assert (tmp_path / "1.log").read_text() == f"{told}\n"


def test_a_failure_ends_the_others_and_is_told(tmp_path):
    commands = [
        (["sleep", "60"], tmp_path / "1.log"),
        (["sh", "-c", "echo error: no; exit 2"], tmp_path / "2.log"),
        (["touch", str(tmp_path / "never")], tmp_path / "3.log"),
    ]
    start = time.monotonic()
    with pytest.raises(UserError, match=r"2\.log: error: no"):
        processes.run_at_once(commands, 2)
    assert time.monotonic() < start + 30
    assert not (tmp_path / "never").exists()


def test_a_signal_is_passed_on(tmp_path):
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    start = time.monotonic()
    assert not processes.run_at_once([(["sleep", "60"], tmp_path / "1.log")], 2)
    assert time.monotonic() < start + 30


def test_none_goes_on_alone(tmp_path):
    pid = tmp_path / "pid"
    commands = [
        (["sh", "-c", f"echo $$ > {pid}; exec sleep 60"], tmp_path / "1.log"),
        (["sh", "-c", f"until [ -s {pid} ]; do sleep 0.02; done"], tmp_path / "2.log"),
        (["no such program"], tmp_path / "3.log"),
    ]
    with pytest.raises(FileNotFoundError):
        processes.run_at_once(commands, 2)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.slow
def test_a_sweep_of_two_processes(tmp_path):
    arguments = [f"--config={_TINY}", "--config.training.num_steps=4", "--vary=seed=0,1"]
    finished = run("sweep", *arguments, f"--workdir={tmp_path}", "--processes=2")
    assert finished.returncode == 0, finished.stderr
    rows = json.loads((tmp_path / "compare_training.json").read_text())["table"]
    assert [row["run"] for row in rows] == ["seed-0", "seed-1"]
    assert rows[0]["nll"] != rows[1]["nll"]
    assert "step 4" in (tmp_path / "seed-0.log").read_text()
