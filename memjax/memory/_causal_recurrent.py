"""The steps of a sequence in blocks, each step exact. See `causal`.

What rounding takes from the sums is carried along, so that it does not add up over long sequences.
A decay would change the whole root, so it is put off, until less than half is left or the sequence
ends. A block that forgets more than blocks can put off is done step by step.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp

from memjax.memory import _causal_block
from memjax.memory._causal_block import Carry, least_of_all
from memjax.memory._causal_steps import (
    Held,
    Prior,
    Steps,
    in_blocks,
    keeps_much,
    new_root,
    out_of_blocks,
    prior_coordinates,
)

_BLOCK_SIZE = 16
_SMALLEST_SHARE = 0.03125  # to which a block puts decays off; rounding grows as its inverse


@partial(jax.jit, static_argnums=4)  # called eagerly, it is compiled once
def attend(
    prior: Prior, start: Held, held: Held, steps: Steps, inclusive: bool
) -> tuple[chex.Array, chex.Array, Held]:
    """means `[T, C]`, vars `[T]`, and what is held after the last step; a reset puts `start` back.

    For the gradient, states are kept between groups of blocks, the square root of their number, and
    computed again in them.
    """
    length = len(steps.codes)
    steps, places = _masked_last(steps)
    # A single step, as decoding takes it, has no others to share its products with.
    blocks = jax.tree.map(partial(in_blocks, size=1 if length == 1 else _BLOCK_SIZE), steps)
    size = max(1, math.isqrt(len(blocks.codes)))
    groups = jax.tree.map(partial(in_blocks, size=size), blocks)
    advance = partial(_advance, prior, _carry(start), inclusive)
    run_group = jax.checkpoint(
        lambda carry, group: jax.lax.scan(advance, carry, group), prevent_cse=False
    )
    carry, found = jax.lax.scan(run_group, _carry(held), groups)
    found = jax.tree.map(
        lambda x: out_of_blocks(out_of_blocks(x, len(blocks.codes)), length), found
    )
    if places is not None:
        found = jax.tree.map(lambda x: x[places], found)
    return *found, carry.held if steps.log_decay is None else _catch_up(carry).held


def _masked_last(steps: Steps) -> tuple[Steps, chex.Array | None]:
    """The same steps, masked ones last, and where each is found there.

    So blocks are the same with masked steps as without. A reset on one is done at the next.
    """
    if steps.active is None:
        return steps, None
    order = jnp.argsort(~steps.active, stable=True)
    if steps.reset is not None:
        resets = jnp.where(steps.active, jnp.cumsum(steps.reset), jnp.sum(steps.reset))
        steps = steps._replace(reset=resets)
    steps = jax.tree.map(lambda x: x[order], steps)
    if steps.reset is not None:
        steps = steps._replace(reset=jnp.diff(steps.reset, prepend=0) > 0)
    return steps, jnp.argsort(order)


def _carry(held: Held) -> Carry:
    zeros = jax.tree.map(jnp.zeros_like, held)
    return Carry(held, jnp.ones_like(held.mean[0, 0]), zeros.mean, zeros.root)


def _advance(prior: Prior, start: Carry, inclusive: bool, carry: Carry, raw: Steps) -> Any:
    """A block of steps."""
    block, prior_reads = prior_coordinates(prior, raw)
    run = partial(_causal_block.run, start, inclusive)
    if block.log_decay is None:
        after, (means, variances) = run(carry, block, None)
    else:
        shares = _shares(carry, block)
        after, (means, variances) = jax.lax.cond(
            least_of_all(shares) >= _SMALLEST_SHARE,
            lambda carry, block: run(carry, block, shares),
            jax.checkpoint(partial(_run_one_by_one, start, run)),
            carry,
            block,
        )
        after = _catch_up_in_time(after)
    if block.active is not None:  # a write of nothing would change the last bits
        does = jnp.any(block.active)
        does = does if block.reset is None else does | jnp.any(block.reset)
        after = jax.tree.map(partial(jnp.where, does), after, carry)
    return after, (prior_reads + means, variances)


def _run_one_by_one(start: Carry, run: Callable, carry: Carry, block: Any) -> Any:
    """With decays done before they are too strong."""

    def run_one(carry: Carry, step: Any) -> Any:
        if step.reset is not None:
            carry = jax.tree.map(partial(jnp.where, step.reset[0]), start, carry)
        decay = jnp.exp(step.log_decay[0])
        held = carry.held._replace(precision=decay * carry.held.precision)
        carry = _catch_up_in_time(carry._replace(held=held, share=decay * carry.share))
        return run(carry, step._replace(log_decay=None, reset=None), carry.share[None])

    carry, found = jax.lax.scan(run_one, carry, jax.tree.map(lambda x: x[:, None], block))
    return carry, jax.tree.map(lambda x: x[:, 0], found)


def _shares(carry: Carry, block: Any) -> chex.Array:
    """What decays up to each step leave, since they were last done or since a reset."""
    size = len(block.codes)
    resets = jnp.zeros(size, int) if block.reset is None else jnp.cumsum(block.reset)
    since = (resets[:, None] == resets[None, :]) & jnp.tri(size, dtype=bool)
    left = jnp.exp(jnp.sum(jnp.where(since, block.log_decay[None, :], 0.0), axis=1))
    return jnp.where(resets > 0, 1.0, carry.share) * left


def _catch_up_in_time(carry: Carry) -> Carry:
    late = least_of_all(carry.share) < 0.5
    return jax.lax.cond(late, jax.checkpoint(_catch_up), lambda carry: carry, carry)


def _catch_up(carry: Carry) -> Carry:
    """Does what decays were put off."""
    (mean, root, precision), share = carry.held, carry.share
    # K' (s Q + (1 - s) I) K
    relative = share * jnp.eye(len(root), dtype=root.dtype) + (1.0 - share) * (root.T @ root)
    root = new_root(root, keeps_much(share, precision / share), relative, precision)
    mean = mean - (1.0 - share) * (root @ (root.T @ mean))
    return _carry(Held(mean, root, precision))
