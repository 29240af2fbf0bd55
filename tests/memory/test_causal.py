"""A memory along a sequence: both methods beside an N x N solve at each step, in float64."""

import dataclasses
import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.memory import causal, kanerva
from memjax.memory.kanerva import KanervaState
from tests.memory import causal_oracle

_METHODS = ("recurrent", "chunk")
_OPTIONS = ("inclusive", "method", "chunk_size", "num_iterations", "return_residual")

# Compiled once for all tests: what is called eagerly is compiled piece by piece.
attend = jax.jit(causal.attend, static_argnames=_OPTIONS)


def sequence(length, num_slots=6, code_size=3, *, kind="different", noise=1.0, seed=0):
    """A prior, weights, codes that they say of a drawn memory and noise, reads; all float64."""
    rng = np.random.default_rng(seed)
    memory = KanervaState(np.zeros((num_slots, code_size)), np.ones(num_slots))
    weights = causal_oracle.weights(kind, length, num_slots, rng)
    codes = weights @ rng.normal(size=(num_slots, code_size))
    codes = codes + noise**0.5 * rng.normal(size=codes.shape)
    reads = causal_oracle.weights("different", length, num_slots, rng)
    return memory, weights, codes, reads, np.full(length, noise)


def general(length, seed=1):
    """A sequence with any noise, and a prior with a mean and correlated rows."""
    rng = np.random.default_rng(seed)
    memory, weights, codes, reads, _ = sequence(length, seed=seed)
    root = rng.normal(size=(6, 6))
    memory = KanervaState(rng.normal(size=(6, 3)), root @ root.T / 6 + 0.3 * np.eye(6))
    return memory, 2 * weights, codes, 2 * reads, rng.uniform(0.2, 2.0, length)


def masks(length, seed=2):
    """Some steps masked, some that begin anew; decays everywhere."""
    rng = np.random.default_rng(seed)
    return {
        "log_decay": -0.3 * rng.uniform(size=length),
        "mask": rng.uniform(size=length) < 0.8,
        "reset": rng.uniform(size=length) < 0.1,
    }


def as_type(dtype, tree):
    return jax.tree.map(lambda x: x if x.dtype == bool else jnp.asarray(x, dtype), tree)


def assert_near(found, expected, tolerance):
    """Relative to the largest mean, and absolutely in variances: priors have a variance near 1."""
    np.testing.assert_allclose(
        found[0], expected[0], rtol=0, atol=tolerance * np.max(np.abs(expected[0]), initial=1e-30)
    )
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=tolerance)


# ---------------------------------------------------------------------------- against the oracle


@pytest.mark.parametrize("method", _METHODS)
@pytest.mark.parametrize("words", ["", "log_decay", "log_decay mask reset"])
def test_definition(float64, method, words):
    arguments, options = general(45), {k: v for k, v in masks(45).items() if k in words.split()}
    for inclusive in (True, False) if words else (True,):
        found = attend(*arguments, **options, inclusive=inclusive, method=method, chunk_size=16)
        expected = causal_oracle.attend(*arguments, **options, inclusive=inclusive)
        assert_near(found, expected, 1e-9)


@pytest.mark.parametrize("kind", ["different", "one", "four", "clusters"])
@pytest.mark.parametrize("decay", ["none", "weak", "middle", "strong", "rare"])
def test_exactness_in_float32(kind, decay):
    """The docstring's claims, at T = 512, N = 6."""
    for noise in (1.0, 0.1):
        arguments = as_type(np.float32, sequence(512, kind=kind, noise=noise))
        log_decay = causal_oracle.log_decays(decay, 512, np.random.default_rng(3))
        log_decay = None if log_decay is None else jnp.asarray(log_decay, jnp.float32)
        expected = causal_oracle.attend(*arguments, log_decay=log_decay)
        found = attend(*arguments, log_decay=log_decay, method="recurrent")
        assert_near(found, expected, 1e-5)
        *found, residual = attend(
            *arguments, log_decay=log_decay, method="chunk", return_residual=True
        )
        assert residual < 1e-4
        assert_near(found, expected, 1e-4)
