"""Soft reads of a memory of slots, and ways to combine what was read with what asked.

Everything here takes one memory; leading axes of the query are kept. Source: Li et al., Learning to
Generate with Memory, 2016 (MEM-VAE below), section 3.3.
"""

import chex
import jax
import jax.numpy as jnp

from memjax.memory import checks
from memjax.memory.states import state

KINDS = ("softmax", "sigmoid")


@state
class Composition:
    """Parameters of `combine_mlp`, each `[D]`, named as in MEM-VAE section 3.3."""

    a1: chex.Array
    a2: chex.Array
    a3: chex.Array
    a4: chex.Array
    b1: chex.Array
    c1: chex.Array
    c2: chex.Array
    c3: chex.Array
    c4: chex.Array


def attention_weights(
    query: chex.Array,
    slot_keys: chex.Array,
    bias: chex.Array | None = None,
    *,
    kind: str = "softmax",
    num_heads: int = 1,
) -> chex.Array:
    """How much of each slot each head reads: kind(slot_keys query + bias).

    With several heads the query and the keys are cut into H equal parts, one for each head.
    MEM-VAE's weights are one head's sigmoid; a softmax's sum to 1. A slot whose bias is -inf is
    not read.

    Args:
      query: `[..., E]`.
      slot_keys: `[N, E]`; MEM-VAE's matrix A.
      bias: `[N]`, MEM-VAE's b_A; None is zero.
      kind: one of `KINDS`.
      num_heads: H, a divisor of E.

    Returns:
      `[..., H, N]`.

    Raises:
      ValueError: an unknown kind, shapes that do not fit, heads that do not divide E, integers.
    """
    checks.one_of("kind", kind, KINDS)
    given = {} if bias is None else {"bias": bias}
    arrays, dtype = checks.reals(query=query, slot_keys=slot_keys, **given)
    query, slot_keys = arrays[:2]
    checks.num_axes("slot_keys", slot_keys, "[N, E]")
    num_slots, size = slot_keys.shape
    checks.last_axis("query", query, "E", size)
    checks.divides("num_heads", num_heads, "E", size)
    queries = query.reshape(*query.shape[:-1], num_heads, size // num_heads)
    keys = slot_keys.reshape(num_slots, num_heads, size // num_heads)
    logits = jnp.einsum("...he,nhe->...hn", queries, keys)
    if bias is not None:
        checks.shape("bias", arrays[2], (num_slots,), "[N]")
        logits = logits + jnp.expand_dims(arrays[2], range(logits.ndim - 1))
    weights = jax.nn.softmax(logits, axis=-1) if kind == "softmax" else jax.nn.sigmoid(logits)
    return weights.astype(dtype)


def read(weights: chex.Array, contents: chex.Array) -> chex.Array:
    """The weighted sum of slots; head h reads the h-th of H equal parts of every slot.

    Args:
      weights: `[..., H, N]`.
      contents: `[N, C]`.

    Returns:
      `[..., C]`.

    Raises:
      ValueError: shapes that do not fit, heads that do not divide C, integers.
    """
    (weights, contents), dtype = checks.reals(weights=weights, contents=contents)
    checks.num_axes("contents", contents, "[N, C]")
    num_slots, size = contents.shape
    checks.last_axis("weights", weights, "N", num_slots)
    if weights.ndim < 2:
        raise ValueError(f"weights is {weights.shape}; it must be [..., H, N]")
    num_heads = weights.shape[-2]
    checks.divides("num_heads", num_heads, "C", size)
    parts = contents.reshape(num_slots, num_heads, size // num_heads)
    retrieved = jnp.einsum("...hn,nhc->...hc", weights, parts)
    return retrieved.reshape(*weights.shape[:-2], size).astype(dtype)


def init_composition(size: int) -> Composition:
    """The paper's initial values, at which `combine_mlp` gives the top-down signal; section 5."""
    checks.at_least("size", size)
    # An array for each: what is donated may stand in a state only once.
    zeros = {name: jnp.zeros(size) for name in ("a1", "a2", "a4", "b1", "c1", "c2", "c4")}
    return Composition(a3=jnp.ones(size), c3=jnp.ones(size), **zeros)


def combine_sum(generated: chex.Array, retrieved: chex.Array) -> chex.Array:
    """h_g + h_m: the memory holds the residual; both `[..., D]`."""
    (generated, retrieved), dtype = checks.reals(generated=generated, retrieved=retrieved)
    checks.same_shape("retrieved", retrieved, "generated", generated)
    return (generated + retrieved).astype(dtype)


def combine_mlp(
    composition: Composition, generated: chex.Array, retrieved: chex.Array
) -> chex.Array:
    """The element-wise MLP a + b1 c of MEM-VAE section 3.3, before the caller's nonlinearity.

        a = a1 + a2 h_m + a3 h_g + a4 h_g h_m
        c = sigmoid(c1 + c2 h_m + c3 h_g + c4 h_g h_m)

    Args:
      composition: `[D]` each.
      generated: h_g, the top-down signal, `[..., D]`.
      retrieved: h_m, what was read, `[..., D]`.

    Returns:
      `[..., D]`.

    Raises:
      ValueError: shapes that do not fit, integers.
    """
    fields = checks.fields("composition", composition, Composition)
    arrays, dtype = checks.reals(**fields, generated=generated, retrieved=retrieved)
    *parameters, generated, retrieved = arrays
    a1, *_ = parameters
    checks.num_axes("composition.a1", a1, "[D]")
    for name, array in zip(fields, parameters, strict=True):
        checks.same_shape(name, array, "composition.a1", a1)
    checks.last_axis("generated", generated, "D", len(a1))
    checks.same_shape("retrieved", retrieved, "generated", generated)
    axes = range(generated.ndim - 1)
    p = Composition(*(jnp.expand_dims(array, axes) for array in parameters))
    cross = generated * retrieved
    linear = p.a1 + p.a2 * retrieved + p.a3 * generated + p.a4 * cross
    inner = p.c1 + p.c2 * retrieved + p.c3 * generated + p.c4 * cross
    return (linear + p.b1 * jax.nn.sigmoid(inner)).astype(dtype)
