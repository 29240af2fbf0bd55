"""Conditioning a matrix Gaussian on noisy combinations of its rows: three forms, one gradient.

p(M) = MN(R, U, I) with R `[N, C]` and U `[N, N]`; observed are codes Z = W M + noise, where row t
of the noise has variance D_t. `kanerva` is the public face of this file.

    _batch_form        a T x T solve
    _information_form  an N x N solve
    _sequential_form   T rank-one updates

The forms are plain: right while the noise is not small beside the variance of what is written.
Where it is, `_careful` takes their place; which one runs is found out as the program runs.

The derivatives are written out, in the fewest products: they need no factorisation once the
posterior is known. Online has that of the cheaper of the others, as all three are one function.
Second derivatives are those of the plain forms.

The LAPACK calls of a form wait for each other: on a CPU of two cores, XLA now and then blocks for
good when two of them that work on batches may run at the same time.
"""

from collections.abc import Sequence
from functools import partial

import chex
import jax
import jax.numpy as jnp

from memjax.memory import _batch_form, _information_form, _sequential_form
from memjax.memory._linalg import cholesky, full_precision, solve_left, symmetrize

METHODS = ("batch", "information", "online")


def condition(
    method: str,
    axis_name: str | None,
    mean: chex.Array,
    row_cov: chex.Array,
    weights: chex.Array,
    codes: chex.Array,
    noise_var: chex.Array,
) -> tuple[chex.Array, chex.Array]:
    """The posterior (R+ `[N, C]`, U+ `[N, N]`, exactly symmetric).

    Args:
      method: one of `METHODS`.
      axis_name: a mesh axis that the writes are divided over, for "information" only; or None.
      mean: R, `[N, C]`.
      row_cov: U, `[N, N]`, symmetric, positive semi-definite.
      weights: W, `[T, N]`.
      codes: Z, `[T, C]`.
      noise_var: D, `[T]`, at least 0; inf for what is not to be written.
    """
    arguments = (mean, row_cov, weights, codes, noise_var)
    if method == "information":
        return _information_form.condition(axis_name, *arguments)
    return (_batch_form.condition if method == "batch" else _online)(*arguments)


def cheapest(weights_shape: Sequence[int], mean_shape: Sequence[int]) -> str:
    """The form with the fewest operations."""
    count = operations(weights_shape, mean_shape)
    return min(count, key=count.__getitem__)


def operations(weights_shape: Sequence[int], mean_shape: Sequence[int]) -> dict[str, int]:
    """Multiplications of each form, forward and backward, for weights [T, N] and mean [N, C]."""
    (t, n), (_, c) = weights_shape, mean_shape
    return {
        "batch": t * n * (6 * c + 5 * n) + t**2 * (5 * n + 2 * c) + t**3 // 3,
        "information": t * n * (2 * n + 4 * c) + 6 * n**2 * c + 8 * n**3,
    }


@jax.custom_jvp
def _online(mean, row_cov, weights, codes, noise_var) -> tuple[chex.Array, chex.Array]:
    return _sequential_form.condition(mean, row_cov, weights, codes, noise_var)


@_online.defjvp
@full_precision
def _online_jvp(primals, tangents):
    """Backward through T dependent updates is what takes long."""
    method = cheapest(primals[2].shape, primals[0].shape)
    return jax.jvp(partial(condition, method, None), primals, tangents)


def uncondition(
    mean: chex.Array,
    row_cov: chex.Array,
    weights: chex.Array,
    codes: chex.Array,
    noise_var: chex.Array,
) -> tuple[chex.Array, chex.Array]:
    """What `condition` made into this posterior: conditioning with noise of -D; else NaN."""
    residual = codes - weights @ mean
    if len(weights) <= len(mean):
        cross_cov = weights @ row_cov
        factor = cholesky(jnp.diag(noise_var) - symmetrize(cross_cov @ weights.T))
        halves = solve_left(factor, jnp.concatenate([cross_cov, residual], axis=1))
        half_gain, half_residual = halves[:, : len(mean)], halves[:, len(mean) :]
        return mean - half_gain.T @ half_residual, symmetrize(row_cov + half_gain.T @ half_gain)
    root = cholesky(row_cov)
    scaled = jax.lax.rsqrt(noise_var)[:, None] * (weights @ root)
    identity = jnp.eye(len(mean), dtype=mean.dtype)
    half = solve_left(cholesky(identity - symmetrize(scaled.T @ scaled)), root.T)
    moved = half.T @ (half @ (weights.T @ (residual / noise_var[:, None])))
    return mean - moved, symmetrize(half.T @ half)
