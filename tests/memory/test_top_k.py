"""The best of a table, by one pass in chunks, and of product keys."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from memjax.memory import addressing, product_keys
from tests import oracles

pytestmark = pytest.mark.usefixtures("strict_ranks")


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def of_kinds(*values, one):
    """Each kind with `one` of the values; the others with "inner", and slow with other kinds."""
    for kind in addressing.KINDS:
        for value in values:
            is_slow = kind != "inner" and value != one
            yield pytest.param(kind, value, marks=[pytest.mark.slow] * is_slow)


@pytest.mark.parametrize(
    ("kind", "sizes"), [*of_kinds((1, 7), (5, 4), (50, 100), (50, 7), one=(5, 4))]
)
def test_the_best_of_all(kind, sizes):
    """Chunks that do not divide, fewer slots in a chunk than are wanted, all slots wanted."""
    k, chunk_size = sizes
    queries, slots = normal(0, 3, 4), normal(1, 50, 4)
    found = addressing.top_k(queries, slots, k, kind=kind, chunk_size=chunk_size)
    logits = oracles.similarity(queries, slots, kind)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found[0], order)
    np.testing.assert_allclose(found[1], np.take_along_axis(logits, order, 1), rtol=1e-5, atol=1e-6)


def test_of_equal_slots_the_lower_address_is_first():
    slots = jnp.tile(normal(1, 3, 4), (4, 1))
    addresses, logits = addressing.top_k(normal(0, 4), slots, 8, chunk_size=5)
    best = np.argsort(-oracles.similarity(normal(0, 1, 4), slots[:3], "key_normalized")[0])
    np.testing.assert_array_equal(
        addresses, [best[0] + 3 * i for i in range(4)] + [best[1] + 3 * i for i in range(4)]
    )
    assert np.all(np.diff(logits) <= 0)


def test_a_slot_that_is_nan_is_not_passed_over():
    slots = normal(1, 20, 4).at[13].set(jnp.nan)
    _, logits = addressing.top_k(normal(0, 4), slots, 2, chunk_size=5)
    assert np.isnan(logits).any()


@pytest.mark.parametrize("kind", ["key_normalized", pytest.param("cosine", marks=pytest.mark.slow)])
def test_given_norms_change_neither_values_nor_gradients(kind):
    """Measured within the function or before it, and differentiated through; in float64."""

    def total(is_given, queries, slots):
        words = {"kind": kind}
        if is_given:
            words["slot_norms"] = addressing.slot_norms(slots)
        streamed = {"chunk_size": 3, **words}
        _, log_probs = addressing.sample_streaming(jax.random.key(2), queries, slots, 5, **streamed)
        _, best = addressing.top_k(queries, slots, 3, **streamed)
        logits = addressing.similarity(queries, slots, **words)
        values = [jnp.sum(jnp.sin(array)) for array in (log_probs, best, logits)]
        return sum(values), values

    with jax.enable_x64(True):
        queries, slots = (
            jnp.asarray(array, jnp.float64) for array in (normal(0, 3, 4), normal(1, 7, 4))
        )
        slots = slots.at[2].set(0.0)  # its norm counts as 1
        step = jax.jit(jax.value_and_grad(total, (1, 2), has_aux=True), static_argnums=0)
        wanted, found = step(False, queries, slots), step(True, queries, slots)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12), found, wanted)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_norms_are_divided_by_in_float32(dtype):
    queries, slots = normal(0, 3, 4).astype(dtype), (1e-2 * normal(1, 7, 4)).astype(dtype)
    norms = addressing.slot_norms(slots).astype(dtype)
    found = addressing.similarity(queries, slots, slot_norms=norms)
    wide = (array.astype(jnp.float32) for array in (queries, slots))
    wanted = addressing.similarity(*wide, slot_norms=norms.astype(jnp.float32))
    np.testing.assert_array_equal(found, wanted.astype(dtype))


def test_without_an_axis_a_device_reads_its_own_copy():
    """Queries divided, the table the same on all: nothing is refused under `shard_map`."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("devices",))
    split, same = jax.sharding.PartitionSpec("devices"), jax.sharding.PartitionSpec()
    best = partial(addressing.top_k, k=2)
    queries, slots = normal(0, 2, 4), normal(1, 9, 4)
    specs = {"in_specs": (split, same), "out_specs": split}
    found = jax.jit(jax.shard_map(best, mesh=mesh, **specs))(queries, slots)
    mapped = jax.pmap(best, devices=jax.devices()[:1])(queries[None], slots[None])
    for one, other, wanted in zip(found, mapped, best(queries, slots), strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-6)
        np.testing.assert_allclose(other[0], wanted, rtol=1e-6)


def test_the_gradient_of_the_best_is_that_of_their_logits():
    @jax.jit
    @partial(jax.grad, argnums=(0, 1), has_aux=True)
    def streamed(queries, slots):
        addresses, logits = addressing.top_k(queries, slots, 3, chunk_size=4)
        return jnp.sum(jnp.sin(logits)), addresses

    @jax.jit
    @partial(jax.grad, argnums=(0, 1))
    def materialised(queries, slots, addresses):
        logits = addressing.similarity(queries, slots)
        return jnp.sum(jnp.sin(jnp.take_along_axis(logits, addresses, axis=1)))

    arguments = normal(0, 2, 4), normal(1, 9, 4)
    found, addresses = streamed(*arguments)
    wanted = materialised(*arguments, addresses)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "k"), [*of_kinds(1, 4, 15, one=4)])
def test_product_keys_are_a_table_of_joined_keys(kind, k):
    query, first, second = normal(0, 2, 5), normal(1, 3, 2), normal(2, 5, 3)
    logits = (
        oracles.similarity(query[:, :2], first, kind)[:, :, None]
        + oracles.similarity(query[:, 2:], second, kind)[:, None, :]
    ).reshape(2, -1)
    addresses, found = product_keys.top_k(query, first, second, k, kind=kind)
    order = np.argsort(-logits, axis=1)[:, :k]
    np.testing.assert_array_equal(addresses, order)
    np.testing.assert_allclose(found, np.take_along_axis(logits, order, 1), rtol=1e-5, atol=1e-5)
    with_joined = jnp.concatenate(
        [jnp.repeat(first, 5, axis=0), jnp.tile(second, (3, 1))], axis=1
    )  # slot 5 i + j
    if kind == "inner":
        np.testing.assert_array_equal(
            addresses, addressing.top_k(query, with_joined, k, kind=kind)[0]
        )


def test_samples_of_product_keys_have_the_law_of_all_slots():
    query, first, second = normal(0, 5), normal(1, 3, 2), normal(2, 5, 3)
    logits = (first @ query[:2])[:, None] + (second @ query[2:])[None, :]
    probs = oracles.softmax(np.asarray(logits, np.float64).ravel())
    addresses, log_probs = product_keys.sample(jax.random.key(3), query, first, second, 10_000)
    np.testing.assert_allclose(log_probs, np.log(probs)[addresses], rtol=1e-4, atol=1e-5)
    found = np.bincount(addresses, minlength=15)
    assert scipy.stats.chisquare(found, 10_000 * probs).pvalue > 1e-4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"k": 0}, "k is 0; it must be at least 1"),
        ({"k": 10}, "k is 10; it must be at most N = 9"),
        ({"k": 2.5}, "k is 2.5; it must be an integer"),
        ({"kind": "inner", "slot_norms": np.ones(9)}, "slot_norms are given"),
        ({"slot_norms": np.ones(8)}, r"slot_norms is \(8,\); it must be \[N\] = \(9,\)"),
        ({"slot_norms": np.ones(9, int)}, "slot_norms is int"),
        ({"slot_embeddings": np.ones((9, 3))}, "query is"),
    ],
)
def test_bad_input_is_refused(changed, message):
    arguments = {"query": np.ones(4), "slot_embeddings": np.ones((9, 4)), "k": 2} | changed
    with pytest.raises(ValueError, match=message):
        addressing.top_k(**arguments)


def test_bad_product_keys_are_refused():
    first, second = np.ones((3, 2)), np.ones((5, 3))
    with pytest.raises(ValueError, match="k is 16; it must be at most R S = 15"):
        product_keys.top_k(np.ones(5), first, second, 16)
    with pytest.raises(ValueError, match=r"query is \(4,\)"):
        product_keys.top_k(np.ones(4), first, second, 1)
    with pytest.raises(ValueError, match="first_keys is"):
        product_keys.top_k(np.ones(5), np.ones(3), second, 1)
    many = np.ones((50_000, 2)), np.ones((50_000, 3))
    with pytest.raises(ValueError, match="R S is 2500000000; it must be at most"):
        product_keys.top_k(np.ones(5), *many, 1)
    with pytest.raises(ValueError, match=r"query is \(2, 5\); it must be \[E\]"):
        product_keys.sample(jax.random.key(0), np.ones((2, 5)), first, second, 1)
    with pytest.raises(ValueError, match="the length of second_keys is 0"):
        product_keys.top_k(np.ones(5), first, np.ones((0, 3)), 1)
