"""The bound for ever larger episodes, of few or many classes: Kanerva Machine figure 6 right."""

from collections.abc import Sequence

import jax
import numpy as np

from memjax import models
from memjax.evaluation.options import as_sequence, up_to
from memjax.evaluation.report import Curves, Report
from memjax.evaluation.run import Run

NEEDS = models.WritesEpisodes


def evaluate(
    run: Run,
    *,
    episode_length: int | Sequence[int] = up_to(32, 64, 128, 256, 512),
    num_classes: int | Sequence[int] = up_to(1, 4, 16, 64, 0),
    num_episodes: int = 8,
    seed: int = 0,
) -> Report:
    """Writes and reads held-out episodes longer than those of training.

    Args:
      run: the trained run.
      episode_length: images in an episode, or several numbers of them.
      num_classes: classes that an episode's images are of, or several numbers; 0: any images.
      num_episodes: over which the numbers are means.
      seed: of episodes and samples.

    Raises:
      UserError: a model without a memory of episodes, more classes or images than the data have.
    """
    available = len(run.experiment.eval.arrays.class_sizes)
    table = []
    for count in as_sequence(num_classes, available):
        for length in as_sequence(episode_length, run.num_images):
            rng_key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), count), length)
            draw_rng_key, model_rng_key = jax.random.split(rng_key)
            images = run.draw_episodes(draw_rng_key, num_episodes, length, count)
            write_rng_key, read_rng_key = jax.random.split(model_rng_key)
            memories = run.write_episodes(write_rng_key, images)
            metrics = run.score_episodes(read_rng_key, images, memories)
            means = {name: float(np.mean(values)) for name, values in metrics.items()}
            row = {"num_classes": count or "any", "episode_length": length}
            table.append({**row, "nll": means["nll"], **means})
    panels = {
        name: Curves("images in the episode", f"{name}, nats an image", _lines(table, name))
        for name in ("nll", "reconstruction")
    }
    return Report(table, curves={"capacity": panels})


def _lines(table: list[dict], name: str) -> dict:
    lines: dict[str, tuple[list, list]] = {}
    for row in table:
        label = "1 class" if row["num_classes"] == 1 else f"{row['num_classes']} classes"
        x, y = lines.setdefault(label, ([], []))
        x.append(row["episode_length"])
        y.append(row[name])
    return lines
