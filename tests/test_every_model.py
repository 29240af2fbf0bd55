"""Every model under JAX's own switches: found by introspection, so a new one need not be listed.

Almost all of it is traced only: there the switches speak.
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Sequence

import flax.linen as nn
import flax.serialization
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import models
from memjax.errors import UserError
from memjax.models.kanerva_machine import KanervaMachine
from memjax.models.mem_vae import MemVAE
from memjax.models.vma import VMA

_SHAPE, _EPISODE, _SLOTS = (5, 5, 1), 3, 4
# What differs from the defaults, cut to tiny sizes: other code than theirs.
_VARIANTS = {
    VMA: {"num_slots": 3, "address_prior": "flat"},
    KanervaMachine: {
        "memory_mode": "distribution",
        "addressing": "least_squares",
        "likelihood": "gaussian",
        "kl_warmup_steps": 3,
    },
    MemVAE: {"likelihood": "gaussian", "attention": "softmax", "composition": "sum"},
}
SLOW = ("ConvVMA", "DNCMachine", "MatchingNetwork")  # to compile


def _classes():
    for module in pkgutil.iter_modules(models.__path__):
        module = importlib.import_module(f"{models.__name__}.{module.name}")
        for value in vars(module).values():
            own = getattr(value, "__module__", None) == module.__name__
            if own and isinstance(value, type) and issubclass(value, nn.Module):
                yield value


def _cut(default):
    """At most 3, which every size may be."""
    if isinstance(default, tuple):
        return tuple(_cut(x) for x in default)
    return min(default, 3) if type(default) is int else default


def tiny(cls, fields):
    own = {
        f.name: _cut(f.default) for f in dataclasses.fields(cls) if f.type in (int, Sequence[int])
    }
    del own["image_shape"]
    if episodic(cls):
        own["num_filters"] = 0
    return cls(_SHAPE, **own | fields)


def episodic(model):
    return hasattr(model, "memory_prior")


def images(*axes):
    return np.random.default_rng(0).integers(0, 2, (*axes, *_SHAPE)).astype(np.float32)


def batch(model):
    """Queries and the support."""
    return images(_EPISODE) if episodic(model) else images(), images(_SLOTS)


@functools.cache
def shapes(model):
    """Of the variables; None for a frame that its subclasses fill."""
    rng_key = jax.random.key(0)
    try:
        with jax.numpy_rank_promotion("raise"):  # the images are constants of a compiled function
            init = jax.jit(lambda k: model.init(k, k, *batch(model), train=True))
            return jax.eval_shape(init, rng_key)
    except NotImplementedError:
        return None


def _models():
    for cls in _classes():
        for fields in ({}, _VARIANTS[cls]) if cls in _VARIANTS else ({},):
            yield tiny(cls, fields), cls.__name__ + (" otherwise" if fields else "")


MODELS = {name: model for model, name in _models()}
_FRAMES = ("ControlledMachine", "EpisodicVAE")
NAMES = [name for name in MODELS if name not in _FRAMES]


def test_frames_are_no_models():
    for name in _FRAMES:
        assert shapes(MODELS[name]) is None
        assert any(issubclass(type(MODELS[n]), type(MODELS[name])) for n in NAMES)


def methods(model):
    """Names of the public methods, and `__call__`."""
    cls, frame = type(model), dir(nn.Module)
    names = (name for name in dir(cls) if not name.startswith("_") and name not in frame)
    return ["__call__", *(name for name in names if inspect.isfunction(getattr(cls, name)))]


def arguments(model, method, rng_key, query, support):
    """What a public method takes, by its parameters' names."""
    known = {
        "rng_key": rng_key,
        "query": query,
        "support": support,
        "images": query,
        "memory": model.write(rng_key, query) if episodic(model) else None,
        "num_samples": 2,
        "address": 1,
        "layer": 2,
        "latent": np.ones((2, 3), np.float32),
        "read_weights": np.ones((2, 3), np.float32),
        "train": True,
    }
    parameters = list(inspect.signature(getattr(model, method)).parameters.values())
    named = {p.name: known[p.name] for p in parameters if p.name in known}
    unknown = {p.name for p in parameters if p.default is p.empty} - set(named)
    assert not unknown, f"{type(model).__name__}.{method} takes {unknown}: add it to `known` here"
    return named


def call(model, method, variables, rng_key, query, support):
    """What a public method gives, and what becomes of the other collections than "params"."""

    def run(bound):
        return getattr(bound, method)(**arguments(bound, method, rng_key, query, support))

    def one(_):
        others = [name for name in variables if name != "params"]
        return model.apply(variables, method=run, mutable=others)

    for axis in getattr(model, "batch_axes", ()):
        one = jax.vmap(one, axis_name=axis, axis_size=1)
    nested = np.zeros((1,) * len(getattr(model, "batch_axes", ())))
    return one(nested)


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


@pytest.mark.parametrize("name", NAMES)
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


def initial(model):
    """Variables near those of the first step, by NumPy: nothing to compile."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: (0.3 * rng.normal(size=x.shape)).astype(x.dtype), shapes(model))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in NAMES]
)
def test_no_gradient_step_makes_a_nan(name):
    """Nor an infinity, on images and with parameters at the edge."""
    model = MODELS[name]
    params, others = split(initial(model))
    others = jax.tree.map(np.abs, others)  # variances, and counts of steps
    query, support = batch(model)
    step = jax.jit(jax.value_and_grad(functools.partial(objective, model)))
    inputs = {
        "noise": (query, support),
        "black": (0 * query, 0 * support),
        "white": (0 * query + 1, 0 * support + 1),
    }
    with jax.debug_nans(True):
        # Nothing bounds the scale of a Gaussian pixel.
        gaussian = getattr(model, "likelihood", "bernoulli") == "gaussian"
        for scale in (0.0, 1.0) if gaussian else (0.0, 1.0, 10.0):
            scaled = jax.tree.map(lambda x, s=scale: s * x, params)
            for kind, images in inputs.items():
                found = step(scaled, others, jax.random.key(0), *images)
                assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(found)), (scale, kind)
