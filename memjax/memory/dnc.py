"""The memory of the Differentiable Neural Computer, as functions from state to state.

One memory, H read heads, one write head; add batch axes with `jax.vmap`. What a controller emits
comes in as arguments, already through its nonlinearity. A step that is masked leaves the state as
it was, whatever stands in its arguments, NaN included; they get a gradient of 0. Source: Graves et
al., Hybrid computing using a neural network with dynamic external memory, 2016, Methods (DNC
below).
"""

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp

from memjax.memory import addressing, checks, masking
from memjax.memory.states import state


@state
class DNCState:
    """A DNC's memory between two steps.

    Attributes:
      contents: `[N, C]`.
      usage: `[N]`, from 0, free, to 1, in use.
      link: `[N, N]`; link[i, j] is how much slot i was written right after slot j.
      precedence_weights: `[N]`, how much each slot was the last one written.
      write_weights: `[N]` of the last write.
      read_weights: `[H, N]` of the last read.
    """

    contents: chex.Array
    usage: chex.Array
    link: chex.Array
    precedence_weights: chex.Array
    write_weights: chex.Array
    read_weights: chex.Array


def init(num_slots: int, code_size: int, num_heads: int = 1) -> DNCState:
    """An empty memory of N slots of size C with H read heads."""
    for name, value in (
        ("num_slots", num_slots),
        ("code_size", code_size),
        ("num_heads", num_heads),
    ):
        checks.at_least(name, value)
    return DNCState(
        contents=jnp.zeros((num_slots, code_size)),
        usage=jnp.zeros(num_slots),
        link=jnp.zeros((num_slots, num_slots)),
        precedence_weights=jnp.zeros(num_slots),
        write_weights=jnp.zeros(num_slots),
        read_weights=jnp.zeros((num_heads, num_slots)),
    )


def write(
    memory: DNCState,
    code: chex.Array,
    *,
    write_key: chex.Array,
    write_strength: chex.Numeric,
    erase: chex.Array,
    free_gate: chex.Array,
    allocation_gate: chex.Numeric,
    write_gate: chex.Numeric,
    mask: chex.Array | None = None,
    reset: chex.Array | None = None,
) -> DNCState:
    """Frees what was read, chooses where to write, erases and adds, and links in temporal order.

        w = write_gate (allocation_gate allocation + (1 - allocation_gate) content)
        M <- M (1 - w erase') + w code'

    Args:
      memory: the state after the last read.
      code: `[C]`, what is added.
      write_key: `[C]`, for content addressing.
      write_strength: scalar, at least 1: the inverse temperature of content addressing.
      erase: `[C]` in [0, 1].
      free_gate: `[H]` in [0, 1]: whether what each head read last may be overwritten.
      allocation_gate: scalar in [0, 1]: a free slot against one that holds something like the key.
      write_gate: scalar in [0, 1]: whether to write at all.
      mask: bool scalar; False for a step of padding, which does nothing.
      reset: bool scalar; True where a sequence begins again before this write, masked or not, with
        an empty memory.

    Raises:
      ValueError: shapes that do not fit, integers; masks and resets that are no bool.
    """
    vectors = {"code": code, "write_key": write_key, "erase": erase}
    gates = {"allocation_gate": allocation_gate, "write_gate": write_gate}
    scalars = {"write_strength": write_strength, **gates}
    mask, reset = masking.take(mask, reset)
    memory, arrays, dtype = _widen(memory, free_gate=free_gate, **vectors, **scalars)
    num_slots, size = memory.contents.shape
    for name, array in zip((*vectors, *scalars), arrays[1:], strict=True):
        wanted, letters = ((size,), "[C]") if name in vectors else ((), "")
        checks.shape(name, array, wanted, letters)
    memory = masking.begin(reset, masking.zeros_like, memory)
    arrays = masking.hide(mask, arrays)
    free_gate, code, write_key, erase, write_strength, allocation_gate, write_gate = arrays
    usage = update_usage(memory, free_gate)
    content = content_weights(memory.contents, write_key[None], write_strength[None])[0]
    allocation = allocation_weights(usage)
    weights = write_gate * (allocation_gate * allocation + (1.0 - allocation_gate) * content)
    kept = 1.0 - jnp.outer(weights, erase)
    # Slot i follows slot j as far as i is written now and j was the last one before.
    fading = 1.0 - weights[:, None] - weights[None, :]
    link = fading * memory.link + jnp.outer(weights, memory.precedence_weights)
    state = DNCState(
        contents=kept * memory.contents + jnp.outer(weights, code),
        usage=usage,
        link=jnp.where(jnp.eye(num_slots, dtype=bool), 0.0, link),
        precedence_weights=(1.0 - jnp.sum(weights)) * memory.precedence_weights + weights,
        write_weights=weights,
        read_weights=memory.read_weights,
    )
    state = masking.keep(mask, state, memory)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), state)


def read(
    memory: DNCState,
    *,
    read_keys: chex.Array,
    read_strengths: chex.Array,
    read_modes: chex.Array,
    mask: chex.Array | None = None,
) -> tuple[chex.Array, DNCState]:
    """Reads by content, or what was written before or after what each head read last.

    Args:
      memory: the state after the last write.
      read_keys: `[H, C]`.
      read_strengths: `[H]`, at least 1.
      read_modes: `[H, 3]`, each head's shares of backward, content and forward; they sum to 1.
      mask: bool scalar; False for a step of padding, which does nothing and reads 0.

    Returns:
      What was read, `[H, C]`, and the state.

    Raises:
      ValueError: shapes that do not fit, integers; a mask that is no bool.
    """
    mask, _ = masking.take(mask)
    given = {"read_keys": read_keys, "read_strengths": read_strengths, "read_modes": read_modes}
    memory, arrays, dtype = _widen(memory, **given)
    read_keys, read_strengths, read_modes = masking.hide(mask, arrays)
    num_heads, _ = memory.read_weights.shape
    checks.shape("read_keys", read_keys, (num_heads, memory.contents.shape[1]), "[H, C]")
    checks.shape("read_strengths", read_strengths, (num_heads,), "[H]")
    checks.shape("read_modes", read_modes, (num_heads, 3), "[H, 3]")
    content = content_weights(memory.contents, read_keys, read_strengths)
    backward = memory.read_weights @ memory.link
    forward = memory.read_weights @ memory.link.T
    weights = jnp.einsum("hm,mhn->hn", read_modes, jnp.stack([backward, content, forward]))
    found = weights @ memory.contents
    after = dataclasses.replace(memory, read_weights=weights)
    result = masking.hide(mask, found), masking.keep(mask, after, memory)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), result)


def content_weights(contents: chex.Array, keys: chex.Array, strengths: chex.Array) -> chex.Array:
    """Softmax of strength times cosine similarity: `[N, C]`, `[H, C]`, `[H]` to `[H, N]`.

    A slot or a key of zeros, or as good as zeros, has similarity 0: see `addressing.similarity`.

    Raises:
      ValueError: shapes that do not fit, integers.
    """
    arrays, dtype = checks.reals(contents=contents, keys=keys, strengths=strengths)
    contents, keys, strengths = arrays
    checks.num_axes("contents", contents, "[N, C]")
    checks.num_axes("keys", keys, "[H, C]")
    checks.last_axis("keys", keys, "C", contents.shape[1])
    checks.shape("strengths", strengths, (len(keys),), "[H]")
    similarity = addressing.similarity(keys, contents, "cosine")
    return jax.nn.softmax(strengths[:, None] * similarity, axis=-1).astype(dtype)


def update_usage(memory: DNCState, free_gate: chex.Array) -> chex.Array:
    """The usage `[N]` after the last write, and after freeing what was read: `[H]` gates.

    Raises:
      ValueError: shapes that do not fit, integers.
    """
    memory, (free_gate,), dtype = _widen(memory, free_gate=free_gate)
    checks.shape("free_gate", free_gate, memory.read_weights.shape[:1], "[H]")
    written = memory.usage + (1.0 - memory.usage) * memory.write_weights
    retention = jnp.prod(1.0 - free_gate[:, None] * memory.read_weights, axis=0)
    return (written * retention).astype(dtype)


def allocation_weights(usage: chex.Array) -> chex.Array:
    """Weights `[N]` on free slots: in order of usage, each takes of what is left what it has free.

    The order itself passes no gradient (DNC, Methods).

    Raises:
      ValueError: no `[N]`, integers.
    """
    (usage,), dtype = checks.reals(usage=usage)
    checks.num_axes("usage", usage, "[N]")
    fixed = jax.lax.stop_gradient(usage)
    own, other = fixed[:, None], fixed[None, :]
    before = (other < own) | ((other == own) & jnp.tri(len(usage), k=-1, dtype=bool))
    # A compiler may compute what stands in usage twice, and round it differently.
    before &= ~jnp.eye(len(usage), dtype=bool)
    # A product as a sum of logarithms: no sort, no scatter. A factor of zero counts as this much
    # in the derivative, so that it is the product of the others, and as nothing in the value.
    least = float(jnp.finfo(usage.dtype).tiny) ** 0.5  # leaves as much room for the others
    positive = usage + (jnp.maximum(fixed, least) - fixed)
    taken = jnp.exp(jnp.sum(jnp.where(before, jnp.log(positive)[None, :], 0.0), axis=1))
    is_none = jnp.any(before & (other <= 0.0), axis=-1)
    taken -= jax.lax.stop_gradient(jnp.where(is_none, taken, 0.0))
    return ((1.0 - usage) * taken).astype(dtype)


def _widen(memory: DNCState, **values: Any) -> tuple[DNCState, list[jax.Array], Any]:
    """The memory and what else comes in, as `checks.reals` gives them."""
    fields = checks.fields("memory", memory, DNCState)
    arrays, dtype = checks.reals(**fields, **values)
    memory = DNCState(*arrays[: len(fields)])
    checks.num_axes("memory.contents", memory.contents, "[N, C]")
    checks.num_axes("memory.read_weights", memory.read_weights, "[H, N]")
    num_slots = len(memory.contents)
    checks.last_axis("memory.read_weights", memory.read_weights, "N", num_slots)
    checks.shape("memory.link", memory.link, (num_slots, num_slots), "[N, N]")
    for name in ("usage", "precedence_weights", "write_weights"):
        checks.shape(f"memory.{name}", getattr(memory, name), (num_slots,), "[N]")
    return memory, arrays[len(fields) :], dtype
