"""The steps of a sequence one after the other, each exact. See `causal`.

A write is Potter's update of the root of the covariance (Battin, Astronautical Guidance, 1964): it
takes O(N^2), and is right at any noise. What rounding takes from the sums is carried along, so that
it does not add up over long sequences.

A decay would change the whole root. It is put off: with a share s left since it was last done, the
precision is s Q + (1 - s) I, and the root is that of Q, which writes divided by s^1/2 go into. Each
read factors that sum; once s falls below 1/2, the root is made anew. So is what decay does to it
rounded seldom.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from memjax.memory._causal_steps import (
    Held,
    Prior,
    Steps,
    add,
    in_blocks,
    keeps_much,
    new_root,
    out_of_blocks,
    prior_coordinates,
)
from memjax.memory._linalg import cholesky, solve_left


class _Carry(NamedTuple):
    """What is held, but for decays put off, and what rounding took from the sums."""

    held: Held  # with the precision S itself, decayed
    share: chex.Array  # []
    lost_mean: chex.Array  # [N, C]
    lost_root: chex.Array  # [N, N]


@partial(jax.jit, static_argnums=4)  # called eagerly, it is compiled once
def attend(
    prior: Prior, start: Held, held: Held, steps: Steps, inclusive: bool
) -> tuple[chex.Array, chex.Array, Held]:
    """means `[T, C]`, vars `[T]`, and what is held after the last step; a reset puts `start` back.

    For the gradient, states are kept between blocks of about T^1/2 steps, and computed again in
    them.
    """
    length = len(steps.codes)
    size = max(1, math.isqrt(length))
    blocks = jax.tree.map(lambda x: in_blocks(x, size), steps)
    step = partial(_step, prior, _carry(start), inclusive)
    run_block = jax.checkpoint(
        lambda carry, block: jax.lax.scan(step, carry, block), prevent_cse=False
    )
    carry, (means, variances) = jax.lax.scan(run_block, _carry(held), blocks)
    means, variances = (out_of_blocks(x, length) for x in (means, variances))
    held = carry.held if steps.log_decay is None else _catch_up(carry).held
    return means, variances, held


def _carry(held: Held) -> _Carry:
    zeros = jax.tree.map(jnp.zeros_like, held)
    return _Carry(held, jnp.ones_like(held.mean[0, 0]), zeros.mean, zeros.root)


def _step(prior: Prior, start: _Carry, inclusive: bool, carry: _Carry, raw: Steps) -> Any:
    """One step: reset, decay, write and read."""
    step, prior_read = prior_coordinates(prior, raw)
    if step.reset is not None:
        carry = jax.tree.map(partial(jnp.where, step.reset), start, carry)
    before = carry
    if step.log_decay is not None:
        carry = _decay(carry, jnp.exp(step.log_decay))
    after = _write(carry, step.weights, step.codes)
    # A write of nothing would change the last bits.
    after = jax.tree.map(partial(jnp.where, step.active), after, before)
    mean, variance = _read(after if inclusive else carry, step.reads, step.log_decay is not None)
    return after, (prior_read + mean, variance)


def _decay(carry: _Carry, decay: chex.Array) -> _Carry:
    held = carry.held._replace(precision=decay * carry.held.precision)
    carry = carry._replace(held=held, share=decay * carry.share)
    return jax.lax.cond(carry.share < 0.5, jax.checkpoint(_catch_up), lambda carry: carry, carry)


def _catch_up(carry: _Carry) -> _Carry:
    """Does what decays were put off."""
    (mean, _, precision), share = carry.held, carry.share
    root = new_root(
        carry.held.root, keeps_much(share, precision / share), _decayed(carry), precision
    )
    mean = mean - (1.0 - share) * (root @ (root.T @ mean))
    return _carry(Held(mean, root, precision))


def _decayed(carry: _Carry) -> chex.Array:
    """K' (s Q + (1 - s) I) K."""
    root, share = carry.held.root, carry.share
    return share * jnp.eye(len(root), dtype=root.dtype) + (1.0 - share) * (root.T @ root)


def _write(carry: _Carry, weight: chex.Array, code: chex.Array) -> _Carry:
    (mean, root, precision), scale = carry.held, jax.lax.rsqrt(carry.share)
    rooted = scale * (weight @ root)
    total = 1.0 + jnp.sum(jnp.square(rooted))
    gain, innovation = root @ rooted, scale * (code - weight @ mean)
    shrink = rooted / (total + jnp.sqrt(total))
    mean, lost_mean = add(mean, carry.lost_mean, jnp.outer(gain, innovation / total))
    root, lost_root = add(root, carry.lost_root, jnp.outer(gain, -shrink))
    precision = precision + jnp.outer(weight, weight)
    return _Carry(Held(mean, root, precision), carry.share, lost_mean, lost_root)


def _read(carry: _Carry, weight: chex.Array, decays: bool) -> tuple[chex.Array, chex.Array]:
    (mean, root, _), share = carry.held, carry.share
    rooted, told = weight @ root, weight @ mean
    if not decays:
        return told, jnp.sum(jnp.square(rooted))

    def apply(vector):
        return share * vector + (1.0 - share) * (root.T @ (root @ vector))

    def solve(_, wanted):
        factor = cholesky(_decayed(carry))
        half = solve_left(factor, wanted[:, None])
        return solve_left(factor, half, transpose=True)[:, 0]

    found = jax.lax.custom_linear_solve(apply, rooted, solve, symmetric=True)
    mean = told - (1.0 - share) * ((root @ found) @ mean)
    return mean, jnp.maximum(found @ rooted, 0.0)
