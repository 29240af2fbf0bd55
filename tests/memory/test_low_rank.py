import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.memory import kanerva, low_rank

pytestmark = pytest.mark.usefixtures("strict_ranks", "float64")


# Compiled once for all tests: what is called eagerly is compiled piece by piece.
_write, _write_dense = jax.jit(low_rank.write), jax.jit(kanerva.write)


def episode(num_writes, num_slots=8, code_size=3, seed=0):
    rng = np.random.default_rng(seed)
    weights = jnp.asarray(rng.normal(size=(num_writes, num_slots)))
    codes = jnp.asarray(rng.normal(size=(num_writes, code_size)))
    return weights, codes, jnp.asarray(rng.uniform(0.2, 2.0, num_writes))


@pytest.mark.parametrize(
    ("num_writes", "rank"),
    [
        pytest.param(1, 1, marks=pytest.mark.slow),
        (4, 4),
        (4, 6),
        pytest.param(8, 8, marks=pytest.mark.slow),
        pytest.param(20, 8, marks=pytest.mark.slow),
    ],
)
def test_exact_when_the_rank_is_large_enough(num_writes, rank):
    weights, codes, noise_vars = episode(num_writes)
    found = _write(low_rank.prior(8, 3, rank, 1.5), weights, codes, noise_vars)
    expected = _write_dense(kanerva.prior(8, 3, 1.5), weights, codes, noise_vars)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(low_rank.to_dense(found).row_cov, expected.row_cov, atol=1e-9)
    if num_writes < rank:
        read, read_dense = jax.jit(low_rank.read), jax.jit(kanerva.read)
        for read_weights in (weights[0], weights):
            both = read(found, read_weights, 0.3), read_dense(expected, read_weights, 0.3)
            for a, b in zip(*both, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


def test_exact_for_many_writes_in_few_directions():
    weights, codes, noise_vars = episode(12)
    weights = weights[:, :2] @ weights[:2]  # of rank 2
    found = _write(low_rank.prior(8, 3, 4), weights, codes, noise_vars)
    expected = _write_dense(kanerva.prior(8, 3), weights, codes, noise_vars)
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-8)
    np.testing.assert_allclose(low_rank.to_dense(found).row_cov, expected.row_cov, atol=1e-8)


@pytest.mark.parametrize(
    ("num_writes", "rank"),
    [pytest.param(n, r, marks=pytest.mark.slow) for n, r in ((3, 3), (8, 8))] + [(4, 6)],
)
def test_gradients_are_exact_where_nothing_is_dropped(num_writes, rank):
    weights, codes, noise_vars = episode(num_writes)

    def total(memory):
        twist = jnp.arange(64.0).reshape(8, 8)
        return jnp.sum(jnp.sin(memory.mean)) + jnp.sum(jnp.cos(memory.row_cov) * twist)

    def ours(*arguments):
        memory = low_rank.write(low_rank.prior(8, 3, rank), *arguments)
        return total(low_rank.to_dense(memory))

    def dense(*arguments):
        return total(kanerva.write(kanerva.prior(8, 3), *arguments))

    arguments = (weights, codes, noise_vars)
    found, expected = (jax.jit(jax.grad(f, (0, 1, 2)))(*arguments) for f in (ours, dense))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_the_error_of_too_small_a_rank_is_bounded_and_never_overconfident(rank):
    """One part of r writes from a memory that is full: the bound of the docstring, met exactly."""
    full = _write(low_rank.prior(8, 3, rank), *episode(rank))
    weights, codes, noise_vars = episode(rank, seed=1)
    found = low_rank.to_dense(_write(full, weights, codes, noise_vars))
    exact = _write_dense(low_rank.to_dense(full), weights, codes, noise_vars)
    np.testing.assert_allclose(found.mean, exact.mean, atol=1e-10)
    error = np.linalg.eigvalsh(found.row_cov - exact.row_cov)
    assert error.min() > -1e-10  # never too small
    taken = np.linalg.svd(np.eye(8) - exact.row_cov, compute_uv=False)  # squares of s
    np.testing.assert_allclose(error.max(), taken[rank], rtol=1e-6)


def test_a_larger_rank_is_nearer():
    weights, codes, noise_vars = episode(12)
    exact = _write_dense(kanerva.prior(8, 3), weights, codes, noise_vars)
    errors = []
    for rank in (3, 4, 8):
        found = _write(low_rank.prior(8, 3, rank), weights, codes, noise_vars)
        difference = low_rank.to_dense(found).row_cov - exact.row_cov
        assert np.linalg.eigvalsh(difference).min() > -1e-9
        errors.append(np.linalg.norm(difference, 2))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-9


def test_under_jit_vmap_and_float32():
    weights, codes, _ = episode(4)
    noise_vars = jnp.full(4, 0.5)
    write = partial(_write, low_rank.prior(8, 3, 4))
    both = jnp.stack([weights, -weights]), jnp.stack([codes, codes])
    batched = jax.jit(jax.vmap(write, (0, 0, None)))(*both, noise_vars)
    for i, signed in enumerate((weights, -weights)):
        single = low_rank.to_dense(write(signed, codes, noise_vars))
        dense = jax.tree.map(lambda leaf, i=i: leaf[i], batched)
        np.testing.assert_allclose(low_rank.to_dense(dense).row_cov, single.row_cov, atol=1e-9)
    with jax.enable_x64(False):
        memory = low_rank.prior(8, 3, 4)
        narrow = weights.astype(np.float32), codes.astype(np.float32)
        found = jax.eval_shape(low_rank.write, memory, *narrow, 0.5)
        assert found.factor.dtype == jnp.float32


def test_writes_are_taken_in_as_many_as_the_rank():
    """So that the time grows with N r^2, not N T^2, nor N^2: nothing is larger than 2 r x 2 r."""
    program = str(jax.make_jaxpr(low_rank.write)(low_rank.prior(8, 3, 3), *episode(7)))
    assert max(int(size) for size in re.findall(r"f64\[(\d+),\1\]", program)) == 6


def test_what_does_not_fit_is_refused():
    memory = low_rank.prior(4, 3, 2)
    with pytest.raises(ValueError, match=r"codes is \(2, 2\); it must be \[T, C\] = \(2, 3\)"):
        low_rank.write(memory, jnp.ones((2, 4)), jnp.ones((2, 2)), 1.0)
    with pytest.raises(ValueError, match="rank is 0; it must be at least 1"):
        low_rank.prior(4, 3, 0)
    with pytest.raises(ValueError, match="must not be negative"):
        low_rank.write(memory, jnp.ones((2, 4)), jnp.ones((2, 3)), -0.5)
