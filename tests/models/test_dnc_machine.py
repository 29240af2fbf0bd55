import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.errors import UserError
from memjax.models.dnc_machine import DNCMachine, LRUAMachine

_SHAPE = (3, 3, 1)
_KINDS = (DNCMachine, LRUAMachine)


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


def episode(length=4):
    return np.random.default_rng(0).integers(0, 2, (length, *_SHAPE)).astype(np.float32)


@functools.cache
def initialize(model):
    rng_key = jax.random.key(0)

    @jax.jit
    def init():
        variables = model.init(rng_key, rng_key, episode(), train=False)
        return jax.tree.map(lambda p: p + 0.4 * jax.random.normal(rng_key, p.shape), variables)

    return init()


@pytest.mark.parametrize("kind", [pytest.param(DNCMachine, marks=pytest.mark.slow), LRUAMachine])
def test_gradients_are_finite_and_reach_every_parameter(kind):
    model = tiny(kind)
    variables = initialize(model)

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def gradient(variables):
        return model.apply(variables, jax.random.key(1), episode(), train=True)

    found, metrics = gradient(variables)
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0), path
    # Nothing from below moves z: all that is known of it was read.
    assert metrics["kl_latent"] == 0 and metrics["kl_address"] > 0


@pytest.mark.parametrize("kind", [pytest.param(DNCMachine, marks=pytest.mark.slow), LRUAMachine])
def test_reading_depends_on_what_was_written_and_not_on_other_readings(kind):
    model = tiny(kind)
    variables = initialize(model)
    bound = model.bind(variables)
    memory = bound.write(jax.random.key(0), episode())
    addresses = jax.random.normal(jax.random.key(1), (4, 2))
    together = bound._latent_prior(memory, addresses).mean
    for address, mean in zip(addresses, together, strict=True):
        alone = bound._latent_prior(memory, address[None]).mean[0]
        np.testing.assert_allclose(alone, mean, rtol=1e-5, atol=1e-6)
    other = bound.write(jax.random.key(0), 1 - episode())
    assert np.any(bound._latent_prior(other, addresses).mean != together)


@pytest.mark.parametrize("kind", [pytest.param(DNCMachine, marks=pytest.mark.slow), LRUAMachine])
def test_the_order_of_an_episode_matters(kind):
    """Unlike the Kanerva Machine's, these writes do not commute."""
    bound = tiny(kind).bind(initialize(tiny(kind)))
    address = jax.random.normal(jax.random.key(1), (4, 2))
    codes = jax.random.normal(jax.random.key(2), (4, 2))

    def contents(order):
        emitted = bound._emit(address[order], codes[order])
        memory = bound.memory_prior()
        for t in range(4):
            memory = bound._step(memory, jax.tree.map(lambda leaf, t=t: leaf[t], emitted))
        return memory.contents

    forth, back = contents(jnp.arange(4)), contents(jnp.arange(3, -1, -1))
    assert np.any(np.abs(forth - back) > 1e-3)


@pytest.mark.parametrize("kind", _KINDS)
def test_bad_fields_are_refused(kind):
    for field in ("num_slots", "num_heads", "controller_size"):
        with pytest.raises(UserError, match=f"{field} is 0; it must be at least 1"):
            initialize(tiny(kind, **{field: 0}))
