import jax
import jax.numpy as jnp
import numpy as np

from memjax import training


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


def test_an_older_config_has_no_weight_decay(tiny_config):
    del tiny_config.optimizer.l2
    assert training.build(tiny_config).optimizer
