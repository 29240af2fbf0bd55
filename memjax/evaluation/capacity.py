"""The bound for ever larger episodes, of few or many classes: Kanerva Machine figure 6 right."""

from collections.abc import Sequence

import jax
import numpy as np

from memjax.evaluation.run import Curves, Report, Run, as_sequence


def evaluate(
    run: Run,
    *,
    episode_length: int | Sequence[int] = (32, 64, 128, 256, 512),
    num_classes: int | Sequence[int] = (1, 4, 16, 64, 0),
    num_episodes: int = 8,
    seed: int = 0,
) -> Report:
    """Writes and reads held-out episodes longer than those of training.

    Args:
      run: the trained run.
      episode_length: images in an episode, or several numbers of them.
      num_classes: classes that an episode's images are of, or several numbers; 0: any images.
        Several are cut to what the data have.
      num_episodes: over which the numbers are means.
      seed: of episodes and samples.

    Raises:
      UserError: a model without a memory of episodes, more classes than the data have.
    """
    run.require_episodes("capacity")
    available = len(run.experiment.eval.arrays.class_sizes)
    table = []
    for count in as_sequence(num_classes, available):
        for length in as_sequence(episode_length):
            rng_key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), count), length)
            draw_rng_key, model_rng_key = jax.random.split(rng_key)
            images = run.draw_episodes(draw_rng_key, num_episodes, length, count)
            _, metrics = run.map("__call__", model_rng_key, images, None, train=False)
            means = {name: float(np.mean(values)) for name, values in metrics.items()}
            row = {"num_classes": count or "any", "episode_length": length}
            table.append({**row, "nll": means["nll"], **means})
    panels = {
        name: Curves("images in the episode", "nats an image", _lines(table, name))
        for name in ("nll", "reconstruction")
    }
    return Report(table, curves={"capacity": panels})


def _lines(table: list[dict], name: str) -> dict:
    lines: dict[str, tuple[list, list]] = {}
    for row in table:
        x, y = lines.setdefault(f"{row['num_classes']} classes", ([], []))
        x.append(row["episode_length"])
        y.append(row[name])
    return lines
