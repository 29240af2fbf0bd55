"""A block of steps at once, each exact. See `causal`.

All writes are one update of the root of the covariance (Andrews, AIAA Journal, 1968). It factors a
K x K matrix, in two steps, so that it is right at any noise. The factor's first t rows depend on
the first t writes only, so each step reads the writes up to it.

With decays put off to a share s, what is held has the precision s Q + (1 - s) I, and the root is
that of Q. A read r of it is a read s y of Q, for (s I + (1 - s) Q^-1) y = r, a matrix whose
eigenvalues are between s and 1: conjugate gradients solve it to rounding, as many as s asks for.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from memjax.memory._causal_steps import Held, Steps, add, conjugate_gradients
from memjax.memory._linalg import cholesky, epsilon, shifted_cholesky, solve_left


class Carry(NamedTuple):
    """What is held, before postponed decays, and what rounding took from the sums."""

    held: Held  # with the precision S itself, decayed
    share: chex.Array  # []
    lost_mean: chex.Array  # [N, C]
    lost_root: chex.Array  # [N, N]


class _Writes(NamedTuple):
    """For writes of G = W root and innovations J, and L L' = I + G G'."""

    rooted: chex.Array  # L^-1 G [K, N]
    innovations: chex.Array  # L^-1 J [K, C]
    inverse: chex.Array  # L^-1 [K, K]


def run(
    start: Carry, inclusive: bool, carry: Carry, block: Steps, shares: chex.Array | None
) -> tuple[Carry, tuple[chex.Array, chex.Array]]:
    """What is carried on, and means `[K, C]` and vars `[K]`.

    Args:
      start: what a reset puts back.
      inclusive: as in `causal.attend`.
      carry: what is held before the block.
      block: in the prior's coordinates; its decays are in `shares`.
      shares: `[K]`, to which decays are put off, and in which the block is small; None for 1.
    """
    resets = jnp.zeros(len(block.codes), int) if block.reset is None else jnp.cumsum(block.reset)
    same = resets[:, None] == resets[None, :]  # without a reset between
    allowed = same & jnp.tri(len(same), k=0 if inclusive else -1, dtype=bool)
    scale = 1.0 if shares is None else jax.lax.rsqrt(shares)[:, None]
    weights, codes = scale * block.weights, scale * block.codes
    held, begun = carry.held, start.held

    def times(rows: chex.Array, matrix: chex.Array, begun: chex.Array) -> chex.Array:
        """Rows times what is held before the block, or after a reset what that puts back."""
        if block.reset is None:
            return rows @ matrix
        return jnp.where(resets[:, None] > 0, rows @ begun, rows @ matrix)

    writes = _factor(
        same, times(weights, held.root, begun.root), codes - times(weights, held.mean, begun.mean)
    )

    def halve(vectors: chex.Array) -> tuple[chex.Array, chex.Array]:
        """What the writes up to each step leave of its vector's root, and what they take."""
        rooted = times(vectors, held.root, begun.root)
        taken = jnp.where(allowed, rooted @ writes.rooted.T, 0.0)
        return rooted - taken @ writes.rooted, taken

    def cover(vectors: chex.Array) -> chex.Array:
        """Q^-1 at each step times its vector."""
        return times(halve(vectors)[0], held.root.T, begun.root.T)

    reads = block.reads if shares is None else _solve(shares, cover, block.reads)
    left, taken = halve(reads)
    means = times(reads, held.mean, begun.mean) + taken @ writes.innovations
    variances = _squares(left) + _squares(taken @ writes.inverse)
    if shares is not None:
        means = shares[:, None] * means
        variances = shares * variances + (1.0 - shares) * _squares(cover(reads))
    share = carry.share if shares is None else shares[-1]
    if block.reset is not None:
        carry = jax.tree.map(lambda a, b: jnp.where(resets[-1] > 0, a, b), start, carry)
    return _update(carry, share, same[-1], weights, writes), (means, variances)


def _factor(same: chex.Array, rooted: chex.Array, innovations: chex.Array) -> _Writes:
    """As in `_linalg.whiten`: the first factor only has to be near, and has no derivative."""
    identity = jnp.eye(len(same), dtype=rooted.dtype)
    square = jax.lax.stop_gradient(jnp.where(same, rooted @ rooted.T, 0.0))
    cuts = rooted.shape[1], rooted.shape[1] + innovations.shape[1]
    sides = jnp.concatenate([rooted, innovations, identity], axis=1)
    sides = solve_left(shifted_cholesky(square + identity), sides)
    rooted, _, inverse = jnp.split(sides, cuts, axis=1)
    square = jnp.where(same, rooted @ rooted.T, 0.0) + inverse @ inverse.T
    return _Writes(*jnp.split(solve_left(cholesky(square), sides), cuts, axis=1))


def _update(
    carry: Carry, share: chex.Array, last: chex.Array, weights: chex.Array, writes: _Writes
) -> Carry:
    """After the writes since the last reset."""
    mean, root, precision = carry.held
    weights = jnp.where(last[:, None], weights, 0.0)
    gain = root @ jnp.where(last[:, None], writes.rooted, 0.0).T
    identity = jnp.eye(len(last), dtype=root.dtype)
    shrink = solve_left(identity + writes.inverse, writes.rooted)
    mean, lost_mean = add(mean, carry.lost_mean, gain @ writes.innovations)
    root, lost_root = add(root, carry.lost_root, -gain @ shrink)
    precision = share / carry.share * precision + share * (weights.T @ weights)
    return Carry(Held(mean, root, precision), share, lost_mean, lost_root)


def _solve(shares: chex.Array, cover: Any, reads: chex.Array) -> chex.Array:
    """y with (s I + (1 - s) Q^-1) y = r, at each step."""

    def apply(vectors: chex.Array) -> chex.Array:
        return shares[:, None] * vectors + (1.0 - shares)[:, None] * cover(vectors)

    # Of an error of 1, n iterations leave at most 2 part^n.
    root = jnp.sqrt(least_of_all(shares))
    part = jnp.maximum((1.0 - root) / (1.0 + root), epsilon(root))
    count = jnp.ceil(jnp.log(0.25 * epsilon(root)) / jnp.log(part)).astype(int)

    def solve(apply: Any, wanted: chex.Array) -> chex.Array:
        return conjugate_gradients(count, apply, wanted)

    return jax.lax.custom_linear_solve(apply, reads, solve, symmetric=True)


def least_of_all(shares: chex.Array) -> chex.Array:
    """The least share, of all memories under `vmap`: so that a condition on it stays one there.

    Memories whose share is NaN have no say for the others.
    """
    return _least(_minimum(jax.lax.stop_gradient(shares)))


def _minimum(shares: chex.Array) -> chex.Array:
    return jnp.min(jnp.where(shares >= 0, shares, 1.0), initial=1.0)


@jax.custom_batching.custom_vmap
def _least(share: chex.Array) -> chex.Array:
    return share


@_least.def_vmap
def _least_for_all(axis_size, in_batched, share):
    del axis_size
    return _least(_minimum(share)) if in_batched[0] else _least(share), False


def _squares(rows: chex.Array) -> chex.Array:
    return jnp.sum(jnp.square(rows), axis=-1)
