"""A sequence divided over 4 simulated devices gives what one device gives."""

import numpy as np
import pytest

from tests.conftest import saved_on_devices


@pytest.mark.slow  # `test_sharded` has one of them
@pytest.mark.parametrize("method", ["chunk", "recurrent"])
@pytest.mark.parametrize("words", [[], ["log_decay", "mask", "reset"]])
def test_four_devices_give_what_one_gives(method, words, tmp_path):
    """Reads, the memory that all get, the residual, and gradients."""
    path = tmp_path / "results.npz"
    saved = saved_on_devices(4, path, "tests.memory.causal_sharded_script", method, *words)
    one, many = ([saved[f"{side}/{i}"] for i in range(10)] for side in (0, 1))
    for a, b in zip(many, one, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=5e-5)
