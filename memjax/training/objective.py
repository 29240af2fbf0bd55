"""What a model makes of an episode: a memory is written, and asked about each query."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from memjax import data, models

AXIS = "devices"  # the axis that batch statistics and gradients are averaged over, beside these:
_EPISODES, _QUERIES = "episodes", "batch"


class Keys(NamedTuple):
    """Random keys: one for the memory that queries share, one for each query or episode."""

    write: chex.PRNGKey
    queries: chex.PRNGKey


def objective(
    model: nn.Module,
    variables: dict[str, Any],
    rng_keys: Keys,
    episode: data.Episode,
    *,
    train: bool,
) -> tuple[chex.Array, tuple[dict[str, chex.Array], dict[str, Any]]]:
    """Means over the queries: objective, (metrics, updated variables other than parameters)."""
    if episode.is_its_own_support:
        ask = partial(
            _one_episode, _told_axes(model, (_EPISODES, _QUERIES, AXIS)), variables, train=train
        )
        mapped = jax.vmap(ask, axis_name=_EPISODES, out_axes=(0, None))
        (value, metrics), model_state = mapped(rng_keys.queries, episode.query)
    else:
        model = _told_axes(model, (_QUERIES, AXIS))
        memory = model.apply(variables, rng_keys.write, episode.support, method="write")
        ask = partial(_one_memory, model, variables, train=train)
        (value, metrics), model_state = ask(rng_keys.queries, episode.query, memory)
    return jnp.mean(value), (jax.tree.map(jnp.mean, metrics), model_state)


def _one_memory(
    model: nn.Module,
    variables: dict[str, Any],
    rng_keys: chex.PRNGKey,
    queries: Any,
    memory: Any,
    *,
    train: bool,
) -> Any:
    """((value, metrics) of each of the queries, updated variables other than parameters)."""
    mutable = [name for name in variables if name != "params"] if train else []

    @partial(jax.vmap, axis_name=_QUERIES, out_axes=(0, None))
    def one_query(rng_key: chex.PRNGKey, query: Any) -> Any:
        outputs, state = model.apply(
            variables, rng_key, query, memory, train=train, mutable=mutable
        )
        return outputs, dict(state)

    return one_query(rng_keys, queries)


def _one_episode(
    model: nn.Module,
    variables: dict[str, Any],
    rng_key: chex.PRNGKey,
    images: chex.Array,
    *,
    train: bool,
) -> Any:
    """Writes images `[T, H, W, C]` and asks for each of them; see `_one_memory`."""
    encode_rng_key, write_rng_key, query_rng_key = jax.random.split(rng_key, 3)
    encoded: Any = images
    if isinstance(model, models.Encodes):
        encode = partial(model.apply, variables, train=train, method="encode")
        encoded = jax.vmap(encode)(jax.random.split(encode_rng_key, len(images)), images)
    memory = model.apply(variables, write_rng_key, encoded, method="write")
    rng_keys = jax.random.split(query_rng_key, len(images))
    (value, metrics), state = _one_memory(model, variables, rng_keys, encoded, memory, train=train)
    if isinstance(model, models.WritesEpisodes):
        more = partial(model.apply, variables, method="memory_metrics")
        metrics = metrics | more(memory, len(images))
    return (value, metrics), state


def _told_axes(model: nn.Module, axes: Sequence[str]) -> nn.Module:
    """The model, told the names of the mapped axes if it normalises over them."""
    return (
        model.clone(batch_axes=tuple(axes)) if isinstance(model, models.NormalizesBatch) else model
    )
