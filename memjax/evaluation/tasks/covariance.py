"""The memory's row covariance, full or diagonal, before and after a write: KM figure 10."""

import jax
import jax.numpy as jnp
import numpy as np

from memjax import models
from memjax.evaluation.options import cut, up_to
from memjax.evaluation.report import Report
from memjax.evaluation.run import Run

NEEDS = models.ReadsByWeights


def evaluate(
    run: Run, *, num_episodes: int = 16, episode_length: int = up_to(32), seed: int = 0
) -> Report:
    """Writes held-out episodes into the memory and looks at how its rows are correlated.

    `correlation` is the mean absolute correlation of two different rows, `variance` a row's mean
    variance. Figure 10 itself, training with a full and with a diagonal covariance, is a comparison
    of two runs.

    Args:
      run: the trained run.
      num_episodes: over which the numbers are means; the first is shown.
      episode_length: T, images in an episode.
      seed: of episodes and samples.

    Raises:
      UserError: a model whose memory is no Gaussian.
    """
    episode_length = cut(episode_length, run.num_images)
    draw_rng_key, write_rng_key = jax.random.split(jax.random.key(seed))
    images = run.draw_episodes(draw_rng_key, num_episodes, episode_length)
    prior, posterior = run.write(write_rng_key, None), run.write_episodes(write_rng_key, images)
    table, panels = [], {}
    for name, memory in (("prior", prior), ("posterior", posterior)):
        row_cov = memory.row_cov
        if row_cov.ndim - (memory is posterior) == 1:  # of a diagonal
            row_cov = row_cov[..., None] * jnp.eye(row_cov.shape[-1])
        table.append({"memory": name} | _describe(row_cov))
        panels[f"{name}: row covariance"] = np.asarray(row_cov.reshape(-1, *row_cov.shape[-2:])[0])
    return Report(table, matrices={"covariance": panels}, axes={"covariance": ("slot", "slot")})


def _describe(row_cov: jax.Array) -> dict[str, float]:
    num_slots = row_cov.shape[-1]
    variances = jnp.diagonal(row_cov, axis1=-2, axis2=-1)
    scales = jnp.sqrt(variances)
    correlations = jnp.abs(row_cov) / (scales[..., :, None] * scales[..., None, :])
    others = jnp.sum(correlations, axis=(-2, -1)) - num_slots
    return {
        "correlation": float(jnp.mean(others) / max(1, num_slots * (num_slots - 1))),
        "variance": float(jnp.mean(variances)),
    }
