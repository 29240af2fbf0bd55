"""Product keys: a table of R x S slots, addressed by R + S keys.

Slot `i S + j` has the key that joins key i of the first set to key j of the second, so its logit is
the sum of two. The k best of all slots are then among the k best of each set, and the softmax over
all slots is the product of two. What stands in the slots is read by `addressing.lookup`.

Source: Lample et al., Large Memory Layers with Product Keys, 2019.
"""

import chex
import jax
import jax.numpy as jnp

from memjax.memory import addressing, checks, streaming


def top_k(
    query: chex.Array,
    first_keys: chex.Array,
    second_keys: chex.Array,
    k: int,
    *,
    kind: str = "inner",
) -> tuple[chex.Array, chex.Array]:
    """The k slots of the largest logits, exactly; R + S scores rather than R x S.

    Args:
      query: `[..., E]`; its first `E_1` numbers ask the first set, the other `E_2` the second.
      first_keys: `[R, E_1]`.
      second_keys: `[S, E_2]`, with `E_1 + E_2 = E`.
      k: from 1 to R S.
      kind: one of `addressing.KINDS`, for each half.

    Returns:
      addresses: int32 `[..., k]` in [0, R S), from the largest logit down.
      address_logits: `[..., k]`, in nats; differentiable.

    Raises:
      ValueError: sizes that do not fit, a k below 1 or above R S, more slots than int32 counts.
    """
    first, second, dtype = _logits(query, first_keys, second_keys, kind)
    checks.at_most("k", k, "R S", first.shape[-1] * second.shape[-1])
    rows, columns = (jax.lax.top_k(each, min(k, each.shape[-1])) for each in (first, second))
    sums = rows[0][..., :, None] + columns[0][..., None, :]
    addresses = rows[1][..., :, None] * second.shape[-1] + columns[1][..., None, :]
    flat = (*sums.shape[:-2], sums.shape[-2] * sums.shape[-1])
    address_logits, addresses = streaming.merge_largest(
        k, sums.reshape(flat), addresses.reshape(flat)
    )
    return addresses.astype(jnp.int32), address_logits.astype(dtype)


def sample(
    rng_key: chex.PRNGKey,
    query: chex.Array,
    first_keys: chex.Array,
    second_keys: chex.Array,
    num_samples: int,
    *,
    kind: str = "inner",
) -> tuple[chex.Array, chex.Array]:
    """Draws addresses from the softmax over all R x S slots, exactly: a row and a column.

    Args:
      rng_key: a JAX random key.
      query: `[E]`; the rest as in `top_k`.
      first_keys: `[R, E_1]`.
      second_keys: `[S, E_2]`.
      num_samples: L, at least 1.
      kind: one of `addressing.KINDS`, for each half.

    Returns:
      addresses: int32 `[L]` in [0, R S).
      address_log_probs: `[L]`, log q(a) in nats; differentiable.

    Raises:
      ValueError: as `top_k`; a batch of queries, `num_samples` below 1.
    """
    checks.num_axes("query", checks.real("query", query), "[E]")
    first, second, dtype = _logits(query, first_keys, second_keys, kind)
    row_rng_key, column_rng_key = jax.random.split(rng_key)
    rows, row_log_probs = addressing.sample(row_rng_key, first, num_samples)
    columns, column_log_probs = addressing.sample(column_rng_key, second, num_samples)
    log_probs = row_log_probs + column_log_probs
    return rows * len(second) + columns, log_probs.astype(dtype)


def _logits(query, first_keys, second_keys, kind):
    """Logits of both sets, `[..., R]` and `[..., S]`, at least float32; and the results' type."""
    arrays, dtype = checks.reals(query=query, first_keys=first_keys, second_keys=second_keys)
    query, *keys = arrays
    for name, array, wanted in zip(
        ("first_keys", "second_keys"), keys, ("[R, E_1]", "[S, E_2]"), strict=True
    ):
        checks.num_axes(name, array, wanted)
        checks.at_least(f"the length of {name}", len(array))
    num_slots = len(keys[0]) * len(keys[1])
    checks.at_most("R S", num_slots, "the largest int32", jnp.iinfo(jnp.int32).max)
    size = keys[0].shape[1]
    checks.last_axis("query", query, "E", size + keys[1].shape[1])
    halves = query[..., :size], query[..., size:]
    first, second = (
        addressing.similarity(half, key, kind) for half, key in zip(halves, keys, strict=True)
    )
    return first, second, dtype
