"""Images between two images, by the weights that read them: Kanerva Machine figure 7."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from memjax import models
from memjax.errors import UserError
from memjax.evaluation.options import cut, up_to
from memjax.evaluation.report import Report
from memjax.evaluation.run import Run

NEEDS = models.ReadsByWeights


def evaluate(
    run: Run,
    *,
    num_pairs: int = 8,
    num_steps: int = 9,
    episode_length: int = up_to(32),
    seed: int = 0,
) -> Report:
    """Reads at weights on the line between those of two written images.

    `start` and `end` are the mean absolute errors of a pixel of the two ends, `largest_step` that
    between neighbours, over the difference of the ends: 1 / (num_steps - 1) if all steps are alike.

    Args:
      run: the trained run.
      num_pairs: pairs of images, each of an episode of its own.
      num_steps: images in a row, at least 2.
      episode_length: T, images in an episode, at least 2.
      seed: of episodes and samples.

    Raises:
      UserError: a model that does not read by weights.
    """
    episode_length = cut(episode_length, run.num_images)
    for name, value in (("num_steps", num_steps), ("episode_length", episode_length)):
        if value < 2:
            raise UserError(f"{name} is {value}; it must be at least 2")
    draw_rng_key, write_rng_key, read_rng_key = jax.random.split(jax.random.key(seed), 3)
    images = run.draw_episodes(draw_rng_key, num_pairs, episode_length)
    memories = run.write_episodes(write_rng_key, images)
    weights = run.map_episodes("weights", read_rng_key, images[:, :2], memories)  # [pairs, 2, N]
    share = jnp.linspace(0.0, 1.0, num_steps)[:, None]
    between = (1.0 - share) * weights[:, None, 0] + share * weights[:, None, 1]
    decode = partial(run.model.apply, run.variables, method="decode_weights")
    rows = jax.jit(jax.vmap(jax.vmap(decode, (None, 0))))(memories, between)
    steps = _error(rows[:, 1:], rows[:, :-1])
    numbers = {
        "start": float(jnp.mean(_error(rows[:, 0], images[:, 0]))),
        "end": float(jnp.mean(_error(rows[:, -1], images[:, 1]))),
        "largest_step": float(jnp.mean(jnp.max(steps, axis=1) / _error(rows[:, 0], rows[:, -1]))),
    }
    shown = jnp.concatenate([images[:, None, 0], rows, images[:, None, 1]], axis=1)
    grid = {f"pair {i}": np.asarray(row) for i, row in enumerate(shown)}
    return Report([{"pairs": num_pairs, "steps": num_steps, **numbers}], {"interpolate": grid})


def _error(images: jax.Array, others: jax.Array) -> jax.Array:
    return jnp.mean(jnp.abs(images - others), axis=(-3, -2, -1))
