"""A Kanerva memory whose row covariance is a diagonal less a low rank: writes in O(N r^2).

The Kanerva Machine (Wu et al. 2018, section 3.3) names it as future work. Every write takes
variance away in one direction of the slots, so from a diagonal prior

    U = diag(row_var) - factor factor',    factor [N, r],

is exact for as long as no more than r writes were made (or their weights span no more than r
directions). Beyond that the least of what was learned is forgotten: U is too large, never too
small, so that the memory is never surer than it should be.
"""

from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp

from memjax.memory import checks
from memjax.memory._linalg import full_precision, whiten
from memjax.memory.kanerva import KanervaState
from memjax.memory.states import state


@state
class LowRankState:
    """p(M) = MN(mean, diag(row_var) - factor factor', I).

    Attributes:
      mean: R, `[N, C]`.
      row_var: `[N]`, the prior's variances.
      factor: `[N, r]`, what writes took away from them.
    """

    mean: chex.Array
    row_var: chex.Array
    factor: chex.Array


def prior(num_slots: int, code_size: int, rank: int, scale: float = 1.0) -> LowRankState:
    """A memory of N slots that holds nothing, MN(0, scale I, I), with room for r directions."""
    checks.at_least("num_slots", num_slots)
    checks.at_least("code_size", code_size)
    checks.at_least("rank", rank)
    checks.positive("scale", scale)
    row_var = jnp.full(num_slots, scale, jnp.result_type(float))
    return LowRankState(
        mean=jnp.zeros((num_slots, code_size), row_var.dtype),
        row_var=row_var,
        factor=jnp.zeros((num_slots, rank), row_var.dtype),
    )


@full_precision
def write(
    memory: LowRankState, write_weights: chex.Array, codes: chex.Array, noise_var: chex.Numeric
) -> LowRankState:
    """The posterior given an episode, r writes at a time: O(N r^2) for each r of them.

    Let U_after be the exact covariance after r writes from this state, and s the singular values of
    what was taken away, descending. The result's is larger by at most s[r]^2 in spectral norm, the
    first that is dropped. The mean is exact for the covariance that the writes began with. The
    gradient is exact where nothing is dropped, and otherwise that of the kept directions.

    Args:
      memory: what the memory was.
      write_weights: `[T, N]`.
      codes: `[T, C]`.
      noise_var: scalar or `[T]`, at least 0; below eps^1.25 of a code's variance it counts as that.

    Raises:
      ValueError: shapes that do not fit, codes that are not real numbers, negative noise.
    """
    memory, write_weights, codes, noise_vars = _take(
        memory,
        integers=("write_weights", "noise_var"),
        write_weights=write_weights,
        codes=codes,
        noise_var=noise_var,
    )
    checks.episode(memory.mean, write_weights, codes, noise_vars)
    checks.not_negative("noise_var", noise_var)
    noise_vars = jnp.broadcast_to(noise_vars, (len(codes),))
    rank = memory.factor.shape[1]
    for start in range(0, len(codes), rank):
        part = slice(start, start + rank)
        memory = _write_part(memory, write_weights[part], codes[part], noise_vars[part])
    return memory


@full_precision
def read(
    memory: LowRankState, read_weights: chex.Array, noise_var: chex.Numeric = 0.0
) -> tuple[chex.Array, chex.Array]:
    """mean `[..., C]` and var `[...]` of what weights `[..., N]` read; see `kanerva.read`."""
    memory, read_weights, noise_var = _take(
        memory,
        integers=("read_weights", "noise_var"),
        read_weights=read_weights,
        noise_var=noise_var,
    )
    checks.last_axis("read_weights", read_weights, "N", len(memory.mean))
    var = jnp.square(read_weights) @ memory.row_var
    var = var - jnp.sum(jnp.square(read_weights @ memory.factor), axis=-1)
    return read_weights @ memory.mean, jnp.maximum(var, 0.0) + noise_var


@full_precision
def to_dense(memory: LowRankState) -> KanervaState:
    """The same memory with its `[N, N]` covariance written out."""
    (memory,) = _take(memory)
    return KanervaState(
        mean=memory.mean, row_cov=jnp.diag(memory.row_var) - memory.factor @ memory.factor.T
    )


def _write_part(
    memory: LowRankState, weights: chex.Array, codes: chex.Array, noise_vars: chex.Array
) -> LowRankState:
    """At most r writes: eqs. 9-11, then the r largest directions of what they took away."""
    cross_cov = weights * memory.row_var[None, :] - (weights @ memory.factor) @ memory.factor.T
    residual = codes - weights @ memory.mean
    taken, whitened, _ = whiten(weights, cross_cov, noise_vars, residual)  # [T, N], [T, C]
    wide = jnp.concatenate([memory.factor, taken.T], axis=1)  # [N, r + T]
    # The eigenvectors of the small Gram matrix rotate the directions into descending order.
    # They pass no gradient: where nothing is dropped the rotation changes nothing, and where
    # eigenvalues are equal, as in an empty memory, it has none.
    _, rotation = jnp.linalg.eigh(jax.lax.stop_gradient(wide.T @ wide))
    rank = memory.factor.shape[1]
    return LowRankState(
        mean=memory.mean + taken.T @ whitened,
        row_var=memory.row_var,
        factor=wide @ rotation[:, ::-1][:, :rank],
    )


def _take(memory: LowRankState, integers: Sequence[str] = (), **arrays: Any) -> tuple:
    """State and arrays, checked, in one wide type."""
    fields = checks.fields("memory", memory, LowRankState)
    (mean, row_var, factor, *rest), _ = checks.reals(integers=integers, **fields, **arrays)
    checks.num_axes("memory.mean", mean, "[N, C]")
    checks.num_axes("memory.factor", factor, "[N, r]")
    checks.shape("memory.row_var", row_var, (len(mean),), "[N]")
    if len(factor) != len(mean):
        raise ValueError(f"memory.factor is {factor.shape}; it must be [N, r] with N = {len(mean)}")
    return LowRankState(mean, row_var, factor), *rest
