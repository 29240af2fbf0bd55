"""What any function of arrays owes its inputs' types: cases, and how one is judged.

A case is (function, oracle, values). `function(values)` gives results of JAX and what the oracle
needs to know of them; `oracle(known, values)` gives the same results in float64 NumPy. `values` are
float64 arrays, by the names that the function's errors give them.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np


def normal(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


def uniform(*shape):
    return np.random.default_rng(sum(shape)).uniform(0.05, 0.95, size=shape)


def split(kind, values):
    """The state whose fields are called "memory.x" or the like, and the other values."""
    fields = {name.split(".")[1]: value for name, value in values.items() if "." in name}
    return kind(**fields), {name: value for name, value in values.items() if "." not in name}


def assert_right(case, dtype):
    """Values and gradients differ from float64's, for the same inputs, by one rounding at most.

    The gradient is that of all results, each times 1, 1/2 or 1/4; the oracle's by differences.
    """
    function, oracle, values = case
    narrow = {name: jnp.asarray(value, dtype) for name, value in values.items()}
    exact = {name: np.asarray(value, np.float64) for name, value in narrow.items()}
    shares = [
        np.random.default_rng(0).choice([0.25, 0.5, 1.0], leaf.shape)
        for leaf in jax.tree.leaves(jax.eval_shape(function, narrow)[0])
    ]

    @jax.jit
    def differentiated(values):
        results, pull_back, known = jax.vjp(function, values, has_aux=True)
        cotangent = [jnp.asarray(share, dtype) for share in shares]
        cotangent = jax.tree.unflatten(jax.tree.structure(results), cotangent)
        return results, pull_back(cotangent)[0], known

    results, gradients, known = differentiated(narrow)
    known = jax.tree.map(np.asarray, known)

    def total(values):
        expected = jax.tree.leaves(oracle(known, values))
        return sum(np.sum(share * leaf) for share, leaf in zip(shares, expected, strict=True))

    expected = jax.tree.leaves(oracle(known, exact))
    for found, right in zip(jax.tree.leaves(results), expected, strict=True):
        _assert_one_rounding(found, right, dtype)
    for name, found in gradients.items():
        right = np.zeros(exact[name].shape)
        for index in np.ndindex(*right.shape):
            step = np.zeros_like(right)
            step[index] = 1e-4 * max(np.abs(exact[name]).max(), 1e-30)
            up, down = (total(exact | {name: exact[name] + d}) for d in (step, -step))
            right[index] = (up - down) / (2 * step[index])
        _assert_one_rounding(found, right, dtype, name)


def assert_taken_from_numpy(case):
    """Float64 arrays and nested lists mean what float32 arrays mean, and no warning is given."""
    function, _, values = case
    narrow = {name: np.asarray(value, np.float32) for name, value in values.items()}
    expected = jax.eval_shape(lambda: function(narrow)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for given in (values, {name: np.asarray(v).tolist() for name, v in values.items()}):
            assert jax.eval_shape(lambda given=given: function(given)[0]) == expected


def assert_refused_in_one_line(case, but=()):
    """What is no array of real numbers, or of another shape; `but` names what may be anything."""
    function, _, values = case
    bad = ["abc", None, [[1.0], [1.0, 2.0]], np.ones(2, np.complex64), np.zeros((97, 98, 99))]
    for name in set(values) - set(but):
        for other in [*bad, np.ones(np.shape(values[name]), np.uint8)]:
            try:
                jax.eval_shape(lambda name=name, other=other: function(values | {name: other}))
            except ValueError as error:
                message = str(error)
                assert name in message and "\n" not in message, message
            else:
                raise AssertionError(f"{name} may be {other!r}")


def _assert_one_rounding(found, right, dtype, name=""):
    assert found.dtype == dtype and found.shape == np.shape(right)
    limits = jnp.finfo(dtype)
    found = np.asarray(found, np.float64)
    slack = 3e-6 * np.max(np.abs(right), initial=0) + float(limits.smallest_subnormal)
    allowed = 0.502 * float(limits.eps) * np.abs(right) + slack
    worst = np.max(np.abs(found - right) / allowed, initial=0)
    assert worst < 1, f"{name} is off by {worst:.2f} of what rounding allows"
