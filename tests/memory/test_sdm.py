from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.memory import sdm

# 4,000 slots of 256 bits, of which a query selects about 2 %, and 10 patterns.
_SIZE, _RADIUS = 256, 112


@pytest.fixture(scope="module")
def stored():
    address_rng_key, pattern_rng_key = jax.random.split(jax.random.key(0))
    memory = sdm.init(address_rng_key, 4_000, _SIZE)
    patterns = jax.random.rademacher(pattern_rng_key, (10, _SIZE), jnp.float32)
    memory, _ = jax.lax.scan(lambda m, x: (sdm.write(m, x, _RADIUS), None), memory, patterns)
    return memory, patterns


def corrupt(pattern, num_flips, seed=0):
    flips = np.random.default_rng(seed).choice(_SIZE, num_flips, replace=False)
    return pattern.at[flips].multiply(-1)


def test_select_is_by_hamming_distance(stored):
    memory, patterns = stored
    distance = np.sum(np.asarray(memory.address_matrix) != np.asarray(patterns[0]), axis=1)
    for radius in (0, 100, _RADIUS, 128, 256):
        selected = sdm.select(memory, patterns[0], radius)
        np.testing.assert_array_equal(selected, distance <= radius)
    assert 40 < np.sum(distance <= _RADIUS) < 160  # sparse and distributed


def test_write_and_read_against_loops(stored):
    _, patterns = stored
    memory = sdm.init(jax.random.key(1), 30, _SIZE)
    contents = np.zeros((30, _SIZE))
    for pattern in np.asarray(patterns[:3]):
        memory = jax.jit(sdm.write)(memory, pattern, 128)
        for n, address in enumerate(np.asarray(memory.address_matrix)):
            if np.sum(address != pattern) <= 128:
                contents[n] += pattern
    np.testing.assert_array_equal(memory.contents, contents)
    query = np.asarray(patterns[4])
    total = sum(contents[n] for n in range(30) if np.sum(memory.address_matrix[n] != query) <= 128)
    np.testing.assert_array_equal(sdm.read(memory, query, 128), np.where(total > 0, 1, -1))


def test_inside_the_critical_distance_reading_converges(stored):
    memory, patterns = stored
    read = jax.jit(partial(sdm.read, radius=_RADIUS, num_iterations=8))
    for i, pattern in enumerate(patterns):
        np.testing.assert_array_equal(read(memory, pattern), pattern)
        np.testing.assert_array_equal(read(memory, corrupt(pattern, 50, seed=i)), pattern)


def test_outside_it_reading_does_not(stored):
    memory, patterns = stored
    read = jax.jit(partial(sdm.read, radius=_RADIUS, num_iterations=8))
    recalled = [
        np.array_equal(read(memory, corrupt(pattern, 120, seed=i)), pattern)
        for i, pattern in enumerate(patterns)
    ]
    assert np.mean(recalled) < 0.4  # by chance it ends at any of the 10


def test_iterating_is_feeding_back(stored):
    memory, patterns = stored
    query = corrupt(patterns[0], 110)  # so far away that each reading is another
    once = sdm.read(memory, query, _RADIUS)
    twice = sdm.read(memory, once, _RADIUS)
    assert not np.array_equal(twice, once)
    for num_iterations, expected in ((1, once), (2, twice)):
        found = sdm.read(memory, query, _RADIUS, num_iterations)
        np.testing.assert_array_equal(found, expected)
    batched = jax.vmap(lambda q: sdm.read(memory, q, _RADIUS))(jnp.stack([query, patterns[1]]))
    np.testing.assert_array_equal(batched[0], once)


def test_a_sum_of_zero_reads_as_minus_one_and_one_as_one():
    memory = sdm.SparseState(jnp.ones((1, 3)), jnp.array([[0.0, 1.0, -1.0]]))
    np.testing.assert_array_equal(sdm.read(memory, jnp.ones(3), 0), [-1, 1, -1])


def test_nothing_selected_reads_as_minus_one():
    memory = sdm.init(jax.random.key(0), 3, 8)
    np.testing.assert_array_equal(sdm.read(memory, jnp.ones(8), -1), -np.ones(8))


def test_what_does_not_fit_is_refused():
    memory = sdm.init(jax.random.key(0), 3, 8)
    with pytest.raises(ValueError, match=r"pattern is \(7,\); it must be \[D\] = \(8,\)"):
        sdm.write(memory, jnp.ones(7), 2)
    with pytest.raises(ValueError, match="num_iterations is 0; it must be at least 1"):
        sdm.read(memory, jnp.ones(8), 2, num_iterations=0)
    with pytest.raises(ValueError, match="num_slots is 0; it must be at least 1"):
        sdm.init(jax.random.key(0), 0, 8)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.float64, jnp.bfloat16])
def test_patterns_may_be_integers(stored, dtype):
    memory, patterns = stored
    pattern = np.asarray(patterns[0], dtype)
    expected = sdm.write(memory, patterns[0], _RADIUS).contents
    written = sdm.write(memory, pattern, _RADIUS)
    np.testing.assert_array_equal(written.contents, expected)
    assert written.contents.dtype == jnp.float32
    np.testing.assert_array_equal(sdm.read(memory, pattern, _RADIUS), patterns[0])


def test_other_numbers_are_no_pattern():
    memory = sdm.init(jax.random.key(0), 3, 8)
    for other in (np.zeros(8), np.full(8, 255, np.uint8), [0, 1] * 4, np.full(8, np.nan)):
        with pytest.raises(ValueError, match="query holds other numbers than -1 and 1"):
            sdm.read(memory, other, 2)
    with pytest.raises(ValueError, match="query holds other numbers than -1 and 1"):
        jax.eval_shape(lambda query: sdm.read(memory, query, 2), np.ones(8, np.uint8))
