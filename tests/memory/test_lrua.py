import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.memory import lrua
from tests.memory.test_dnc import cosine_softmax

pytestmark = pytest.mark.usefixtures("strict_ranks", "float64")


def oracle_step(state, codes, write_gate, read_keys, decay, strengths):
    """Santoro et al. 2016, eqs. 2-8, by loops; head h takes the h-th least used slot."""
    contents, usage, read_weights, _ = state
    num_heads = len(codes)
    order = np.argsort(usage, kind="stable")[:num_heads]
    contents = contents.copy()
    contents[order] = 0
    write_weights = np.zeros_like(read_weights)
    for h in range(num_heads):
        write_weights[h] = write_gate[h] * read_weights[h]
        write_weights[h, order[h]] += 1 - write_gate[h]
        contents += np.outer(write_weights[h], codes[h])
    read_weights = np.array(
        [cosine_softmax(contents, *read) for read in zip(read_keys, strengths, strict=True)]
    )
    usage = decay * usage + read_weights.sum(axis=0) + write_weights.sum(axis=0)
    return (contents, usage, read_weights, write_weights), read_weights @ contents


@pytest.mark.parametrize(
    ("num_slots", "code_size", "num_heads", "strength"),
    [(6, 3, 2, None), (1, 2, 1, None), (3, 2, 3, None), (6, 3, 2, "own")],
)
def test_steps_follow_the_paper_and_heads_may_read_more_sharply(
    num_slots, code_size, num_heads, strength
):
    rng = np.random.default_rng(0)
    memory = lrua.init(num_slots, code_size, num_heads)
    expected = tuple(np.asarray(leaf) for leaf in jax.tree.leaves(memory))

    strengths = np.ones(num_heads) if strength is None else rng.uniform(1, 9, num_heads)
    options = {} if strength is None else {"read_strengths": strengths}

    @jax.jit
    def step(memory, codes, gate, keys):
        return lrua.read(lrua.write(memory, codes, gate), keys, 0.9, **options)

    for _ in range(8):
        codes, keys = rng.normal(size=(2, num_heads, code_size))
        gate = rng.uniform(size=num_heads)
        found, memory = step(memory, codes, gate, keys)
        expected, expected_read = oracle_step(expected, codes, gate, keys, 0.9, strengths)
        np.testing.assert_allclose(found, expected_read, rtol=1e-9)
        for a, b in zip(jax.tree.leaves(memory), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_a_new_memory_holds_nothing():
    memory = lrua.init(4, 3, 2)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(memory))
    shapes = [(4, 3), (4,), (2, 4), (2, 4)]
    assert [leaf.shape for leaf in jax.tree.leaves(memory)] == shapes


def test_codes_fill_the_memory_before_anything_is_overwritten():
    memory = lrua.init(3, 2)
    codes = np.random.default_rng(0).normal(size=(4, 1, 2))
    for t, code in enumerate(codes):
        memory = lrua.write(memory, code, np.zeros(1))
        memory = dataclasses.replace(
            memory, usage_weights=0.9 * memory.usage_weights + memory.write_weights.sum(axis=0)
        )
        if t == 2:
            np.testing.assert_allclose(memory.contents, codes[:3, 0])
    np.testing.assert_allclose(memory.contents, [codes[3, 0], codes[1, 0], codes[2, 0]])


@pytest.mark.slow
def test_gradients_are_finite_and_vmap_is_a_loop():
    memory = lrua.init(4, 3, 2)
    keys = np.random.default_rng(0).normal(size=(3, 2, 3))

    def total(code):
        state = lrua.write(memory, code, jnp.full(2, 0.5))
        return jnp.sum(lrua.read(state, code)[0] ** 2)

    gradient_of = jax.jit(jax.grad(total))
    batched = jax.jit(jax.vmap(jax.grad(total)))(jnp.asarray(keys))
    for key, gradient in zip(keys, batched, strict=True):
        assert np.all(np.isfinite(gradient))
        np.testing.assert_allclose(gradient, gradient_of(jnp.asarray(key)), rtol=1e-9)


def test_what_does_not_fit_is_refused():
    memory = lrua.init(4, 3, 2)
    with pytest.raises(ValueError, match=r"codes is \(3,\); it must be \[H, C\] = \(2, 3\)"):
        lrua.write(memory, jnp.ones(3), jnp.ones(2))
    with pytest.raises(ValueError, match=r"write_gate is \(1,\); it must be \[H\] = \(2,\)"):
        lrua.write(memory, jnp.ones((2, 3)), jnp.ones(1))
    with pytest.raises(ValueError, match=r"read_keys is \(1, 3\)"):
        lrua.read(memory, jnp.ones((1, 3)))
    with pytest.raises(ValueError, match="num_slots is 1; it must be at least 2"):
        lrua.init(1, 3, 2)
