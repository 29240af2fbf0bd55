import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.memory import addressing
from tests import oracles

pytestmark = pytest.mark.usefixtures("strict_ranks")


_sample = jax.jit(addressing.sample, static_argnums=2)
_kl = jax.jit(addressing.kl_divergence)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("kind", addressing.KINDS)
@pytest.mark.parametrize("batch", [(), (5,), (2, 3)])
def test_similarity_matches_the_oracle(kind, batch):
    query, slots = normal(0, *batch, 4), normal(1, 7, 4)
    logits = addressing.similarity(query, slots, kind)
    chex.assert_shape(logits, (*batch, 7))
    np.testing.assert_allclose(logits, oracles.similarity(query, slots, kind), rtol=2e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", addressing.KINDS)
def test_similarity_under_jit_vmap_and_grad(kind):
    queries, slots = normal(0, 5, 4), normal(1, 7, 4)
    batched = addressing.similarity(queries, slots, kind)
    jitted = jax.jit(addressing.similarity, static_argnames="kind")(queries, slots, kind=kind)
    mapped = jax.vmap(lambda q: addressing.similarity(q, slots, kind))(queries)
    np.testing.assert_allclose(jitted, batched, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mapped, batched, rtol=1e-5, atol=1e-6)
    with jax.enable_x64(True):
        q, s = np.asarray(queries[0], np.float64), np.asarray(slots, np.float64)
        gradient = jax.grad(lambda s: jnp.sum(jnp.sin(addressing.similarity(q, s, kind))))(s)
        for index in np.ndindex(*s.shape):
            step = np.zeros_like(s)
            step[index] = 1e-6
            up, down = (np.sin(oracles.similarity(q, s + d, kind)).sum() for d in (step, -step))
            np.testing.assert_allclose(gradient[index], (up - down) / 2e-6, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", addressing.KINDS)
def test_zero_embeddings_have_finite_scores_and_gradients(kind):
    def total(query, slots):
        return jnp.sum(addressing.similarity(query, slots, kind))

    differentiated = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))
    value, gradients = differentiated(jnp.zeros(3), jnp.zeros((2, 3)))
    assert value == 0
    chex.assert_tree_all_finite(gradients)
    for length in 10.0 ** -np.arange(2.0, 40.0, 3.0):  # of what was all but erased
        for query in (jnp.ones(3), length * jnp.ones(3)):
            chex.assert_tree_all_finite(differentiated(query, length * jnp.ones((2, 3))))


@pytest.mark.parametrize("scale", [1e-14, 1e-6, 1e18])
def test_cosine_of_short_and_of_long_embeddings(scale):
    """In float32, with its gradient: that of a unit embedding over the length."""
    query, slots = normal(0, 4), normal(1, 3, 4)

    @jax.jit
    def differentiated(query, slots):
        def total(query, slots):
            return jnp.sum(addressing.similarity(query, slots, "cosine"))

        return jax.value_and_grad(total, (0, 1))(query, slots)

    value, gradients = differentiated(query, slots)
    scaled_value, scaled_gradients = differentiated(scale * query, scale * slots)
    np.testing.assert_allclose(scaled_value, value, rtol=1e-5)
    for scaled, gradient in zip(scaled_gradients, gradients, strict=True):
        np.testing.assert_allclose(scale * scaled, gradient, rtol=1e-4, atol=1e-6)


def test_similarity_refuses_bad_input():
    with pytest.raises(ValueError, match="kind is 'dot'; it must be one of key_normalized"):
        addressing.similarity(jnp.zeros(3), jnp.zeros((2, 3)), "dot")
    with pytest.raises(ValueError, match=r"query is \(4,\); it must be \[\.\.\., E\] with E = 3"):
        addressing.similarity(jnp.zeros(4), jnp.zeros((2, 3)))


@pytest.mark.parametrize("size", [1, 5, 300])
def test_sample_has_the_law_of_the_logits(size):
    logits = 2.0 * normal(size, size)
    addresses, log_probs = _sample(jax.random.key(0), logits, 40_000)
    assert addresses.dtype == jnp.int32
    probs = oracles.softmax(logits)
    np.testing.assert_allclose(log_probs, np.log(probs)[addresses], rtol=1e-4, atol=1e-5)
    frequencies = np.bincount(addresses, minlength=size) / 40_000
    standard_errors = np.sqrt(probs * (1 - probs) / 40_000)
    assert np.all(np.abs(frequencies - probs) < 5 * standard_errors + 1e-4)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_logits_reach_every_slot(dtype):
    addresses, log_probs = _sample(jax.random.key(0), jnp.zeros(2048, dtype), 20_000)
    assert log_probs.dtype == dtype
    counts = np.bincount(addresses, minlength=2048)  # of mean and variance 9.8
    assert (counts == 0).sum() < 5
    assert counts.max() < 40 and abs(np.mean(addresses) - 1023.5) < 5 * 591 / 141


def test_samples_are_independent_of_each_other():
    logits = jnp.log(jnp.array([0.2, 0.3, 0.5]))
    keys = jax.random.split(jax.random.key(3), 20_000)
    pairs, _ = jax.jit(jax.vmap(lambda k: addressing.sample(k, logits, 2)))(keys)
    joint = np.zeros((3, 3))
    np.add.at(joint, (pairs[:, 0], pairs[:, 1]), 1 / 20_000)
    probs = np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(joint, np.outer(probs, probs), atol=0.015)


@pytest.mark.parametrize("impossible", [[0], [4], [0, 1, 2, 3], [1, 3], [2, 3, 4]])
def test_a_slot_at_minus_infinity_is_never_drawn(impossible):
    logits = jnp.zeros(5).at[jnp.array(impossible)].set(-jnp.inf)
    addresses, log_probs = _sample(jax.random.key(0), logits, 10_000)
    assert not set(np.unique(addresses)) & set(impossible)
    np.testing.assert_allclose(log_probs, -np.log(5 - len(impossible)), rtol=1e-6)


def test_rounding_never_draws_an_impossible_slot():
    # Sums of many terms round; half of the slots are impossible, one of them between every two.
    logits = jnp.where(jnp.arange(5001) % 2 == 0, -jnp.inf, normal(0, 5001))
    addresses, log_probs = _sample(jax.random.key(1), logits, 20_000)
    assert np.all(np.asarray(addresses) % 2 == 1)
    chex.assert_tree_all_finite(log_probs)


def test_one_dominant_address_is_always_drawn():
    addresses, log_probs = _sample(jax.random.key(0), jnp.array([0.0, 1e4, 0.0]), 100)
    assert np.all(addresses == 1)
    np.testing.assert_array_equal(log_probs, 0.0)


def test_log_probs_are_differentiable_in_the_logits():
    logits = normal(0, 6)

    def total(logits):
        return _sample(jax.random.key(0), logits, 10)[1].sum()

    addresses, _ = _sample(jax.random.key(0), logits, 10)
    counts = np.bincount(addresses, minlength=6)
    expected = counts - 10 * oracles.softmax(logits)
    gradient = jax.jit(jax.grad(total))(logits)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


def test_sample_refuses_bad_input():
    key = jax.random.key(0)
    for logits in (jnp.zeros((2, 3)), jnp.zeros(0), jnp.zeros(())):
        with pytest.raises(ValueError, match=r"must be \[N\] with N >= 1"):
            addressing.sample(key, logits, 1)
    with pytest.raises(ValueError, match="num_samples is 0"):
        addressing.sample(key, jnp.zeros(3), 0)


def test_lookup_reads_any_pytree():
    contents = {"image": normal(0, 5, 2, 3), "label": jnp.arange(5)}
    addresses = jnp.array([[4, 0], [2, 2]])
    found = jax.jit(addressing.lookup)(contents, addresses)
    for name, leaf in contents.items():
        np.testing.assert_array_equal(found[name], np.asarray(leaf)[np.asarray(addresses)])


def test_lookup_of_lists_and_what_it_refuses():
    np.testing.assert_array_equal(addressing.lookup([[1, 2], [3, 4]], [1, 0]), [[3, 4], [1, 2]])
    pair = addressing.lookup([np.arange(3), np.ones((3, 2))], np.uint8(2))
    assert pair[0] == 2 and pair[1].shape == (2,)
    for addresses, told in ((np.ones(2), "float32"), ([True], "bool"), (None, "None")):
        with pytest.raises(ValueError, match=f"addresses is {told}; it must be .*integers"):
            addressing.lookup(np.ones(3), addresses)
    for contents in (1.0, np.ones((0, 2))):
        with pytest.raises(
            ValueError, match=r"contents is \(.*; it must be \[N, ...\] with N >= 1"
        ):
            addressing.lookup(contents, 0)


def test_lookup_passes_gradients_to_what_was_read():
    gradient = jax.grad(lambda m: addressing.lookup(m, jnp.array([1, 1, 3])).sum())(
        jnp.ones((4, 2))
    )
    np.testing.assert_array_equal(gradient, [[0, 0], [2, 2], [0, 0], [1, 1]])


def test_kl_matches_the_oracle_and_is_zero_for_equals():
    posterior, prior = 3 * normal(0, 8), normal(1, 8)
    kl = _kl(posterior, prior)
    np.testing.assert_allclose(kl, oracles.categorical_kl(posterior, prior), rtol=1e-5)
    np.testing.assert_allclose(_kl(prior + 5.0, prior), 0.0, atol=1e-6)
    batched = _kl(normal(2, 3, 8), normal(1, 1, 8))
    chex.assert_shape(batched, (3,))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_kl_is_never_negative_and_right_when_small(dtype):
    prior = jnp.asarray(normal(0, 20, 300), dtype)
    posterior = jnp.asarray(prior + 1e-3 * normal(1, 20, 300), dtype)
    shifted = jnp.asarray(prior + 2.0, dtype)
    for other, rtol in ((prior, 0), (posterior, 0.01), (shifted, 0.01)):
        kl = _kl(other, prior)
        assert kl.dtype == dtype and np.all(kl >= 0)
        pairs = zip(np.asarray(other, np.float64), np.asarray(prior, np.float64), strict=True)
        expected = [oracles.categorical_kl(*pair) for pair in pairs]
        atol = 1e-9 if dtype == jnp.float32 else 1e-7
        np.testing.assert_allclose(kl.astype(jnp.float32), expected, rtol=rtol, atol=atol)


def test_kl_of_a_certain_address_is_log_n():
    kl = _kl(jnp.array([-jnp.inf, 0.0, -jnp.inf]), jnp.zeros(3))
    np.testing.assert_allclose(kl, np.log(3), rtol=1e-6)


def test_kl_at_the_boundaries():
    with_zero = jnp.array([0.0, -jnp.inf])
    assert _kl(jnp.zeros(2), with_zero) == jnp.inf
    np.testing.assert_array_equal(_kl(with_zero, with_zero), 0.0)
    assert _kl(jnp.zeros(1), jnp.ones(1)) == 0
    gradients = jax.jit(jax.grad(addressing.kl_divergence, (0, 1)))(with_zero, jnp.zeros(2))
    chex.assert_tree_all_finite(gradients)


def test_nothing_retraces():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def read(rng_key, query, slots):
        logits = addressing.similarity(query, slots)
        addresses, log_probs = addressing.sample(rng_key, logits, 4)
        return addressing.lookup(slots, addresses), log_probs

    for seed in range(3):
        read(jax.random.key(seed), normal(seed, 4), normal(seed + 1, 6, 4))
