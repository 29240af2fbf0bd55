"""Categorical addresses into a memory of slots: how VMA chooses what to read.

Everything here takes one query and one memory; add batch axes with `jax.vmap`. Source:
Bornschein et al., Variational Memory Addressing in Generative Models, 2017 (VMA below).
"""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp

from memjax.memory import checks, streaming

KINDS = ("key_normalized", "inner", "cosine")


def similarity(
    query: chex.Array, slot_embeddings: chex.Array, kind: str = "key_normalized"
) -> chex.Array:
    """Scores every slot for a query; VMA eqs. 4-6.

    With `e_a` a slot's embedding and `e` the query, the address logits are

        key_normalized   <e_a, e> / |e_a|            (eq. 5)
        inner            <e_a, e>
        cosine           <e_a, e> / (|e_a| |e|)

    An embedding shorter than 1e-6 is not scaled: zeros score 0, and gradients are finite.

    Args:
      query: `[..., E]`.
      slot_embeddings: `[N, E]`.
      kind: one of `KINDS`.

    Returns:
      address_logits: `[..., N]`, in nats; q(a|x) is their softmax.

    Raises:
      ValueError: an unknown kind, or embeddings of different sizes.
    """
    checks.one_of("kind", kind, KINDS)
    checks.num_axes("slot_embeddings", slot_embeddings, "[N, E]")
    checks.last_axis("query", query, "E", slot_embeddings.shape[1])
    if kind == "cosine":
        query = query * jnp.expand_dims(_inverse_norm(query), -1)
    address_logits = query @ slot_embeddings.T
    if kind == "inner":
        return address_logits
    # Scaling the table itself would make a copy of it.
    return address_logits * jnp.broadcast_to(_inverse_norm(slot_embeddings), address_logits.shape)


def sample(
    rng_key: chex.PRNGKey, address_logits: chex.Array, num_samples: int
) -> tuple[chex.Array, chex.Array]:
    """Draws addresses a ~ q(a) = softmax(address_logits), independently, with replacement.

    The log probabilities are differentiable in the logits, which is what VIMCO needs.

    Args:
      rng_key: a JAX random key.
      address_logits: `[N]`; a slot at -inf is never drawn.
      num_samples: L, at least 1.

    Returns:
      addresses: int32 `[L]`.
      address_log_probs: `[L]`, log q(a) in nats.

    Raises:
      ValueError: no slots, a batch of logits, or `num_samples` below 1.
    """
    checks.draws(address_logits, num_samples)
    # bfloat16 can't count beyond 256, nor tell uniforms of a thousand slots apart.
    wide = jnp.promote_types(address_logits.dtype, jnp.float32)
    address_log_probs = jax.nn.log_softmax(address_logits.astype(wide))
    probs = jax.lax.stop_gradient(jnp.exp(address_log_probs))
    # The inverse of the distribution function, at L uniforms rather than at L x N Gumbel variables.
    # A sum in another order may round up at a slot of probability 0, which must not be drawn.
    cumulative = jax.lax.cummax(jnp.where(probs > 0, jnp.cumsum(probs), 0.0))
    uniform = jax.random.uniform(rng_key, (num_samples, 1), probs.dtype) * cumulative[-1]
    addresses = jnp.sum(cumulative[None, :] <= uniform, axis=-1, dtype=jnp.int32)
    return addresses, address_log_probs[addresses].astype(address_logits.dtype)


def sample_streaming(
    rng_key: chex.PRNGKey,
    query: chex.Array,
    slot_embeddings: chex.Array,
    num_samples: int,
    *,
    kind: str = "key_normalized",
    chunk_size: int = 2048,
    axis_name: str | None = None,
) -> tuple[chex.Array, chex.Array]:
    """`sample` of `similarity`'s logits, exactly, for tables of millions of slots.

    Scores the table chunk by chunk: one pass forward, one backward, and nothing of the table's
    length is made but, where it is asked for, the table's own gradient. The samples are others than
    `sample`'s for the same key; their law is the same. The log probabilities are differentiable, in
    reverse, in the query and in all slots.

    A batch of queries `[..., E]` shares the passes. Under `vmap` it does not, and the table's
    gradient is made for each query before they are added up.

    Over devices, call it under `shard_map` with its default `check_vma=True` and with each device's
    share of the slots, in order; every device then has all samples, and sends 2 L + 1 numbers for
    each query. They are those of one device with the same `rng_key` and `chunk_size`.

    Args:
      rng_key: a JAX random key; the same on all devices.
      query: `[..., E]`; the same on all devices.
      slot_embeddings: `[N, E]`; with `axis_name`, this device's N of them.
      num_samples: L, at least 1.
      kind: one of `KINDS`.
      chunk_size: slots that are scored at a time; larger ones suit accelerators.
      axis_name: the mesh axis that the slots are divided over.

    Returns:
      addresses: int32 `[..., L]`, among the slots of all devices.
      address_log_probs: `[..., L]`, log q(a) in nats.

    Raises:
      ValueError: as `similarity` and `sample`; with `axis_name`, a device's slots that do not make
        whole chunks.
    """
    _check_table(query, slot_embeddings, num_samples, kind, chunk_size, axis_name)
    chunk_size = min(chunk_size, len(slot_embeddings))
    score = partial(similarity, kind=kind)
    queries = query.reshape(-1, query.shape[-1])
    race_rng_key, draw_rng_key = jax.random.split(rng_key)
    table = streaming.align(queries, slot_embeddings)
    first_chunk = _place(axis_name) * streaming.num_chunks(len(slot_embeddings), chunk_size)
    race = streaming.race(score, num_samples, chunk_size, race_rng_key, first_chunk, *table)
    addresses = streaming.draw_within(score, chunk_size, draw_rng_key, race.chunks, *table)
    log_normalizer = race.log_normalizer
    if axis_name is not None:
        addresses = addresses + _place(axis_name) * len(slot_embeddings)
        gathered = (race.perturbed, addresses, log_normalizer)
        perturbed, addresses, log_normalizers = jax.lax.all_gather(
            gathered, axis_name, to="invarying"
        )
        winner = jnp.argmax(perturbed, axis=0)
        addresses = jnp.take_along_axis(addresses, winner[None], axis=0)[0]
        log_normalizer = jax.nn.logsumexp(log_normalizers, axis=0)
    chosen = lookup(slot_embeddings, addresses, axis_name=axis_name)
    logits = jax.vmap(score)(queries, chosen)
    log_probs = (logits - log_normalizer[:, None]).astype(logits.dtype)
    shape = (*query.shape[:-1], num_samples)
    return addresses.reshape(shape), log_probs.reshape(shape)


def lookup(contents: Any, addresses: chex.Array, *, axis_name: str | None = None) -> Any:
    """Reads slots: `contents` is any pytree of `[N, ...]`, the result of `[..., ...]`.

    Addresses are integers `[...]`, and their axes take the place of N.

    Addresses outside [0, N) give the nearest slot. Gradients reach the slots that were read. With
    `axis_name`, a mesh axis under `shard_map`, `contents` is this device's share of the slots, in
    order; what was chosen is sent, and nothing else.
    """
    if axis_name is None:
        return jax.tree.map(lambda leaf: jnp.take(leaf, addresses, axis=0, mode="clip"), contents)

    def fetch(leaf: chex.Array) -> chex.Array:
        here = jnp.clip(addresses, 0, len(leaf) * jax.lax.axis_size(axis_name) - 1)
        here = here - _place(axis_name) * len(leaf)
        found = jnp.take(leaf, here, axis=0, mode="clip")
        own = (here >= 0) & (here < len(leaf))
        own = own.reshape(own.shape + (1,) * (leaf.ndim - 1))
        return jax.lax.psum(jnp.where(own, found, jnp.zeros_like(found)), axis_name)

    return jax.tree.map(fetch, contents)


def kl_divergence(posterior_logits: chex.Array, prior_logits: chex.Array) -> chex.Array:
    """KL(q(a) || p(a)) between two categoricals, in nats; VMA section 2.1.

    Slots with q(a) = 0 (logits of -inf) contribute nothing and pass no gradient; q(a) > 0 where
    p(a) = 0 gives +inf.

    Args:
      posterior_logits: `[..., N]`, of q; need not be normalised.
      prior_logits: `[..., N]`, of p; broadcasts against q's.

    Returns:
      `[...]`.
    """
    log_q = jax.nn.log_softmax(posterior_logits)
    log_p = jax.nn.log_softmax(prior_logits)
    q = jnp.exp(log_q)
    # Both sides of a `where` are differentiated: keep the infinities out of the masked one.
    log_ratio = jnp.where(q > 0, log_q, 0.0) - jnp.where(q > 0, log_p, 0.0)
    return jnp.sum(q * log_ratio, axis=-1)


def _inverse_norm(embeddings: chex.Array) -> chex.Array:
    """1 / |e| `[...]` of `[..., E]`; 1 for zeros and for what is too short to divide by."""
    squared_norm = jnp.sum(jnp.square(embeddings), axis=-1)
    return jax.lax.rsqrt(jnp.where(squared_norm > 1e-12, squared_norm, 1.0))


def _place(axis_name: str | None) -> chex.Numeric:
    return 0 if axis_name is None else jax.lax.axis_index(axis_name)


def _check_table(query, slot_embeddings, num_samples, kind, chunk_size, axis_name) -> None:
    checks.one_of("kind", kind, KINDS)
    checks.num_axes("slot_embeddings", slot_embeddings, "[N, E]")
    checks.at_least("N", len(slot_embeddings))
    checks.last_axis("query", query, "E", slot_embeddings.shape[1])
    checks.at_least("num_samples", num_samples)
    checks.at_least("chunk_size", chunk_size)
    if axis_name is not None:
        checks.divides("chunk_size", chunk_size, "slots on a device", len(slot_embeddings))
