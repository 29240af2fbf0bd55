"""Images corrupted as where the Kanerva Machine denoises them: KM section 4.3."""

import math

import chex
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

_NOISY = 0.2  # share of pixels that a reading by modes expects to be noise


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


def corrupt(rng_key: chex.PRNGKey, image: chex.Array) -> chex.Array:
    """One image `[H, W, C]` with a block, with salt and pepper at 0.15, or as it is.

    The chances are 0.35, 0.35 and 0.3.
    """
    kind_rng_key, noise_rng_key = jax.random.split(rng_key)
    kind = jax.random.uniform(kind_rng_key)
    blocked = block(noise_rng_key, image, block_size(image.shape[0]))
    noisy = salt_and_pepper(noise_rng_key, image, 0.15)
    return jnp.where(kind < 0.35, blocked, jnp.where(kind < 0.7, noisy, image))


def robust_log_prob(likelihood: dist.Distribution, image: chex.Array) -> chex.Array:
    """log p of an image `[H, W, C]` whose pixels are noise with chance 0.2: a scalar.

    Noise is one of two values, or uniform in [0, 1] where pixels are Gaussian; all channels of a
    Gaussian pixel are noise together.
    """
    pixels = likelihood.base_dist
    noise = 0.5 if pixels.is_discrete else 1.0
    signal = math.log(1.0 - _NOISY) + pixels.log_prob(image)
    return jnp.sum(jnp.logaddexp(signal, jnp.full_like(signal, math.log(_NOISY * noise))))
