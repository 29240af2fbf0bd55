import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.models import DNCMachine, LRUAMachine
from tests.models.common import (
    apply,
    assert_every_parameter_learns,
    assert_refused,
    initialize,
    inputs,
)

_SHAPE = (3, 3, 1)
_KINDS = (DNCMachine, LRUAMachine)
_MOSTLY_SLOW = [pytest.param(DNCMachine, marks=pytest.mark.slow), LRUAMachine]


def tiny(kind, **fields):
    defaults = {
        "num_slots": 3,
        "num_heads": 2,
        "code_size": 2,
        "address_latent_size": 2,
        "controller_size": 7,
        "num_filters": 0,
        "hidden_sizes": (6, 4),
        "mlp_size": 5,
        "bottom_up": False,
    }
    return kind(_SHAPE, **(defaults | fields))


@pytest.mark.parametrize("kind", _MOSTLY_SLOW)
def test_every_parameter_learns(kind):
    assert_every_parameter_learns(tiny(kind, bottom_up=True))


def test_nothing_from_below_moves_the_latent():
    """All that is known of it was read."""
    model = tiny(LRUAMachine)
    variables, (query, _) = initialize(model), inputs(model)
    memory = apply(model, variables, method="memory_prior")
    _, metrics = apply(
        model, variables, jax.random.key(1), query, memory, train=True, method="__call__"
    )
    assert metrics["kl_latent"] == 0 and metrics["kl_address"] > 0


@pytest.mark.parametrize("kind", _MOSTLY_SLOW)
def test_reading_depends_on_what_was_written(kind):
    model = tiny(kind)
    variables, (_, support) = initialize(model), inputs(model)

    @jax.jit
    def read(support):
        bound = model.bind(variables)
        memory = bound.write(jax.random.key(0), support)
        return bound._latent_prior(memory, jnp.ones(2)).mean, memory

    (one, memory), (other, _) = read(support), read(1 - support)
    assert np.any(one != other)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(memory))


@pytest.mark.parametrize("kind", _MOSTLY_SLOW)
def test_at_first_each_image_goes_to_a_slot_of_its_own(kind):
    model = tiny(kind, num_heads=1)
    bound = model.bind(initialize(model))
    emitted = bound._emit(jnp.zeros((3, 2)), jax.random.normal(jax.random.key(2), (3, 2)))

    @jax.jit
    def weights():
        def step(memory, emitted):
            memory = bound._step(memory, emitted)
            return memory, memory.write_weights.reshape(-1)

        return jax.lax.scan(step, bound.memory_prior(), emitted)[1]

    found = weights()
    assert sorted(np.argmax(found, axis=1)) == [0, 1, 2]
    assert np.min(np.max(found, axis=1)) > 0.8


@pytest.mark.parametrize("kind", _KINDS)
def test_all_heads_begin_alike(kind):
    """The controller's biases begin at zero."""
    one, three = (tiny(kind, num_heads=heads) for heads in (1, 3))

    @jax.jit
    def begin(rng_key, nothing):
        given = rng_key, nothing, nothing
        return [m.init_with_output(*given, method="_emit")[0] for m in (one, three)]

    alone, together = begin(jax.random.key(0), np.zeros(2))
    for name, start in alone.items():
        copies = len(together[name]) // len(start)
        np.testing.assert_array_equal(together[name], np.tile(start, copies), err_msg=name)
    assert {name for name, start in alone.items() if np.any(start)} == set(one._start())


@pytest.mark.parametrize("kind", _MOSTLY_SLOW)
def test_the_order_of_an_episode_matters(kind):
    """Unlike the Kanerva Machine's, these writes do not commute."""
    model = tiny(kind)
    variables = initialize(model)
    address = jax.random.normal(jax.random.key(1), (4, 2))
    codes = jax.random.normal(jax.random.key(2), (4, 2))

    @jax.jit
    def contents(order):
        bound = model.bind(variables)
        emitted = bound._emit(address[order], codes[order])
        memory, _ = jax.lax.scan(
            lambda m, e: (bound._step(m, e), None), bound.memory_prior(), emitted
        )
        return memory.contents

    forth, back = contents(jnp.arange(4)), contents(jnp.arange(3, -1, -1))
    assert np.any(np.abs(forth - back) > 1e-3)


@pytest.mark.parametrize("kind", _KINDS)
def test_bad_fields_are_refused(kind):
    for field in ("num_slots", "num_heads", "controller_size"):
        assert_refused(tiny(kind, **{field: 0}), f"{field} is 0; it must be at least 1")
