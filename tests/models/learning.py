"""What the tests of several models ask of a gradient."""

import jax
import numpy as np


def assert_every_parameter_learns(model, params, support, queries):
    """The gradient of the mean objective is finite everywhere, and no leaf of it is zero."""

    @jax.jit
    def gradient(params):
        def objective(params):
            rng_keys = jax.random.split(jax.random.key(0), len(queries))
            bound = jax.vmap(lambda k, x: model.apply(params, k, x, support, train=True)[0])
            return bound(rng_keys, queries).mean()

        return jax.grad(objective)(params)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0), jax.tree_util.keystr(path)
