import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from memjax.memory import addressing, streaming
from tests import oracles

pytestmark = pytest.mark.usefixtures("strict_ranks")


_sample = jax.jit(
    addressing.sample_streaming, static_argnames=("num_samples", "kind", "chunk_size")
)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def test_the_law_is_the_materialised_softmax_at_ten_thousand_slots():
    """A chi-squared test: 10,000 samples, 10,000 slots in 20 bins of as many, and the top slots."""
    query, slots = 1.5 * normal(0, 16), normal(1, 10_000, 16)
    probs = oracles.softmax(oracles.similarity(query, slots, "key_normalized"))
    addresses, log_probs = _sample(
        jax.random.key(2), query, slots, num_samples=10_000, chunk_size=192
    )
    np.testing.assert_allclose(log_probs, np.log(probs)[addresses], rtol=1e-5, atol=2e-5)
    order = np.argsort(probs)
    bins = np.empty(10_000, np.int64)
    bins[order] = np.arange(10_000) // 500  # likely slots apart from unlikely ones
    places = np.arange(10_000) // 100  # and in every part of the table
    for groups in (bins, places):
        expected = 10_000 * np.bincount(groups, probs)
        found = np.bincount(groups[np.asarray(addresses)], minlength=len(expected))
        assert scipy.stats.chisquare(found, expected).pvalue > 1e-4


@pytest.mark.parametrize(
    ("kind", "chunk_size"), [("key_normalized", 3), ("inner", 1), ("cosine", 100)]
)
def test_log_probs_and_gradients_are_the_materialised_ones(kind, chunk_size):
    """In float64, at the same addresses: for the query, the slots drawn, and all the others."""

    def streamed(queries, slots):
        addresses, log_probs = addressing.sample_streaming(
            jax.random.key(2), queries, slots, 5, kind=kind, chunk_size=chunk_size
        )
        return jnp.sum(jnp.sin(log_probs)), (addresses, log_probs)

    def materialised(queries, slots, addresses):
        log_probs = jax.nn.log_softmax(addressing.similarity(queries, slots, kind))
        return jnp.sum(jnp.sin(jnp.take_along_axis(log_probs, addresses, axis=1)))

    with jax.enable_x64(True):
        queries = jnp.asarray(normal(0, 3, 4), jnp.float64)
        slots = jnp.asarray(normal(1, 7, 4), jnp.float64)
        step = jax.jit(jax.value_and_grad(streamed, (0, 1), has_aux=True))
        (_, (addresses, log_probs)), found = step(queries, slots)
        expected = jax.jit(jax.grad(materialised, (0, 1)))(queries, slots, addresses)
    probs = oracles.softmax(oracles.similarity(queries, slots, kind))
    at_addresses = np.take_along_axis(np.log(probs), np.asarray(addresses), axis=1)
    np.testing.assert_allclose(log_probs, at_addresses, rtol=1e-10, atol=1e-12)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_the_gradient_under_vmap_is_that_of_the_batch():
    queries, slots, rng_keys = (
        normal(0, 4, 6),
        normal(1, 11, 6),
        jax.random.split(jax.random.key(5), 4),
    )

    def total(queries, slots):
        def one(rng_key, query):
            return addressing.sample_streaming(rng_key, query, slots, 2, chunk_size=4)

        addresses, log_probs = jax.vmap(one)(rng_keys, queries)
        return jnp.sum(log_probs), addresses

    def materialised(queries, slots, addresses):
        log_probs = jax.nn.log_softmax(addressing.similarity(queries, slots))
        return jnp.sum(jnp.take_along_axis(log_probs, addresses, axis=1))

    found, addresses = jax.jit(jax.grad(total, (0, 1), has_aux=True))(queries, slots)
    expected = jax.jit(jax.grad(materialised, (0, 1)))(queries, slots, addresses)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_samples_of_a_batch_are_independent():
    slots = jnp.log(jnp.array([[0.2], [0.3], [0.5]]))
    queries = jnp.ones((2_000, 1))
    pairs, _ = addressing.sample_streaming(
        jax.random.key(3), queries, slots, 2, kind="inner", chunk_size=2
    )
    joint = np.zeros((3, 3))
    np.add.at(joint, (pairs[:, 0], pairs[:, 1]), 1 / 2_000)
    probs = np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(joint, np.outer(probs, probs), atol=0.045)
    across = np.zeros((3, 3))
    np.add.at(across, (pairs[:-1, 0], pairs[1:, 0]), 1 / 1_999)
    np.testing.assert_allclose(across, np.outer(probs, probs), atol=0.045)


@pytest.mark.parametrize("size", [1, 5])
def test_boundaries(size):
    """One slot; one dominant slot in any chunk; logits of any size."""
    for dominant in range(size):
        slots = jnp.full((size, 1), -500.0).at[dominant].set(500.0)
        addresses, log_probs = _sample(
            jax.random.key(0), jnp.ones(1), slots, num_samples=50, kind="inner", chunk_size=2
        )
        np.testing.assert_array_equal(addresses, dominant)
        np.testing.assert_array_equal(log_probs, 0.0)


def test_what_another_device_holds_is_0_here_and_moves_nothing():
    """Addresses just below and just above those of this part of the table."""
    queries, slots, addresses = normal(0, 1, 2), normal(1, 5, 2), jnp.array([[-1, 0, 4, 5]])

    @jax.jit
    def attach(queries, slots, cotangent):
        def logits_of(queries, slots):
            arguments = addresses, jnp.zeros(1), queries, (slots, None)
            return streaming.attach(lambda q, s: q @ s[0].T, 2, *arguments)[0]

        logits, pull_back = jax.vjp(logits_of, queries, slots)
        return logits, *pull_back(cotangent)

    logits, d_queries, d_slots = attach(queries, slots, jnp.array([[10.0, 1.0, 2.0, 10.0]]))
    inner = np.asarray(queries @ slots.T)[0]
    np.testing.assert_allclose(logits, [[0.0, inner[0], inner[4], 0.0]], rtol=1e-6)
    np.testing.assert_allclose(d_queries[0], slots[0] + 2 * slots[4], rtol=1e-6)
    expected = np.zeros((5, 2), np.float32)
    expected[0], expected[4] = queries[0], 2 * queries[0]
    np.testing.assert_allclose(d_slots, expected, rtol=1e-6)


def test_working_memory_does_not_grow_with_the_table():
    """What XLA sets aside, forward and for the query's gradient, against the table's 41 MB."""

    def log_prob(query, slots):
        return addressing.sample_streaming(jax.random.key(0), query, slots, 1, chunk_size=1024)[1][
            0
        ]

    shapes = (
        jax.ShapeDtypeStruct((64,), jnp.float32),
        jax.ShapeDtypeStruct((160_000, 64), jnp.float32),
    )
    for function in (log_prob, jax.grad(log_prob)):
        sizes = jax.jit(function).lower(*shapes).compile().memory_analysis()
        assert sizes.temp_size_in_bytes < 4e6


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_samples": 0}, "num_samples is 0; it must be at least 1"),
        ({"chunk_size": 0}, "chunk_size is 0; it must be at least 1"),
        ({"kind": "dot"}, "kind is 'dot'; it must be one of"),
        ({"query": jnp.zeros(4)}, r"query is \(4,\); it must be \[\.\.\., E\] with E = 3"),
        ({"slot_embeddings": jnp.zeros((0, 3))}, "N is 0; it must be at least 1"),
        ({"slot_embeddings": jnp.zeros(3)}, r"slot_embeddings is \(3,\); it must be \[N, E\]"),
    ],
)
def test_bad_input_is_refused(changed, message):
    arguments = {"query": jnp.zeros(3), "slot_embeddings": jnp.zeros((5, 3)), "num_samples": 2}
    with pytest.raises(ValueError, match=message):
        addressing.sample_streaming(jax.random.key(0), **(arguments | changed))
