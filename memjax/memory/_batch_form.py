"""Conditioning by a T x T solve; eqs. 9-11 of the Kanerva Machine. See `conditioning`."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from memjax.memory import _careful
from memjax.memory._linalg import (
    cholesky,
    epsilon,
    full_precision,
    largest_row,
    solve_left,
    symmetrize,
)


class _Solution(NamedTuple):
    """The posterior, and what its derivative needs; see `_careful.Posterior`."""

    mean: chex.Array
    row_cov: chex.Array
    gain: chex.Array
    residual: chex.Array


@jax.custom_jvp
def condition(mean, row_cov, weights, codes, noise_var) -> tuple[chex.Array, chex.Array]:
    """By a T x T solve; eqs. 9-11 of the Kanerva Machine."""
    return _solution(mean, row_cov, weights, codes, noise_var)[:2]


@condition.defjvp
@full_precision
def _condition_jvp(primals, tangents):
    """The derivative, as linear in the tangents as it is in its transpose.

        dR+ = dR + (Y - B) E + G (dZ - dW R+ - W dR),    dU+ = dU - X G' - G X',    X = Y - B / 2

    where Y = dU W' + U+ dW' and B = G (W dU W' + dD).
    """
    found = _solution(*primals)
    weights, gain, residual = primals[2], found.gain, found.residual
    d_mean, d_row_cov, d_weights, d_codes, d_noise_var = tangents
    d_row_cov = symmetrize(d_row_cov)
    d_cross_cov = d_row_cov @ weights.T
    both = d_cross_cov + found.row_cov @ d_weights.T
    back = gain @ (weights @ d_cross_cov + jnp.diag(d_noise_var))
    d_innovation = d_codes - d_weights @ found.mean - weights @ d_mean
    d_mean_after = d_mean + (both - back) @ residual + gain @ d_innovation
    half = (both - 0.5 * back) @ gain.T
    return found[:2], (d_mean_after, d_row_cov - half - half.T)


@jax.custom_jvp
def _solution(mean, row_cov, weights, codes, noise_var) -> _Solution:
    cross_cov = weights @ row_cov
    inner = cross_cov @ weights.T
    scale = jax.lax.rsqrt(noise_var)
    relative = scale[:, None] * inner * scale[None, :]
    is_plain = epsilon(mean) * largest_row(relative) < _careful.ACCURACY
    operands = (mean, row_cov, weights, codes, noise_var, cross_cov, inner)
    return _careful.choose(is_plain, _solve, _solve_carefully, *operands)


@_solution.defjvp
@full_precision
def _solution_jvp(primals, tangents):
    """For second derivatives: those of the plain form, of what was found by the right one."""

    def solve(mean, row_cov, weights, codes, noise_var):
        cross_cov = weights @ row_cov
        arguments = (mean, row_cov, weights, codes, noise_var)
        return _solve(*arguments, cross_cov, cross_cov @ weights.T)

    return _solution(*primals), jax.jvp(solve, primals, tangents)[1]


def _solve(mean, row_cov, weights, codes, noise_var, cross_cov, inner) -> _Solution:
    """G = U W' S^-1 and E = S^-1 (Z - W R) for S = W U W' + D."""
    num_slots = len(mean)
    factor = cholesky(inner + jnp.diag(noise_var))
    both = jnp.concatenate([cross_cov, codes - weights @ mean], axis=1)
    # Products are quicker than two solves for many columns, and here as right.
    inverse = solve_left(factor, jnp.eye(len(factor), dtype=factor.dtype))
    halves = inverse @ both
    half_gain, half_residual = halves[:, :num_slots], halves[:, num_slots:]
    solved = inverse.T @ halves
    return _Solution(
        mean=mean + half_gain.T @ half_residual,
        row_cov=symmetrize(row_cov - half_gain.T @ half_gain),
        gain=solved[:, :num_slots].T,
        residual=solved[:, num_slots:],
    )


def _solve_carefully(*arguments) -> _Solution:
    found = _careful.condition(*arguments[:5])
    return _Solution(found.mean, found.row_cov, found.gain, found.residual)
