"""Kanerva's sparse distributed memory: fixed random addresses, counters that patterns are added to.

Patterns are vectors of -1 and 1. Everything here takes one memory and one query; add batch axes
with `jax.vmap`. A step that is masked leaves the memory as it was, whatever stands in its pattern,
NaN included. Source: Kanerva, Sparse Distributed Memory, 1988, as in appendix B of Wu et al. 2018.
"""

import dataclasses
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from memjax.memory import checks, masking
from memjax.memory.states import state


@state
class SparseState:
    """A sparse distributed memory.

    Attributes:
      address_matrix: `[N, D]` of -1 and 1; never written.
      contents: `[N, D]`, sums of the patterns that were written where they were selected. They are
        exact up to 2^24 in float32; bfloat16 counts to 256 and float16 to 2,048.
    """

    address_matrix: chex.Array
    contents: chex.Array


def init(rng_key: chex.PRNGKey, num_slots: int, pattern_size: int) -> SparseState:
    """An empty memory with addresses drawn uniformly from {-1, 1}^D."""
    checks.at_least("num_slots", num_slots)
    checks.at_least("pattern_size", pattern_size)
    shape = (num_slots, pattern_size)
    addresses = jax.random.rademacher(rng_key, shape, jnp.result_type(float))
    return SparseState(address_matrix=addresses, contents=jnp.zeros_like(addresses))


def select(memory: SparseState, query: chex.Array, radius: chex.Numeric) -> chex.Array:
    """Which slots answer: those within Hamming distance `radius` of the query; eq. 13.

    Args:
      memory: N slots.
      query: `[D]` of -1 and 1.
      radius: how many elements may differ, at most.

    Returns:
      bool `[N]`.

    Raises:
      ValueError: a query that does not fit, or holds other numbers.
    """
    memory, query, radius, _ = _widen(memory, "query", query, radius)
    return _select(memory, query, radius)


def write(
    memory: SparseState,
    pattern: chex.Array,
    radius: chex.Numeric,
    *,
    mask: chex.Array | None = None,
    reset: chex.Array | None = None,
) -> SparseState:
    """Adds a pattern to every slot that it selects.

    Args:
      memory: N slots.
      pattern: `[D]` of -1 and 1; for many, `jax.lax.scan` over them, in any order.
      radius: as in `select`.
      mask: bool scalar; False for a step of padding, which does nothing.
      reset: bool scalar; True where a sequence begins again before this write, masked or not, with
        contents of zeros.

    Raises:
      ValueError: a pattern that does not fit, or holds other numbers; masks and resets that are no
        bool.
    """
    mask, reset = masking.take(mask, reset)
    memory, pattern, radius, dtype = _widen(memory, "pattern", pattern, radius, mask)
    contents = masking.begin(reset, jnp.zeros_like, memory.contents)
    selected = _select(memory, pattern, radius).astype(pattern.dtype)
    after = masking.keep(mask, contents + jnp.outer(selected, pattern), contents)
    written = dataclasses.replace(memory, contents=after)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), written)


def read(
    memory: SparseState,
    query: chex.Array,
    radius: chex.Numeric,
    num_iterations: int = 1,
    *,
    mask: chex.Array | None = None,
) -> chex.Array:
    """The sign of the sum over selected slots, fed back `num_iterations` times; eq. 14.

    From a query inside the critical distance of a stored pattern it converges to that pattern, from
    one outside it diverges. An element whose sum is 0 reads as -1.

    Args:
      memory: N slots.
      query: `[D]` of -1 and 1.
      radius: as in `select`.
      num_iterations: at least 1.
      mask: bool scalar; False for a step of padding, which reads 0.

    Returns:
      `[D]` of -1 and 1.

    Raises:
      ValueError: a query that does not fit, or holds other numbers; a mask that is no bool.
    """
    checks.at_least("num_iterations", num_iterations)
    mask, _ = masking.take(mask)
    memory, query, radius, dtype = _widen(memory, "query", query, radius, mask)
    found = _read(num_iterations, memory, query, radius)
    return masking.hide(mask, found).astype(dtype)


@partial(jax.jit, static_argnums=0)  # called eagerly, it is compiled once
def _read(
    num_iterations: int, memory: SparseState, query: chex.Array, radius: chex.Array
) -> chex.Array:
    def once(_, query: chex.Array) -> chex.Array:
        selected = _select(memory, query, radius).astype(query.dtype)
        return jnp.where(selected @ memory.contents > 0, 1.0, -1.0).astype(query.dtype)

    return jax.lax.fori_loop(0, num_iterations, once, query)


def _select(memory: SparseState, query: chex.Array, radius: chex.Array) -> chex.Array:
    distance = 0.5 * (len(query) - memory.address_matrix @ query)
    return distance <= radius


def _widen(
    memory: SparseState,
    name: str,
    pattern: chex.Array,
    radius: chex.Numeric,
    mask: chex.Array | None = None,
) -> tuple[SparseState, jax.Array, jax.Array, Any]:
    """What comes in, as `checks.reals` gives it; patterns and counters may be integers."""
    is_unsigned = jnp.issubdtype(getattr(pattern, "dtype", float), jnp.unsignedinteger)
    values = checks.fields("memory", memory, SparseState) | {name: pattern, "radius": radius}
    arrays, dtype = checks.reals(integers=tuple(values), **values)
    memory, pattern, radius = SparseState(*arrays[:2]), *arrays[2:]
    checks.num_axes("memory.address_matrix", memory.address_matrix, "[N, D]")
    checks.shape("memory.contents", memory.contents, memory.address_matrix.shape, "[N, D]")
    checks.shape(name, pattern, memory.address_matrix.shape[1:], "[D]")
    checks.shape("radius", radius, ())
    if mask is not None:
        pattern = jnp.where(mask, pattern, jnp.ones_like(pattern))  # one that may stand there
    is_known = not isinstance(pattern, jax.core.Tracer)
    if is_unsigned or (is_known and not np.all(np.abs(pattern) == 1)):
        raise ValueError(f"{name} holds other numbers than -1 and 1")
    return memory, pattern, radius, dtype
