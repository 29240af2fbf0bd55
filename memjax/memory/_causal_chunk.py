"""A sequence in chunks: few dependent steps, and matrix products. See `causal`.

What is held is carried from chunk to chunk. Then all steps of all chunks are read at once: step t's
covariance is the inverse of what was held at the chunk's start, decayed, and the chunk's writes up
to t. Conjugate gradients find what it does to the read weights. They begin from what is known: in
the coordinates of the root at the chunk's start, the matrix is the identity but for the chunk's own
writes and decays. Steps that have forgotten much are solved in the prior's coordinates instead.

The derivative is that of the exact solution, by the same solver.
"""

from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from memjax.memory import streaming
from memjax.memory._causal_steps import (
    Held,
    Prior,
    Steps,
    add,
    conjugate_gradients,
    in_blocks,
    keeps_much,
    new_root,
    out_of_blocks,
    prior_coordinates,
    ratio,
)
from memjax.memory._linalg import cholesky, solve_left


class _Chunk(NamedTuple):
    """A chunk's steps in the prior's coordinates, and how much is left of what at each of them."""

    weights: chex.Array  # [K, N]
    codes: chex.Array  # [K, C]
    reads: chex.Array  # [K, N]
    shares: chex.Array  # [K, K], of write s at step t
    held: chex.Array  # [K], of what was held before the chunk
    start: chex.Array  # [K], of what a reset put back


@partial(jax.jit, static_argnums=(4, 5, 6))  # called eagerly, it is compiled once
def attend(
    prior: Prior,
    start: Held,
    held: Held,
    steps: Steps,
    inclusive: bool,
    chunk_size: int,
    num_iterations: int,
) -> tuple[chex.Array, chex.Array, Held, chex.Array]:
    """means `[T, C]`, vars `[T]`, what is held after the last step, and the residual.

    A reset puts `start` back. The residual is the largest over steps of |A u - b| / |b|, for the
    system A u = b that is solved there.
    """
    length = len(steps.codes)
    changes = steps.log_decay is not None or steps.reset is not None
    steps, prior_reads = prior_coordinates(prior, steps)
    chunks = jax.tree.map(lambda x: in_blocks(x, min(chunk_size, max(length, 1))), steps)
    chunks = streaming.align(jax.vmap(_describe)(chunks))
    held, begins = (partial(_pass, start) if changes else _add_up)(held, chunks)
    read = partial(_read, start, changes, inclusive, num_iterations)
    means, variances, residuals = jax.vmap(read)(begins, chunks)
    means, variances = (out_of_blocks(x, length) for x in (means, variances))
    return prior_reads + means, variances, held, jnp.max(residuals, initial=0.0)


def _describe(steps: Steps) -> _Chunk:
    """By sums of logarithms of decays over the steps between; a reset is a decay to nothing."""
    size, dtype = len(steps.codes), steps.codes.dtype
    log_decay = jnp.zeros(size, dtype) if steps.log_decay is None else steps.log_decay
    start = jnp.zeros(size, dtype)
    if steps.reset is not None:
        last = jax.lax.cummax(jnp.where(steps.reset, jnp.arange(size), -1))
        since = jnp.arange(size)[None, :] >= jnp.maximum(last, 0)[:, None]
    later = jnp.tri(size, k=-1, dtype=bool)  # k > s
    between = jnp.cumsum(jnp.where(later, log_decay[:, None], 0.0), axis=0)
    shares = jnp.where(later.T, 0.0, jnp.exp(between))
    held = jnp.exp(jnp.cumsum(log_decay))
    if steps.reset is not None:
        shares = jnp.where(since, shares, 0.0)
        was_reset = last >= 0
        # Since the reset: its own step's decay too.
        own = jnp.take(log_decay, jnp.maximum(last, 0))
        decayed = jnp.take_along_axis(shares, jnp.maximum(last, 0)[:, None], axis=1)[:, 0]
        start = jnp.where(was_reset, decayed * jnp.exp(own), 0.0)
        held = jnp.where(was_reset, 0.0, held)
    return _Chunk(steps.weights, steps.codes, steps.reads, shares, held, start)


def _add_up(held: Held, chunks: _Chunk) -> tuple[Held, Held]:
    """What is held after all chunks, and before each, where nothing is lost.

    By Andrews' update of the root, Potter's for several writes (Andrews, AIAA Journal, 1968). What
    rounding takes from the sums is carried along.
    """

    def advance(carry: Any, chunk: _Chunk) -> Any:
        (mean, root, precision), lost_mean, lost_root = carry
        rooted, innovations = chunk.weights @ root, chunk.codes - chunk.weights @ mean
        identity = jnp.eye(len(rooted), dtype=root.dtype)
        factor = cholesky(rooted @ rooted.T + identity)
        gain = root @ solve_left(factor, rooted).T
        mean, lost_mean = add(mean, lost_mean, gain @ solve_left(factor, innovations))
        root, lost_root = add(root, lost_root, -gain @ solve_left(factor + identity, rooted))
        precision = precision + chunk.weights.T @ chunk.weights
        return (Held(mean, root, precision), lost_mean, lost_root), carry[0]

    start: Any = held, jnp.zeros_like(held.mean), jnp.zeros_like(held.root)
    (held, *_), begins = jax.lax.scan(advance, start, chunks)
    return held, begins


def _pass(start: Held, held: Held, chunks: _Chunk) -> tuple[Held, Held]:
    """What is held after all chunks, and before each, where decays or resets change all of it."""
    return jax.lax.scan(partial(_advance, start), held, chunks)


def _advance(start: Held, held: Held, chunk: _Chunk) -> Any:
    root_share = jnp.sqrt(chunk.shares[-1])[:, None]
    weights = root_share * chunk.weights
    kept, put_back = chunk.held[-1], chunk.start[-1]
    precision = kept * held.precision + put_back * start.precision + weights.T @ weights
    rooted = weights @ held.root
    identity = jnp.eye(len(held.root), dtype=held.root.dtype)
    relative = kept * identity + (1.0 - kept) * (held.root.T @ held.root) + rooted.T @ rooted
    root = new_root(held.root, keeps_much(kept, held.precision), relative, precision)
    pull = weights.T @ (root_share * (chunk.codes - chunk.weights @ held.mean))
    moved = start.mean + start.precision @ (start.mean - held.mean)
    pull = pull - (1.0 - kept) * held.mean + put_back * moved
    mean = held.mean + root @ (root.T @ pull)
    return Held(mean, root, precision), held


def _read(
    start: Held, changes: bool, inclusive: bool, num_iterations: int, held: Held, chunk: _Chunk
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """means `[K, C]`, vars `[K]` and the largest residual of a chunk."""
    shares = chunk.shares if inclusive else jnp.tril(chunk.shares, -1)
    rooted = chunk.weights @ held.root
    innovations = chunk.codes - chunk.weights @ held.mean
    square, rooted_mean = held.root.T @ held.root, held.root.T @ held.mean
    kept, put_back = chunk.held[:, None], chunk.start[:, None]
    keeps = keeps_much(chunk.held, held.precision)[:, None]
    moved = start.mean + start.precision @ (start.mean - held.mean)

    def scores(vectors):
        """What each step's vector has to do with each write; later ones excluded."""
        near = vectors @ rooted.T
        if changes:
            near = jnp.where(keeps, near, vectors @ chunk.weights.T)
        return shares * near

    def apply(vectors):
        """The matrix of each step, in its coordinates, times that step's vector."""
        found = scores(vectors)
        near = found @ rooted
        if not changes:
            return vectors + near
        near = near + kept * vectors + (1.0 - kept) * (vectors @ square)
        far = found @ chunk.weights + vectors
        far = far + kept * (vectors @ held.precision) + put_back * (vectors @ start.precision)
        return jnp.where(keeps, near, far)

    reads = chunk.reads @ held.root
    if changes:
        reads = jnp.where(keeps, reads, chunk.reads)
    solve = partial(conjugate_gradients, num_iterations)
    found = jax.lax.custom_linear_solve(apply, reads, solve, symmetric=True)
    means = chunk.reads @ held.mean + scores(found) @ innovations
    if changes:
        forgotten = jnp.where(keeps, found @ rooted_mean, found @ held.mean)
        means = means - (1.0 - kept) * forgotten + put_back * (found @ moved)
    variances = jnp.maximum(jnp.sum(found * reads, axis=-1), 0.0)
    return means, variances, _largest_residual(jax.lax.stop_gradient((reads, apply(found))))


def _largest_residual(sides: tuple[chex.Array, chex.Array]) -> chex.Array:
    wanted, found = sides
    size = jnp.sum(jnp.square(wanted), axis=-1)
    left = jnp.sum(jnp.square(wanted - found), axis=-1)
    return jnp.max(jnp.sqrt(ratio(left, size)))
