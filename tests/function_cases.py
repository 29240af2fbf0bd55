"""Every public function of the memories and the estimators, as a function of its example."""

import functools
import importlib
import inspect
import pkgutil

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from memjax import estimators, memory
from tests.function_examples import EXAMPLES

_INTERNAL = ("checks", "conditioning", "masking", "states", "streaming")  # and what begins with _
_SCALES = (1.0, 0.875, 0.9375, 0.75)


def _find():
    """By "module.function"; a new module of memories is found too."""
    for name in estimators.__all__:
        yield f"estimators.{name}", getattr(estimators, name)
    for found in pkgutil.iter_modules(memory.__path__):
        if found.name in _INTERNAL or found.name.startswith("_"):
            continue
        module = importlib.import_module(f"{memory.__name__}.{found.name}")
        for name, value in vars(module).items():
            own = callable(value) and getattr(value, "__module__", None) == module.__name__
            if own and not isinstance(value, type) and not name.startswith("_"):
                yield f"{found.name}.{name}", value


FUNCTIONS = dict(_find())
NAMES = [name for name in EXAMPLES if name.split()[0] in FUNCTIONS]
WITH_ARGUMENTS = [name for name in NAMES if EXAMPLES[name].arguments]
DIFFERENTIABLE = [name for name in WITH_ARGUMENTS if EXAMPLES[name].derivatives != "none"]
RANDOM = [
    name for name in NAMES if "rng_key" in inspect.signature(FUNCTIONS[name.split()[0]]).parameters
]


class Case:
    """A function of a dict of its arguments, and what of it is compiled for several tests."""

    def __init__(self, name):
        self.example, self.function = EXAMPLES[name], FUNCTIONS[name.split()[0]]
        self.takes_key = name in RANDOM
        self.traces = 0

    def __call__(self, arguments, rng_key=None):
        if self.takes_key:
            rng_key = jax.random.key(0) if rng_key is None else rng_key
            arguments = {"rng_key": rng_key, **arguments}
        return self.example.then(self.function(**arguments, **self.example.options))

    def numbers(self, arguments):
        """What is differentiable of the result."""
        return floats(self(arguments))

    def arguments(self, dtype=jnp.float64, scale=1.0, **changes):
        """As JAX's arrays of any type, of numbers that every type holds."""
        scale = 1.0 if self.example.fixed else scale
        return jax.tree.map(
            lambda leaf: jnp.asarray((scale * leaf).astype(jnp.bfloat16).astype(dtype)),
            self.example.arguments | changes,
        )

    def directions(self, like, seed):
        """Normal numbers, symmetric where a covariance is; in the form of `like`."""
        rng = np.random.default_rng(seed)

        def draw(path, leaf):
            drawn = rng.normal(size=leaf.shape)
            if "row_cov" in jax.tree_util.keystr(path) and drawn.ndim == 2:
                drawn = 0.5 * (drawn + drawn.T)
            return np.asarray(drawn).astype(jnp.bfloat16).astype(leaf.dtype)

        return jax.tree_util.tree_map_with_path(draw, like)

    @functools.cached_property
    def jitted(self):
        def counted(arguments, rng_key):
            self.traces += 1
            return self(arguments, rng_key)

        return jax.jit(counted)

    @functools.cached_property
    def compiled(self):
        """The function of its arguments through `jax.export`, with its memory donated."""
        old_key = jax.random.PRNGKey(0)
        exported = jax.export.export(self.jitted)(self.arguments(), old_key)
        call = jax.export.deserialize(exported.serialize()).call
        donating = jax.jit(lambda memory, rest: call(memory | rest, old_key), donate_argnums=0)

        def run(arguments):
            memory = {k: jax.tree.map(jnp.copy, arguments[k]) for k in {"memory"} & {*arguments}}
            return donating(memory, {k: v for k, v in arguments.items() if k != "memory"})

        return run

    @functools.cached_property
    def cotangents(self):
        return self.directions(jax.eval_shape(self.numbers, self.arguments()), 1)

    @functools.cached_property
    def derived(self):
        """Value, its derivative along a direction, its transpose, and the transpose's derivative.

        The transpose is that of the function under `jax.checkpoint`; all is mapped twice.
        """
        kind, cotangents = self.example.derivatives, self.cotangents

        def numbers_and_all(arguments):
            result = self(arguments)
            return floats(result), result

        def transpose(arguments):
            again = jax.checkpoint(numbers_and_all)
            value, pull_back, result = jax.vjp(again, arguments, has_aux=True)
            return (value, pull_back(cotangents)[0]), result

        def derive(arguments, tangents):
            if kind == "none":
                return self(arguments), None, None, None
            if kind == "reverse":
                (_, back), result = transpose(arguments)
                return result, None, back, None
            one = (arguments,), (tangents,)
            (_, back), (along, second), result = jax.jvp(transpose, *one, has_aux=True)
            return result, along, back, second

        return jax.jit(jax.vmap(jax.vmap(derive, (0, None)), (0, None)))

    def at(self, examples, step=0.0):
        """What `derived` gives at four examples, or at so many steps along the tangents."""
        tangents = self.directions(self.arguments(), 0)
        moved = [jax.tree.map(lambda leaf, t: leaf + step * t, e, tangents) for e in examples]
        square = jax.tree.map(
            lambda *leaves: np.stack(leaves).reshape(2, 2, *leaves[0].shape), *moved
        )
        return self.derived(square, tangents)

    @functools.cached_property
    def scaled(self):
        """The example, and three like it."""
        return [self.arguments(scale=scale) for scale in _SCALES]

    @functools.cached_property
    def at_scaled(self):
        return self.at(self.scaled)

    @functools.cached_property
    def low(self):
        """Value and gradient, for arguments of a type with few digits."""
        kind = self.example.derivatives

        def value_and_gradient(arguments):
            value, pull_back = jax.vjp(self.numbers, arguments)
            cotangents = [c.astype(v.dtype) for c, v in zip(self.cotangents, value, strict=True)]
            return value, None if kind == "none" else pull_back(cotangents)[0]

        return jax.jit(value_and_gradient)


case = functools.cache(Case)


def floats(tree):
    """The floating-point leaves."""
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]


def dot(batch, one):
    """The inner products `[2, 2]` of trees `[2, 2, ...]` and `[...]`."""
    pairs = zip(jax.tree.leaves(batch), jax.tree.leaves(one), strict=True)
    return sum(np.sum(np.asarray(a) * b, axis=tuple(range(2, a.ndim))) for a, b in pairs)


def assert_close(found, expected, tolerance=1e-9):
    """Relative to the largest entry of each leaf, if that is above 1."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        scale = max(1.0, np.abs(b).max(initial=0.0))
        np.testing.assert_allclose(a, b, rtol=0.0, atol=tolerance * scale)
