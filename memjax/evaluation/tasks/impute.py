"""Missing pixels filled in by a Markov chain; MEM-VAE's section 5.4, table 2 and figure 8."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from memjax.errors import UserError, check_at_least_one
from memjax.evaluation.report import Curves, Report
from memjax.evaluation.run import Run
from memjax.models.denoising import block_size
from memjax.nets import check_images

NEEDS = None

_CHUNK = 500  # images that are imputed at a time
_PICTURES = 10


def evaluate(
    run: Run,
    *,
    rect_size: int = 0,
    drop_rate: float = 0.6,
    num_rounds: int = 100,
    num_queries: int = 0,
    seed: int = 0,
) -> Report:
    """The mean squared error of imputed pixels of held-out grey images, for three kinds of noise.

    RECT hides a centred square, RAND every pixel with a probability, HALF the left half. The mean
    is over the hidden pixels, as table 2's must be: 0.14 is too much for a small square in it all.

    Args:
      run: the trained run of a model of single images.
      rect_size: side of the square, in pixels; 0 for 12 of 28 of the height.
      drop_rate: the probability, between 0 and 1.
      num_rounds: of the Markov chain.
      num_queries: how many images; 0 for the whole split.
      seed: of the noise and the chain.

    Raises:
      UserError: a model of other data, noise that hides nothing or everything.
    """
    if not run.experiment.eval.is_iid:
        raise UserError("task impute needs a run of single images; this one draws episodes")
    arrays = run.experiment.eval.arrays
    images = np.asarray(arrays.images[: num_queries or None], np.float32) / 255
    mask_rng_key, chain_rng_key = jax.random.split(jax.random.key(seed))
    shape = (_, height, width) = images.shape[:3]
    rect_size = rect_size or block_size(height)
    noises = {
        f"RECT-{rect_size}": np.broadcast_to(hide_rectangle(height, width, rect_size), shape),
        f"RAND-{drop_rate}": np.asarray(jax.random.bernoulli(mask_rng_key, drop_rate, shape)),
        "HALF": np.broadcast_to(hide_half(height, width), shape),
    }
    for name, hidden in noises.items():
        _check_noise(name, hidden)
    table, grids = [], {}
    lines: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    for name, hidden in noises.items():
        started, imputed, errors = impute(run, chain_rng_key, images, hidden, num_rounds)
        table.append({"noise": name, "first_mse": float(errors[0]), "mse": float(errors[-1])})
        rows = {"original": images, "perturbed": started, "imputed": imputed}
        grids[f"impute_{name}"] = {row: values[:_PICTURES] for row, values in rows.items()}
        lines[name] = (list(range(1, num_rounds + 1)), errors.tolist())
    return Report(
        table,
        grids,
        {"impute": {"": Curves("round", "mean squared error of a hidden pixel", lines)}},
    )


def impute(
    run: Run, rng_key: chex.PRNGKey, images: chex.Array, hidden: chex.Array, num_rounds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fills in hidden pixels: at first with noise, then in each round with a reconstruction.

    Args:
      run: the trained run of a model of single images.
      rng_key: of the chain.
      images: `[D, H, W, C]` in [0, 1]; hidden pixels serve for the error only.
      hidden: bool `[D, H, W]`, what is missing.
      num_rounds: at least 1.

    Returns:
      (images where the chain starts, images where it ends, `[num_rounds]` mean squared errors of
      the hidden pixels).

    Raises:
      UserError: images outside [0, 1], images with nothing or everything hidden; no rounds.
    """
    check_images(images)
    _check_noise("mask", hidden)
    check_at_least_one(num_rounds=num_rounds)
    memory = run.write(rng_key, None)
    parts = [
        _chain(
            run.model,
            run.variables,
            memory,
            jax.random.fold_in(rng_key, i),
            images[i : i + _CHUNK],
            hidden[i : i + _CHUNK, ..., None],
            num_rounds,
        )
        for i in range(0, len(images), _CHUNK)
    ]
    started, imputed = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    squared_errors = np.sum([part[2] for part in parts], axis=0)
    return started, imputed, squared_errors / (np.sum(hidden) * images.shape[-1])


def hide_rectangle(height: int, width: int, size: int) -> np.ndarray:
    """A centred square of `size`: bool `[H, W]`."""
    rows, columns = (np.arange(length) - (length - size) // 2 for length in (height, width))
    inside = ((positions >= 0) & (positions < size) for positions in (rows, columns))
    return np.logical_and.outer(*inside)


def hide_half(height: int, width: int) -> np.ndarray:
    """The left half: bool `[H, W]`."""
    return np.broadcast_to(np.arange(width) < width // 2, (height, width))


@partial(jax.jit, static_argnames=("model", "num_rounds"))
def _chain(
    model: nn.Module,
    variables: Any,
    memory: Any,
    rng_key: chex.PRNGKey,
    images: chex.Array,
    hidden: chex.Array,
    num_rounds: int,
) -> tuple[chex.Array, chex.Array, chex.Array]:
    start_rng_key, rounds_rng_key = jax.random.split(rng_key)

    @jax.vmap
    def reconstruct(rng_key: chex.PRNGKey, image: chex.Array) -> Any:
        pictures: Any = model.apply(variables, rng_key, image, memory, method="explain")
        return pictures["reconstruction"]

    def refine(current: chex.Array, rng_key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
        guess = reconstruct(jax.random.split(rng_key, len(images)), current)
        current = jnp.where(hidden, guess, images)
        return current, jnp.sum(jnp.square(current - images))

    started = jnp.where(hidden, jax.random.uniform(start_rng_key, images.shape), images)
    imputed, errors = jax.lax.scan(refine, started, jax.random.split(rounds_rng_key, num_rounds))
    return started, imputed, errors


def _check_noise(name: str, hidden: np.ndarray) -> None:
    shares = np.mean(hidden, axis=(1, 2))
    if np.any(shares == 1.0):
        raise UserError(f"{name} hides all of an image; it must leave some pixels")
    if not np.any(shares > 0.0):
        raise UserError(f"{name} hides nothing; it must hide some pixels")
