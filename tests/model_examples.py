"""Every model, tiny: found by introspection, so that a new one need not be listed."""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Sequence

import flax.linen as nn
import jax
import numpy as np

from memjax import models
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
# To compile; others have their parts.
SLOW = ("ConvVMA", "DNCMachine", "LRUAMachine", "MatchingNetwork", "PyramidVAE", "SoftMemory")


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
    sizes = [f for f in dataclasses.fields(cls) if f.type in (int, Sequence[int])]
    own = {f.name: _cut(f.default) for f in sizes if f.name != "image_shape"}
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
FRAMES = ("ControlledMachine", "EpisodicVAE")
NAMES = [name for name in MODELS if name not in FRAMES]


def initial(model):
    """Variables near those of the first step, by NumPy: nothing to compile."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: (0.3 * rng.normal(size=x.shape)).astype(x.dtype), shapes(model))


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
