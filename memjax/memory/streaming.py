"""A pass over a table of slots in chunks: `addressing.sample_streaming` and `top_k` stand on it.

The largest of a chunk's logits, each plus Gumbel noise, is the log-sum-exp of the logits plus one
Gumbel variable, and which of them it is, is independent of it and has the softmax's law (the
Gumbel-max trick). So one pass keeps the best chunk for every sample, with one Gumbel variable for
each chunk and sample, beside the log-sum-exp of all; then each winning chunk is scored again for
an address within it. Nothing larger than a chunk is held.

Source of the trick for groups: Maddison et al., A* Sampling, 2014.

`slots` is a tuple of what is known of each slot: embeddings `[N, E]`, and norms `[N]` or None.
Under `shard_map` all arrays must vary over the same axes: see `align`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from memjax import compat

Slots = tuple[chex.Array, chex.Array | None]
Score = Callable[[chex.Array, Slots], chex.Array]  # queries [B, E], n slots -> logits [B, n]


class Race(NamedTuple):
    """Which chunk wins each sample, and what all slots add up to."""

    perturbed: chex.Array  # [B, L], the winner's log-sum-exp plus its Gumbel variable
    chunks: chex.Array  # int32 [B, L]
    log_normalizer: chex.Array  # [B], the log-sum-exp of all logits


@partial(jax.jit, static_argnums=(0, 1, 2))  # called eagerly, it is compiled once; so are others
def race(
    score: Score,
    num_samples: int,
    chunk_size: int,
    rng_key: chex.PRNGKey,
    first_chunk: chex.Numeric,
    queries: chex.Array,
    slots: Slots,
) -> Race:
    """One pass over the table, not differentiable: see `attach`.

    Args:
      score: logits of a chunk's slots, at least float32.
      num_samples: L.
      chunk_size: slots in a chunk, at most N; the last chunk may have fewer.
      rng_key: chunk i draws from `fold_in(rng_key, first_chunk + i)`.
      first_chunk: chunks that stand before this table, on other devices.
      queries: `[B, E]`, at least float32.
      slots: N of them.
    """

    def visit(state: tuple[chex.Array, ...], index: chex.Array) -> tuple[Any, None]:
        perturbed, chunks, largest, total = state
        logits = _logits(score, chunk_size, queries, slots, index)[0]
        log_sum = jax.nn.logsumexp(logits, axis=-1)
        chunk_rng_key = jax.random.fold_in(rng_key, first_chunk + index)
        noise = jax.random.gumbel(chunk_rng_key, perturbed.shape, perturbed.dtype)
        rival = log_sum[:, None] + noise
        wins = rival > perturbed
        # The sum is kept in units of its largest term: logarithms would add up their rounding.
        larger = jnp.maximum(largest, log_sum)
        total = total * jnp.exp(largest - larger) + jnp.exp(log_sum - larger)
        perturbed, chunks = jnp.where(wins, rival, perturbed), jnp.where(wins, index, chunks)
        return (perturbed, chunks, larger, total), None

    dtype = jnp.result_type(queries, slots[0])
    shape = (len(queries), num_samples)
    start = (
        jnp.full(shape, -jnp.inf, dtype),
        jnp.zeros(shape, jnp.int32),
        jnp.full(shape[:1], jnp.finfo(dtype).min, dtype),
        jnp.zeros(shape[:1], dtype),
    )
    perturbed, chunks, largest, total = _over_chunks(visit, start, chunk_size, slots)
    return Race(perturbed, chunks, largest + jnp.log(total))


@partial(jax.jit, static_argnums=(0, 1, 2))
def largest(
    score: Score, k: int, chunk_size: int, queries: chex.Array, slots: Slots
) -> tuple[chex.Array, chex.Array]:
    """The k largest logits `[B, k]`, falling, and their addresses, the lower one where they tie.

    The arguments are as those of `race`; k is at most N.
    """

    def visit(best: tuple[chex.Array, chex.Array], index: chex.Array) -> tuple[Any, None]:
        logits, first = _logits(score, chunk_size, queries, slots, index)

        def merge(best: tuple[chex.Array, chex.Array]) -> tuple[chex.Array, chex.Array]:
            here = jnp.broadcast_to(first + jnp.arange(chunk_size, dtype=jnp.int32), logits.shape)
            return merge_largest(
                k, jnp.concatenate([best[0], logits], 1), jnp.concatenate([best[1], here], 1)
            )

        # Most chunks of a long table hold nothing new, and sorting costs more than scoring.
        is_new = ~jnp.all(jnp.max(logits, axis=1) <= best[0][:, -1])  # NaN is new, and is seen
        return jax.lax.cond(is_new, merge, lambda best: best, best), None

    dtype = jnp.result_type(queries, slots[0])
    shape = (len(queries), k)
    # Below all logits that are finite.
    start = jnp.full(shape, -jnp.inf, dtype), jnp.zeros(shape, jnp.int32)
    return _over_chunks(visit, start, chunk_size, slots)


def merge_largest(
    k: int, logits: chex.Array, addresses: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """The k largest of logits `[..., n]`, the first where they tie, and their addresses."""
    logits, places = jax.lax.top_k(logits, k)
    return logits, jnp.take_along_axis(addresses, places, axis=-1)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def attach(
    score: Score,
    chunk_size: int,
    addresses: chex.Array,
    log_normalizer: chex.Array,
    queries: chex.Array,
    slots: Slots,
) -> tuple[chex.Array, chex.Array]:
    """The logits at addresses `[B, L]`, 0 outside the table, and the normaliser, with gradients.

    The gradient in queries and table is a second pass. The logits' part and the normaliser's, which
    all but cancel for a likely slot, are added up before they are narrowed to the table's type.
    """
    chosen = jax.tree.map(lambda leaf: jnp.take(leaf, addresses, axis=0, mode="clip"), slots)
    logits = jax.vmap(score)(queries, chosen)
    is_here = (addresses >= 0) & (addresses < len(slots[0]))
    return jnp.where(is_here, logits, 0.0), log_normalizer


def _attach_forward(score, chunk_size, addresses, log_normalizer, queries, slots):
    arguments = (addresses, log_normalizer, queries, slots)
    return attach(score, chunk_size, *arguments), arguments


@partial(jax.jit, static_argnums=(0, 1))
def _attach_backward(score, chunk_size, residuals, cotangent):
    """Each chunk again: the normaliser's gradient in its logits is their softmax."""
    addresses, log_normalizer, queries, slots = residuals
    d_chosen, d_normalizer = cotangent
    samples = jnp.arange(len(queries), dtype=jnp.int32)[:, None]

    def visit(gradients: tuple[chex.Array, Slots], index: chex.Array) -> tuple[Any, None]:
        d_queries, d_table = gradients

        def logits_of(queries: chex.Array, chunk: Slots) -> chex.Array:
            return _mask(score(queries, chunk), chunk_size, index, first)

        first, chunk = _slice(slots, chunk_size, index)
        logits, pull_back = jax.vjp(logits_of, queries, chunk)
        d_logits = d_normalizer[:, None] * jnp.exp(logits - log_normalizer[:, None])
        # Addresses of other chunks go past the end, where they are dropped.
        is_here = (addresses >= index * chunk_size) & (addresses < first + chunk_size)
        places = jnp.where(is_here, addresses - first, chunk_size)
        d_logits = d_logits.at[samples, places].add(d_chosen, mode="drop")
        d_chunk_queries, d_chunk = pull_back(d_logits)

        def add(d_slots: chex.Array, d_chunk: chex.Array) -> chex.Array:
            total = jax.lax.dynamic_slice_in_dim(d_slots, first, chunk_size) + d_chunk
            return jax.lax.dynamic_update_slice_in_dim(d_slots, total, first, axis=0)

        return (d_queries + d_chunk_queries, jax.tree.map(add, d_table, d_chunk)), None

    start = (jnp.zeros_like(queries), jax.tree.map(jnp.zeros_like, slots))
    return None, None, *_over_chunks(visit, start, chunk_size, slots)


attach.defvjp(_attach_forward, _attach_backward)


@partial(jax.jit, static_argnums=(0, 1))
def draw_within(
    score: Score,
    chunk_size: int,
    rng_key: chex.PRNGKey,
    chunks: chex.Array,
    queries: chex.Array,
    slots: Slots,
) -> chex.Array:
    """An address within each of `chunks` `[B, L]`: int32 `[B, L]`, by the softmax of its logits."""

    def draw(inputs: tuple[chex.PRNGKey, chex.Array, chex.Array]) -> chex.Array:
        rng_key, query, chunk = inputs
        logits, first = _logits(score, chunk_size, query[None], slots, chunk)
        return first + jax.random.categorical(rng_key, logits[0]).astype(jnp.int32)

    repeated = jnp.repeat(queries, chunks.shape[1], axis=0)
    rng_keys = jax.random.split(rng_key, chunks.size)
    return jax.lax.map(draw, (rng_keys, repeated, chunks.reshape(-1))).reshape(chunks.shape)


def num_chunks(num_slots: int, chunk_size: int) -> int:
    """How many chunks cover the slots."""
    return -(-num_slots // chunk_size)


def align(arrays: Any) -> Any:
    """Lets each vary over the axes that any of them varies over, as `shard_map` understands it."""
    for array in jax.tree.leaves(arrays):
        arrays = jax.tree.map(partial(_vary_as, other=array), arrays)
    return arrays


def _over_chunks(visit: Callable, start: Any, chunk_size: int, slots: Slots) -> Any:
    """What a state becomes that visits all chunks, by their indices."""
    start = jax.tree.map(lambda leaf: _vary_as(leaf, slots[0]), start)
    steps = jnp.arange(num_chunks(len(slots[0]), chunk_size), dtype=jnp.int32)
    return jax.lax.scan(visit, start, steps)[0]


def _vary_as(array: chex.Array, other: chex.Array) -> chex.Array:
    axes = tuple(compat.varying_axes(other) - compat.varying_axes(array))
    return compat.vary_over(array, axes) if axes else array


def _logits(
    score: Score,
    chunk_size: int,
    queries: chex.Array,
    slots: Slots,
    index: chex.Array,
) -> tuple[chex.Array, chex.Array]:
    """Logits of chunk `index`, `[B, chunk_size]`, and the address of its first slot."""
    first, chunk = _slice(slots, chunk_size, index)
    return _mask(score(queries, chunk), chunk_size, index, first), first


def _slice(slots: Slots, chunk_size: int, index: chex.Array) -> tuple[chex.Array, Slots]:
    """Slots of chunk `index`; the last one begins within its neighbour."""
    first = jnp.minimum(index * chunk_size, len(slots[0]) - chunk_size)
    return first, jax.tree.map(
        lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, chunk_size), slots
    )


def _mask(logits: chex.Array, chunk_size: int, index: chex.Array, first: chex.Array) -> chex.Array:
    """-inf for the slots of the chunk before."""
    own = first + jnp.arange(chunk_size, dtype=jnp.int32) >= index * chunk_size
    return jnp.where(own[None, :], logits, -jnp.inf)
