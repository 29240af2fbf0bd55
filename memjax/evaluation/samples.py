"""Pictures that any model can give: generated images, and what it makes of held-out queries."""

from typing import Any

import chex
import jax
import numpy as np

from memjax.evaluation.run import Report, Run


def evaluate(run: Run, *, num_rows: int = 8, num_columns: int = 10, seed: int = 0) -> Report:
    """Images generated from the prior, and held-out queries beside their reconstructions.

    Args:
      run: the trained run.
      num_rows: rows of generated images.
      num_columns: images in a row.
      seed: of the episode and the samples.
    """
    episode_rng_key, sample_rng_key, explain_rng_key = jax.random.split(jax.random.key(seed), 3)
    episode = run.eval_episode(episode_rng_key)

    @jax.jit
    @jax.vmap
    def generate(rng_key: chex.PRNGKey) -> Any:
        return run.model.apply(run.variables, rng_key, episode.support, method="generate")

    samples = generate(jax.random.split(sample_rng_key, num_rows * num_columns))
    samples = np.asarray(samples).reshape(num_rows, num_columns, *samples.shape[1:])
    queries = episode.query[:num_columns]
    explained = run.map("explain", explain_rng_key, queries, episode.support)
    return Report(
        table=[{"step": run.step, "images": num_rows * num_columns}],
        grids={
            "samples": {f"sample {i}": row for i, row in enumerate(samples)},
            "reconstructions": {
                # Where a query is an episode, its images.
                name: np.asarray(images).reshape(-1, *images.shape[-3:])[:num_columns]
                for name, images in explained.items()
            },
        },
    )
