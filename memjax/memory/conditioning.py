"""Conditioning a matrix Gaussian on noisy combinations of its rows: three forms, one gradient.

p(M) = MN(R, U, I) with R `[N, C]` and U `[N, N]`; observed are codes Z = W M + noise, where row t
of the noise has variance D_t. `kanerva` is the public face of what stands here.

The columns of U change as columns of the mean do for which a code of 0 was observed. So the forms
work on the joint matrix J = [R | U] `[N, C + N]`, in few and large products. Their derivatives are
written out below, as they need no factorisation once the posterior is known; online has that of the
cheaper of the others, as all three are one function.
"""

from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp

METHODS = ("batch", "information", "online")


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
    return _FORMS[method](mean, symmetrize(row_cov), weights, codes, noise_var)


def cheapest(weights_shape: Sequence[int], mean_shape: Sequence[int]) -> str:
    """The form with the fewest operations."""
    count = operations(weights_shape, mean_shape)
    return min(count, key=count.__getitem__)


def operations(weights_shape: Sequence[int], mean_shape: Sequence[int]) -> dict[str, int]:
    """Multiplications of each form, forward and backward, for weights [T, N] and mean [N, C]."""
    (t, n), (_, c) = weights_shape, mean_shape
    return {
        "batch": 7 * t * n * (n + c) + 3 * t * n**2 + t**2 * (3 * n + c) + t**3 // 3,
        "information": t * n * (2 * n + 3 * c) + 5 * n**2 * (n + c) + 4 * n**3,
    }


def symmetrize(matrix: chex.Array) -> chex.Array:
    """The symmetric part of `[..., N, N]`: rounding leaves products of matrices a little skew."""
    return 0.5 * (matrix + jnp.swapaxes(matrix, -1, -2))


def add_precision(factor: chex.Array, precision: chex.Array) -> chex.Array:
    """(U^-1 + precision)^-1 `[N, N]` for U = factor factor', exactly symmetric.

    By factor (I + factor' precision factor)^-1 factor', which inverts nothing that may be singular.
    """
    identity = jnp.eye(len(factor), dtype=factor.dtype)
    inner = jnp.linalg.cholesky(identity + symmetrize(factor.T @ (precision @ factor)))
    half = jax.scipy.linalg.solve_triangular(inner, factor.T, lower=True)
    return symmetrize(half.T @ half)


@jax.custom_jvp
def _batch(mean, row_cov, weights, codes, noise_var) -> tuple[chex.Array, chex.Array]:
    """By a T x T solve; eqs. 9-11 of the Kanerva Machine."""
    return _split(_batch_joint(mean, row_cov, weights, codes, noise_var)[0], mean)


def _batch_joint(mean, row_cov, weights, codes, noise_var) -> tuple[chex.Array, chex.Array]:
    """J+ and the scaled residual E = (W U W' + D)^-1 ([Z | 0] - W J), whose right part is -G'."""
    joint = jnp.concatenate([mean, row_cov], axis=1)
    predicted = weights @ joint
    cross_cov = predicted[:, mean.shape[1] :]
    code_cov = symmetrize(cross_cov @ weights.T) + jnp.diag(noise_var)
    factor = jnp.linalg.cholesky(code_cov)
    residual = jax.scipy.linalg.cho_solve((factor, True), _pad(codes, row_cov) - predicted)
    return joint + cross_cov.T @ residual, residual


@_batch.defjvp
def _batch_jvp(primals, tangents):
    """dJ+ = P (dJ + dU W' E) + U+ dW' E + G ([dZ | 0] - dW J+ - dD E), with P = I - G W.

    T is the small size here: no product is of N x N with N x (C + N).
    """
    joint_after, residual = _batch_joint(*primals)
    mean, row_cov, weights, _, _ = primals
    d_mean, d_row_cov, d_weights, d_codes, d_noise_var = tangents
    posterior = _split(joint_after, mean)
    gain = -residual[:, mean.shape[1] :].T
    d_joint = jnp.concatenate([d_mean, d_row_cov], axis=1) + (d_row_cov @ weights.T) @ residual
    d_target = _pad(d_codes, row_cov) - d_weights @ joint_after - d_noise_var[:, None] * residual
    d_joint_after = (
        d_joint + (posterior[1] @ d_weights.T) @ residual + gain @ (d_target - weights @ d_joint)
    )
    return posterior, _split(d_joint_after, mean)


def _information(mean, row_cov, weights, codes, noise_var) -> tuple[chex.Array, chex.Array]:
    """By an N x N solve: precisions add, and so does what codes say in units of them."""
    return _add_information(mean, row_cov, *_information_in(weights, codes, noise_var))


@jax.custom_jvp
def _information_in(weights, codes, noise_var) -> tuple[chex.Array, chex.Array]:
    """W' D^-1 W `[N, N]` and W' D^-1 Z `[N, C]`."""
    both = (weights / noise_var[:, None]).T @ jnp.concatenate([weights, codes], axis=1)
    return both[:, : weights.shape[1]], both[:, weights.shape[1] :]


@_information_in.defjvp
def _information_in_jvp(primals, tangents):
    weights, codes, noise_var = primals
    d_weights, d_codes, d_noise_var = tangents
    scale = noise_var[:, None]
    scaled_weights, scaled_codes = weights / scale, codes / scale
    d_both = scaled_weights.T @ jnp.concatenate(
        [
            d_weights - 0.5 * d_noise_var[:, None] * scaled_weights,
            d_codes - d_noise_var[:, None] * scaled_codes,
        ],
        axis=1,
    )
    half, d_information = d_both[:, : weights.shape[1]], d_both[:, weights.shape[1] :]
    d_information = d_information + d_weights.T @ scaled_codes
    return _information_in(*primals), (half + half.T, d_information)


@jax.custom_jvp
def _add_information(mean, row_cov, precision, information) -> tuple[chex.Array, chex.Array]:
    row_cov_after = add_precision(jnp.linalg.cholesky(row_cov), precision)
    return mean + row_cov_after @ (information - precision @ mean), row_cov_after


@_add_information.defjvp
def _add_information_jvp(primals, tangents):
    """dJ+ = P (dJ + dU (h - S J+)) + U+ (dh - dS J+), P = I - U+ S, h = [information | 0]."""
    mean, row_cov, precision, information = primals
    d_mean, d_row_cov, d_precision, d_information = tangents
    posterior = _add_information(*primals)
    joint_after = jnp.concatenate(posterior, axis=1)
    pull = _pad(information, row_cov) - precision @ joint_after  # W' E of the batch form
    d_joint = jnp.concatenate([d_mean, d_row_cov], axis=1) + d_row_cov @ pull
    d_pull = _pad(d_information, row_cov) - d_precision @ joint_after - precision @ d_joint
    return posterior, _split(d_joint + posterior[1] @ d_pull, mean)


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
def _online_jvp(primals, tangents):
    """Backward through T dependent updates is what takes long."""
    method = cheapest(primals[2].shape, primals[0].shape)
    return jax.jvp(_FORMS[method], primals, tangents)


def _pad(codes: chex.Array, row_cov: chex.Array) -> chex.Array:
    """[Z | 0]: the codes, and zeros for the columns of U."""
    return jnp.pad(codes, ((0, 0), (0, len(row_cov))))


def _split(joint: chex.Array, mean: chex.Array) -> tuple[chex.Array, chex.Array]:
    """J back into a mean and a symmetric covariance."""
    return joint[:, : mean.shape[1]], symmetrize(joint[:, mean.shape[1] :])


_FORMS: dict[str, Callable] = {"batch": _batch, "information": _information, "online": _online}
