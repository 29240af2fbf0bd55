"""Categorical addresses into a memory of slots: how VMA chooses what to read.

Everything here takes one query and one memory; add batch axes with `jax.vmap`. Source:
Bornschein et al., Variational Memory Addressing in Generative Models, 2017 (VMA below).
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from memjax.memory import checks

KINDS = ("key_normalized", "inner", "cosine")


def similarity(
    query: chex.Array, slot_embeddings: chex.Array, kind: str = "key_normalized"
) -> chex.Array:
    """Scores every slot for a query; VMA eqs. 4-6.

    With `e_a` a slot's embedding and `e` the query, the address logits are

        key_normalized   <e_a, e> / |e_a|            (eq. 5)
        inner            <e_a, e>
        cosine           <e_a, e> / (|e_a| |e|)

    An embedding of zeros scores 0 and has a finite gradient.

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
    if kind != "inner":
        slot_embeddings = _unit_norm(slot_embeddings)
    if kind == "cosine":
        query = _unit_norm(query)
    return query @ slot_embeddings.T


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
    address_log_probs = jax.nn.log_softmax(address_logits)
    probs = jax.lax.stop_gradient(jnp.exp(address_log_probs))
    # The inverse of the distribution function, at L uniforms rather than at L x N Gumbel variables.
    # A sum in another order may round up at a slot of probability 0, which must not be drawn.
    cumulative = jax.lax.cummax(jnp.where(probs > 0, jnp.cumsum(probs), 0.0))
    uniform = jax.random.uniform(rng_key, (num_samples, 1), probs.dtype) * cumulative[-1]
    addresses = jnp.sum(cumulative[None, :] <= uniform, axis=-1, dtype=jnp.int32)
    return addresses, address_log_probs[addresses]


def lookup(contents: Any, addresses: chex.Array) -> Any:
    """Reads slots: `contents` is any pytree of `[N, ...]`, the result of `[..., ...]`.

    Addresses are integers `[...]`, and their axes take the place of N.

    Addresses outside [0, N) give the nearest slot. Gradients reach the slots that were read.
    """
    return jax.tree.map(lambda leaf: jnp.take(leaf, addresses, axis=0, mode="clip"), contents)


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


def _unit_norm(embeddings: chex.Array) -> chex.Array:
    squared_norm = jnp.sum(jnp.square(embeddings), axis=-1, keepdims=True)
    return embeddings * jax.lax.rsqrt(jnp.where(squared_norm > 0, squared_norm, 1.0))
