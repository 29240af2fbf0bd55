"""Densities of a Gaussian memory: draws, divergences, evidence. See `kanerva`."""

import math

import chex
import jax
import jax.numpy as jnp

from memjax.memory import _careful
from memjax.memory._linalg import (
    bounded_noise,
    cholesky,
    cholesky_or_nan,
    epsilon,
    full_precision,
    shifted_cholesky,
    solve_left,
    symmetrize,
    whiten,
)


def semidefinite_root(matrix: chex.Array) -> chex.Array:
    """F `[N, N]` with F F' = matrix, which may be singular to rounding; differentiable.

    The Cholesky factor where there is one. Else matrix (matrix + s I)^-1/2 for an s of rounding's
    size, whose square is off by less than s.
    """
    matrix = symmetrize(matrix)
    is_definite = jnp.all(jnp.isfinite(cholesky_or_nan(jax.lax.stop_gradient(matrix))))
    shift = jax.lax.stop_gradient(jnp.where(is_definite, 0.0, _rounding(matrix)))
    factor = cholesky(matrix + shift * jnp.eye(len(matrix), dtype=matrix.dtype))
    return jnp.where(is_definite, factor, solve_left(factor, matrix).T)


@jax.custom_jvp
def kl_divergence(
    mean_q: chex.Array, cov_q: chex.Array, mean_p: chex.Array, cov_p: chex.Array
) -> chex.Array:
    """KL(MN(mean_q, cov_q, I) || MN(mean_p, cov_p, I)); covariances may be singular."""
    factors = cholesky_or_nan(jnp.stack([cov_q, cov_p]))
    pivots = jnp.square(jnp.diagonal(factors, axis1=1, axis2=2))
    diagonals = jnp.stack([jnp.diagonal(cov_q), jnp.diagonal(cov_p)])
    are_definite = jnp.all(pivots > 4.0 * epsilon(pivots) * diagonals)  # NaN is not
    arguments = (mean_q, cov_q, mean_p, cov_p, factors)
    return _careful.choose(are_definite, _kl_by_factors, _semidefinite_kl, *arguments)


@kl_divergence.defjvp
@full_precision
def _kl_divergence_jvp(primals, tangents):
    """Where it is finite for definite covariances; a singular one has no derivative."""
    d_mean_q, d_cov_q, d_mean_p, d_cov_p = tangents
    tangents = (d_mean_q, symmetrize(d_cov_q), d_mean_p, symmetrize(d_cov_p))
    return kl_divergence(*primals), jax.jvp(_definite_kl, primals, tangents)[1]


def _definite_kl(mean_q, cov_q, mean_p, cov_p) -> chex.Array:
    return _kl_by_factors(mean_q, None, mean_p, None, cholesky(jnp.stack([cov_q, cov_p])))


def _kl_by_factors(mean_q, cov_q, mean_p, cov_p, factors) -> chex.Array:
    del cov_q, cov_p
    num_slots, code_size = mean_q.shape
    factor_q, factor_p = factors
    both = jnp.concatenate([factor_q, mean_q - mean_p], axis=1)
    whitened = solve_left(factor_p, both)
    trace = jnp.sum(jnp.square(whitened[:, :num_slots]))
    log_det_ratio = 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor_p) / jnp.diagonal(factor_q)))
    slots = trace - num_slots + log_det_ratio
    return 0.5 * (code_size * slots + jnp.sum(jnp.square(whitened[:, num_slots:])))


def _semidefinite_kl(mean_q, cov_q, mean_p, cov_p, factors) -> chex.Array:
    """inf, unless q and p leave out the same directions and agree in them."""
    del factors
    num_slots, code_size = mean_q.shape
    rounding, difference = _rounding(cov_p), mean_q - mean_p
    values_p, vectors_p = jnp.linalg.eigh(cov_p)
    values_q, vectors_q = jnp.linalg.eigh(cov_q)
    lacks_p, lacks_q = values_p < rounding, values_q < rounding
    q_in_p, p_in_q = vectors_p.T @ cov_q @ vectors_p, vectors_q.T @ cov_p @ vectors_q
    moved = jnp.max(jnp.square(vectors_p.T @ difference), axis=1)
    differ = jnp.any(
        lacks_p & (jnp.maximum(jnp.diagonal(q_in_p), moved) > 4.0 * rounding)
    ) | jnp.any(lacks_q & (jnp.diagonal(p_in_q) > 4.0 * rounding))
    scale = jnp.where(lacks_p, 0.0, jax.lax.rsqrt(jnp.where(lacks_p, 1.0, values_p)))
    ratio = scale[:, None] * q_in_p * scale[None, :] + jnp.diag(lacks_p.astype(scale.dtype))
    _, log_det = jnp.linalg.slogdet(symmetrize(ratio))
    slots = jnp.trace(ratio) - num_slots - log_det
    distance = jnp.sum(jnp.square(scale[:, None] * (vectors_p.T @ difference)))
    return jnp.where(differ, jnp.inf, 0.5 * (code_size * slots + distance))


def diagonal_kl(mean_q, var_q, mean_p, var_p) -> chex.Array:
    """`kl_divergence` of covariances that are diagonal, `[N]`."""
    known = var_p <= 0
    safe = jnp.where(known, 1.0, var_p)
    ratio = jnp.where(known, 1.0, var_q / safe)
    slots = ratio - 1.0 - jnp.log(ratio) + jnp.where(known & (var_q > 0), jnp.inf, 0.0)
    squares = jnp.square(mean_q - mean_p)
    wrong = jnp.any(known[:, None] & (squares > 0))
    distance = jnp.sum(jnp.where(known[:, None], 0.0, squares / safe[:, None]))
    total = 0.5 * (mean_q.shape[1] * jnp.sum(slots) + distance)
    return jnp.where(wrong, jnp.inf, total)


def log_evidence(mean, row_cov, weights, codes, noise_var) -> chex.Array:
    """log p(Z) for Z ~ MN(W R, S, I), S = W U W' + D, by the smaller of a T x T and an N x N solve.

    Each factors twice, the second time what is well conditioned: see `_linalg.whiten`.
    """
    num_writes, code_size = codes.shape
    row_cov, residual = symmetrize(row_cov), codes - weights @ mean
    if num_writes <= len(mean):
        cross_cov = weights @ row_cov
        _, half, log_det = whiten(weights, cross_cov, noise_var, residual)
        misfit = jnp.sum(jnp.square(half))
    else:
        misfit, log_det = _misfit_by_slots(row_cov, weights, residual, noise_var)
    return -0.5 * (misfit + code_size * (log_det + num_writes * math.log(2.0 * math.pi)))


def _misfit_by_slots(row_cov, weights, residual, noise_var) -> tuple[chex.Array, chex.Array]:
    """tr(E' S^-1 E) for a residual E, and log |S|, which is log |D| + log |I + B'B|."""
    root = semidefinite_root(row_cov)
    rooted = weights @ root
    variances = jax.lax.stop_gradient(jnp.sum(jnp.square(rooted), axis=1))
    noise_var = bounded_noise(variances, noise_var)
    scale = jax.lax.rsqrt(noise_var)[:, None]
    scaled, innovation = scale * rooted, scale * residual
    size = len(row_cov)
    near = jax.lax.stop_gradient(symmetrize(scaled.T @ scaled)) + jnp.eye(size, dtype=root.dtype)
    near = shifted_cholesky(near)
    basis = solve_left(near, jnp.eye(size, dtype=root.dtype)).T
    scaled = scaled @ basis
    factor = cholesky(symmetrize(scaled.T @ scaled) + basis.T @ basis)
    moved = solve_left(factor, scaled.T @ innovation)
    back = solve_left(factor, moved, transpose=True)
    left = innovation - scaled @ back
    misfit = jnp.sum(jnp.square(left)) + jnp.sum(jnp.square(basis @ back))
    diagonals = jnp.log(jnp.diagonal(near)) + jnp.log(jnp.diagonal(factor))
    return misfit, jnp.sum(jnp.log(noise_var)) + 2.0 * jnp.sum(diagonals)


def _rounding(cov: chex.Array) -> chex.Array:
    """What an eigenvalue of a covariance is off by, at most."""
    return 4.0 * len(cov) * epsilon(cov) * jnp.max(jnp.diagonal(cov), initial=0.0)
