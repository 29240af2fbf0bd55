"""Conditioning a matrix Gaussian on noisy combinations of its rows: three forms, one gradient.

p(M) = MN(R, U, I) with R `[N, C]` and U `[N, N]`; observed are codes Z = W M + noise, where row t
of the noise has variance D_t. `kanerva` is the public face of what stands here.

All three forms compute one function, so they share its derivative, which needs none of their
factorisations. With the gain G = U W' (W U W' + D)^-1, the shrinkage P = I - G W, the posterior
R+, U+ and the scaled residual E = (W U W' + D)^-1 (Z - W R) = D^-1 (Z - W R+),

    dR+ = P (dR + dU W' E) + U+ dW' E + G (dZ - dW R+ - dD E)
    dU+ = P dU P' + A + A',   A = G (dD G' / 2 - dW U+).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

METHODS = ("batch", "information", "online")


class Conditioned(NamedTuple):
    """A posterior and what its derivative needs.

    Attributes:
      mean: `[N, C]`.
      row_cov: `[N, N]`, exactly symmetric.
      scaled_residual: E, `[T, C]`.
      gain: applies G, `[T, K] -> [N, K]`.
      shrink: applies P, `[N, K] -> [N, K]`.
    """

    mean: chex.Array
    row_cov: chex.Array
    scaled_residual: chex.Array
    gain: Callable[[chex.Array], chex.Array]
    shrink: Callable[[chex.Array], chex.Array]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def condition(
    method: str,
    mean: chex.Array,
    row_cov: chex.Array,
    weights: chex.Array,
    codes: chex.Array,
    noise_var: chex.Array,
) -> tuple[chex.Array, chex.Array]:
    """The posterior (R+ `[N, C]`, U+ `[N, N]`).

    Args:
      method: one of `METHODS`.
      mean: R, `[N, C]`.
      row_cov: U, `[N, N]`, symmetric.
      weights: W, `[T, N]`.
      codes: Z, `[T, C]`.
      noise_var: D, `[T]`.
    """
    if method == "online":
        return _online(mean, row_cov, weights, codes, noise_var)
    conditioned = _FORMS[method](mean, row_cov, weights, codes, noise_var)
    return conditioned.mean, conditioned.row_cov


@condition.defjvp
def _condition_jvp(method, primals, tangents):
    if method == "online":  # backward through T dependent updates is what takes long
        method = cheapest(primals[2].shape, primals[0].shape)
    posterior = _FORMS[method](*primals)
    _, _, weights, _, _ = primals
    d_mean, d_row_cov, d_weights, d_codes, d_noise_var = tangents
    d_row_cov = symmetrize(d_row_cov)
    residual = posterior.scaled_residual
    d_observed = d_codes - d_weights @ posterior.mean - d_noise_var[:, None] * residual
    d_posterior_mean = (
        posterior.shrink(d_mean + d_row_cov @ (weights.T @ residual))
        + posterior.row_cov @ (d_weights.T @ residual)
        + posterior.gain(d_observed)
    )
    gain_transposed = posterior.gain(jnp.eye(len(weights), dtype=weights.dtype)).T
    half = posterior.gain(
        0.5 * d_noise_var[:, None] * gain_transposed - d_weights @ posterior.row_cov
    )
    d_posterior_cov = posterior.shrink(posterior.shrink(d_row_cov).T) + half + half.T
    return (posterior.mean, posterior.row_cov), (d_posterior_mean, d_posterior_cov)


def cheapest(weights_shape: Sequence[int], mean_shape: Sequence[int]) -> str:
    """The form with the fewest multiplications, forward and backward, by shapes [T, N], [N, C]."""
    (t, n), (_, c) = weights_shape, mean_shape
    shared = 5 * t * n * c + 3 * t * n**2 + 2 * n**2 * c
    operations = {
        "batch": shared + t**3 // 3 + t**2 * (2 * n + c) + 4 * t * n**2,
        "information": shared + 7 * n**3,
    }
    return min(operations, key=operations.__getitem__)


def symmetrize(matrix: chex.Array) -> chex.Array:
    """The symmetric part of `[..., N, N]`: rounding leaves products of matrices a little skew."""
    return 0.5 * (matrix + jnp.swapaxes(matrix, -1, -2))


def _batch(mean, row_cov, weights, codes, noise_var) -> Conditioned:
    """By a T x T solve; eqs. 9-11 of the Kanerva Machine."""
    cross_cov = weights @ row_cov
    code_cov = cross_cov @ weights.T + jnp.diag(noise_var)
    factor = jnp.linalg.cholesky(symmetrize(code_cov))
    whitened = jax.scipy.linalg.solve_triangular(
        factor, jnp.concatenate([codes - weights @ mean, cross_cov], axis=1), lower=True
    )
    solved = jax.scipy.linalg.solve_triangular(factor, whitened, lower=True, trans=1)
    residual, gain_transposed = solved[:, : codes.shape[1]], solved[:, codes.shape[1] :]
    whitened_cross_cov = whitened[:, codes.shape[1] :]

    def gain(x: chex.Array) -> chex.Array:
        return gain_transposed.T @ x

    return Conditioned(
        mean=mean + cross_cov.T @ residual,
        row_cov=symmetrize(row_cov - whitened_cross_cov.T @ whitened_cross_cov),
        scaled_residual=residual,
        gain=gain,
        shrink=lambda x: x - gain(weights @ x),
    )


def _information(mean, row_cov, weights, codes, noise_var) -> Conditioned:
    """By an N x N solve: precisions add, U+^-1 = U^-1 + W' D^-1 W. With U = L L',

    U+ = L (I + L' W' D^-1 W L)^-1 L', which inverts nothing that may be singular.
    """
    scaled_weights = weights / noise_var[:, None]
    precision_gain = scaled_weights.T @ weights
    information_gain = scaled_weights.T @ codes
    row_cov_after = add_precision(jnp.linalg.cholesky(row_cov), precision_gain)
    mean_after = mean + row_cov_after @ (information_gain - precision_gain @ mean)
    shrinkage = jnp.eye(len(row_cov), dtype=row_cov.dtype) - row_cov_after @ precision_gain
    return Conditioned(
        mean=mean_after,
        row_cov=row_cov_after,
        scaled_residual=(codes - weights @ mean_after) / noise_var[:, None],
        gain=lambda x: row_cov_after @ (scaled_weights.T @ x),
        shrink=lambda x: shrinkage @ x,
    )


def add_precision(factor: chex.Array, precision: chex.Array) -> chex.Array:
    """(U^-1 + precision)^-1 `[N, N]` for U = factor factor', exactly symmetric."""
    identity = jnp.eye(len(factor), dtype=factor.dtype)
    inner = jnp.linalg.cholesky(identity + symmetrize(factor.T @ precision @ factor))
    half = jax.scipy.linalg.solve_triangular(inner, factor.T, lower=True)
    return symmetrize(half.T @ half)


def _online(mean, row_cov, weights, codes, noise_var) -> tuple[chex.Array, chex.Array]:
    """By T rank-one updates, in order; eqs. 9-11 with T = 1.

    In Joseph's form, (I - g w) U (I - g w)' + D g g', which stays positive definite over any number
    of updates where U - g w U, equal to it, is the difference of two near things.
    """

    def update(state, observation):
        mean, row_cov = state
        weight, code, variance = observation
        cross_cov = row_cov @ weight
        gain = cross_cov / (weight @ cross_cov + variance)
        mean = mean + jnp.outer(gain, code - weight @ mean)
        shrunk = row_cov - jnp.outer(gain, cross_cov)
        remainder = variance * gain - shrunk @ weight  # zero but for rounding
        return (mean, symmetrize(shrunk + jnp.outer(remainder, gain))), None

    return jax.lax.scan(update, (mean, row_cov), (weights, codes, noise_var))[0]


_FORMS = {"batch": _batch, "information": _information}
