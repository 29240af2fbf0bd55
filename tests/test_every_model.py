"""Every model under JAX's own switches; almost all is traced only: there the switches speak."""

import functools

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
    call,
    initial,
    inputs,
    methods,
    parameters,
    queries,
    shapes,
)

# Of parameters that float32 can take: nothing bounds the scale of a Gaussian pixel, and numbers
# grow by a factor with each of many layers.
_LARGEST_SCALE = {
    "KanervaMachine": 10.0,
    "KanervaMachine by least squares": 1.0,
    "KanervaMachine otherwise": 1.0,
    "LRUAMachine": 10.0,
    "MatchingNetwork": 1.0,
    "MemVAE otherwise": 1.0,
    "SoftMemory": 10.0,
    "VAE otherwise": 1.0,
    "VMA with a user's nets": 1.0,
    "VMA with convolutions": 1.0,
    "VMA with learned slots and convolutions": 1.0,
}


_SLOW_TWICE = [*SLOW, "SoftMemory", *(n for n in NAMES if " " in n)]
_SLOW_EXPORT = [*_SLOW_TWICE, "LRUAMachine"]

# To compile; their derivatives are traced, or those of the same class are compiled.
_SLOW_GRADIENT = [*SLOW, "LRUAMachine", *(n for n in NAMES if " " in n)]

# Whose pyramids see nothing of these images: `test_soft_memory` has others.
_DEAD = ["MatchingNetwork"]


def marked(slow):
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in slow)) for name in NAMES]


def test_frames_are_no_models():
    for name in FRAMES:
        assert shapes(MODELS[name]) is None
        assert any(issubclass(type(MODELS[n]), type(MODELS[name])) for n in NAMES)


def float_types(tree):
    types = {leaf.dtype for leaf in jax.tree.leaves(tree)}
    return {t for t in types if jnp.issubdtype(t, jnp.floating)}


def types(tree):
    return jax.tree.map(lambda leaf: leaf.dtype, tree)


@pytest.mark.parametrize("name", marked([*SLOW, *(n for n in NAMES if "otherwise" in n)]))
def test_every_method_under_all_switches_at_once(name):
    """Strict ranks, old-style keys of four numbers, x64; results stay float32 whatever comes in."""
    model = MODELS[name]
    variables = shapes(model)
    others = {k: v for k, v in variables.items() if k != "params"}
    low = [jax.ShapeDtypeStruct(x.shape, jnp.bfloat16) for x in inputs()]
    old_key = jax.ShapeDtypeStruct((4,), jnp.uint32)

    def run(variables, *given):
        memory = model.apply(variables, given[0], given[2], method="write")
        return {method: call(model, method, variables, *given, memory) for method in methods(model)}

    with (
        jax.numpy_rank_promotion("raise"),
        jax.enable_x64(True),
        jax.default_prng_impl("rbg"),
    ):
        for method, (found, after) in jax.eval_shape(run, variables, old_key, *low).items():
            assert float_types(found) <= {jnp.dtype(jnp.float32)}, method
            assert types(after) == types(others)


@pytest.mark.parametrize("name", marked([n for n in NAMES if " " in n]))
def test_integer_images_are_refused_by_name(name):
    model = MODELS[name]
    variables, rng_key = shapes(model), jax.random.key(0)
    write = functools.partial(model.apply, method="write")
    memory = jax.eval_shape(lambda v: write(v, rng_key, inputs()[1]), variables)

    def run(method, **given):
        given = dict(zip(("query", "support"), inputs(), strict=True)) | given
        one = functools.partial(call, model, method)
        return jax.eval_shape(lambda v, m: one(v, rng_key, *given.values(), m), variables, memory)

    def is_looked_at():
        try:
            return not run("write", support="no support")
        except UserError:
            return True

    for method in methods(model):
        for argument in {"query", "image"} & set(parameters(model, method)):
            with pytest.raises(UserError, match=rf"^{argument} is uint8; it must be floating"):
                run(method, query=inputs()[0].astype(np.uint8))
    if is_looked_at():
        with pytest.raises(UserError, match=r"^support is uint8; it must be floating"):
            run("write", support=inputs()[1].astype(np.uint8))


def objective(model, params, others, rng_key, queries, support):
    """The mean of a batch's, as training has it."""

    def one(rng_key, query):
        def run(bound):
            memory = bound.write(write_rng_key, support)
            return bound(rng_key, query, memory, train=True)[0]

        return model.apply(variables, method=run, mutable=list(others))[0]

    variables = {"params": params, **others}
    write_rng_key, rng_key = jax.random.split(rng_key)
    rng_keys = jax.random.split(rng_key, len(queries))
    return jnp.mean(jax.vmap(one, axis_name="batch")(rng_keys, queries))


def split(variables):
    others = {k: v for k, v in variables.items() if k != "params"}
    return variables["params"], others


@pytest.mark.parametrize("name", marked(_SLOW_TWICE))
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
            products, params, others, rng_key, queries(), inputs()[1]
        )
    assert slope.shape == ()
    assert types(gradient) == types(product) == types(params)


@pytest.mark.parametrize("name", marked(_SLOW_EXPORT))
def test_a_model_is_exported_under_nested_vmap_and_its_variables_saved(name):
    model = MODELS[name]
    variables = shapes(model)
    query, support = inputs()

    def run(variables, key_data, queries):
        rng_key = jax.random.wrap_key_data(key_data)
        one = functools.partial(call, model, "__call__", variables, rng_key)
        return jax.vmap(jax.vmap(lambda query: one(query, support)))(queries)

    many = jax.ShapeDtypeStruct((2, 3, *query.shape), query.dtype)
    key_data = jax.ShapeDtypeStruct((2,), jnp.uint32)
    exported = jax.export.export(jax.jit(run))(variables, key_data, many)
    again = jax.export.deserialize(exported.serialize())
    assert again.in_tree == exported.in_tree and again.out_avals == exported.out_avals
    assert again.out_avals[0].shape[:2] == (2, 3)

    rng = np.random.default_rng(0)
    values = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), variables)
    saved = flax.serialization.to_bytes(values)
    zeros = jax.tree.map(np.zeros_like, values)
    jax.tree.map(np.testing.assert_array_equal, flax.serialization.from_bytes(zeros, saved), values)


@pytest.mark.parametrize("name", marked(_SLOW_GRADIENT))
def test_a_gradient_step_is_finite_and_reaches_every_parameter(name):
    """On images and with parameters at the edge; `jax_debug_nans` has nothing to say."""
    model = MODELS[name]
    params, others = split(initial(model))
    query, support = queries(), inputs()[1]
    step = jax.jit(jax.value_and_grad(functools.partial(objective, model)))
    given = {
        "noise": (query, support),
        "black": (0 * query, 0 * support),
        "white": (0 * query + 1, 0 * support + 1),
        "identical": (0 * query + query[0], 0 * support + query[0]),
    }
    with jax.debug_nans(True):
        for scale in (0.0, 1.0, 10.0, 100.0):
            if scale > _LARGEST_SCALE.get(name, 100.0):
                continue
            scaled = jax.tree.map(lambda x, s=scale: s * x, params)
            for kind, pair in given.items():
                found = step(scaled, others, jax.random.key(0), *pair)
                assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(found)), (scale, kind)
                if (scale, kind) == (1.0, "noise") and name not in _DEAD:
                    assert_reaches_all(model, found[1])


def assert_reaches_all(model, gradient):
    """But the biases that batch normalisation takes away again."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        idle = hasattr(model, "batch_axes") and "['dense']['bias']" in jax.tree_util.keystr(path)
        assert np.any(leaf != 0) or idle, jax.tree_util.keystr(path)
