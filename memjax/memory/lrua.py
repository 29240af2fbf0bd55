"""Least-recently-used access: the memory of memory-augmented meta-learning.

One memory, H heads that read and write; add batch axes with `jax.vmap`. A step that is masked
leaves the state as it was, whatever stands in its arguments, NaN included; they get a gradient of
0. Source: Santoro et al., Meta-Learning with Memory-Augmented Neural Networks, 2016, section 3.2
(LRUA below).
"""

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp

from memjax.memory import checks, dnc, masking
from memjax.memory.states import state


@state
class LRUAState:
    """A memory with least-recently-used access between two steps.

    Attributes:
      contents: `[N, C]`.
      usage_weights: `[N]`, how much and how lately each slot was read or written.
      read_weights: `[H, N]` of the last read.
      write_weights: `[H, N]` of the last write.
    """

    contents: chex.Array
    usage_weights: chex.Array
    read_weights: chex.Array
    write_weights: chex.Array


def init(num_slots: int, code_size: int, num_heads: int = 1) -> LRUAState:
    """An empty memory of N slots of size C with H heads, H at most N."""
    checks.at_least("code_size", code_size)
    checks.at_least("num_heads", num_heads)
    checks.at_least("num_slots", num_slots, num_heads)
    return LRUAState(
        contents=jnp.zeros((num_slots, code_size)),
        usage_weights=jnp.zeros(num_slots),
        read_weights=jnp.zeros((num_heads, num_slots)),
        write_weights=jnp.zeros((num_heads, num_slots)),
    )


def write(
    memory: LRUAState,
    codes: chex.Array,
    write_gate: chex.Array,
    *,
    mask: chex.Array | None = None,
    reset: chex.Array | None = None,
) -> LRUAState:
    """Writes each head's code where it read last, or to a least used slot; LRUA eqs. 7-8.

        w_h = write_gate_h read_weights_h + (1 - write_gate_h) least_used_h

    The least used slots are emptied first. Head h takes the h-th least used, so that heads do not
    overwrite each other (the paper lets all of them share the H least used).

    Args:
      memory: the state after the last read.
      codes: `[H, C]`.
      write_gate: `[H]` in [0, 1]; the sigmoid of the paper's alpha.
      mask: bool scalar; False for a step of padding, which does nothing.
      reset: bool scalar; True where a sequence begins again before this write, masked or not, with
        an empty memory.

    Raises:
      ValueError: shapes that do not fit, integers; masks and resets that are no bool.
    """
    mask, reset = masking.take(mask, reset)
    memory, (codes, write_gate), dtype = _widen(memory, codes=codes, write_gate=write_gate)
    num_heads, _ = memory.read_weights.shape
    checks.shape("codes", codes, (num_heads, memory.contents.shape[1]), "[H, C]")
    checks.shape("write_gate", write_gate, (num_heads,), "[H]")
    memory = masking.begin(reset, masking.zeros_like, memory)
    codes, write_gate = masking.hide(mask, (codes, write_gate))
    least_used = least_used_weights(memory.usage_weights, num_heads)
    gate = write_gate[:, None]
    weights = gate * memory.read_weights + (1.0 - gate) * least_used
    kept = 1.0 - jnp.sum(least_used, axis=0)[:, None]
    state = dataclasses.replace(
        memory, contents=kept * memory.contents + weights.T @ codes, write_weights=weights
    )
    state = masking.keep(mask, state, memory)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), state)


def read(
    memory: LRUAState,
    read_keys: chex.Array,
    usage_decay: chex.Numeric = 0.95,
    *,
    read_strengths: chex.Numeric = 1.0,
    mask: chex.Array | None = None,
) -> tuple[chex.Array, LRUAState]:
    """Reads by the softmax of cosine similarity, and ages the usage; LRUA eqs. 2-5.

    Args:
      memory: the state after the last write.
      read_keys: `[H, C]`.
      usage_decay: gamma in [0, 1], the share of its usage that a slot keeps in a step.
      read_strengths: scalar or `[H]`, what the similarity is multiplied by. The paper has 1: of 64
        slots the only one that matches then gets 4% of the weight.
      mask: bool scalar; False for a step of padding, which does nothing and reads 0.

    Returns:
      What was read, `[H, C]`, and the state.

    Raises:
      ValueError: keys that do not fit, integers; a mask that is no bool.
    """
    mask, _ = masking.take(mask)
    memory, arrays, dtype = _widen(
        memory, read_keys=read_keys, usage_decay=usage_decay, read_strengths=read_strengths
    )
    read_keys, usage_decay, strengths = masking.hide(mask, arrays)
    num_heads, _ = memory.read_weights.shape
    checks.shape("read_keys", read_keys, (num_heads, memory.contents.shape[1]), "[H, C]")
    checks.shape("usage_decay", usage_decay, ())
    if strengths.ndim:
        checks.shape("read_strengths", strengths, (num_heads,), "a scalar or [H]")
    strengths = jnp.broadcast_to(strengths, (num_heads,))
    weights = dnc.content_weights(memory.contents, read_keys, strengths)
    accessed = jnp.sum(weights + memory.write_weights, axis=0)
    state = dataclasses.replace(
        memory, usage_weights=usage_decay * memory.usage_weights + accessed, read_weights=weights
    )
    found = weights @ memory.contents
    result = masking.hide(mask, found), masking.keep(mask, state, memory)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), result)


def least_used_weights(usage_weights: chex.Array, num_heads: int) -> chex.Array:
    """One-hot weights `[H, N]` of the H least used slots, the least used first; LRUA eq. 6.

    Raises:
      ValueError: no `[N]`, more heads than slots, integers.
    """
    (usage_weights,), dtype = checks.reals(usage_weights=usage_weights)
    checks.num_axes("usage_weights", usage_weights, "[N]")
    checks.at_least("num_heads", num_heads)
    checks.at_least("N", len(usage_weights), num_heads)
    order = jnp.argsort(jax.lax.stop_gradient(usage_weights), stable=True)[:num_heads]
    return jax.nn.one_hot(order, len(usage_weights), dtype=dtype)


def _widen(memory: LRUAState, **values: Any) -> tuple[LRUAState, list[jax.Array], Any]:
    """The memory and what else comes in, as `checks.reals` gives them."""
    fields = checks.fields("memory", memory, LRUAState)
    arrays, dtype = checks.reals(**fields, **values)
    memory = LRUAState(*arrays[: len(fields)])
    checks.num_axes("memory.contents", memory.contents, "[N, C]")
    checks.num_axes("memory.read_weights", memory.read_weights, "[H, N]")
    num_slots = len(memory.contents)
    checks.last_axis("memory.read_weights", memory.read_weights, "N", num_slots)
    checks.shape("memory.usage_weights", memory.usage_weights, (num_slots,), "[N]")
    read_name, write_name = "memory.read_weights", "memory.write_weights"
    checks.same_shape(write_name, memory.write_weights, read_name, memory.read_weights)
    return memory, arrays[len(fields) :], dtype
