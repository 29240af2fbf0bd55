"""Benchmarks with a peer, from a clean clone: where the peer can't be had they go on without."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import first_step, peer, steps
from memjax import training

_ROOT = Path(__file__).parents[1]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with one peer, which answers with what it was asked."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/twin.py").write_text("import sys\nprint(sys.argv[1])\n")
    monkeypatch.setattr(peer, "__file__", str(tmp_path / "benchmarks/peer.py"))
    monkeypatch.setattr(peer, "_VENV", tmp_path / ".venv-torch")
    peer.environment.cache_clear()
    yield tmp_path
    peer.environment.cache_clear()


@pytest.fixture
def pip(monkeypatch):
    """Stands for pip, which would ask the network: what it was told to install, or its error."""
    calls: list = []
    run = peer._run

    def instead(*command):
        if "pip" not in command:
            return run(*command)
        calls.append(command)
        if calls[0] == "fails":
            raise ValueError("no network")
        return ""

    monkeypatch.setattr(peer, "_run", instead)
    return calls


def test_the_environment_is_made_once(root, pip, capsys):
    assert peer.run("twin.py", rounds=2) == {"rounds": 2}
    assert [command[-1] for command in pip] == ["numpy", "dnc"]
    peer.environment.cache_clear()  # as another process
    assert peer.run("twin.py", rounds=3) == {"rounds": 3}
    assert len(pip) == 2 and capsys.readouterr().err == "installing PyTorch into .venv-torch\n"


@pytest.mark.parametrize("missing", [".ready", "bin"])
def test_a_half_made_environment_is_made_anew(root, pip, missing):
    venv = root / ".venv-torch"
    peer.run("twin.py")
    (venv / missing).rename(root / "lost")
    (venv / "half").write_text("")
    peer.environment.cache_clear()
    assert peer.run("twin.py", rounds=1) == {"rounds": 1}
    assert not (venv / "half").exists() and len(pip) == 4


@pytest.mark.parametrize("target", ["nowhere", "elsewhere"])
def test_a_link_is_told_and_left(root, pip, capsys, target):
    (root / "elsewhere").mkdir()
    (root / "elsewhere/file").write_text("")
    (root / ".venv-torch").symlink_to(root / target)
    assert peer.run("twin.py") is None and peer.run("twin.py") is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("no peer: .venv-torch can't be made: it is a link to no finished")
    assert (root / "elsewhere/file").exists() and not pip


def test_what_fails_is_told_in_one_line_and_once(root, pip, capsys):
    pip.append("fails")
    assert peer.run("twin.py") is None and peer.run("twin.py") is None
    _, line = capsys.readouterr().err.splitlines()
    assert line == "no peer: .venv-torch can't be made: no network"
    assert not (root / ".venv-torch/.ready").exists() and len(pip) == 2


@pytest.mark.parametrize(
    ("program", "reason"),
    [("raise ImportError('no torch')", "ImportError: no torch"), ("print('x')", "Expecting value")],
)
def test_a_peer_that_fails_is_told(root, pip, capsys, program, reason):
    (root / "benchmarks/twin.py").write_text(program)
    assert peer.run("twin.py") is None
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"no peer: twin.py: {reason}")


def test_a_file_in_its_place_is_told(root, pip, capsys):
    (root / ".venv-torch").write_text("")
    assert peer.run("twin.py") is None
    assert "no peer: .venv-torch can't be made: " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", first_step.TWINS)
def test_a_twin_has_the_same_loss_and_gradient(tmp_path, name):
    if not (peer._VENV / ".ready").exists():
        pytest.skip("no PyTorch; the benchmarks install it")
    path = tmp_path / "first_step.npz"
    ours = first_step.write(training.build(steps.config(name).lock(), steps.random_set), path)
    timing = {"threads": 1, "compiled": False, "seconds": 0.0, "clock": "process_time"}
    theirs = peer.run("torch_steps.py", path=str(path), **timing)
    np.testing.assert_allclose(theirs, ours, rtol=2e-5)


@pytest.mark.slow
def test_a_benchmark_runs_from_a_clean_clone_without_a_network(tmp_path):
    if not (_ROOT / ".git").exists():
        pytest.skip("not a clone itself")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", _ROOT, clone], check=True, capture_output=True)
    # Its smallest shape: what is tested is not how fast it is.
    program = (
        "from benchmarks import dnc_steps as b; from experiments import cli; "
        "b._SHAPES = ((1, 3, 2, 1),) * 2; b.milliseconds = lambda *_: 1.0; cli.run(b.main)"
    )
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    finished = subprocess.run(
        [sys.executable, "-c", program],
        cwd=clone,
        env=os.environ | {"PYTHONPATH": str(clone)} | offline,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert len(finished.stdout.splitlines()) == 3
    said = [line for line in finished.stderr.splitlines() if "peer" in line]
    assert len(said) == 1 and said[0].startswith("no peer: .venv-torch can't be made: ERROR: ")
    assert "Traceback" not in finished.stderr
