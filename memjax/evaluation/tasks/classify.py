"""Few-shot classification by what the model was never trained for; VMA section 4.2."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from memjax import models
from memjax.evaluation.few_shot import draw, limits
from memjax.evaluation.options import as_sequence, up_to
from memjax.evaluation.report import Report
from memjax.evaluation.run import Run

NEEDS = models.AddressesSupport

_CHUNK = 5  # queries whose posterior over all addresses is held in memory at a time


def evaluate(
    run: Run,
    *,
    ways: int | Sequence[int] = up_to(5, 20),
    shots: int | Sequence[int] = up_to(1, 5),
    num_queries: int = 1000,
    num_samples: int = 0,
    seed: int = 0,
) -> Report:
    """The accuracy of naming the class of a held-out image from a few images of each.

    By the feed-forward approximation p(c|x) = sum of q(a|x) over the class's slots and, with
    `num_samples`, by the exact posterior p(a|x), whose p(x, a) is the mean of that many importance
    weights: p(x, z, a) / q(z|m_a, x) with z drawn from q(z|m_a, x).

    Args:
      run: the trained run of a model that addresses the support.
      ways: classes to choose from.
      shots: images of each.
      num_queries: images classified for each row, rounded up to whole episodes.
      num_samples: for each address, of the exact posterior; 0 leaves it out.
      seed: of the episodes and the samples.

    Raises:
      UserError: a model without addresses of the support, or episodes the data set can't fill.
    """
    most_classes, most_shots = limits(run)
    table: list[dict[str, float | int]] = []
    for way in as_sequence(ways, most_classes):
        for shot in as_sequence(shots, most_shots):
            correct = _correct(run, way, shot, num_queries, num_samples, seed)
            accuracy = {f"accuracy by {name}": float(np.mean(c)) for name, c in correct.items()}
            queries = len(correct["q(a|x)"])
            table.append({"ways": way, "shots": shot, "queries": queries} | accuracy)
    return Report(table)


def _correct(
    run: Run, way: int, shot: int, num_queries: int, num_samples: int, seed: int
) -> dict[str, np.ndarray]:
    """Whether each query's most probable class is its own, by each posterior."""
    hits: dict[str, list[np.ndarray]] = {}
    for i in range(-(-num_queries // way)):
        episode_rng_key, sample_rng_key = jax.random.split(
            jax.random.fold_in(jax.random.key(seed), i)
        )
        queries, support, labels, _ = draw(run, episode_rng_key, way, shot)
        memory = run.write(sample_rng_key, support)
        scores = {"q(a|x)": run.map("address_logits", sample_rng_key, queries, memory)}
        if num_samples:
            scores["p(a|x)"] = log_joint(run, sample_rng_key, queries, memory, num_samples)
        for name, logits in scores.items():
            by_class = np.asarray(logits, np.float64).reshape(len(queries), way, shot)
            found = np.argmax(scipy.special.logsumexp(by_class, axis=2), axis=1)
            hits.setdefault(name, []).append(found == labels)
    return {name: np.concatenate(parts) for name, parts in hits.items()}


def log_joint(run: Run, rng_key, queries, memory, num_samples: int) -> np.ndarray:
    """Estimates of log p(x, a) `[B, N]`."""
    chunks = []
    for start in range(0, len(queries), _CHUNK):
        total = jnp.full((), -jnp.inf)
        for i in range(num_samples):
            chunk_rng_key = jax.random.fold_in(jax.random.fold_in(rng_key, start), i)
            inputs = (chunk_rng_key, queries[start : start + _CHUNK], memory)
            total = jnp.logaddexp(total, run.map("address_log_weights", *inputs))
        chunks.append(total - math.log(num_samples))
    return np.concatenate(chunks)
