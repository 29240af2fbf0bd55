"""A sequence divided over 4 simulated devices gives what one device gives."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import simulated_devices

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("chunk", ["log_decay", "mask", "reset"]),
        pytest.param("chunk", [], marks=pytest.mark.slow),
        pytest.param("recurrent", ["log_decay", "mask", "reset"], marks=pytest.mark.slow),
        pytest.param("recurrent", [], marks=pytest.mark.slow),
    ],
)
def test_four_devices_give_what_one_gives(method, words, tmp_path):
    """Reads, the memory that all get, the residual, and gradients."""
    path = tmp_path / "results.npz"
    finished = subprocess.run(
        [sys.executable, "-m", "tests.memory.causal_sharded_script", str(path), method, *words],
        env=simulated_devices(4),
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    with np.load(path) as file:
        one, many = ([file[f"{side}/{i}"] for i in range(10)] for side in (0, 1))
    for a, b in zip(many, one, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=5e-5)
