"""Recall of held-out images from memories of any size; VMA section 4.1 and figure 2A."""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from memjax import data, models
from memjax.errors import UserError
from memjax.evaluation.options import as_sequence, up_to
from memjax.evaluation.report import Report
from memjax.evaluation.run import Run

NEEDS = models.AddressesSupport

_CHUNK = 256  # queries that are asked at a time
_PICTURES = 10


def evaluate(
    run: Run,
    *,
    num_slots: int | Sequence[int] = up_to(256, 512, 1024, 2048),
    num_memories: int = 4,
    seed: int = 0,
) -> Report:
    """Fills memories with held-out images and asks for every image that they hold.

    The NLL of a look-up table, log of the number of distinct images, is the least that any model
    can reach on average over a memory; the table's `excess` is what lies above it. A density, as
    that of a Gaussian likelihood is, has no such floor.

    Args:
      run: the trained run of a model with the support as memory.
      num_slots: the sizes of memory to try, or the only one.
      num_memories: memories of each size.
      seed: of the memories and of the model's samples.

    Raises:
      UserError: a model that does not address the support, or a memory of a size not to be had.
    """
    largest = run.num_images
    sizes = as_sequence(num_slots, largest)
    table = []
    for size in sizes:
        if not 1 <= size <= largest:
            raise UserError(f"num_slots is {size}; it must be between 1 and {largest}")
        rng_keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), size), num_memories)
        memories = [_recall_all(run, rng_key, size) for rng_key in rng_keys]
        means = {name: float(np.mean([m[name] for m in memories])) for name in memories[0]}
        row = {"num_slots": size, "nll": means["nll"]}
        if "floor" in means:
            row |= {"floor": means["floor"], "excess": means["nll"] - means["floor"]}
        table.append(row | means)
    return Report(table, {"recall": _pictures(run, jax.random.key(seed), sizes[0])})


def lookup_table_nll(images: chex.Array) -> float:
    """The least mean NLL in nats of images asked for as often as the memory holds them.

    It is the entropy of the memory's distribution over distinct images: log N if all N differ.

    Args:
      images: `[N, ...]`.
    """
    images = np.asarray(images)
    _, counts = np.unique(images.reshape(len(images), -1), axis=0, return_counts=True)
    frequencies = counts / len(images)
    return float(-np.sum(frequencies * np.log(frequencies)))


def _memory(run: Run, rng_key: chex.PRNGKey, num_slots: int) -> data.Episode:
    """A memory of distinct held-out images, all of them asked for."""
    support = data.sample_without_replacement(rng_key, run.num_images, num_slots)
    return run.fetch(data.EpisodeIndices(support, support, jnp.arange(num_slots)))


def _recall_all(run: Run, rng_key: chex.PRNGKey, num_slots: int) -> dict[str, float]:
    support_rng_key, model_rng_key = jax.random.split(rng_key)
    episode = _memory(run, support_rng_key, num_slots)
    memory = run.write(model_rng_key, episode.support)
    chunks = []
    for start in range(0, num_slots, _CHUNK):
        queries = episode.query[start : start + _CHUNK]
        chunk_rng_key = jax.random.fold_in(model_rng_key, start)
        _, metrics = run.map("__call__", chunk_rng_key, queries, memory, train=False)
        logits = run.map("address_logits", chunk_rng_key, queries, memory)
        correct = jnp.argmax(logits, axis=1) == jnp.arange(start, start + len(queries))
        chunks.append(metrics | {"accuracy": correct})
    means = {name: float(np.mean(np.concatenate([c[name] for c in chunks]))) for name in chunks[0]}
    model = run.experiment.model
    is_density = isinstance(model, models.HasLikelihood) and model.likelihood == "gaussian"
    return means if is_density else means | {"floor": lookup_table_nll(episode.support)}


def _pictures(run: Run, rng_key: chex.PRNGKey, num_slots: int) -> dict[str, np.ndarray]:
    """Rows of images: queries, the slots retrieved for them, reconstructions."""
    episode = _memory(run, rng_key, num_slots)
    memory = run.write(rng_key, episode.support)
    rows = run.map("explain", rng_key, episode.query[:_PICTURES], memory)
    return {name: np.asarray(images) for name, images in rows.items()}
