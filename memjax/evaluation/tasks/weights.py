"""The weights by which images are read, beside what is read: Kanerva Machine figure 3 left."""

import jax
import jax.numpy as jnp
import numpy as np

from memjax import models
from memjax.evaluation.options import cut, up_to
from memjax.evaluation.report import Report
from memjax.evaluation.run import Run

NEEDS = models.ReadsByWeights

_PICTURES = 10


def evaluate(
    run: Run, *, num_episodes: int = 16, episode_length: int = up_to(32), seed: int = 0
) -> Report:
    """Writes held-out episodes and reads their images.

    `slots_used` is (sum |w|)^2 / sum w^2: 1 if one slot is read, N if all are by as much.

    Args:
      run: the trained run.
      num_episodes: over which the numbers are means; of the first, some images are shown.
      episode_length: T, images in an episode.
      seed: of episodes and samples.

    Raises:
      UserError: a model that does not read by weights.
    """
    episode_length = cut(episode_length, run.num_images)
    draw_rng_key, write_rng_key, read_rng_key = jax.random.split(jax.random.key(seed), 3)
    images = run.draw_episodes(draw_rng_key, num_episodes, episode_length)
    memories = run.write_episodes(write_rng_key, images)
    weights = run.map_episodes("weights", read_rng_key, images, memories)
    read = run.map_episodes("read", read_rng_key, images, memories).mean
    used = jnp.square(jnp.sum(jnp.abs(weights), -1)) / jnp.sum(jnp.square(weights), -1)
    numbers = {
        "num_slots": weights.shape[-1],
        "slots_used": float(jnp.mean(used)),
        "error": float(jnp.mean(jnp.abs(read - images))),
    }
    grid = {"written": images[0, :_PICTURES], "read": read[0, :_PICTURES]}
    return Report(
        [{"images": num_episodes * episode_length, **numbers}],
        {"weights_images": {name: np.asarray(row) for name, row in grid.items()}},
        matrices={"weights": {"weights of slots": weights[0, :_PICTURES]}},
        axes={"weights": ("slot", "image")},
    )
