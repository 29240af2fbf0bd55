"""Conditioning by rank-one updates, in order; eqs. 9-11 of the Kanerva Machine with T = 1.

See `conditioning`.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from memjax import compat
from memjax.memory import _careful
from memjax.memory._linalg import epsilon, full_precision, symmetrize


class _Steps(NamedTuple):
    """The posterior after each write, and what its derivative needs of that write alone."""

    mean: chex.Array  # [T, N, C]
    row_cov: chex.Array  # [T, N, N]
    gain: chex.Array  # g_t = U_t w_t / D_t, [T, N]
    residual: chex.Array  # E_t = (z_t - w_t R_t) / D_t, [T, C]


def condition(mean, row_cov, weights, codes, noise_var) -> tuple[chex.Array, chex.Array]:
    """The posterior after all writes; its derivative is left to the other forms."""
    arguments = (mean, row_cov, weights, codes, noise_var)
    return _careful.choose(_is_plain(*arguments), _update_all, _condition_carefully, *arguments)


@jax.jit  # its gradient, taken eagerly, is compiled once
def condition_each(mean, row_cov, weights, codes, noise_var) -> tuple[chex.Array, chex.Array]:
    """The posterior after each write, `[T, N, C]` and `[T, N, N]`."""
    return _condition_each(mean, row_cov, weights, codes, noise_var)


@jax.custom_jvp
def _condition_each(mean, row_cov, weights, codes, noise_var):
    return _steps(mean, row_cov, weights, codes, noise_var)[:2]


@_condition_each.defjvp
@full_precision
def _condition_each_jvp(primals, tangents):
    """With P = I - g w, linear in what is carried and in the tangents of each write.

    dR+ = P (dR + dU w' E) + U+ dw' E + g (dz - dw R+ - dD E)
    dU+ = P dU P' - g dw U+ - U+ dw' g' + g dD g'
    """
    steps = _steps(*primals)

    def step(carried, inputs):
        (d_mean, d_row_cov), ((d_weight, d_code, d_noise), (step, weight)) = carried, inputs
        gain, residual = step.gain, step.residual
        back, through = d_row_cov @ weight, step.row_cov @ d_weight
        pushed = back - (weight @ back) * gain  # P dU w'
        d_innovation = d_code - d_weight @ step.mean - d_noise * residual - weight @ d_mean
        d_mean = d_mean + jnp.outer(pushed + through, residual) + jnp.outer(gain, d_innovation)
        half = jnp.outer(back + through - 0.5 * (weight @ back + d_noise) * gain, gain)
        d_row_cov = d_row_cov - half - half.T
        return (d_mean, d_row_cov), (d_mean, d_row_cov)

    start = (tangents[0], symmetrize(tangents[1]))
    return steps[:2], compat.linear_scan(step, start, tangents[2:], (steps, primals[2]))


@jax.custom_jvp
def _steps(mean, row_cov, weights, codes, noise_var) -> _Steps:
    arguments = (mean, row_cov, weights, codes, noise_var)
    if len(codes) == 0:  # the careful form looks at its writes one by one
        return _update_each(*arguments)
    return _careful.choose(_is_plain(*arguments), _update_each, _step_carefully, *arguments)


@_steps.defjvp
@full_precision
def _steps_jvp(primals, tangents):
    """For second derivatives: by the definitions of g and E."""

    def describe(mean, row_cov, weights, codes, noise_var):
        mean, row_cov = condition_each(mean, row_cov, weights, codes, noise_var)
        noise_var = noise_var[:, None]
        gain = jnp.einsum("tmn,tn->tm", row_cov, weights) / noise_var
        residual = (codes - jnp.einsum("tn,tnc->tc", weights, mean)) / noise_var
        return _Steps(mean, row_cov, gain, residual)

    return _steps(*primals), jax.jvp(describe, primals, tangents)[1]


def _is_plain(mean, row_cov, weights, codes, noise_var) -> chex.Array:
    """Rounding adds up over the updates: ten times as careful as the other forms."""
    variances = jnp.sum((weights @ row_cov) * weights, axis=1)
    most = jnp.max(variances / noise_var, initial=0.0)
    return 10.0 * epsilon(mean) * most < _careful.ACCURACY


def _update_all(*arguments) -> tuple[chex.Array, chex.Array]:
    return jax.lax.scan(_update_state, arguments[:2], arguments[2:])[0]


def _update_each(*arguments) -> _Steps:
    return jax.lax.scan(_update_and_tell, arguments[:2], arguments[2:])[1]


def _update_state(state: tuple[chex.Array, chex.Array], write: Any) -> Any:
    return _update(state, write)[:2], None


def _update_and_tell(state: tuple[chex.Array, chex.Array], write: Any) -> Any:
    steps = _update(state, write)
    return steps[:2], steps


def _update(state: tuple[chex.Array, chex.Array], write: Any) -> _Steps:
    """In Joseph's form, (I - g w) U (I - g w)' + D g g'.

    It stays positive definite over any number of updates where U - g w U, equal to it, is the
    difference of two near things.
    """
    (mean, row_cov), (weight, code, noise_var) = state, write
    cross_cov = row_cov @ weight
    told = weight @ cross_cov
    gain = cross_cov / (told + noise_var)
    innovation = code - weight @ mean
    shrunk = row_cov - jnp.outer(gain, cross_cov)
    # noise_var * gain - shrunk @ weight, which is zero but for rounding; for infinite noise too
    remainder = cross_cov / (told / noise_var + 1.0) - shrunk @ weight
    return _Steps(
        mean=mean + jnp.outer(gain, innovation),
        row_cov=symmetrize(shrunk + jnp.outer(remainder, gain)),
        gain=gain,
        residual=innovation / (told + noise_var),
    )


def _condition_carefully(*arguments) -> tuple[chex.Array, chex.Array]:
    return _careful.condition(*arguments)[:2]


def _step_carefully(mean, row_cov, weights, codes, noise_var) -> _Steps:
    """Each from the beginning: as if the writes after it had infinite noise."""
    places = jnp.arange(len(codes))

    def step(place: chex.Array) -> _Steps:
        noise = jnp.where(places <= place, noise_var, jnp.inf)
        found = _careful.condition(mean, row_cov, weights, codes, noise)
        return _Steps(found.mean, found.row_cov, found.gain[:, place], found.residual[place])

    return jax.lax.map(step, places)
