"""Episodes: which images are asked about, and which the memory holds.

A sampler draws indices into the arrays that lie on the device. `gather` then fetches the images, so
that each device fetches its share of the queries only.
"""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np

from memjax.errors import UserError


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["images", "labels", "class_members", "class_sizes"],
    meta_fields=["smallest_class", "ink"],
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
      ink: whether the images are bright strokes on black, which pictures show as ink on paper.
    """

    images: chex.Array
    labels: chex.Array
    class_members: chex.Array
    class_sizes: chex.Array
    smallest_class: int
    ink: bool = False

    @classmethod
    def create(cls, images: np.ndarray, labels: np.ndarray, ink: bool = False) -> "ImageArrays":
        """Tabulates the classes; on the host.

        Args:
          images: uint8 `[D, H, W, C]`, as `data.from_arrays` makes them.
          labels: integers `[D]`, negative where there is none.
          ink: whether the images are bright strokes on black.

        Raises:
          UserError: if the images or the labels are of another type or shape.
        """
        if images.dtype != np.uint8 or images.ndim != 4:
            found = f"{images.dtype} {list(images.shape)}"
            raise UserError(f"images is {found}; it must be uint8 [D, H, W, C]: see from_arrays")
        if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (len(images),):
            found = f"{labels.dtype} {list(labels.shape)}"
            raise UserError(f"labels is {found}; it must be integers of shape [{len(images)}]")
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
            ink=ink,
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EpisodeIndices:
    """Which images an episode is made of.

    Attributes:
      query: int32 `[B]`; or `[B, T]`: B episodes, each of which is written into a memory of its
        own and asked about.
      support: int32 `[N]`, what the memory holds, shared by all queries `[B]`; None where there is
        none, or where the queries are it.
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

    @property
    def is_its_own_support(self) -> bool:
        """Whether the queries are episodes, each to be written into a memory of its own."""
        return self.query.ndim == 5


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
