"""Every model under JAX's own switches; almost all is traced only: there the switches speak."""

import functools
import inspect

import flax.serialization
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.errors import UserError
from tests.model_examples import (
    FRAMES,
    MODELS,
    NAMES,
    SLOW,
    batch,
    call,
    images,
    initial,
    methods,
    shapes,
)

# Of parameters that float32 can take: nothing bounds the scale of a Gaussian pixel, and numbers
# grow by a factor with each of many layers.
_LARGEST_SCALE = {
    "KanervaMachine": 10.0,
    "KanervaMachine otherwise": 1.0,
    "LRUAMachine": 10.0,
    "MatchingNetwork": 1.0,
    "MemVAE otherwise": 1.0,
    "SoftMemory": 10.0,
}


def test_frames_are_no_models():
    for name in FRAMES:
        assert shapes(MODELS[name]) is None
        assert any(issubclass(type(MODELS[n]), type(MODELS[name])) for n in NAMES)


def float_types(tree):
    types = {leaf.dtype for leaf in jax.tree.leaves(tree)}
    return {t for t in types if jnp.issubdtype(t, jnp.floating)}


def types(tree):
    return jax.tree.map(lambda leaf: leaf.dtype, tree)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_under_all_switches_at_once(name):
    """Strict ranks, old-style keys of four numbers, x64; results stay float32 whatever comes in."""
    model = MODELS[name]
    variables = shapes(model)
    others = {k: v for k, v in variables.items() if k != "params"}
    low = [jax.ShapeDtypeStruct(x.shape, jnp.bfloat16) for x in batch(model)]
    old_key = jax.ShapeDtypeStruct((4,), jnp.uint32)
    with (
        jax.numpy_rank_promotion("raise"),
        jax.enable_x64(True),
        jax.default_prng_impl("rbg"),
    ):
        for method in methods(model):
            run = functools.partial(call, model, method)
            found, after = jax.eval_shape(run, variables, old_key, *low)
            assert float_types(found) <= {jnp.dtype(jnp.float32)}, method
            assert types(after) == types(others)


@pytest.mark.parametrize("name", NAMES)
def test_integer_images_are_refused_by_name(name):
    model = MODELS[name]
    variables, (query, support) = shapes(model), batch(model)
    rng_key = jax.random.key(0)
    for method in methods(model):
        takes = inspect.signature(getattr(model, method)).parameters
        argument = next((a for a in ("query", "images") if a in takes), None)
        if argument:
            with pytest.raises(UserError, match=r"(query|images) is uint8; it must be floating"):
                jax.eval_shape(
                    functools.partial(call, model, method),
                    variables,
                    rng_key,
                    query.astype(np.uint8),
                    support,
                )


def objective(model, params, others, rng_key, query, support):
    variables = {"params": params, **others}
    (bound, _), _ = call(model, "__call__", variables, rng_key, query, support)
    return jnp.sum(bound)


def split(variables):
    others = {k: v for k, v in variables.items() if k != "params"}
    return variables["params"], others


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in NAMES]
)
def test_every_derivative_of_a_checkpointed_loss(name):
    """Forward, and forward over reverse, which a Hessian's product is."""
    model = MODELS[name]
    params, others = split(shapes(model))
    rng_key = jax.random.key(0, impl="unsafe_rbg")
    loss = functools.partial(objective, model)

    def products(params, others, *inputs):
        def gradient(params):
            return jax.grad(jax.checkpoint(loss))(params, others, *inputs)

        forward = jax.jvp(lambda p: loss(p, others, *inputs), (params,), (params,))
        return forward, jax.jvp(gradient, (params,), (params,))

    with jax.numpy_rank_promotion("raise"):
        (_, slope), (gradient, product) = jax.eval_shape(
            products, params, others, rng_key, *batch(model)
        )
    assert slope.shape == ()
    assert types(gradient) == types(product) == types(params)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_exported_under_nested_vmap_and_its_variables_saved(name):
    model = MODELS[name]
    variables = shapes(model)
    query, support = batch(model)

    def run(variables, key_data, queries):
        rng_key = jax.random.wrap_key_data(key_data)
        one = functools.partial(call, model, "__call__", variables, rng_key, support=support)
        return jax.vmap(jax.vmap(lambda query: one(query=query)))(queries)

    queries = jax.ShapeDtypeStruct((2, 3, *query.shape), query.dtype)
    key_data = jax.ShapeDtypeStruct((2,), jnp.uint32)
    exported = jax.export.export(jax.jit(run))(variables, key_data, queries)
    again = jax.export.deserialize(exported.serialize())
    assert again.in_tree == exported.in_tree and again.out_avals == exported.out_avals
    assert again.out_avals[0].shape[:2] == (2, 3)

    rng = np.random.default_rng(0)
    values = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), variables)
    saved = flax.serialization.to_bytes(values)
    zeros = jax.tree.map(np.zeros_like, values)
    jax.tree.map(np.testing.assert_array_equal, flax.serialization.from_bytes(zeros, saved), values)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in NAMES]
)
def test_a_gradient_step_is_finite(name):
    """On images and with parameters at the edge; `jax_debug_nans` has nothing to say."""
    model = MODELS[name]
    params, others = split(initial(model))
    others = jax.tree.map(np.abs, others)  # variances, and counts of steps
    query, support = batch(model)
    step = jax.jit(jax.value_and_grad(functools.partial(objective, model)))
    inputs = {
        "noise": (query, support),
        "black": (0 * query, 0 * support),
        "white": (0 * query + 1, 0 * support + 1),
        "identical": (0 * query + images(), 0 * support + images()),
    }
    with jax.debug_nans(True):
        for scale in (0.0, 1.0, 10.0, 100.0):
            if scale > _LARGEST_SCALE.get(name, 100.0):
                continue
            scaled = jax.tree.map(lambda x, s=scale: s * x, params)
            for kind, pair in inputs.items():
                found = step(scaled, others, jax.random.key(0), *pair)
                assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(found)), (scale, kind)
