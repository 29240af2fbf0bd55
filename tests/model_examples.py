"""Every model, tiny: found by introspection, so that a new one need not be listed."""

import dataclasses
import functools
import importlib
import inspect
import math
import pkgutil
from collections.abc import Sequence

import flax.linen as nn
import jax
import numpy as np

from memjax import models
from memjax.models import VAE, VMA, KanervaMachine, MemVAE
from memjax.models.episodic import EpisodicVAE

_SHAPE, _BATCH, _SLOTS = (5, 5, 1), 8, 3


class Encoder(nn.Module):
    """A user's net, which knows one leading axis only."""

    @nn.compact
    def __call__(self, images):
        return nn.relu(nn.Dense(3)(images.reshape(images.shape[0], -1)))


class Decoder(nn.Module):
    """Another, of images of 25 pixels."""

    shape: Sequence[int] = _SHAPE

    @nn.compact
    def __call__(self, codes):
        return nn.Dense(math.prod(self.shape))(codes).reshape(codes.shape[0], *self.shape)


# What differs from the defaults, cut to tiny sizes: other code than theirs.
_VARIANTS = {
    VAE: {"otherwise": {"num_filters": 3, "convolutions": "pyramid", "likelihood": "gaussian"}},
    VMA: {
        "otherwise": {"num_slots": 3, "address_prior": "flat"},
        "with convolutions": {"num_filters": 3, "likelihood": "gaussian"},
        "with learned slots and convolutions": {"num_slots": 3, "num_filters": 3},
        "with a user's nets": {
            "encoder": Encoder(),
            "decoder": Decoder(),
            "embedding": Encoder(),
            "likelihood": "gaussian",
        },
    },
    KanervaMachine: {
        "otherwise": {
            "memory_mode": "distribution",
            "likelihood": "gaussian",
            "kl_warmup_steps": 3,
        },
        "by least squares": {
            "memory_mode": "sample",
            "addressing": "least_squares",
            "bottom_up": False,
        },
    },
    MemVAE: {
        "otherwise": {"likelihood": "gaussian", "attention": "softmax", "composition": "sum"},
    },
}
# To compile; others have their parts.
SLOW = (
    "DNCMachine",
    "KanervaMachine by least squares",
    "MatchingNetwork",
    "VAE otherwise",
    "VMA with convolutions",
    "VMA with learned slots and convolutions",
)


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
    if issubclass(cls, EpisodicVAE):
        own["num_filters"] = 0
    if isinstance(cls, models.NormalizesBatch):
        own["batch_axes"] = ("batch",)
    return cls(_SHAPE, **own | fields)


def images(*axes):
    return np.random.default_rng(0).integers(0, 2, (*axes, *_SHAPE)).astype(np.float32)


def inputs():
    """A query and a support."""
    return images(), images(_SLOTS)


def queries():
    """As many as a step takes."""
    return np.random.default_rng(1).integers(0, 2, (_BATCH, *_SHAPE)).astype(np.float32)


def one_query(model, rng_key, query, support):
    """All that has parameters."""
    return model(rng_key, query, model.write(rng_key, support), train=True)


@functools.cache
def shapes(model):
    """Of the variables; None for a frame that its subclasses fill."""
    rng_key = jax.random.key(0)
    try:
        with jax.numpy_rank_promotion("raise"):  # the images are constants of a compiled function
            init = jax.jit(lambda k: model.init(k, k, *inputs(), method=one_query))
            return jax.eval_shape(init, rng_key)
    except NotImplementedError:
        return None


def _models():
    for cls in _classes():
        for name, fields in {"": {}, **_VARIANTS.get(cls, {})}.items():
            yield f"{cls.__name__} {name}".strip(), tiny(cls, fields)


MODELS = dict(_models())
FRAMES = ("ControlledMachine", "EpisodicVAE")
NAMES = [name for name in MODELS if name not in FRAMES]


def initial(model):
    """Variables near those of the first step, by NumPy: nothing to compile.

    Vectors are positive, as biases of ReLUs that see something and as variances have to be.
    """
    rng = np.random.default_rng(0)

    def draw(leaf):
        values = 0.3 * rng.normal(size=leaf.shape)
        return (np.abs(values) if leaf.ndim < 2 else values).astype(leaf.dtype)

    return jax.tree.map(draw, shapes(model))


def methods(model):
    """Names of the public methods, and `__call__`."""
    cls, frame = type(model), dir(nn.Module)
    names = (name for name in dir(cls) if not name.startswith("_") and name not in frame)
    return ["__call__", *(name for name in names if inspect.isfunction(getattr(cls, name)))]


def parameters(model, method):
    """Of a public method, by name."""
    return inspect.signature(getattr(model, method)).parameters


_NOT_YET = object()


def arguments(model, method, rng_key, query, support, memory=_NOT_YET):
    """What a public method takes, by its parameters' names; the memory is written if not given."""
    wanted = parameters(model, method)
    known = {
        "rng_key": rng_key,
        "query": query,
        "image": query,
        "support": support,
        "num_samples": 2,
        "num_images": 3,
        "address": 1,
        "layer": 2,
        "latent": np.ones((2, 3), np.float32),
        "read_weights": np.ones(3, np.float32),
        "train": True,
    }
    if "memory" in wanted:
        known["memory"] = model.write(rng_key, support) if memory is _NOT_YET else memory
    unknown = {name for name, p in wanted.items() if p.default is p.empty} - set(known)
    assert not unknown, f"{type(model).__name__}.{method} takes {unknown}: add it to `known` here"
    return {name: known[name] for name in wanted if name in known}


def call(model, method, variables, *given):
    """What a public method gives, and what becomes of the other collections than "params".

    `given` are `arguments`' own.
    """

    def run(bound):
        return getattr(bound, method)(**arguments(bound, method, *given))

    def one(_):
        others = [name for name in variables if name != "params"]
        return model.apply(variables, method=run, mutable=others)

    for axis in getattr(model, "batch_axes", ()):
        one = jax.vmap(one, axis_name=axis, axis_size=1)
    nested = np.zeros((1,) * len(getattr(model, "batch_axes", ())))
    return one(nested)
