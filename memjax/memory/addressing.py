"""Categorical addresses into a memory of slots: how VMA chooses what to read.

Everything here takes one query and one memory; add batch axes with `jax.vmap`. Source:
Bornschein et al., Variational Memory Addressing in Generative Models, 2017 (VMA below).
"""

from functools import cache
from typing import Any

import chex
import jax
import jax.numpy as jnp

from memjax import compat
from memjax.memory import checks, streaming

KINDS = ("key_normalized", "inner", "cosine")


def similarity(
    query: chex.Array,
    slot_embeddings: chex.Array,
    kind: str = "key_normalized",
    *,
    slot_norms: chex.Array | None = None,
) -> chex.Array:
    """Scores every slot for a query; VMA eqs. 4-6.

    With `e_a` a slot's embedding and `e` the query, the address logits are

        key_normalized   <e_a, e> / |e_a|            (eq. 5)
        inner            <e_a, e>
        cosine           <e_a, e> / (|e_a| |e|)

    An embedding whose squared norm rounds to 0 (below 3e-16 in float32), such as zeros, is not
    scaled: it scores about 0, with finite gradients. Norms above 1e19 overflow in float32, which is
    also used for bfloat16 inputs.

    Args:
      query: `[..., E]`.
      slot_embeddings: `[N, E]`.
      kind: one of `KINDS`.
      slot_norms: `[N]`, the result of `slot_norms` for these embeddings (never 0). Give it where a
        table is asked often, so that norms are not computed each time. Gradients reach it.

    Returns:
      address_logits: `[..., N]`, in nats; q(a|x) is their softmax.

    Raises:
      ValueError: an unknown kind, embeddings of different sizes, or of integers; norms that do not
        fit, or that the kind does not use.
    """
    (query, slot_embeddings), dtype = checks.reals(query=query, slot_embeddings=slot_embeddings)
    slot_norms = _check_slots(query, slot_embeddings, kind, slot_norms)
    if kind == "cosine":
        query = query / jnp.expand_dims(_norm(query), -1)
    address_logits = query @ slot_embeddings.T
    if kind != "inner":
        # Scaling the table itself would make a copy of it.
        inverse = 1.0 / (_norm(slot_embeddings) if slot_norms is None else slot_norms)
        address_logits = address_logits * jnp.broadcast_to(inverse, address_logits.shape)
    return address_logits.astype(dtype)


def slot_norms(slot_embeddings: chex.Array) -> chex.Array:
    """What `similarity` divides the slots' logits by: `|e_a|`, or 1 if that rounds to 0.

    Args:
      slot_embeddings: `[N, E]`.

    Returns:
      `[N]`, in float32 or wider. Under `jit` no copy of the table is made.

    Raises:
      ValueError: embeddings of another shape, or of integers.
    """
    slot_embeddings = checks.real("slot_embeddings", slot_embeddings)
    checks.num_axes("slot_embeddings", slot_embeddings, "[N, E]")
    return _norm(slot_embeddings.astype(jnp.promote_types(slot_embeddings.dtype, jnp.float32)))


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
    # bfloat16 can't count beyond 256, nor tell uniforms of a thousand slots apart.
    (address_logits,), dtype = checks.reals(address_logits=address_logits)
    checks.draws(address_logits, num_samples)
    address_log_probs = jax.nn.log_softmax(address_logits)
    probs = jax.lax.stop_gradient(jnp.exp(address_log_probs))
    # By inverting the distribution function: L uniforms instead of L x N Gumbel variables. A sum in
    # another order may round up at a slot of probability 0, which must not be drawn.
    cumulative = jax.lax.cummax(jnp.where(probs > 0, jnp.cumsum(probs), 0.0))
    uniform = jax.random.uniform(rng_key, (num_samples, 1), probs.dtype) * cumulative[-1]
    addresses = jnp.sum(cumulative[None, :] <= uniform, axis=-1, dtype=jnp.int32)
    return addresses, address_log_probs[addresses].astype(dtype)


def sample_streaming(
    rng_key: chex.PRNGKey,
    query: chex.Array,
    slot_embeddings: chex.Array,
    num_samples: int,
    *,
    kind: str = "key_normalized",
    chunk_size: int = 2048,
    axis_name: str | None = None,
    slot_norms: chex.Array | None = None,
) -> tuple[chex.Array, chex.Array]:
    """`sample` of `similarity`'s logits, exactly, for tables of millions of slots.

    Scores the table chunk by chunk, once forward and once backward. No array of the table's length
    is made, except the table's own gradient if that is asked for. For the same key the samples
    differ from `sample`'s; their distribution does not. The log probabilities are differentiable,
    in reverse, in the query and in all slots.

    A batch of queries `[..., E]` shares the two passes. Under `vmap` each query makes its own, and
    its own gradient of the table, before these are added up.

    Over devices, call it under `shard_map` with its default `check_vma=True` and with each device's
    share of the slots, in order. Every device then has all samples, and sends 2 L + 1 numbers for
    each query. The samples are those of one device with the same `rng_key` and `chunk_size`.

    Args:
      rng_key: a JAX random key; the same on all devices.
      query: `[..., E]`; the same on all devices.
      slot_embeddings: `[N, E]`; with `axis_name`, this device's N of them.
      num_samples: L, at least 1.
      kind: one of `KINDS`.
      chunk_size: slots that are scored at a time; larger ones suit accelerators.
      axis_name: the mesh axis that the slots are divided over.
      slot_norms: as in `similarity`; with it, "key_normalized" takes no longer than "inner".

    Returns:
      addresses: int32 `[..., L]`, among the slots of all devices.
      address_log_probs: `[..., L]`, log q(a) in nats.

    Raises:
      ValueError: as `similarity` and `sample`; with `axis_name`, slots of a device that do not make
        whole chunks; without it, slots that are divided over devices, if JAX knows it before it
        compiles (under `jit` it may not know; it then gathers them).
    """
    checks.at_least("num_samples", num_samples)
    table, shape, dtype, chunk_size = _table(
        query, slot_embeddings, kind, chunk_size, axis_name, slot_norms
    )
    num_slots = len(table[1][0])
    if axis_name is not None:
        checks.divides("chunk_size", chunk_size, "slots on a device", num_slots)
    if not jnp.issubdtype(rng_key.dtype, jax.dtypes.prng_key):
        # Compiled functions do not know JAX's default implementation, which a raw key has.
        rng_key = jax.random.wrap_key_data(rng_key)
    race_rng_key, draw_rng_key = jax.random.split(rng_key)
    score = _score_by(kind)
    first_chunk = _place(axis_name) * streaming.num_chunks(num_slots, chunk_size)
    table = streaming.align(table)
    fixed = jax.lax.stop_gradient(table)
    race = streaming.race(score, num_samples, chunk_size, race_rng_key, first_chunk, *fixed)
    addresses = streaming.draw_within(score, chunk_size, draw_rng_key, race.chunks, *fixed)
    first_slot = _place(axis_name) * num_slots
    if axis_name is not None:
        addresses = addresses + first_slot
        perturbed, addresses = compat.all_gather((race.perturbed, addresses), axis_name)
        winner = jnp.argmax(perturbed, axis=0)
        addresses = jnp.take_along_axis(addresses, winner[None], axis=0)[0]
    chosen = (addresses - first_slot, race.log_normalizer)
    logits, log_normalizer = streaming.attach(score, chunk_size, *chosen, *table)
    if axis_name is not None:
        logits = jax.lax.psum(logits, axis_name)
        log_normalizer = jax.nn.logsumexp(compat.all_gather(log_normalizer, axis_name), axis=0)
    log_probs = (logits - log_normalizer[:, None]).astype(dtype)
    shape = (*shape, num_samples)
    return addresses.reshape(shape), log_probs.reshape(shape)


def top_k(
    query: chex.Array,
    slot_embeddings: chex.Array,
    k: int,
    *,
    kind: str = "key_normalized",
    chunk_size: int = 2048,
    axis_name: str | None = None,
    slot_norms: chex.Array | None = None,
) -> tuple[chex.Array, chex.Array]:
    """The k slots of the largest logits, exactly, for tables of millions of slots.

    One pass over the table in chunks, as in `sample_streaming`. Logits must not be -inf. Only the
    slots that are found get a gradient; their logits are differentiable like those of `similarity`.

    Call it over devices like `sample_streaming`; each device sends k candidates for each query, and
    their slots.

    Args:
      query: `[..., E]`; the same on all devices.
      slot_embeddings: `[N, E]`; with `axis_name`, this device's N of them.
      k: from 1 to N.
      kind: one of `KINDS`.
      chunk_size: slots that are scored at a time.
      axis_name: the mesh axis that the slots are divided over.
      slot_norms: as in `similarity`.

    Returns:
      addresses: int32 `[..., k]`, from the largest logit down; the lower one where two tie.
      address_logits: `[..., k]`, in nats.

    Raises:
      ValueError: as `sample_streaming`; a k below 1 or above N.
    """
    (queries, slots), shape, dtype, chunk_size = _table(
        query, slot_embeddings, kind, chunk_size, axis_name, slot_norms
    )
    checks.at_most("k", k, "N", len(slots[0]))
    fixed = jax.lax.stop_gradient(streaming.align((queries, slots)))
    logits, addresses = streaming.largest(_score_by(kind), k, chunk_size, *fixed)
    if axis_name is not None:
        addresses = addresses + _place(axis_name) * len(slots[0])
        found = compat.all_gather((logits, addresses), axis_name)
        logits, addresses = streaming.merge_largest(
            k, *(jnp.concatenate([*candidates], axis=1) for candidates in found)
        )
    chosen = lookup(slots, addresses, axis_name=axis_name)
    again = jax.vmap(_score_by(kind))(queries, chosen)
    # Values from the pass, so that they fall in the order of the addresses; gradients from `again`.
    logits = logits + (again - jax.lax.stop_gradient(again))
    shape = (*shape, k)
    return addresses.reshape(shape), logits.astype(dtype).reshape(shape)


def lookup(contents: Any, addresses: chex.Array, *, axis_name: str | None = None) -> Any:
    """Reads slots: `contents` is any pytree of `[N, ...]`, the result of `[..., ...]`.

    Addresses are integers `[...]`, and their axes replace the axis N; an address outside [0, N)
    gives the nearest slot. A nested list of numbers is one array. Gradients reach the slots that
    were read. With `axis_name`, a mesh axis under `shard_map`, `contents` is this device's share of
    the slots, in order; only the chosen slots are sent.

    Raises:
      ValueError: addresses that are not integers, contents without slots.
    """
    addresses = checks.whole("addresses", addresses)

    def fetch(leaf: Any) -> chex.Array:
        slots = checks.slots("contents", leaf)
        if axis_name is None:
            return _take(slots, addresses)
        here = jnp.clip(addresses, 0, len(slots) * jax.lax.axis_size(axis_name) - 1)
        here = here - _place(axis_name) * len(slots)
        own = (here >= 0) & (here < len(slots))
        own = own.reshape(own.shape + (1,) * (slots.ndim - 1))
        found = _take(slots, here)
        return jax.lax.psum(jnp.where(own, found, jnp.zeros_like(found)), axis_name)

    return jax.tree.map(fetch, contents, is_leaf=checks.is_nested_list)


def kl_divergence(posterior_logits: chex.Array, prior_logits: chex.Array) -> chex.Array:
    """KL(q(a) || p(a)) between two categoricals, in nats, at least 0; VMA section 2.1.

    Slots with q(a) = 0 (logits of -inf) pass no gradient to q; q(a) > 0 where p(a) = 0 gives +inf.

    Args:
      posterior_logits: `[..., N]`, of q; need not be normalised.
      prior_logits: `[..., N]`, of p; broadcasts against q's.

    Returns:
      `[...]`.

    Raises:
      ValueError: no slots, or shapes that do not fit.
    """
    logits, dtype = checks.reals(posterior_logits=posterior_logits, prior_logits=prior_logits)
    shape = checks.broadcast("posterior_logits", logits[0], "prior_logits", logits[1])
    log_q, log_p = (jnp.broadcast_to(jax.nn.log_softmax(array), shape) for array in logits)
    q, p = jnp.exp(log_q), jnp.exp(log_p)
    # Both sides of a `where` are differentiated: keep the infinities out of the masked one.
    log_ratio = jnp.where(q > 0, log_p, 0.0) - jnp.where(q > 0, log_q, 0.0)
    # As sum q (r - 1 - log r) with r = p / q: no term is negative, and none cancels another.
    is_near = jnp.abs(log_ratio) < 1
    near = jnp.where(is_near, log_ratio, 0.0)
    terms = jnp.where(is_near, q * (jnp.expm1(near) - near), p - q - q * log_ratio)
    return jnp.sum(jnp.maximum(jnp.where(q > 0, terms, p), 0.0), axis=-1).astype(dtype)


def _take(slots: chex.Array, addresses: chex.Array) -> chex.Array:
    """The slots at addresses; gradients of one that is read often add up in float32 or wider."""
    if not jnp.issubdtype(slots.dtype, jnp.floating):
        return jnp.take(slots, addresses, axis=0, mode="clip")
    wide = slots.astype(jnp.promote_types(slots.dtype, jnp.float32))  # fused under `jit`: no copy
    return jnp.take(wide, addresses, axis=0, mode="clip").astype(slots.dtype)


def _norm(embeddings: chex.Array) -> chex.Array:
    """|e| `[...]` of `[..., E]`; 1 for zeros and for what is too short to divide by."""
    squared_norm = jnp.sum(jnp.square(embeddings), axis=-1)
    limits = jnp.finfo(embeddings.dtype)
    least = limits.tiny / limits.eps  # squares below `tiny` are lost
    return jnp.sqrt(jnp.where(squared_norm > least, squared_norm, 1.0))


def _place(axis_name: str | None) -> chex.Numeric:
    return 0 if axis_name is None else jax.lax.axis_index(axis_name)


@cache  # one function a kind, so that `streaming` is compiled once
def _score_by(kind: str) -> streaming.Score:
    return lambda queries, slots: similarity(queries, slots[0], kind, slot_norms=slots[1])


def _table(query, slot_embeddings, kind, chunk_size, axis_name, slot_norms):
    """Queries `[B, E]` and slots for `streaming`; the results' leading shape and type; chunks."""
    slot_embeddings = checks.real("slot_embeddings", slot_embeddings)  # widened chunk by chunk
    query = checks.real("query", query)
    dtype = jnp.result_type(query, slot_embeddings)
    query = query.astype(jnp.promote_types(dtype, jnp.float32))
    slot_norms = _check_slots(query, slot_embeddings, kind, slot_norms)
    checks.at_least("N", len(slot_embeddings))
    checks.at_least("chunk_size", chunk_size)
    if axis_name is None:
        checks.not_divided("slot_embeddings", slot_embeddings)
    table = query.reshape(-1, query.shape[-1]), (slot_embeddings, slot_norms)
    return table, query.shape[:-1], dtype, min(chunk_size, len(slot_embeddings))


def _check_slots(query, slot_embeddings, kind, slot_norms) -> chex.Array | None:
    """The norms, as wide as the query."""
    checks.one_of("kind", kind, KINDS)
    checks.num_axes("slot_embeddings", slot_embeddings, "[N, E]")
    checks.last_axis("query", query, "E", slot_embeddings.shape[1])
    if slot_norms is None:
        return None
    if kind == "inner":
        raise ValueError('slot_norms are given, and kind "inner" makes no use of them')
    slot_norms = checks.real("slot_norms", slot_norms).astype(query.dtype)
    checks.shape("slot_norms", slot_norms, slot_embeddings.shape[:1], "[N]")
    return slot_norms
