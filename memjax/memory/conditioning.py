"""Conditioning a matrix Gaussian on noisy combinations of its rows: three forms, one gradient.

p(M) = MN(R, U, I) with R `[N, C]` and U `[N, N]`; observed are codes Z = W M + noise, where row t
of the noise has variance D_t. `kanerva` is the public face of what stands here.

The derivatives are written out, in the fewest products: they need no factorisation once the
posterior is known. Online has that of the cheaper of the others, as all three are one function.

The LAPACK calls of a form wait for each other: on a CPU of two cores, XLA now and then blocks for
good when two of them that work on batches may run at the same time.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import chex
import jax
import jax.numpy as jnp

_Function = TypeVar("_Function", bound=Callable[..., Any])

METHODS = ("batch", "information", "online")


def full_precision(function: _Function) -> _Function:
    """GPUs and TPUs round the inputs of matrix products unless told otherwise.

    Derivative rules need it for themselves: under `jit`, JAX traces them after the function.
    """

    @wraps(function)
    def at_full_precision(*args, **kwargs):
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return at_full_precision  # type: ignore[return-value]


def widen(*arrays: chex.Array) -> list[chex.Array]:
    """In their common floating-point type, at least float32."""
    dtype = jnp.promote_types(jnp.result_type(*arrays), jnp.float32)
    return [jnp.asarray(array, dtype) for array in arrays]


def condition(
    method: str,
    mean: chex.Array,
    row_cov: chex.Array,
    weights: chex.Array,
    codes: chex.Array,
    noise_var: chex.Array,
) -> tuple[chex.Array, chex.Array]:
    """The posterior (R+ `[N, C]`, U+ `[N, N]`, exactly symmetric).

    Args:
      method: one of `METHODS`.
      mean: R, `[N, C]`.
      row_cov: U, `[N, N]`, symmetric.
      weights: W, `[T, N]`.
      codes: Z, `[T, C]`.
      noise_var: D, `[T]`.
    """
    return _FORMS[method](mean, row_cov, weights, codes, noise_var)


def condition_shared(
    axis_name: str,
    mean: chex.Array,
    row_cov: chex.Array,
    weights: chex.Array,
    codes: chex.Array,
    noise_var: chex.Array,
) -> tuple[chex.Array, chex.Array]:
    """`condition` on the observations of all devices of a mesh axis: what they say adds up."""
    statistics = jax.lax.psum(_information_in(weights, codes, noise_var), axis_name)
    return _add_information(mean, row_cov, *statistics)


def cheapest(weights_shape: Sequence[int], mean_shape: Sequence[int]) -> str:
    """The form with the fewest operations."""
    count = operations(weights_shape, mean_shape)
    return min(count, key=count.__getitem__)


def operations(weights_shape: Sequence[int], mean_shape: Sequence[int]) -> dict[str, int]:
    """Multiplications of each form, forward and backward, for weights [T, N] and mean [N, C]."""
    (t, n), (_, c) = weights_shape, mean_shape
    return {
        "batch": t * n * (6 * c + 5 * n) + t**2 * (5 * n + 2 * c) + t**3 // 3,
        "information": t * n * (2 * n + 3 * c) + 6 * n**2 * c + 8 * n**3,
    }


def symmetrize(matrix: chex.Array) -> chex.Array:
    """The symmetric part of `[..., N, N]`: rounding leaves products of matrices a little skew."""
    return 0.5 * (matrix + jnp.swapaxes(matrix, -1, -2))


def add_precision(factor: chex.Array, precision: chex.Array) -> chex.Array:
    """(U^-1 + precision)^-1 `[N, N]` for U = factor factor', exactly symmetric.

    By factor (I + factor' precision factor)^-1 factor', which inverts nothing that may be singular.
    """
    identity = jnp.eye(len(factor), dtype=factor.dtype)
    inner = cholesky(identity + factor.T @ (precision @ factor))
    half = jax.lax.linalg.triangular_solve(inner, factor.T, left_side=True, lower=True)
    return symmetrize(half.T @ half)


def cholesky(matrix: chex.Array) -> chex.Array:
    """Of a symmetric matrix; looks at its lower triangle only."""
    return jax.lax.linalg.cholesky(matrix, symmetrize_input=False)


@jax.custom_jvp
def _batch(mean, row_cov, weights, codes, noise_var) -> tuple[chex.Array, chex.Array]:
    """By a T x T solve; eqs. 9-11 of the Kanerva Machine."""
    return _solve_batch(mean, row_cov, weights, codes, noise_var)[0]


def _solve_batch(mean, row_cov, weights, codes, noise_var) -> tuple[Any, chex.Array, chex.Array]:
    """(R+, U+), the gain G = U W' S^-1 and E = S^-1 (Z - W R), for S = W U W' + D."""
    num_slots = len(mean)
    cross_cov = weights @ row_cov
    factor = cholesky(cross_cov @ weights.T + jnp.diag(noise_var))
    both = jnp.concatenate([cross_cov, codes - weights @ mean], axis=1)
    halves = jax.lax.linalg.triangular_solve(factor, both, left_side=True, lower=True)
    half_gain, half_residual = halves[:, :num_slots], halves[:, num_slots:]
    posterior = (
        mean + half_gain.T @ half_residual,
        symmetrize(row_cov - half_gain.T @ half_gain),
    )
    solved = jax.lax.linalg.triangular_solve(
        factor, halves, left_side=True, lower=True, transpose_a=True
    )
    return posterior, solved[:, :num_slots].T, solved[:, num_slots:]


@_batch.defjvp
@full_precision
def _batch_jvp(primals, tangents):
    """The derivative, as linear in the tangents as it is in its transpose.

        dR+ = dR + (Y - B) E + G (dZ - dW R+ - W dR),    dU+ = dU - X G' - G X',    X = Y - B / 2

    where Y = dU W' + U+ dW' and B = G (W dU W' + dD).
    """
    posterior, gain, residual = _solve_batch(*primals)
    weights = primals[2]
    d_mean, d_row_cov, d_weights, d_codes, d_noise_var = tangents
    d_row_cov = symmetrize(d_row_cov)
    d_cross_cov = d_row_cov @ weights.T
    both = d_cross_cov + posterior[1] @ d_weights.T
    back = gain @ (weights @ d_cross_cov + jnp.diag(d_noise_var))
    d_innovation = d_codes - d_weights @ posterior[0] - weights @ d_mean
    d_mean_after = d_mean + (both - back) @ residual + gain @ d_innovation
    half = (both - 0.5 * back) @ gain.T
    return posterior, (d_mean_after, d_row_cov - half - half.T)


def _information(mean, row_cov, weights, codes, noise_var) -> tuple[chex.Array, chex.Array]:
    """By an N x N solve: precisions add, and so does what codes say in units of them."""
    return _add_information(mean, row_cov, *_information_in(weights, codes, noise_var))


@jax.custom_jvp
def _information_in(weights, codes, noise_var) -> tuple[chex.Array, chex.Array]:
    """W' D^-1 W `[N, N]` and W' D^-1 Z `[N, C]`."""
    scaled = weights / noise_var[:, None]
    return scaled.T @ weights, scaled.T @ codes


@_information_in.defjvp
@full_precision
def _information_in_jvp(primals, tangents):
    weights, codes, noise_var = primals
    d_weights, d_codes, d_noise_var = tangents
    scaled_weights, scaled_codes = weights / noise_var[:, None], codes / noise_var[:, None]
    d_noise_var = d_noise_var[:, None]
    half = scaled_weights.T @ (d_weights - 0.5 * d_noise_var * scaled_weights)
    d_information = scaled_weights.T @ (d_codes - d_noise_var * scaled_codes)
    d_information = d_information + d_weights.T @ scaled_codes
    return _information_in(*primals), (half + half.T, d_information)


@jax.custom_jvp
def _add_information(mean, row_cov, precision, information) -> tuple[chex.Array, chex.Array]:
    row_cov_after = add_precision(cholesky(row_cov), precision)
    return mean + row_cov_after @ (information - precision @ mean), row_cov_after


@_add_information.defjvp
@full_precision
def _add_information_jvp(primals, tangents):
    """dU+ = P dU P' - U+ dS U+ and dR+ = P (dR + dU (h - S R+)) + U+ (dh - dS R+), P = I - U+ S."""
    _, _, precision, information = primals
    d_mean, d_row_cov, d_precision, d_information = tangents
    d_row_cov = symmetrize(d_row_cov)
    mean_after, row_cov_after = posterior = _add_information(*primals)
    pull = information - precision @ mean_after  # W' E of the batch form
    keep = jnp.eye(len(precision), dtype=precision.dtype) - row_cov_after @ precision
    d_mean_after = keep @ (d_mean + d_row_cov @ pull) + row_cov_after @ (
        d_information - d_precision @ mean_after
    )
    d_row_cov_after = keep @ (d_row_cov @ keep.T) - row_cov_after @ (d_precision @ row_cov_after)
    return posterior, (d_mean_after, d_row_cov_after)


@jax.custom_jvp
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


@_online.defjvp
@full_precision
def _online_jvp(primals, tangents):
    """Backward through T dependent updates is what takes long."""
    method = cheapest(primals[2].shape, primals[0].shape)
    return jax.jvp(_FORMS[method], primals, tangents)


_FORMS: dict[str, Callable] = {"batch": _batch, "information": _information, "online": _online}
