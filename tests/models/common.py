"""What the tests of several models share: variables drawn by NumPy, compiled calls."""

import functools
import re

import jax
import numpy as np
import pytest

from memjax.errors import UserError

NUM_SLOTS = 4  # of a support


def images(seed, *axes):
    """Binary ones; the last axes are an image's."""
    return np.random.default_rng(seed).integers(0, 2, axes).astype(np.float32)


def inputs(model):
    """A query `[H, W, C]` and a support."""
    return images(2, *model.image_shape), images(1, NUM_SLOTS, *model.image_shape)


def one_query(model, rng_key, query, support, train=False):
    """All that has parameters."""
    return model(rng_key, query, model.write(rng_key, support), train=train)


@functools.cache
def initialize(model):
    """Variables away from their first values, of sizes that keep a signal's, by NumPy."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name, values = jax.tree_util.keystr(path), rng.normal(size=leaf.shape)
        if name.endswith(("['var']", "['scale']")):
            values = 0.5 + np.abs(values)
        elif name.endswith("bias']"):
            values = 0.4 * np.abs(values)  # few ReLUs are dead then
        elif leaf.ndim < 2:
            values = 0.4 * values + name.endswith(".a3")
        else:
            values = values * np.sqrt(1.0 / np.prod(leaf.shape[:-1]))
        return values.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes(model))


def shapes(model, support="its own"):
    """Of the variables."""
    query, own = inputs(model)
    init = functools.partial(model.init, method=one_query)
    rng_key = jax.random.key(0)
    return jax.eval_shape(init, rng_key, rng_key, query, own if support == "its own" else support)


@functools.partial(jax.jit, static_argnames=("model", "method", "options"))
def _apply(model, variables, arguments, method, options):
    return model.apply(variables, *arguments, method=method, **dict(options))


def apply(model, variables, *arguments, method, **options):
    """Compiled once for a model, a method and options."""
    return _apply(model, variables, arguments, method, tuple(options.items()))


def assert_mean_is(weights, exact):
    """Of weights `[L, ...]`, within five standard errors, and those are small."""
    error = weights.std(axis=0) / np.sqrt(len(weights))
    assert np.all(np.abs(weights.mean(axis=0) - exact) < 5 * error)
    assert np.all(error < 0.1 * exact)  # the test can tell


def assert_refused(model, pattern, **options):
    """When it is initialised, in one line."""
    with pytest.raises(UserError) as caught:
        shapes(model, **options)
    message = str(caught.value)
    assert re.search(pattern, message) and "\n" not in message, message


def assert_every_parameter_learns(model):
    """The gradient of the mean objective is finite everywhere, and no leaf of it is zero."""
    queries = images(3, 16, *model.image_shape)
    rng_keys = jax.random.split(jax.random.key(0), len(queries))
    variables = initialize(model)
    others = {name: value for name, value in variables.items() if name != "params"}

    @jax.jit
    @jax.grad
    def gradient(params):
        run = functools.partial(model.apply, {"params": params, **others})
        memory = run(rng_keys[0], inputs(model)[1], method="write")
        return jax.vmap(lambda k, x: run(k, x, memory, train=True)[0])(rng_keys, queries).mean()

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(variables["params"])):
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0), jax.tree_util.keystr(path)
