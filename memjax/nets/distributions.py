"""Small conveniences over numpyro's distributions, shared by the models."""

import chex
import jax.numpy as jnp
import numpyro.distributions as dist

from memjax.errors import check_one_of

IMAGE_LIKELIHOODS = ("bernoulli", "gaussian")


def diagonal_normal(parameters: chex.Array, scale: chex.Numeric = 1.0) -> dist.Distribution:
    """A Gaussian with diagonal covariance from a net's `[..., 2 D]` outputs: loc, then log scale.

    The log scale saturates smoothly at -7 and 7, so that a wild step can't overflow a variance;
    `scale` is the one at zero, where a net begins.
    """
    loc, log_scale = jnp.split(parameters, 2, axis=-1)
    return dist.Normal(loc, scale * jnp.exp(7.0 * jnp.tanh(log_scale / 7.0))).to_event(1)


def standard_normal(size: int) -> dist.Distribution:
    """N(0, I) over `[size]`."""
    return dist.Normal(jnp.zeros(size), jnp.ones(size)).to_event(1)


def bernoulli_image(logits: chex.Array) -> dist.Distribution:
    """Independent Bernoulli pixels over images `[..., H, W, C]`."""
    return dist.Bernoulli(logits=logits).to_event(3)


def gaussian_image(loc: chex.Array, log_scale: chex.Array) -> dist.Distribution:
    """Independent Gaussian pixels over images `[..., H, W, C]`; one scale, or one for each."""
    return dist.Normal(loc, jnp.exp(log_scale)).to_event(3)


def check_likelihood(likelihood: str) -> None:
    """Refuses a word that is not among `IMAGE_LIKELIHOODS`."""
    check_one_of("likelihood", likelihood, IMAGE_LIKELIHOODS)
