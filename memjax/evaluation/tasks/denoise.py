"""Denoising by iterative reading: Kanerva Machine section 4.3, figure 3 right."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from memjax import models
from memjax.evaluation import reading
from memjax.evaluation.options import cut, up_to
from memjax.evaluation.report import Curves, Report
from memjax.evaluation.run import Run

NEEDS = models.WritesEpisodes

_PICTURES = 10


def evaluate(
    run: Run,
    *,
    num_images: int = 1000,
    num_iterations: int = 10,
    episode_length: int = up_to(32),
    flip_rate: float = 0.15,
    seed: int = 0,
) -> Report:
    """Writes held-out episodes, corrupts their images, and reads each again and again.

    The error is the mean absolute difference of a pixel from the image that was written. Iteration
    0 is the corrupted image.

    Args:
      run: the trained run.
      num_images: how many are denoised, rounded up to whole episodes.
      num_iterations: readings of each.
      episode_length: T, images in an episode.
      flip_rate: share of the pixels that salt and pepper sets to 0 or 1.
      seed: of episodes, corruptions and samples.

    Raises:
      UserError: a model without a memory of episodes.
    """
    rng_key = jax.random.key(seed)
    episode_length = cut(episode_length, run.num_images)
    images = run.draw_episodes(rng_key, -(-num_images // episode_length), episode_length)
    side = block_size(images.shape[-3])
    corruptions = {
        "block": lambda key: block(key, images, side),
        "salt_and_pepper": lambda key: salt_and_pepper(key, images, flip_rate),
    }
    table, lines, grids = [], {}, {}
    for i, (noise, corrupt) in enumerate(corruptions.items()):
        noise_rng_key, write_rng_key, read_rng_key = jax.random.split(
            jax.random.fold_in(rng_key, i), 3
        )
        corrupted = corrupt(noise_rng_key)
        memories = run.write_episodes(write_rng_key, images)
        steps = [
            corrupted,
            *reading.repeat(run, read_rng_key, memories, corrupted, num_iterations),
        ]
        errors = [float(jnp.mean(jnp.abs(step - images))) for step in steps]
        table += [{"noise": noise, "iteration": k, "error": e} for k, e in enumerate(errors)]
        lines[noise] = (range(len(steps)), errors)
        shown = {f"{k} readings": steps[k] for k in (1, 2, 3, num_iterations) if k < len(steps)}
        rows = {"written": images, "corrupted": corrupted, **shown}
        grids[f"denoise_{noise}"] = {
            name: np.asarray(step[0, :_PICTURES]) for name, step in rows.items()
        }
    panel = Curves("readings", "mean absolute error of a pixel", lines)
    return Report(table, grids, {"denoise": {f"{images.shape[0] * episode_length} images": panel}})


def block_size(height: int) -> int:
    """The side of a block: 12 of 28 pixels, and as much of other sizes."""
    return max(1, round(height * 12 / 28))


def block(rng_key: chex.PRNGKey, images: chex.Array, size: int) -> chex.Array:
    """Sets a square of `size` pixels at a random place of each image `[..., H, W, C]` to 1."""
    *batch, height, width, _ = images.shape
    row_rng_key, column_rng_key = jax.random.split(rng_key)
    top = jax.random.randint(row_rng_key, (*batch, 1), 0, height - size + 1)
    left = jax.random.randint(column_rng_key, (*batch, 1), 0, width - size + 1)
    rows = (jnp.arange(height) >= top) & (jnp.arange(height) < top + size)
    columns = (jnp.arange(width) >= left) & (jnp.arange(width) < left + size)
    return jnp.where((rows[..., :, None] & columns[..., None, :])[..., None], 1.0, images)


def salt_and_pepper(rng_key: chex.PRNGKey, images: chex.Array, rate: float) -> chex.Array:
    """Sets each pixel of images `[..., H, W, C]` with probability `rate` to 0 or 1."""
    where_rng_key, value_rng_key = jax.random.split(rng_key)
    where = jax.random.bernoulli(where_rng_key, rate, (*images.shape[:-1], 1))
    value = jax.random.bernoulli(value_rng_key, 0.5, where.shape)
    return jnp.where(where, value.astype(images.dtype), images)
