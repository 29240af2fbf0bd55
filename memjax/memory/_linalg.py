"""What the Gaussian memories need of linear algebra, at full precision on every backend."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import chex
import jax
import jax.numpy as jnp

_Function = TypeVar("_Function", bound=Callable[..., Any])


def full_precision(function: _Function) -> _Function:
    """GPUs and TPUs round the inputs of matrix products unless told otherwise.

    Derivative rules need it for themselves: under `jit`, JAX traces them after the function.
    """

    @wraps(function)
    def at_full_precision(*args, **kwargs):
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return at_full_precision  # type: ignore[return-value]


def cholesky(matrix: chex.Array) -> chex.Array:
    """The Cholesky factor of a symmetric matrix; reads only its lower triangle."""
    return jax.lax.linalg.cholesky(matrix, symmetrize_input=False)


def cholesky_or_nan(matrix: chex.Array) -> chex.Array:
    """`cholesky`, where it is not known whether there is one: `jax_debug_nans` is not told."""
    with jax.debug_nans(False):
        return cholesky(matrix)


def shifted_cholesky(matrix: chex.Array, shift: float = 1.0) -> chex.Array:
    """The factor of a positive semi-definite matrix, its diagonal raised by more than rounding.

    A sum of many equal terms is off by up to eps times their number, or the length of a block.
    """
    rounding = shift * (256.0 + 2.0 * len(matrix)) * epsilon(matrix)
    return cholesky(matrix + rounding * jnp.diag(jnp.diagonal(matrix)))


def solve_left(factor: chex.Array, matrix: chex.Array, transpose: bool = False) -> chex.Array:
    """factor^-1 matrix, or factor^-T matrix, for a lower triangular factor."""
    return jax.lax.linalg.triangular_solve(
        factor, matrix, left_side=True, lower=True, transpose_a=transpose
    )


def symmetrize(matrix: chex.Array) -> chex.Array:
    """The symmetric part of `[..., N, N]`: rounding leaves products of matrices a little skew."""
    return 0.5 * (matrix + jnp.swapaxes(matrix, -1, -2))


def largest_row(matrix: chex.Array) -> chex.Array:
    """The largest sum of a row's absolute values: no eigenvalue is larger."""
    return jnp.max(jnp.sum(jnp.abs(matrix), axis=1), initial=0.0)


def epsilon(array: chex.Array) -> float:
    """The distance from 1 to the next number of the array's type."""
    return float(jnp.finfo(array.dtype).eps)


def whiten(
    weights: chex.Array, cross_cov: chex.Array, noise_var: chex.Array, residual: chex.Array
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """L^-1 cross_cov, L^-1 residual and log |S|, for L L' = S = weights cross_cov' + diag(noise).

    S is factored twice: L L' = L1 (L1^-1 S L1^-T) L1', where L1 only has to be near. So the factor
    is right, and its derivative too, where S is singular to rounding; L1 has no part in that.
    Source: Fukaya et al. 2020, Shifted Cholesky QR.

    Args:
      weights: W, `[T, N]`.
      cross_cov: W U, `[T, N]`.
      noise_var: D, `[T]`; see `bounded_noise`.
      residual: `[T, C]`.
    """
    inner = symmetrize(weights @ cross_cov.T)
    noise_var = bounded_noise(jax.lax.stop_gradient(jnp.diagonal(inner)), noise_var)
    near = jax.lax.stop_gradient(inner + jnp.diag(noise_var))
    scale = jax.lax.rsqrt(jnp.diagonal(near))  # of unit diagonal, one shift fits all
    near = shifted_cholesky(scale[:, None] * near * scale[None, :]) / scale[:, None]
    both = jnp.concatenate([cross_cov, residual, weights, jnp.diag(jnp.sqrt(noise_var))], axis=1)
    num_slots, code_size = weights.shape[1], residual.shape[1]
    cuts = (num_slots, num_slots + code_size, 2 * num_slots + code_size)
    half_cross, half_residual, half_weights, noise = jnp.split(solve_left(near, both), cuts, axis=1)
    factor = cholesky(symmetrize(half_cross @ half_weights.T) + noise @ noise.T)
    halves = solve_left(factor, jnp.concatenate([half_cross, half_residual], axis=1))
    diagonals = jnp.log(jnp.diagonal(near)) + jnp.log(jnp.diagonal(factor))
    return halves[:, :num_slots], halves[:, num_slots:], 2.0 * jnp.sum(diagonals)


def bounded_noise(variance: chex.Array, noise_var: chex.Array) -> chex.Array:
    """Noise `[T]`, at least eps^1.25 of the variance `[T]` of what is written, and finite.

    With less, rounding would pass for knowledge of directions that were not observed; with more,
    writes that are nearly dependent would not tell all they can. A write that says nothing and has
    no noise gets a noise of 1: it still says nothing.
    """
    most = float(jnp.finfo(variance.dtype).max) ** 0.5
    noise_var = jnp.clip(noise_var, epsilon(variance) ** 1.25 * variance, most)
    return jnp.where(noise_var > 0, noise_var, 1.0)
