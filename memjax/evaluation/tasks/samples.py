"""Pictures that any model can give: generated images, and what it makes of held-out queries."""

import jax
import numpy as np

from memjax.evaluation.report import Report, check_save, image_files
from memjax.evaluation.run import Run

NEEDS = None


def evaluate(
    run: Run, *, num_rows: int = 8, num_columns: int = 10, save: str = "", seed: int = 0
) -> Report:
    """Images generated from the prior, and held-out queries beside their reconstructions.

    `save` writes the generated images as files: "npz" as `samples.npz`, "png" as
    `samples/0000.png` and so on.

    Args:
      run: the trained run.
      num_rows: rows of generated images.
      num_columns: images in a row.
      save: "npz", "png", or empty for none.
      seed: of the episode and the samples.
    """
    check_save(save, run.experiment.eval.arrays.images.shape)
    episode_rng_key, sample_rng_key, explain_rng_key = jax.random.split(jax.random.key(seed), 3)
    episode = run.eval_episode(episode_rng_key)

    queries, support = episode.query, episode.support
    if episode.is_its_own_support:
        queries = support = queries[0]
    memory = run.write(episode_rng_key, episode.support)
    samples = run.sample("generate", sample_rng_key, num_rows * num_columns, memory)
    files = image_files("samples", samples, save)
    samples = np.asarray(samples).reshape(num_rows, num_columns, *samples.shape[1:])
    memory = run.write(episode_rng_key, support)
    explained = run.map("explain", explain_rng_key, queries[:num_columns], memory)
    return Report(
        table=[{"step": run.step, "images": num_rows * num_columns}],
        grids={
            "samples": {f"sample {i}": row for i, row in enumerate(samples)},
            "reconstructions": {name: np.asarray(images) for name, images in explained.items()},
        },
        files=files,
    )
