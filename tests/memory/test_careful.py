"""The careful form by its definitions, on the same shapes; and how it is chosen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.memory import _careful
from tests import oracles

_condition = jax.jit(_careful.condition)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def episode(rank):
    """A memory of 4 slots, 3 codes."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, rank))
    return rng.normal(size=(4, 2)), root @ root.T, rng.normal(size=(3, 4)), rng.normal(size=(3, 2))


@pytest.mark.parametrize(("rank", "scale"), [(4, 1.0), (1, 1.0), (1, 1e4)])
def test_what_is_found_is_what_its_names_say(rank, scale):
    """Of a singular row_cov too, and of weights that go where it has no variance."""
    mean, row_cov, weights, codes = episode(rank)
    row_cov, noise = scale * row_cov, scale * np.array([0.5, 1.0, 2.0])
    found = _condition(mean, row_cov, weights, codes, noise)
    expected = oracles.kanerva_posterior(mean, row_cov, weights, codes, noise)[:2]
    gain = expected[1] @ weights.T / noise
    residual = (codes - weights @ expected[0]) / noise[:, None]
    pull, keep = weights.T @ residual, np.eye(4) - gain @ weights
    for a, b in zip(found, (*expected, gain, residual, pull, keep), strict=True):
        if rank == 1 and b is pull:  # of directions without variance it is not asked
            a, b = row_cov @ a, row_cov @ b
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=scale * 1e-10)


def test_no_noise_counts_as_the_least_that_can_be_told_from_it():
    """Of two writes to one place, one has three times that least: it counts a third."""
    mean, row_cov, weights, codes = episode(4)
    weights[1] = weights[0]
    least = np.finfo(np.float64).eps ** 1.25 * (weights[0] @ row_cov @ weights[0])
    found = _condition(mean, row_cov, weights, codes, np.array([0.0, 3.0 * least, np.inf]))
    np.testing.assert_allclose(weights[0] @ found.mean, (3 * codes[0] + codes[1]) / 4, rtol=1e-3)


def test_the_plain_one_is_chosen_where_it_is_right_for_all():
    def choose(is_right, number):
        return _careful.choose(is_right, lambda x: (x, -x), lambda x: (3.0 * x, x), number)

    assert choose(True, 2.0) == (2.0, -2.0) and choose(False, 2.0) == (6.0, 2.0)
    numbers = jnp.arange(6.0).reshape(2, 3)
    for is_right, scale in (([True, True], 1.0), ([True, False], 3.0), ([False, False], 3.0)):
        found = jax.vmap(choose, (0, None))(jnp.array(is_right), 1.0)
        np.testing.assert_array_equal(found[0], [scale, scale])
        found = jax.vmap(choose)(jnp.array(is_right), numbers)
        np.testing.assert_array_equal(found[0], scale * numbers)
    np.testing.assert_array_equal(jax.vmap(choose, (None, 0))(True, numbers)[1], -numbers)
