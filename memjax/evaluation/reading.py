"""Iterative reading of episodes' memories: Kanerva Machine section 3.5, algorithm 1."""

from typing import Any

import chex
import jax

from memjax.evaluation.run import Run


def repeat(
    run: Run,
    rng_key: chex.PRNGKey,
    memories: Any,
    queries: chex.Array,
    num_iterations: int,
    by: str = "samples",
) -> list[chex.Array]:
    """Reads at `queries`, then at what was read, and so on.

    Each reading but the first asks with the sample, the mean or the mode of the p(x|z) before it.

    Args:
      run: the trained run.
      rng_key: a JAX random key.
      memories: what `run.write_episodes` gives.
      queries: `[B, T, H, W, C]`.
      num_iterations: how often.
      by: "samples", as the paper has it, or what else the model's `read` takes.

    Returns:
      After each reading the means of p(x|z), `[B, T, H, W, C]`.
    """
    means, options = [], {} if by == "samples" else {"by": by}
    for i in range(num_iterations):
        step_rng_key = jax.random.fold_in(rng_key, i)
        images = run.map_episodes("read", step_rng_key, queries, memories, **options)
        means.append(images.mean)
        queries = images.sample
    return means
