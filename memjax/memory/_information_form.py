"""Conditioning by an N x N solve: precisions add, and so do devices'. See `conditioning`."""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from memjax import compat
from memjax.memory import _careful
from memjax.memory._linalg import (
    cholesky,
    cholesky_or_nan,
    epsilon,
    full_precision,
    largest_row,
    solve_left,
    symmetrize,
)


class _Solution(NamedTuple):
    """The posterior, and what its derivative needs: G = right left', E = scaled - left moved."""

    mean: chex.Array
    row_cov: chex.Array
    left: chex.Array  # [T, N]
    right: chex.Array  # [N, N]
    scaled: chex.Array  # [T, C]
    moved: chex.Array  # [N, C]
    pull: chex.Array  # W' E [N, C]
    keep: chex.Array  # I - G W [N, N]
    is_careful: chex.Array  # 1 where left is G' and right I, scaled is E and moved 0


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def condition(axis_name, mean, row_cov, weights, codes, noise_var) -> tuple[chex.Array, chex.Array]:
    """By an N x N solve: precisions add, and so does what codes say in units of them."""
    return _solution(axis_name, mean, row_cov, weights, codes, noise_var)[:2]


@condition.defjvp
@full_precision
def _condition_jvp(axis_name, primals, tangents):
    """With P = I - G W, as linear in the tangents as it is in its transpose.

    dR+ = P (dR + dU W' E) + U+ dW' E + G (dZ - dW R+ - dD E)
    dU+ = P dU P' - G dW U+ - U+ dW' G' + G dD G'
    """
    found, total = _solution(axis_name, *primals), _total(axis_name)
    left, right, keep = found.left, found.right, found.keep
    d_mean, d_row_cov, d_weights, d_codes, d_noise_var = tangents
    d_row_cov, d_noise_var = symmetrize(d_row_cov), d_noise_var[:, None]
    d_weights_left, d_noise_left, d_codes_left, d_residual = total(
        (
            left.T @ d_weights,
            left.T @ (d_noise_var * left),
            left.T @ (d_codes - d_noise_var * found.scaled),
            d_weights.T @ found.scaled,
        )
    )
    d_residual = d_residual - d_weights_left.T @ found.moved
    d_codes_left = d_codes_left + d_noise_left @ found.moved - d_weights_left @ found.mean
    d_mean_after = keep @ (d_mean + d_row_cov @ found.pull) + found.row_cov @ d_residual
    half = right @ (d_weights_left @ found.row_cov - 0.5 * d_noise_left @ right.T)
    d_row_cov_after = keep @ (d_row_cov @ keep.T) - half - half.T
    return found[:2], (d_mean_after + right @ d_codes_left, d_row_cov_after)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _solution(axis_name, mean, row_cov, weights, codes, noise_var):
    total = _total(axis_name)
    precision = total((weights / noise_var[:, None]).T @ weights)
    factor = cholesky_or_nan(row_cov)
    # Not of F' W' D^-1 W F, which may be small as a difference of large numbers. Sums over many
    # equal writes are rounded one way each time: hence 4.
    rounding = 4 * epsilon(mean) * largest_row(precision) * largest_row(row_cov)
    is_plain = jnp.all(jnp.isfinite(factor)) & (rounding < _careful.ACCURACY)
    operands = (mean, row_cov, weights, codes, noise_var, factor, precision)
    return _careful.choose(is_plain, *_ways(axis_name), *operands)


@cache
def _ways(axis_name: str | None) -> tuple[Callable, Callable]:
    """The same two functions at every call: JAX compiles new ones anew."""
    total = _total(axis_name)
    return partial(_solve, total), partial(_solve_carefully, total)


@_solution.defjvp
@full_precision
def _solution_jvp(axis_name, primals, tangents):
    """For second derivatives: those of the plain form, in the terms of what was found."""
    found, total = _solution(axis_name, *primals), _total(axis_name)

    def solve(mean, row_cov, weights, codes, noise_var):
        after = condition(axis_name, mean, row_cov, weights, codes, noise_var)
        left, scaled = weights / noise_var[:, None], codes / noise_var[:, None]
        precision, information = total((left.T @ weights, left.T @ codes))
        plain = _describe(left, scaled, precision, information, after[0], after[1])
        careful = plain._replace(
            left=plain.left @ plain.right.T,
            right=jnp.eye(len(mean), dtype=mean.dtype),
            scaled=plain.scaled - plain.left @ plain.moved,
            moved=jnp.zeros_like(mean),
        )
        return jax.tree.map(partial(jnp.where, found.is_careful > 0), careful, plain)

    return found, jax.jvp(solve, primals, tangents)[1]


def _solve(total, mean, row_cov, weights, codes, noise_var, factor, precision) -> _Solution:
    """U+ = F (I + F' W' D^-1 W F)^-1 F' for U = F F'; inverts nothing that may be singular."""
    identity = jnp.eye(len(mean), dtype=mean.dtype)
    inner = factor.T @ (precision @ factor)
    half = solve_left(cholesky(identity + inner), factor.T)
    row_cov_after = symmetrize(half.T @ half)
    left, scaled = weights / noise_var[:, None], codes / noise_var[:, None]
    information = total(left.T @ codes)
    mean_after = mean + row_cov_after @ (information - precision @ mean)
    return _describe(left, scaled, precision, information, mean_after, row_cov_after)


def _describe(left, scaled, precision, information, mean_after, row_cov_after) -> _Solution:
    """What the derivative needs, by the definitions of G and E."""
    keep = jnp.eye(len(precision), dtype=precision.dtype) - row_cov_after @ precision
    return _Solution(
        mean=mean_after,
        row_cov=row_cov_after,
        left=left,
        right=row_cov_after,
        scaled=scaled,
        moved=mean_after,
        pull=information - precision @ mean_after,
        keep=keep,
        is_careful=jnp.zeros((), keep.dtype),
    )


def _solve_carefully(total, mean, row_cov, weights, codes, noise_var, *plain) -> _Solution:
    del plain
    found = _careful.condition(mean, row_cov, weights, codes, noise_var, total)
    return _Solution(
        mean=found.mean,
        row_cov=found.row_cov,
        left=found.gain.T,
        right=jnp.eye(len(mean), dtype=mean.dtype),
        scaled=found.residual,
        moved=jnp.zeros_like(mean),
        pull=found.pull,
        keep=found.keep,
        is_careful=jnp.ones((), mean.dtype),
    )


def _total(axis_name: str | None) -> Callable:
    return (lambda x: x) if axis_name is None else partial(compat.psum, axis_name=axis_name)
