"""Gradients of continuous latents in multi-sample bounds that keep their signal as samples grow.

A reparameterised z carries the gradient of the whole log weight, part of which is the score of q
and only noise. Sticking the landing (Roeder et al. 2017) leaves it out: the parameters of q(z) are
held fixed in log q(z), which for one sample is unbiased, and no function of ours:
`jax.lax.stop_gradient` on them. Doubly reparameterised gradients (DReG) leave it out for any number
of samples without bias. Sources: Tucker et al. 2019; Bauer and Mnih 2021 for learned priors.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from memjax.estimators.multi_sample import check_samples
from memjax.memory import checks


def dreg(log_weights: chex.Array, latent: chex.Array) -> chex.Array:
    """The same latents with DReG's gradient; Tucker et al. 2019 (IWAE-DReG).

    Compute the log weights twice: once for this function, and once of the latents that it gives,
    with the parameters of q(z) held fixed in log q(z). `iwae` or `vimco` of the second then has for
    the parameters of q(z) the gradient

        sum_l v_l^2 (d log_weights[l] / d latent[l]) d latent[l]

    with normalised weights v, and everything else its own. Unbiased; with one sample, sticking the
    landing. Under `jit` the first computation is shared with the second.

    Args:
      log_weights: `[L]`, in nats; passes no gradient.
      latent: `[L, ...]`, the samples, with their gradient.

    Returns:
      `[L, ...]`, the samples, in their own type.

    Raises:
      ValueError: no samples, latents that are not as many, integers.
    """
    weights, (latent,), dtype = _weighed(log_weights, latent=latent)
    return _scale_gradient(weights, latent).astype(dtype)


def gdreg(
    log_weights: chex.Array, latent: chex.Array, prior_latent: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """`dreg` where the prior p(z) learns too, as p(z|m) of a memory; Bauer and Mnih 2021 (GDReG).

    `prior_latent` are the same numbers as samples of the prior, `latent = prior.loc + prior.scale *
    noise` with the noise held fixed. Compute the log weights anew as log p(x|z) of the first result
    and log p(z) - log q(z) of the second, with the parameters of q(z) and of p(z) held fixed in
    these two. For the parameters of q(z) the gradient is `dreg`'s, and for those of p(z)

        sum_l (v_l d log p(x|latent[l]) / d latent[l]
               - v_l^2 d log_weights[l] / d latent[l]) d prior_latent[l].

    Args:
      log_weights: `[L]`, in nats; passes no gradient.
      latent: `[L, ...]`, the samples, with their gradient in the parameters of q(z).
      prior_latent: `[L, ...]`, the samples, with their gradient in the parameters of p(z).

    Returns:
      for_likelihood: `[L, ...]`, the samples for log p(x|z).
      for_densities: `[L, ...]`, the samples for log p(z) - log q(z).

    Raises:
      ValueError: no samples, latents that are not as many, integers.
    """
    both = {"latent": latent, "prior_latent": prior_latent}
    weights, (latent, prior_latent), dtype = _weighed(log_weights, **both)
    checks.same_shape("prior_latent", prior_latent, "latent", latent)
    own = _scale_gradient(weights, latent)
    moved = prior_latent - jax.lax.stop_gradient(prior_latent)  # zero, with its gradient
    added, taken = _scale_gradient(1.0 - weights, moved), _scale_gradient(-weights, moved)
    return (own + added).astype(dtype), (own + taken).astype(dtype)


def _weighed(
    log_weights: chex.Array, **latents: chex.Array
) -> tuple[chex.Array, list[jax.Array], Any]:
    """The normalised weights, without a gradient; the latents, as `checks.reals` gives them."""
    (log_weights,), _ = checks.reals(log_weights=log_weights)
    check_samples(log_weights)
    arrays, dtype = checks.reals(**latents)
    if arrays[0].shape[:1] != log_weights.shape:
        wanted = f"[L, ...] with L = {len(log_weights)}"
        raise ValueError(f"latent is {arrays[0].shape}; it must be {wanted}")
    log_weights = jax.lax.stop_gradient(log_weights)
    is_nothing = jnp.all(jnp.isneginf(log_weights))
    weights = jax.nn.softmax(jnp.where(is_nothing, 0.0, log_weights))
    return weights.astype(arrays[0].dtype), arrays, dtype


@jax.custom_jvp
def _scale_gradient(factors: chex.Array, values: chex.Array) -> chex.Array:
    """Values `[L, ...]` whose gradient is multiplied by factors `[L]`."""
    del factors
    return values


@_scale_gradient.defjvp
def _scale_tangent(primals, tangents):
    factors, values = primals
    factors = factors.reshape(factors.shape + (1,) * (values.ndim - 1))
    return _scale_gradient(*primals), (factors * tangents[1]).astype(values.dtype)
