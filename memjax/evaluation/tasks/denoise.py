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
from memjax.models.denoising import block, block_size, salt_and_pepper

NEEDS = models.WritesEpisodes

_PICTURES = 10


def evaluate(
    run: Run,
    *,
    num_images: int = 1000,
    num_iterations: int = 10,
    episode_length: int = up_to(32),
    flip_rate: float = 0.15,
    by: str = "samples",
    seed: int = 0,
) -> Report:
    """Writes held-out episodes, corrupts their images, and reads each again and again.

    `error` is the mean absolute difference of a pixel from the image that was written, `nearest`
    from that of the written images which is the most like it, `own` the share of images for which
    that is the same. Iteration 0 is the corrupted image.

    Args:
      run: the trained run.
      num_images: how many are denoised, rounded up to whole episodes.
      num_iterations: readings of each.
      episode_length: T, images in an episode.
      flip_rate: share of the pixels that salt and pepper sets to 0 or 1.
      by: how to read, or several ways with commas: "samples" is the paper's, "means" and "modes"
        are others of the Kanerva Machine's.
      seed: of episodes, corruptions and samples.

    Raises:
      UserError: a model without a memory of episodes, or another way to read.
    """
    rng_key = jax.random.key(seed)
    episode_length = cut(episode_length, run.num_images)
    images = run.draw_episodes(rng_key, -(-num_images // episode_length), episode_length)
    ways = list(dict.fromkeys(by.split(",")))
    table: list[dict] = []
    lines: dict[str, dict] = {}
    grids = {}
    for i, noise in enumerate(("block", "salt_and_pepper")):
        noise_rng_key, write_rng_key, read_rng_key = jax.random.split(
            jax.random.fold_in(rng_key, i), 3
        )
        if noise == "block":
            corrupted = block(noise_rng_key, images, block_size(images.shape[-3]))
        else:
            corrupted = salt_and_pepper(noise_rng_key, images, flip_rate)
        memories = run.write_episodes(write_rng_key, images)
        for way in ways:
            name = noise if len(ways) == 1 else f"{noise}_by_{way}"
            read = reading.repeat(run, read_rng_key, memories, corrupted, num_iterations, way)
            steps = [corrupted, *read]
            rows = [
                {"noise": noise, "by": way, "iteration": k} | compare(step, images)
                for k, step in enumerate(steps)
            ]
            table += rows
            errors = [row["error"] for row in rows]
            lines.setdefault(noise, {})[way] = (range(len(steps)), errors)
            counts = [k for k in (1, 2, 3, num_iterations) if k < len(steps)]
            shown = {f"{k} reading{'s' * (k > 1)}": steps[k] for k in counts}
            pictures = {"written": images, "corrupted": corrupted, **shown}
            grids[f"denoise_{name}"] = {
                row: np.asarray(step[0, :_PICTURES]) for row, step in pictures.items()
            }
    panels = {
        f"{noise.replace('_', ' ')}, {images.shape[0] * episode_length} images": Curves(
            "readings", "mean absolute error of a pixel", by_way
        )
        for noise, by_way in lines.items()
    }
    return Report(table, grids, {"denoise": panels})


def compare(images: chex.Array, written: chex.Array) -> dict[str, float]:
    """Images `[B, T, H, W, C]` beside those that they should be: the table's numbers."""
    flat, targets = (x.reshape(*x.shape[:2], -1) for x in (images, written))

    def one(image: chex.Array, targets: chex.Array) -> chex.Array:
        return jnp.mean(jnp.abs(image - targets), axis=-1)

    errors = jax.vmap(jax.vmap(one, (0, None)))(flat, targets)  # [B, T, T]
    own, least = jnp.diagonal(errors, axis1=1, axis2=2), jnp.min(errors, axis=-1)
    return {
        "error": float(jnp.mean(own)),
        "own": float(jnp.mean(own == least)),
        "nearest": float(jnp.mean(least)),
    }
