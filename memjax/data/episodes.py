"""Episodes: which images are asked about, and which the memory holds.

A sampler is a pure function of an rng_key: it draws indices into the arrays that lie on the device.
`gather` then fetches the images, so that each device fetches its share of the queries only.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from memjax.errors import UserError

_DENSE_PERMUTATION = 4096  # below this many images a permutation of them all is the cheapest


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["images", "labels", "class_members", "class_sizes"],
    meta_fields=["smallest_class"],
)
@dataclasses.dataclass(frozen=True)
class ImageArrays:
    """A data set as it lies on a device.

    Attributes:
      images: uint8 `[D, H, W, C]`.
      labels: int32 `[D]`; negative where there is none.
      class_members: int32 `[classes, largest class]`, indices of each class's images, then filler.
      class_sizes: int32 `[classes]`.
      smallest_class: the least of `class_sizes`, known at trace time; 0 if there are no labels.
    """

    images: chex.Array
    labels: chex.Array
    class_members: chex.Array
    class_sizes: chex.Array
    smallest_class: int

    @classmethod
    def create(cls, images: np.ndarray, labels: np.ndarray) -> "ImageArrays":
        """Tabulates the classes of `images` `[D, H, W, C]` with `labels` `[D]`; on the host."""
        classes = [np.flatnonzero(labels == c) for c in np.unique(labels[labels >= 0])]
        sizes = [len(c) for c in classes]
        members = np.zeros((len(classes), max(sizes, default=0)), np.int32)
        for row, indices in zip(members, classes, strict=True):
            row[: len(indices)] = indices
        return cls(
            images=jnp.asarray(images),
            labels=jnp.asarray(labels, jnp.int32),
            class_members=jnp.asarray(members),
            class_sizes=jnp.asarray(sizes, jnp.int32),
            smallest_class=min(sizes, default=0),
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EpisodeIndices:
    """Which images an episode is made of.

    Attributes:
      query: int32 `[B]`, or `[B, T]` where one datum is itself an episode of T images.
      support: int32 `[N]`, what the memory holds, shared by all queries; None without a memory.
      query_addresses: int32 `[B]`, the slot that holds the query, where one does.
    """

    query: chex.Array
    support: chex.Array | None = None
    query_addresses: chex.Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Episode:
    """What a model sees: images as float32 in [0, 1], with the axes of `EpisodeIndices` in front.

    Attributes:
      query: `[B, H, W, C]` or `[B, T, H, W, C]`.
      support: `[N, H, W, C]` or None.
      query_labels: int32 `[B]` or `[B, T]`.
      support_labels: int32 `[N]` or None.
      query_addresses: int32 `[B]` or None.
    """

    query: chex.Array
    support: chex.Array | None
    query_labels: chex.Array
    support_labels: chex.Array | None
    query_addresses: chex.Array | None


Sampler = Callable[[chex.PRNGKey, ImageArrays], EpisodeIndices]


def minibatch(rng_key: chex.PRNGKey, data: ImageArrays, *, batch_size: int) -> EpisodeIndices:
    """Images drawn independently and uniformly, with replacement; no memory."""
    _check_positive(batch_size=batch_size)
    return EpisodeIndices(jax.random.randint(rng_key, (batch_size,), 0, len(data.images)))


def recall(
    rng_key: chex.PRNGKey, data: ImageArrays, *, num_slots: int, batch_size: int
) -> EpisodeIndices:
    """Train to recall (VMA section 4.1): a memory of distinct images, and queries drawn from it."""
    _check_positive(num_slots=num_slots, batch_size=batch_size)
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
    _check_positive(num_classes=num_classes, num_support=num_support, num_queries=num_queries)
    _check_num_classes(num_classes, data)
    if num_support + num_queries > data.smallest_class:
        raise UserError(
            f"num_support + num_queries is {num_support + num_queries}; "
            f"the smallest class of the data set has {data.smallest_class} images"
        )
    class_rng_key, member_rng_key = jax.random.split(rng_key)
    classes = sample_without_replacement(class_rng_key, len(data.class_sizes), num_classes)
    members, sizes = data.class_members[classes], data.class_sizes[classes]
    order = jax.random.uniform(member_rng_key, members.shape)
    order = jnp.where(jnp.arange(members.shape[1]) < sizes[:, None], order, jnp.inf)
    drawn = jnp.take_along_axis(members, jnp.argsort(order, axis=1), axis=1)
    support, query = drawn[:, :num_support], drawn[:, num_support : num_support + num_queries]
    return EpisodeIndices(query.reshape(-1), support.reshape(-1))


def unstructured(
    rng_key: chex.PRNGKey, data: ImageArrays, *, num_episodes: int, episode_length: int
) -> EpisodeIndices:
    """Episodes of images drawn independently of class (Kanerva Machine section 4.2)."""
    _check_positive(num_episodes=num_episodes, episode_length=episode_length)
    if episode_length > len(data.images):
        raise UserError(
            f"episode_length is {episode_length}; the data set has {len(data.images)} images"
        )
    shape = (num_episodes, episode_length)
    return EpisodeIndices(jax.random.randint(rng_key, shape, 0, len(data.images)))


def few_classes(
    rng_key: chex.PRNGKey,
    data: ImageArrays,
    *,
    num_episodes: int,
    episode_length: int,
    num_classes: int,
) -> EpisodeIndices:
    """Episodes of images of a few classes each, with replacement (Kanerva Machine section 4.2)."""
    _check_positive(
        num_episodes=num_episodes, episode_length=episode_length, num_classes=num_classes
    )
    _check_num_classes(num_classes, data)

    def one_episode(rng_key: chex.PRNGKey) -> chex.Array:
        class_rng_key, choice_rng_key, member_rng_key = jax.random.split(rng_key, 3)
        classes = sample_without_replacement(class_rng_key, len(data.class_sizes), num_classes)
        chosen = classes[jax.random.randint(choice_rng_key, (episode_length,), 0, num_classes)]
        members = jax.random.randint(member_rng_key, (episode_length,), 0, data.class_sizes[chosen])
        return data.class_members[chosen, members]

    return EpisodeIndices(jax.vmap(one_episode)(jax.random.split(rng_key, num_episodes)))


SAMPLERS = {f.__name__: f for f in (minibatch, recall, few_shot, unstructured, few_classes)}


def gather(
    data: ImageArrays,
    indices: EpisodeIndices,
    binarize_rng_key: chex.PRNGKey | None = None,
    epoch: chex.Numeric = 0,
) -> Episode:
    """Fetches an episode's images; with a key, binarised anew in each epoch (see `binarize`)."""

    def fetch(index: chex.Array) -> chex.Array:
        images = data.images[index]
        if binarize_rng_key is not None:
            images = binarize(binarize_rng_key, images, index, epoch)
        return images.astype(jnp.float32) / 255.0

    support = indices.support
    return Episode(
        query=fetch(indices.query),
        support=None if support is None else fetch(support),
        query_labels=data.labels[indices.query],
        support_labels=None if support is None else data.labels[support],
        query_addresses=indices.query_addresses,
    )


def binarize(
    rng_key: chex.PRNGKey, images: chex.Array, index: chex.Array, epoch: chex.Numeric = 0
) -> chex.Array:
    """Sets each pixel to 255 with probability pixel / 255, else to 0.

    An image's noise follows from the key, the epoch and its own index alone: the same within an
    epoch, new in the next. Called once for all images it is the static binarisation.

    Args:
      rng_key: a JAX random key.
      images: uint8 `[..., H, W, C]`.
      index: integers `[...]`, each image's place in its data set.
      epoch: integer scalar.

    Returns:
      uint8 `[..., H, W, C]` of 0 and 255.
    """
    epoch_rng_key = jax.random.fold_in(rng_key, epoch)

    def binarize_one(image: chex.Array, i: chex.Array) -> chex.Array:
        # 255 levels: a pixel of 0 is never set, a pixel of 255 always.
        threshold = jax.random.randint(jax.random.fold_in(epoch_rng_key, i), image.shape, 0, 255)
        return jnp.where(threshold < image, 255, 0).astype(jnp.uint8)

    flat = images.reshape(-1, *images.shape[-3:])
    return jax.vmap(binarize_one)(flat, index.reshape(-1)).reshape(images.shape)


def sample_without_replacement(rng_key: chex.PRNGKey, population: int, count: int) -> chex.Array:
    """`count` distinct integers below `population`, uniformly, in random order: int32 `[count]`.

    A permutation of a large population costs a sort of it all. Where the count is small beside it,
    the first `count` distinct of an i.i.d. sequence have the same law, and of 2 count + 16 draws
    there are fewer distinct with a probability below 1e-30.
    """
    if count > population:
        raise ValueError(f"count is {count}; there are {population} to choose from")
    if population <= _DENSE_PERMUTATION or 16 * count > population:
        return jax.random.permutation(rng_key, population)[:count]
    draws = jax.random.randint(rng_key, (2 * count + 16,), 0, population)
    order = jnp.argsort(draws, stable=True)
    ascending = draws[order]
    repeated = jnp.concatenate([jnp.zeros(1, bool), ascending[1:] == ascending[:-1]])
    is_repeat = jnp.zeros_like(repeated).at[order].set(repeated)
    return draws[jnp.argsort(is_repeat, stable=True)[:count]]


def _check_positive(**fields: Any) -> None:
    for field, value in fields.items():
        if value < 1:
            raise UserError(f"{field} is {value}; it must be at least 1")


def _check_num_classes(num_classes: int, data: ImageArrays) -> None:
    if num_classes > len(data.class_sizes):
        raise UserError(f"num_classes is {num_classes}; the data set has {len(data.class_sizes)}")
