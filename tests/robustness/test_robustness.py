"""Short versions of the harnesses beside it."""

import multiprocessing
import random
import shutil
import subprocess
import sys

import pytest

from memjax import training
from tests.robustness import kill, numerics, storage
from tests.robustness.config import get_config


def _train(workdir):
    config = get_config()
    config.training.update({"num_steps": 200, "log_every": 5, "eval_every": 100})
    config.training.checkpoint_every = 10
    training.train(training.build(config), workdir)


class _Process:
    """As a `subprocess.Popen`, from a server that has imported all."""

    def __init__(self, server, workdir):
        self._process = server.Process(target=_train, args=(workdir,))
        self._process.start()

    def poll(self):
        return self._process.exitcode

    def kill(self):
        self._process.kill()

    def wait(self):
        self._process.join()


@pytest.mark.slow  # what crashes in a quick test of the loop goes on alike
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path):
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    kills = kill.kill_repeatedly(lambda: _Process(server, killed), killed, 1, random.Random(0))
    assert sum(kills.values()) == 1
    for workdir in (whole, killed):
        process = _Process(server, workdir)
        process.wait()
        assert process.poll() == 0
    assert kill.compare(whole, killed) == []


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return storage.Run(tmp_path_factory.mktemp("robustness") / "run")


def test_damaged_checkpoints_are_never_trained_on(run, tmp_path):
    rng = random.Random(0)
    for damage in storage.DAMAGES:
        outcome = run.damage_and_restore(tmp_path / "case", damage, rng)
        assert outcome.startswith("restored")


def test_numbers_that_were_not_saved_are_not_restored(run, tmp_path, monkeypatch):
    """A flipped bit that Orbax does not see: the checksum does."""
    from memjax.training import checkpoints

    workdir = shutil.copytree(run.workdir, tmp_path / "run")
    digest = checkpoints._digest

    def wrong_at_6(leaves):
        leaves = list(leaves)
        return "0" if leaves[0] == 6 else digest(leaves)

    monkeypatch.setattr(checkpoints, "_digest", wrong_at_6)
    assert int(run.restore(workdir).step) == 4
    assert (workdir / "unreadable_checkpoints/6").is_dir()


@pytest.mark.slow
def test_online_writes_stay_symmetric_and_positive():
    found = numerics.measure(False, 2_000)
    assert found["asymmetry"].max() == 0 and found["least pivot"].min() > 0
    assert found["drift of row_cov"].max() < 1e-5 and found["drift of mean"].max() < 1e-5


@pytest.mark.slow
def test_bad_fields_end_in_one_line():
    """The other kinds: `tests/experiments/test_command_line.py`."""
    command = [sys.executable, "-m", "tests.robustness.fuzz", "--cases=60", "--kind=fields"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
