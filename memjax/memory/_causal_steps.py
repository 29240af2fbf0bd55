"""What the forms of `causal` share: the coordinates they compute in, and roots of covariances.

In the prior's coordinates M = R + F m, where F F' is the prior's row covariance, the prior of m is
N(0, I), and its precision after writes is I + S. Weights and codes are divided by the root of the
noise, so that every write has noise 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from memjax.memory._linalg import bounded_noise, cholesky, solve_left


class Prior(NamedTuple):
    """MN(mean, root root', I), with a root `[N, N]` or, where it is diagonal, `[N]`."""

    mean: chex.Array
    root: chex.Array


class Held(NamedTuple):
    """What a memory holds, in its prior's coordinates."""

    mean: chex.Array  # [N, C]
    root: chex.Array  # K [N, N], K K' = (I + S)^-1
    precision: chex.Array  # S [N, N]


class Steps(NamedTuple):
    """What is done at each step, in this order: reset, decay, write, read."""

    weights: chex.Array  # [T, N]
    codes: chex.Array  # [T, C]
    reads: chex.Array  # [T, N]
    noise_vars: chex.Array  # [T]
    active: chex.Array | None  # bool [T]; what is not has weights of 0 and does not decay
    log_decay: chex.Array | None  # [T]; None: nothing decays
    reset: chex.Array | None  # [T]; None: nothing is reset


def in_blocks(array: chex.Array, size: int) -> chex.Array:
    """`[T, ...]` as `[blocks, size, ...]`; zeros are added, which as steps do nothing."""
    missing = -len(array) % size
    padded = jnp.pad(array, ((0, missing), *((0, 0),) * (array.ndim - 1)))
    return padded.reshape(-1, size, *array.shape[1:])


def out_of_blocks(blocks: chex.Array, length: int) -> chex.Array:
    """`[blocks, size, ...]` as `[T, ...]` again, of T steps."""
    return blocks.reshape(-1, *blocks.shape[2:])[:length]


def prior_coordinates(prior: Prior, steps: Steps) -> tuple[Steps, chex.Array]:
    """The steps in the prior's coordinates, and what their reads give of the prior's mean."""
    weights, reads = (
        x * prior.root[None] if prior.root.ndim == 1 else x @ prior.root
        for x in (steps.weights, steps.reads)
    )
    variances = jax.lax.stop_gradient(jnp.sum(jnp.square(weights), axis=-1))
    scale = jax.lax.rsqrt(bounded_noise(variances, steps.noise_vars))[..., None]
    codes = scale * (steps.codes - steps.weights @ prior.mean)
    told = steps._replace(weights=scale * weights, codes=codes, reads=reads)
    return told, steps.reads @ prior.mean


def keeps_much(decay: chex.Array, precision: chex.Array) -> chex.Array:
    """Whether what was written, decayed to a share, is better known from the old root.

    Relative to the old root, rounding is eps / decay; relative to the prior it is eps decay |S|.
    The better of the two is at most eps |S|^1/2.
    """
    size = 1.0 + jnp.trace(precision, axis1=-2, axis2=-1)
    return jnp.square(decay) * size >= 1.0


def new_root(
    root: chex.Array, keeps: chex.Array, relative: chex.Array, precision: chex.Array
) -> chex.Array:
    """A root of (I + S)^-1, for the S that there is now.

    Args:
      root: the old one, K `[N, N]`.
      keeps: whether to start from it; else from the prior.
      relative: K' (I + S) K, `[N, N]`.
      precision: S, `[N, N]`.
    """
    identity = jnp.eye(len(root), dtype=root.dtype)
    factor = cholesky(jnp.where(keeps, relative, identity + precision))
    return solve_left(factor, jnp.where(keeps, root, identity).T).T


def add(total: chex.Array, lost: chex.Array, more: chex.Array) -> tuple[chex.Array, chex.Array]:
    """A sum, and what rounding took from it and from earlier ones; Kahan 1965."""
    more = more - jax.lax.stop_gradient(lost)
    after = total + more
    return after, jax.lax.stop_gradient((after - total) - more)


def conjugate_gradients(
    num_iterations: chex.Numeric, apply: Callable, wanted: chex.Array
) -> chex.Array:
    """Each row by itself; a row that is solved stays as it is."""

    def iterate(_, carried):
        found, left, direction, size = carried
        image = apply(direction)
        step = ratio(size, jnp.sum(direction * image, axis=-1))[:, None]
        found, left = found + step * direction, left - step * image
        new_size = jnp.sum(jnp.square(left), axis=-1)
        direction = left + ratio(new_size, size)[:, None] * direction
        return found, left, direction, new_size

    size = jnp.sum(jnp.square(wanted), axis=-1)
    carried = jnp.zeros_like(wanted), wanted, wanted, size
    return jax.lax.fori_loop(0, num_iterations, iterate, carried)[0]


def ratio(upper: chex.Array, lower: chex.Array) -> chex.Array:
    """Of numbers at least 0; 0 where the lower one is 0."""
    positive = lower > 0
    return jnp.where(positive, upper / jnp.where(positive, lower, 1.0), 0.0)
