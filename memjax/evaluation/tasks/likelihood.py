"""Held-out negative log-likelihood by importance sampling, and the parts of the bound."""

import math
from collections.abc import Callable, Iterator
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np

from memjax import data
from memjax.errors import UserError
from memjax.evaluation.report import Report
from memjax.evaluation.run import Run

NEEDS = None

_CHUNK = 100  # samples of each query that are held in memory at a time

Score = Callable[[chex.PRNGKey, chex.Array, chex.Array | None], dict[str, jax.Array]]


def evaluate(
    run: Run, *, num_samples: int = 100, num_queries: int = 0, batch_size: int = 100, seed: int = 0
) -> Report:
    """The NLL of held-out images in nats, by importance sampling; Burda et al. 2015, VMA eq. 7.

    Where training draws i.i.d. images, those of the evaluation split are scored in order, once
    each; else episodes are drawn.

    Args:
      run: the trained run.
      num_samples: L, rounded up to a multiple of 100 above 100; memory use does not grow with it.
      num_queries: how many images, or whole episodes where one is a query; rounded up to whole
        batches where episodes are drawn. 0 for as many as make up the split.
      batch_size: images scored at a time, where they are i.i.d.
      seed: of the samples and the episodes.

    Raises:
      UserError: more i.i.d. images than the split has.
    """
    rng_key = jax.random.key(seed)
    num_queries = _num_queries(run, num_queries)
    score, num_samples = make_score(run, num_samples)
    parts: list[dict[str, jax.Array]] = []
    for i, episode in enumerate(_episodes(run, num_queries, batch_size, rng_key)):
        parts.append(score(jax.random.fold_in(rng_key, i), episode.query, episode.support))
    scores = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    scored = len(scores["nll"])
    row = {"queries": scored, "samples": num_samples, "nll": means["nll"]}
    row["standard_error"] = float(np.std(scores["nll"]) / math.sqrt(scored))
    return Report([row | means])


def make_score(run: Run, num_samples: int) -> tuple[Score, int]:
    """A function `(rng_key, query [B, ...], support) -> {"nll": [B], "kl_...": [B], ...}`.

    `nll` is -log p(query) by `num_samples` importance weights; the rest are the model's own
    metrics. Also returns the number of samples that it takes.
    """
    chunk_size = min(num_samples, _CHUNK)
    num_chunks = -(-num_samples // chunk_size)

    def ask(rng_key: chex.PRNGKey, queries: chex.Array, support: chex.Array | None) -> tuple:
        """A function that asks for log weights, and the metrics."""
        write_rng_key = jax.random.fold_in(rng_key, num_chunks)
        if queries.ndim == 5:
            memory = run.write_episodes(write_rng_key, queries)
            return partial(
                run.map_episodes, "log_weights", queries=queries, memories=memory
            ), run.score_episodes(rng_key, queries, memory)
        memory = run.write(write_rng_key, support)
        _, metrics = run.map("__call__", rng_key, queries, memory, train=False)
        return partial(run.map, "log_weights", queries=queries, memory=memory), metrics

    def score(
        rng_key: chex.PRNGKey, queries: chex.Array, support: chex.Array | None
    ) -> dict[str, jax.Array]:
        log_weights_of, metrics = ask(rng_key, queries, support)
        total = jnp.full((), -jnp.inf)
        for i in range(num_chunks):
            chunk_rng_key = jax.random.fold_in(rng_key, i)
            log_weights = log_weights_of(rng_key=chunk_rng_key, num_samples=chunk_size)
            total = jnp.logaddexp(total, jax.nn.logsumexp(log_weights, axis=-1))
        nll = math.log(num_chunks * chunk_size) - total
        scores = {"bound": metrics["nll"], **metrics, "nll": nll}
        # An episode's are the means over its images, `[B, T]`.
        return {name: x.reshape(len(queries), -1).mean(1) for name, x in scores.items()}

    return score, num_chunks * chunk_size


def _num_queries(run: Run, num_queries: int) -> int:
    """How many to ask: the given number, or enough to see as many images as the split has."""
    if run.experiment.eval.is_iid and num_queries > run.num_images:
        raise UserError(f"num_queries is {num_queries}; the split has {run.num_images} images")
    images_a_query = math.prod(run.experiment.eval.indices.query.shape[1:])
    return num_queries or -(-run.num_images // images_a_query)


def _episodes(
    run: Run, num_queries: int, batch_size: int, rng_key: chex.PRNGKey
) -> Iterator[data.Episode]:
    stage = run.experiment.eval
    if stage.is_iid:
        yield from run.held_out(num_queries, batch_size)
    else:
        for i in range(-(-num_queries // stage.batch_size)):
            yield run.eval_episode(jax.random.fold_in(rng_key, i))
