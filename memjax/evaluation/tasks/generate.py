"""One-shot generation from a batch of images: Kanerva Machine section 4.2, figures 4, 5 and 8."""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from memjax import models
from memjax.evaluation import reading
from memjax.evaluation.loading import load_run
from memjax.evaluation.options import as_sequence, cut, up_to
from memjax.evaluation.report import Curves, Report, check_save, image_files
from memjax.evaluation.run import Run

NEEDS = models.WritesEpisodes

_SHOWN = (0, 2, 4, 6, 8)


def evaluate(
    run: Run,
    *,
    num_classes: int | Sequence[int] = up_to(2, 4, 12),
    episode_length: int = up_to(12),
    num_iterations: int = 8,
    num_episodes: int = 16,
    by: str = "samples",
    beside: str = "",
    save: str = "",
    seed: int = 0,
) -> Report:
    """Writes held-out images of a few classes, reads at random keys, and reads what was read.

    `nearest` is the mean absolute difference of a pixel between a generated image and that of the
    written images which is the most like it: it falls as samples become like what was written.

    Args:
      run: the trained run.
      num_classes: classes in an episode, or several numbers of them; 0: any images.
      episode_length: images written, and as many samples drawn.
      num_iterations: readings after the first image.
      num_episodes: over which the numbers are means; the first is shown.
      by: how to read; see `denoise`.
      beside: folder of a trained VAE, whose samples are encoded and decoded as often.
      save: "npz" or "png": writes what the memories' last readings give as files.
      seed: of episodes and samples.

    Raises:
      UserError: a model without a memory of episodes, more classes or images than the data have.
    """
    check_save(save, run.experiment.eval.arrays.images.shape)
    episode_length = cut(episode_length, run.num_images)
    twin = load_run(beside, _data_dir(run)) if beside else None
    table: list[dict] = []
    lines, grids = {}, {}
    files: dict[str, bytes] = {}
    for count in as_sequence(num_classes, len(run.experiment.eval.arrays.class_sizes)):
        rng_key = jax.random.fold_in(jax.random.key(seed), count)
        draw_rng_key, sample_rng_key = jax.random.split(rng_key)
        written = run.draw_episodes(draw_rng_key, num_episodes, episode_length, count)
        arguments = sample_rng_key, written, episode_length, num_iterations, by
        systems = {"memory": from_memory(run, *arguments)}
        if twin:
            systems["VAE"] = _from_vae(twin, sample_rng_key, written.shape[:2], num_iterations)
        for name, steps in systems.items():
            title = f"generate_{name}_{count}_classes"
            distances = [nearest(step, written) for step in steps]
            label = f"{name}, {count} classes" if count else name
            lines[label] = (range(len(steps)), distances)
            table += [
                {"system": name, "num_classes": count, "iteration": i, "nearest": distance}
                for i, distance in enumerate(distances)
            ]
            grids[title] = {"written": np.asarray(written[0])} | {
                f"{i} readings": np.asarray(steps[i][0]) for i in _SHOWN if i < len(steps)
            }
            if name == "memory":
                files |= image_files(title, steps[-1], save)
    curve = Curves("readings", "mean absolute error of a pixel", lines)
    curves = {"generate": {"to the nearest written image": curve}}
    return Report(table, grids, curves, files=files)


def nearest(images: chex.Array, written: chex.Array) -> float:
    """The mean over images `[B, T, ...]` of the least error to one of `written` `[B, T', ...]`."""
    flat, targets = (x.reshape(*x.shape[:2], -1) for x in (images, written))

    def one(image: chex.Array, targets: chex.Array) -> chex.Array:
        return jnp.min(jnp.mean(jnp.abs(image - targets), axis=-1))

    return float(jnp.mean(jax.vmap(jax.vmap(one, (0, None)))(flat, targets)))


def from_memory(
    run: Run,
    rng_key: chex.PRNGKey,
    written: chex.Array,
    num_samples: int,
    num_iterations: int,
    by: str = "samples",
) -> list[chex.Array]:
    """What memories of `written` `[B, T, H, W, C]` give at random keys, and by further readings.

    KM section 4.2, algorithm 1. Returns images `[B, num_samples, H, W, C]` after each reading.
    """
    write_rng_key, first_rng_key, read_rng_key = jax.random.split(rng_key, 3)
    memories = run.write_episodes(write_rng_key, written)
    first = run.sample_episodes("read_at_random", first_rng_key, num_samples, memories)
    read = reading.repeat(run, read_rng_key, memories, first.sample, num_iterations, by)
    return [first.mean, *read]


def _from_vae(
    run: Run, rng_key: chex.PRNGKey, shape: Sequence[int], num_iterations: int
) -> list[chex.Array]:
    """Figure 8: a VAE's samples, encoded and decoded again and again; Gaussian ones as means."""
    num_images = shape[0] * shape[1]
    memory = run.write(rng_key, None)
    images = run.sample("generate", rng_key, num_images, memory)
    steps = [images]
    for i in range(num_iterations):
        step_rng_key, sample_rng_key = jax.random.split(jax.random.fold_in(rng_key, i))
        queries = jnp.clip(steps[-1], 0.0, 1.0)
        if run.model.likelihood == "bernoulli":
            queries = jax.random.bernoulli(sample_rng_key, queries).astype(images.dtype)
        explained = run.map("explain", step_rng_key, queries, memory)
        steps.append(explained["reconstruction"])
    return [step.reshape(*shape, *step.shape[1:]) for step in steps]


def _data_dir(run: Run) -> str:
    config = run.experiment.config
    return config.data_dir if config is not None else ""
