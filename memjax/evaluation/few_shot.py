"""Few-shot episodes of any size, and their NLL: what the tasks of VMA section 4.2 share."""

import math

import chex
import jax
import numpy as np

from memjax import data
from memjax.errors import UserError
from memjax.evaluation.run import Run

_CHUNK = 32  # queries that are scored at a time

_few_shot = jax.jit(data.few_shot, static_argnames=("num_classes", "num_support", "num_queries"))


def few_shot_nll(
    run: Run, score, num_classes: int, num_shots: int, num_queries: int, seed: int
) -> tuple[float, float]:
    """Mean NLL of held-out few-shot queries in nats, and its standard error.

    Raises:
      UserError: more classes or shots than the data set has.
    """
    nll: list[np.ndarray] = []
    rng_key = jax.random.key(seed)
    while sum(map(len, nll)) < num_queries:
        rng_key, episode_rng_key, score_rng_key = jax.random.split(rng_key, 3)
        queries, support, _, _ = draw(run, episode_rng_key, num_classes, num_shots)
        scores = score(score_rng_key, queries[:_CHUNK], support)
        nll.append(np.asarray(scores["nll"]))
    values = np.concatenate(nll)
    return float(np.mean(values)), float(np.std(values) / math.sqrt(len(values)))


def draw(
    run: Run, rng_key: chex.PRNGKey, num_classes: int, num_shots: int
) -> tuple[chex.Array, chex.Array, chex.Array, chex.Array]:
    """Queries and support of a held-out few-shot episode, then the place of each one's class.

    The queries, one of each class, come in random order: `[num_classes, H, W, C]`; the support,
    `[num_classes * num_shots, H, W, C]`, is ordered by class.
    """
    draw_rng_key, order_rng_key = jax.random.split(rng_key)
    sizes = {"num_classes": num_classes, "num_support": num_shots, "num_queries": 1}
    indices = _few_shot(draw_rng_key, run.experiment.eval.arrays, **sizes)
    episode = run.fetch(indices)
    order = jax.random.permutation(order_rng_key, num_classes)
    support_classes = np.repeat(np.arange(num_classes), num_shots)
    return episode.query[order], episode.support, order, support_classes


def limits(run: Run) -> tuple[int, int]:
    """The most classes, and images of each beside a query; 1 where there is none."""
    arrays = run.experiment.eval.arrays
    return max(1, len(arrays.class_sizes)), max(1, arrays.smallest_class - 1)


def check_few_shot(run: Run, task: str) -> None:
    """Refuses a run whose episodes have no support."""
    if run.experiment.eval.indices.support is None:
        raise UserError(f"task {task} needs a run of episodes with a support, such as few_shot's")
