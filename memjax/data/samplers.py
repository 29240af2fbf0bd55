"""Samplers: pure functions of an rng_key that draw the indices of an episode."""

from collections.abc import Callable
from functools import partial

import chex
import jax
import jax.numpy as jnp

from memjax.data.episodes import EpisodeIndices, ImageArrays
from memjax.errors import UserError, check_at_least_one

_DENSE_PERMUTATION = 4096  # below this many images a permutation of them all is the cheapest

Sampler = Callable[[chex.PRNGKey, ImageArrays], EpisodeIndices]


def minibatch(rng_key: chex.PRNGKey, data: ImageArrays, *, batch_size: int) -> EpisodeIndices:
    """Images drawn independently and uniformly, with replacement; no memory."""
    check_at_least_one(batch_size=batch_size)
    return EpisodeIndices(jax.random.randint(rng_key, (batch_size,), 0, len(data.images)))


def recall(
    rng_key: chex.PRNGKey, data: ImageArrays, *, num_slots: int, batch_size: int
) -> EpisodeIndices:
    """Train to recall (VMA section 4.1): a memory of distinct images, and queries drawn from it."""
    check_at_least_one(num_slots=num_slots, batch_size=batch_size)
    support_rng_key, query_rng_key = jax.random.split(rng_key)
    if num_slots > len(data.images):
        raise UserError(f"num_slots is {num_slots}; the data set has {len(data.images)} images")
    support = sample_without_replacement(support_rng_key, len(data.images), num_slots)
    addresses = jax.random.randint(query_rng_key, (batch_size,), 0, num_slots)
    return EpisodeIndices(support[addresses], support, addresses)


def few_shot(
    rng_key: chex.PRNGKey,
    data: ImageArrays,
    *,
    num_classes: int,
    num_support: int,
    num_queries: int,
) -> EpisodeIndices:
    """Some classes; of each, `num_support` images in memory and `num_queries` others asked about.

    VMA section 4.2. Queries and support of a class are disjoint; both are ordered by class.
    """
    check_at_least_one(num_classes=num_classes, num_support=num_support, num_queries=num_queries)
    _check_num_classes(num_classes, data)
    if num_support + num_queries > data.smallest_class:
        raise UserError(
            f"num_support + num_queries is {num_support + num_queries}; "
            f"the smallest class of the data set has {data.smallest_class} images"
        )
    class_rng_key, member_rng_key = jax.random.split(rng_key)
    classes = sample_without_replacement(class_rng_key, len(data.class_sizes), num_classes)
    drawn = _draw_members(member_rng_key, data, classes, num_support + num_queries)
    support, query = drawn[:, :num_support], drawn[:, num_support:]
    return EpisodeIndices(query.reshape(-1), support.reshape(-1))


def unstructured(
    rng_key: chex.PRNGKey, data: ImageArrays, *, num_episodes: int, episode_length: int
) -> EpisodeIndices:
    """Episodes of distinct images, drawn independently of class (Kanerva Machine section 4.2)."""
    check_at_least_one(num_episodes=num_episodes, episode_length=episode_length)
    if episode_length > len(data.images):
        raise UserError(
            f"episode_length is {episode_length}; the data set has {len(data.images)} images"
        )
    draw = partial(_draw_distinct, population=len(data.images), count=episode_length)
    return EpisodeIndices(jax.vmap(draw)(jax.random.split(rng_key, num_episodes)))


def few_classes(
    rng_key: chex.PRNGKey,
    data: ImageArrays,
    *,
    num_episodes: int,
    episode_length: int,
    num_classes: int,
) -> EpisodeIndices:
    """Episodes of images of a few classes each (Kanerva Machine section 4.2).

    Each image's class is drawn independently, of the episode's `num_classes`. The images of a class
    are distinct until it has no more; then they repeat, in the same order.
    """
    check_at_least_one(
        num_episodes=num_episodes, episode_length=episode_length, num_classes=num_classes
    )
    _check_num_classes(num_classes, data)

    def one_episode(rng_key: chex.PRNGKey) -> chex.Array:
        class_rng_key, choice_rng_key, member_rng_key = jax.random.split(rng_key, 3)
        classes = _draw_distinct(class_rng_key, len(data.class_sizes), num_classes)
        choice = jax.random.randint(choice_rng_key, (episode_length,), 0, num_classes)
        if num_classes > episode_length:  # of the classes, those that come up
            classes, choice = classes[choice], jnp.argmax(choice[:, None] == choice[None], axis=1)
        members = _draw_members(member_rng_key, data, classes, episode_length)
        so_far = jnp.cumsum(jax.nn.one_hot(choice, len(classes), dtype=jnp.int32), axis=0)
        return members[choice, so_far[jnp.arange(episode_length), choice] - 1]

    return EpisodeIndices(jax.vmap(one_episode)(jax.random.split(rng_key, num_episodes)))


SAMPLERS = {f.__name__: f for f in (minibatch, recall, few_shot, unstructured, few_classes)}


def sample_without_replacement(rng_key: chex.PRNGKey, population: int, count: int) -> chex.Array:
    """`count` distinct integers below `population`, uniformly, in random order: int32 `[count]`.

    A permutation of a large population costs a sort of it all. Where the count is small beside it,
    the first `count` distinct of an i.i.d. sequence have the same law, and of 2 count + 16 draws
    there are fewer distinct with a probability below 1e-30.
    """
    if count > population:
        raise ValueError(f"count is {count}; there are {population} to choose from")
    if not _is_sparse(count, population):
        return jax.random.permutation(rng_key, population)[:count]
    return _first_distinct(rng_key, population, count)


def _draw_distinct(rng_key: chex.PRNGKey, population: int, count: int) -> chex.Array:
    """The same for each of many episodes, where even a small permutation takes too long."""
    if 16 * count <= population:
        return _first_distinct(rng_key, population, count)
    return sample_without_replacement(rng_key, population, count)


def _is_sparse(count: int, population: int) -> bool:
    return population > _DENSE_PERMUTATION and 16 * count <= population


def _first_distinct(rng_key: chex.PRNGKey, population: chex.Numeric, count: int) -> chex.Array:
    """The first distinct of draws below `population`, at least 16 times as many: `[count]`."""
    draws = jax.random.randint(rng_key, (2 * count + 16,), 0, population)
    order = jnp.argsort(draws, stable=True)
    ascending = draws[order]
    repeated = jnp.concatenate([jnp.zeros(1, bool), ascending[1:] == ascending[:-1]])
    is_repeat = jnp.zeros_like(repeated).at[order].set(repeated)
    places = jnp.where(is_repeat, count, jnp.cumsum(~is_repeat) - 1)
    return jnp.zeros(count, draws.dtype).at[places].set(draws, mode="drop")


def _draw_members(
    rng_key: chex.PRNGKey, data: ImageArrays, classes: chex.Array, count: int
) -> chex.Array:
    """`count` images of each of `classes` `[K]` in random order: int32 `[K, count]`.

    Distinct until the class has no more; then they repeat, in the same order.
    """
    sizes = data.class_sizes[classes]
    if _is_sparse(count, data.smallest_class):
        draw = jax.vmap(partial(_first_distinct, count=count))
        places = draw(jax.random.split(rng_key, len(classes)), sizes)
        return data.class_members[classes[:, None], places]
    members = data.class_members[classes]
    order = jax.random.uniform(rng_key, members.shape)
    order = jnp.where(jnp.arange(members.shape[1]) < sizes[:, None], order, jnp.inf)
    places = jnp.argsort(order, axis=1)
    again = jnp.arange(count)[None] % sizes[:, None]
    return jnp.take_along_axis(members, jnp.take_along_axis(places, again, axis=1), axis=1)


def _check_num_classes(num_classes: int, data: ImageArrays) -> None:
    if num_classes > len(data.class_sizes):
        raise UserError(f"num_classes is {num_classes}; the data set has {len(data.class_sizes)}")
