"""Memories divided over 8 simulated devices give what one device gives.

Of `addressing`, `streaming`, `kanerva` and its `_information_form`: what takes an `axis_name`.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from memjax.memory import kanerva
from tests.conftest import saved_on_devices


def compare(tmp_path_factory, *names):
    path = tmp_path_factory.mktemp("sharded") / "results.npz"
    return saved_on_devices(8, path, "tests.memory.sharded_script", *names)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return compare(tmp_path_factory, "read", "write", "attend")


@pytest.mark.slow  # reads have the gradient of slots, too
def test_slots_learned_on_eight_devices_under_adam(tmp_path_factory):
    assert_as_on_one(compare(tmp_path_factory, "learn"), "learn", 5)


@pytest.mark.parametrize(("name", "num_leaves"), [("read", 11), ("write", 4)])
def test_eight_devices_give_what_one_gives(results, name, num_leaves):
    """Reads with their gradients, and a split Kanerva write."""
    assert_as_on_one(results, name, num_leaves)


def test_a_sequence_divided_over_eight_devices(results):
    """By chunks, with decays, masks and resets; `test_causal_sharded` has the others."""
    assert_as_on_one(results, "attend", 10, rtol=1e-4, atol=5e-5)


def assert_as_on_one(results, name, num_leaves, rtol=2e-5, atol=1e-5):
    one = {key: value for key, value in results.items() if key.startswith(f"{name}/one")}
    assert len(one) == num_leaves
    for key, value in one.items():
        many = results[key.replace("/one", "/many")]
        if np.issubdtype(value.dtype, np.integer):  # addresses, and what stands there
            np.testing.assert_array_equal(many, value, err_msg=key)
        else:
            np.testing.assert_allclose(many, value, rtol=rtol, atol=atol, err_msg=key)


def test_a_divided_table_is_not_gathered_but_refused(results):
    """One that is divided over its slots; over its embeddings' axis JAX does what is right."""
    line = "slot_embeddings is divided over devices; call this under shard_map, with axis_name"
    assert [*results["refused"]] == [line, line, "", ""]


def test_a_divided_write_is_in_the_information_form():
    memory = kanerva.prior(3, 2)
    with pytest.raises(ValueError, match="method is 'online'; it must be one of auto, information"):
        kanerva.write(
            memory, jnp.ones((4, 3)), jnp.ones((4, 2)), 1.0, method="online", axis_name="devices"
        )
