import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memjax import training
from memjax.errors import UserError
from tests.conftest import make_vma_config


def config_with(**optimizer):
    config = make_vma_config()
    config.episodes = config.eval.episodes = {"name": "minibatch", "batch_size": 8}
    config.model = {"name": "vae.VAE", "hidden_sizes": (4,), "latent_size": 1}
    config.optimizer.name = "sgd"
    config.optimizer.update(optimizer)
    return config


def test_the_learning_rate_is_annealed_every_so_many_steps():
    fields = {"anneal_factor": 0.5, "anneal_start": 3, "anneal_every": 2, "learning_rate": 0.1}
    optimizer = training.build(config_with(**fields)).optimizer
    params = {"x": jnp.zeros(())}
    state, rates = optimizer.init(params), []
    for _ in range(8):
        updates, state = optimizer.update({"x": jnp.ones(())}, state, params)
        rates.append(-float(updates["x"]))
        params = optax.apply_updates(params, updates)
    assert rates == pytest.approx([0.1] * 5 + [0.05] * 2 + [0.025])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"anneal_start": 8}, "anneal_start is 8; it must be below training.num_steps, 8"),
        ({"anneal_start": -1}, "anneal_start is -1; it must be below training.num_steps, 8, and"),
        ({"anneal_every": 0}, "anneal_every is 0; it must be at least 1"),
        ({"anneal_factor": 1.5}, "anneal_factor is 1.5; it must be above 0 and at most 1"),
        ({"decay_steps": 4}, "has decay_steps and anneal_factor, two schedules; give one"),
    ],
)
def test_schedules_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        training.build(config_with(**({"anneal_factor": 0.998} | fields)))


def test_a_memory_has_a_learning_rate_of_its_own():
    optimizer = training.build(config_with(learning_rate=0.5, memory_rate=30.0)).optimizer
    params = {"net": {"kernel": jnp.ones(2)}, "layer": {"memory": jnp.ones(2)}}
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    np.testing.assert_allclose(updates["net"]["kernel"], -0.5)
    np.testing.assert_allclose(updates["layer"]["memory"], -15.0)
    with pytest.raises(UserError, match=r"memory_rate is 30\.0; it must be 1\.0: the model has"):
        optimizer.init({"net": {"kernel": jnp.ones(2)}})


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_no_memory_can_have_is_refused(rate):
    with pytest.raises(UserError, match=f"memory_rate is {rate}; it must be above 0 and finite"):
        training.build(config_with(memory_rate=rate))


def test_weight_decay_is_the_gradient_of_l2_and_spares_the_memory(tiny_config):
    tiny_config.optimizer.name = "sgd"
    tiny_config.optimizer.learning_rate = 0.5
    tiny_config.optimizer.l2 = 0.1
    optimizer = training.build(tiny_config).optimizer
    params = {"net": {"kernel": jnp.full(2, 3.0)}, "memory": jnp.full(2, 3.0)}
    gradient = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    np.testing.assert_allclose(updates["net"]["kernel"], -0.5 * (1 + 0.1 * 3), rtol=1e-6)
    np.testing.assert_allclose(updates["memory"], -0.5, rtol=1e-6)
