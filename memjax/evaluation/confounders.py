"""Robustness to the size of the memory at test time; VMA figure 5."""

import math
from collections.abc import Sequence

import chex
import jax
import numpy as np

from memjax import data
from memjax.errors import UserError
from memjax.evaluation.likelihood import make_score
from memjax.evaluation.run import Curves, Report, Run

_CHUNK = 32  # queries that are scored at a time


def evaluate(
    run: Run,
    *,
    num_classes: int | Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 144),
    num_shots: int | Sequence[int] = (1, 4, 8, 16, 18),
    num_samples: int = 100,
    num_queries: int = 64,
    seed: int = 0,
) -> Report:
    """The NLL in nats with more classes in memory (A), and with more images of every class (B).

    A model that finds its slots without fail pays log C for C classes of disjoint data: the ideal
    line is the NLL with one class, or the fewest asked for, plus the logarithm.

    Args:
      run: the trained run of a model that reads a support of few-shot episodes.
      num_classes: the numbers of classes of A, with as many shots as the run was evaluated with.
      num_shots: the images of each class of B, whose memory holds all classes.
      num_samples: importance weights for each NLL.
      num_queries: images scored for each row.
      seed: of the episodes and the samples.

    Raises:
      UserError: a run of other episodes, or episodes that the data set can't fill.
    """
    check_few_shot(run, "confounders")
    shots = run.experiment.config.eval.episodes.num_support
    all_classes = len(run.experiment.eval.arrays.class_sizes)
    score = make_score(run, num_samples)[0]

    def row(classes: int, shots: int) -> dict[str, float | int]:
        nll, error = few_shot_nll(run, score, classes, shots, num_queries, seed)
        return {"classes": classes, "shots": shots, "nll": nll, "standard_error": error}

    by_classes = [row(classes, shots) for classes in as_sequence(num_classes)]
    by_shots = [row(all_classes, shots) for shots in as_sequence(num_shots)]
    one = by_classes[0]["nll"] - math.log(by_classes[0]["classes"])
    for entry in by_classes + by_shots:
        entry["ideal"] = one + math.log(entry["classes"])
    x = [math.log(entry["classes"]) for entry in by_classes]
    lines = {name: (x, [entry[name] for entry in by_classes]) for name in ("nll", "ideal")}
    a = Curves("log of the classes in memory", "nats", lines)
    line = ([entry["shots"] for entry in by_shots], [entry["nll"] for entry in by_shots])
    b = Curves("images of each class in memory", "nats", {"nll": line})
    panels = {f"{shots} images of each class": a, f"{all_classes} classes": b}
    return Report(by_classes + by_shots, curves={"confounders": panels})


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
    stage = run.experiment.eval
    draw_rng_key, order_rng_key = jax.random.split(rng_key)
    indices = data.few_shot(
        draw_rng_key, stage.arrays, num_classes=num_classes, num_support=num_shots, num_queries=1
    )
    episode = stage.gather(stage.arrays, indices, 0)
    order = jax.random.permutation(order_rng_key, num_classes)
    support_classes = np.repeat(np.arange(num_classes), num_shots)
    return episode.query[order], episode.support, order, support_classes


def check_few_shot(run: Run, task: str) -> None:
    """Refuses a run whose episodes are not few-shot ones."""
    episodes = run.experiment.config.eval.episodes.name
    if episodes != "few_shot":
        raise UserError(f"task {task} needs a run of few_shot episodes; these are {episodes}")


def as_sequence(values: int | Sequence[int]) -> Sequence[int]:
    """One number, or several."""
    return [values] if isinstance(values, int) else values
