"""What a memory of episodes makes of one new image: the pure part of `experiments.playground`."""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from memjax import models
from memjax.errors import UserError, check_at_least_one
from memjax.evaluation import reading
from memjax.evaluation.options import cut, up_to
from memjax.evaluation.run import Run
from memjax.evaluation.tasks import generate
from memjax.models import denoising

Stroke = Sequence[tuple[float, float]]

PLACES = 10  # drawings in a memory of one's own
_OVERSAMPLING = 8


def pen_width(height: int) -> float:
    """The width of a stroke as a share of an image's height: 1 pixel of 8, 2.5 of 28."""
    return max(1.0 / height, 0.09)


def rasterize(strokes: Sequence[Stroke], image_shape: Sequence[int], binary: bool) -> np.ndarray:
    """An image of pen strokes, ink 1 on paper 0, as the data sets have their characters.

    Args:
      strokes: points (x, y) of each, in [0, 1] from the lower left corner; one point is a dot.
      image_shape: (H, W, C).
      binary: whether pixels are 0 or 1, or the share of them that ink covers.

    Returns:
      float32 `[H, W, C]`.
    """
    height, width, channels = image_shape
    fine = Image.new("L", (width * _OVERSAMPLING, height * _OVERSAMPLING))
    pen, brush = pen_width(height) * fine.height, ImageDraw.Draw(fine)
    for stroke in strokes:
        points = [(x * fine.width, (1.0 - y) * fine.height) for x, y in stroke]
        brush.line(points, fill=255, width=round(pen))
        for x, y in points:  # round ends and corners
            brush.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=255)
    image = np.asarray(fine.resize((width, height), Image.Resampling.BOX), np.float32) / 255.0
    image = (image >= 0.5).astype(np.float32) if binary else image
    return np.repeat(image[..., None], channels, axis=-1)


def respond(
    run: Run,
    drawing: chex.Array,
    *,
    num_images: int = up_to(12),
    num_iterations: int = 8,
    flip_rate: float = 0.1,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """What the memory retrieves for a drawing, denoises, and generates from it.

    Args:
      run: the trained run.
      drawing: `[H, W, C]` in [0, 1].
      num_images: held-out images that are written, and as many samples drawn.
      num_iterations: readings, each but the first at what was read before.
      flip_rate: share of the drawing's pixels that salt and pepper sets to 0 or 1.
      seed: of the held-out images, the noise and the samples.

    Returns:
      Rows of images `[n, H, W, C]`, by name: what is written; the drawing and what each reading at
      it gives; the corrupted drawing and the readings at it, where the drawing is in memory too;
      samples at random keys of a memory that holds the drawing alone, and readings at these.

    Raises:
      UserError: a model without a memory of episodes, a number out of range.
      ValueError: a drawing of another shape than the model's images.
    """
    _check(run, drawing.shape, num_iterations, flip_rate)
    num_images = cut(num_images, run.num_images)
    check_at_least_one(num_images=num_images)
    draw_rng_key, noise_rng_key, *rng_keys = jax.random.split(jax.random.key(seed), 5)
    images = run.draw_episodes(draw_rng_key, 1, num_images)
    query = jnp.asarray(drawing, images.dtype)[None, None]
    corrupted = denoising.salt_and_pepper(noise_rng_key, query, flip_rate)

    def read(rng_key: chex.PRNGKey, memories, first: chex.Array) -> list[chex.Array]:
        return reading.repeat(run, rng_key, memories, first, num_iterations)

    retrieve_rng_key, denoise_rng_key, generate_rng_key = rng_keys
    write_rng_key, read_rng_key = jax.random.split(retrieve_rng_key)
    retrieved = read(read_rng_key, run.write_episodes(write_rng_key, images), query)
    write_rng_key, read_rng_key = jax.random.split(denoise_rng_key)
    with_drawing = jnp.concatenate([images, query], axis=1)
    denoised = read(read_rng_key, run.write_episodes(write_rng_key, with_drawing), corrupted)
    samples = generate.from_memory(run, generate_rng_key, query, num_images, num_iterations)
    rows = {
        "written": images,
        "drawing, read": jnp.concatenate([query, *retrieved], axis=1),
        "corrupted, read": jnp.concatenate([corrupted, *denoised], axis=1),
        "samples": samples[0],
        f"{num_iterations} readings": samples[-1],
    }
    return {name: np.asarray(row[0]) for name, row in rows.items()}


def recall(
    run: Run,
    drawings: chex.Array,
    *,
    num_iterations: int = 8,
    flip_rate: float = 0.1,
    by: str = "modes",
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Writes drawings into one memory, then asks for each of them with noise.

    Args:
      run: the trained run.
      drawings: `[n, H, W, C]` in [0, 1], n at most `PLACES`; held-out images fill the other places.
      num_iterations: readings, each but the first at what was read before.
      flip_rate: share of the pixels that salt and pepper sets to 0 or 1.
      by: how to read: "modes" comes back to a written image and stays there; "means", "samples".
      seed: of the held-out images, the noise and the samples.

    Returns:
      Rows of images `[PLACES, H, W, C]`, by name: what is written, with noise, some readings.

    Raises:
      UserError: a model without a memory of episodes, a number out of range, another way to read.
      ValueError: drawings of another shape than the model's images.
    """
    _check(run, drawings.shape[1:], num_iterations, flip_rate)
    drawn = len(drawings)
    if drawn > PLACES:
        raise UserError(f"drawings are {drawn}; they must be at most {PLACES}")
    rng_keys = jax.random.split(jax.random.key(seed), 4)
    draw_rng_key, noise_rng_key, write_rng_key, read_rng_key = rng_keys
    written = run.draw_episodes(draw_rng_key, 1, PLACES)
    written = written.at[0, :drawn].set(jnp.asarray(drawings, written.dtype))
    corrupted = denoising.salt_and_pepper(noise_rng_key, written, flip_rate)
    memories = run.write_episodes(write_rng_key, written)
    read = reading.repeat(run, read_rng_key, memories, corrupted, num_iterations, by)
    rows = {"in memory": written, "with noise": corrupted, "1 reading": read[0]}
    if num_iterations > 1:
        rows[f"{num_iterations} readings"] = read[-1]
    return {name: np.asarray(row[0]) for name, row in rows.items()}


def _check(run: Run, shape: tuple[int, ...], num_iterations: int, flip_rate: float) -> None:
    run.require("playground", models.WritesEpisodes)
    check_at_least_one(num_iterations=num_iterations)
    if not 0.0 <= flip_rate <= 1.0:
        raise UserError(f"flip_rate is {flip_rate}; it must be in [0, 1]")
    image_shape = run.experiment.eval.arrays.images.shape[1:]
    if shape != image_shape:
        raise ValueError(f"drawing has shape {shape}; the images have {image_shape}")
