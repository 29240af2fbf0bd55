"""A sequence that is divided over devices: what each begins with. See `causal`.

What a device's steps do to the statistics S and B = W' D^-1 (Z - W R) is to multiply them by a
share, and to add its own. So each finds its own, all are gathered, and those before are folded.
"""

import chex
import jax
import jax.numpy as jnp

from memjax import compat
from memjax.memory._causal_steps import Held, Prior, Steps, new_root, prior_coordinates


def held_before(axis_name: str, prior: Prior, start: Held, steps: Steps) -> Held:
    """What is held before this device's steps, if `start` is before the first device's."""
    own = _statistics(prior, start, steps)
    shares, precisions, informations = compat.all_gather(own, axis_name)
    place = jax.lax.axis_index(axis_name)
    precision = start.precision
    information = start.mean + start.precision @ start.mean
    for i in range(len(shares) - 1):
        before = i < place
        precision = jnp.where(before, shares[i] * precision + precisions[i], precision)
        information = jnp.where(before, shares[i] * information + informations[i], information)
    never = jnp.zeros((), bool)
    root = new_root(start.root, never, jnp.zeros_like(precision), precision)
    held = Held(root @ (root.T @ information), root, precision)
    return jax.tree.map(lambda a, b: jnp.where(place == 0, a, b), start, held)


def last(axis_name: str, held: Held) -> Held:
    """The last device's, on all of them."""
    is_last = jax.lax.axis_index(axis_name) == jax.lax.axis_size(axis_name) - 1
    return jax.lax.psum(jax.tree.map(lambda x: jnp.where(is_last, x, 0.0), held), axis_name)


def _statistics(
    prior: Prior, start: Held, steps: Steps
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """The share that is left of what was before these steps, and what they add to S and B."""
    told, _ = prior_coordinates(prior, steps)
    length, dtype = len(told.codes), told.codes.dtype
    log_decay = jnp.zeros(length, dtype) if told.log_decay is None else told.log_decay
    after = jnp.cumsum(log_decay[::-1])[::-1]  # from each step on, its own included
    left = jnp.exp(after - log_decay)
    share, put_back = jnp.exp(jnp.sum(log_decay)), jnp.zeros((), dtype)
    if told.reset is not None:
        since = jnp.cumsum(told.reset[::-1])[::-1]  # resets from each step on
        left = jnp.where(since - told.reset > 0, 0.0, left)
        is_last = told.reset & (since == 1)
        put_back = jnp.sum(jnp.where(is_last, jnp.exp(after), 0.0))
        share = jnp.where(jnp.any(told.reset), 0.0, share)
    weights = left[:, None] * told.weights
    information = start.mean + start.precision @ start.mean
    return (
        share,
        weights.T @ told.weights + put_back * start.precision,
        weights.T @ told.codes + put_back * information,
    )
