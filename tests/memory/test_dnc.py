"""The DNC's memory against the equations of its paper, written as loops in float64 NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.memory import dnc
from tests import oracles

pytestmark = pytest.mark.usefixtures("strict_ranks", "float64")


def controls(rng, code_size, num_heads):
    """What a controller would emit in one step."""
    write = {
        "code": rng.normal(size=code_size),
        "write_key": rng.normal(size=code_size),
        "write_strength": 1.0 + rng.exponential(),
        "erase": rng.uniform(size=code_size),
        "free_gate": rng.uniform(size=num_heads),
        "allocation_gate": rng.uniform(),
        "write_gate": rng.uniform(),
    }
    read = {
        "read_keys": rng.normal(size=(num_heads, code_size)),
        "read_strengths": 1.0 + rng.exponential(size=num_heads),
        "read_modes": oracles.softmax(rng.normal(size=(num_heads, 3))),
    }
    return write, read


def cosine_softmax(contents, key, strength):
    norms = np.linalg.norm(contents, axis=1) * np.linalg.norm(key)
    similarity = np.where(norms > 0, contents @ key / np.where(norms > 0, norms, 1), 0)
    return oracles.softmax(strength * similarity)


def allocation(usage, order_of=None):
    free = np.argsort(usage if order_of is None else order_of, kind="stable")
    weights = np.zeros(len(usage))
    for j, slot in enumerate(free):
        weights[slot] = (1 - usage[slot]) * np.prod([usage[other] for other in free[:j]])
    return weights


def oracle_step(state, write, read):
    """One write and one read; Graves et al. 2016, Methods."""
    contents, usage, link, precedence, write_weights, read_weights = state
    num_slots = len(usage)
    retention = np.prod(1 - write["free_gate"][:, None] * read_weights, axis=0)
    usage = (usage + write_weights - usage * write_weights) * retention
    content = cosine_softmax(contents, write["write_key"], write["write_strength"])
    gate = write["allocation_gate"]
    write_weights = write["write_gate"] * (gate * allocation(usage) + (1 - gate) * content)
    contents = contents * (1 - np.outer(write_weights, write["erase"]))
    contents = contents + np.outer(write_weights, write["code"])
    new_link = np.zeros_like(link)
    for i in range(num_slots):
        for j in range(num_slots):
            if i != j:
                new_link[i, j] = (1 - write_weights[i] - write_weights[j]) * link[i, j]
                new_link[i, j] += write_weights[i] * precedence[j]
    precedence = (1 - write_weights.sum()) * precedence + write_weights
    new_read = []
    for h, weights in enumerate(read_weights):
        modes = read["read_modes"][h]
        content = cosine_softmax(contents, read["read_keys"][h], read["read_strengths"][h])
        backward, forward = new_link.T @ weights, new_link @ weights
        new_read.append(modes[0] * backward + modes[1] * content + modes[2] * forward)
    new_read = np.array(new_read)
    state = contents, usage, new_link, precedence, write_weights, new_read
    return state, new_read @ contents


@pytest.mark.parametrize(("num_slots", "code_size", "num_heads"), [(5, 3, 2), (1, 2, 1), (4, 1, 3)])
def test_steps_follow_the_paper(num_slots, code_size, num_heads):
    rng = np.random.default_rng(0)
    memory = dnc.init(num_slots, code_size, num_heads)
    expected = tuple(np.asarray(leaf) for leaf in jax.tree.leaves(memory))

    @jax.jit
    def step(memory, write, read):
        return dnc.read(dnc.write(memory, **write), **read)

    for _ in range(8):
        write, read = controls(rng, code_size, num_heads)
        found, memory = step(memory, write, read)
        expected, expected_read = oracle_step(expected, write, read)
        np.testing.assert_allclose(found, expected_read, rtol=1e-9, atol=1e-10)
        for a, b in zip(jax.tree.leaves(memory), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


def test_a_new_memory_holds_nothing():
    memory = dnc.init(4, 3, 2)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(memory))
    shapes = [(4, 3), (4,), (4, 4), (4,), (4,), (2, 4)]
    assert [leaf.shape for leaf in jax.tree.leaves(memory)] == shapes


def test_allocation_fills_free_slots_and_then_recalls_in_order():
    """Hard gates: three codes are written to free slots and read back in temporal order."""
    memory = dnc.init(4, 3)
    write_code, read_code = jax.jit(dnc.write), jax.jit(dnc.read)
    codes = np.eye(3) + 1.0
    write = {
        "write_key": np.zeros(3),
        "write_strength": 1.0,
        "erase": np.ones(3),
        "free_gate": np.zeros(1),
        "allocation_gate": 1.0,
        "write_gate": 1.0,
    }
    for code in codes:
        memory = write_code(memory, code, **write)
    np.testing.assert_allclose(np.asarray(memory.contents)[:3], codes)
    forward = {
        "read_keys": codes[:1],
        "read_strengths": np.array([200.0]),
        "read_modes": np.array([[0.0, 1.0, 0.0]]),
    }
    found, memory = read_code(memory, **forward)
    np.testing.assert_allclose(found[0], codes[0], atol=1e-3)
    forward["read_modes"] = np.array([[0.0, 0.0, 1.0]])
    for code in codes[1:]:
        found, memory = read_code(memory, **forward)
        np.testing.assert_allclose(found[0], code, atol=0.02)


def test_a_freed_slot_is_written_again():
    memory = dataclasses.replace(
        dnc.init(2, 1), usage=jnp.array([1.0, 1.0]), read_weights=jnp.array([[0.0, 1.0]])
    )
    usage = dnc.update_usage(memory, np.ones(1))
    np.testing.assert_array_equal(usage, [1.0, 0.0])
    np.testing.assert_array_equal(dnc.allocation_weights(usage), [0.0, 1.0])


def test_allocation_sums_to_at_most_one_and_has_gradients():
    usage = jnp.array([0.2, 0.2, 0.9, 1.0, 0.0])
    weights = dnc.allocation_weights(usage)
    np.testing.assert_allclose(weights, allocation(np.asarray(usage)))
    assert weights.sum() <= 1 + 1e-9
    np.testing.assert_array_equal(dnc.allocation_weights(jnp.ones(3)), np.zeros(3))
    jacobian_of = jax.jit(jax.jacobian(dnc.allocation_weights))
    for usage in ([0.2, 0.2, 0.9, 1.0, 0.0], [0.5, 0.0, 0.3, 0.0, 0.7]):  # one or two are free
        jacobian = jacobian_of(jnp.array(usage))
        for column, step in zip(jacobian.T, 1e-6 * np.eye(len(usage)), strict=True):
            change = allocation(usage + step, usage) - allocation(usage - step, usage)
            np.testing.assert_allclose(column, change / 2e-6, atol=1e-6)


def test_vmap_is_a_loop_and_the_empty_memory_has_gradients():
    rng = np.random.default_rng(0)
    memory = dnc.init(5, 3, 2)
    steps = [controls(rng, 3, 2) for _ in range(3)]
    batch = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *steps)

    def total(write, read):
        found, state = dnc.read(dnc.write(memory, **write), **read)
        return jnp.sum(found**2) + jnp.sum(state.link**2)

    gradients = jax.jit(jax.vmap(jax.grad(total)))(*batch)
    gradient = jax.jit(jax.grad(total))
    for i, step in enumerate(steps):
        single = gradient(*jax.tree.map(jnp.asarray, step))
        for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(single), strict=True):
            assert np.all(np.isfinite(b))
            np.testing.assert_allclose(a[i], b, rtol=1e-9, atol=1e-12)


def test_what_does_not_fit_is_refused():
    write, read = controls(np.random.default_rng(0), 3, 2)
    memory = dnc.init(5, 3, 2)
    for name, wanted in (("code", "C"), ("write_key", "C"), ("erase", "C"), ("free_gate", "H")):
        with pytest.raises(ValueError, match=rf"{name} is \(7,\); it must be \[{wanted}\]"):
            dnc.write(memory, **(write | {name: np.ones(7)}))
    for name in read:
        with pytest.raises(ValueError, match=rf"{name} is \(7,\); it must be \[H"):
            dnc.read(memory, **(read | {name: np.ones(7)}))
    with pytest.raises(ValueError, match="num_heads is 0; it must be at least 1"):
        dnc.init(3, 2, 0)
