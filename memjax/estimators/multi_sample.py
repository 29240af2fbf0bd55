"""Multi-sample bounds on log p(x) and the gradient estimators that climb them.

Each function takes L log weights of one data point, `log p(x, a, z) - log q(a, z given x)`, and
returns a scalar to maximise: its value is the bound, its gradient the estimator's. Sources: Burda
et al. 2015 (IWAE); Mnih and Rezende 2016 (VIMCO).
"""

import math

import chex
import jax
import jax.numpy as jnp

from memjax.memory import checks

BASELINES = ("arithmetic", "geometric")


def iwae(log_weights: chex.Array) -> chex.Array:
    """The importance-weighted bound log(1/L sum_l w_l); Burda et al. 2015, VMA eq. 7.

    The right objective where every sampled variable is reparameterised. With L = 1 it is the ELBO.

    Args:
      log_weights: `[L]`, in nats; -inf is a weight of zero.

    Returns:
      The bound, a scalar in nats; -inf, with a gradient of zero, where all weights are zero.

    Raises:
      ValueError: no samples, or a batch of them.
    """
    check_samples(log_weights)
    return log_mean_exp(log_weights)


def vimco(
    log_weights: chex.Array, address_log_probs: chex.Array, baseline: str = "arithmetic"
) -> chex.Array:
    """The multi-sample bound with VIMCO's gradient; Mnih and Rezende 2016, VMA eq. 8.

    With w_l = exp(log_weights[l]) and normalised weights v_l, the value is log(1/L sum_l w_l) and
    the gradient

        sum_l v_l d log_weights[l]  +  sum_l learning_signal[l] d address_log_probs[l]

        learning_signal[l] = log(1/L sum_k w_k) - leave_one_out_baseline[l].

    `log_weights` holds -log q(a), so the two sums together give log q(a) the factor
    learning_signal - v_l of eq. 8. The baseline is the bound with w_l replaced by a mean of the
    other weights: in eq. 8 their arithmetic mean, in the original VIMCO their geometric mean.

    Args:
      log_weights: `[L]`, L at least 2, in nats; -inf is a weight of zero.
      address_log_probs: `[L]`, log q(a) of the discrete samples, with their gradient.
      baseline: one of `BASELINES`.

    Returns:
      The bound, a scalar in nats.

    Raises:
      ValueError: fewer than 2 samples, shapes that differ, an unknown baseline.
    """
    check_pair(log_weights, address_log_probs)
    if log_weights.shape[0] < 2:
        raise ValueError(
            "log_weights has 1 sample; vimco needs at least 2: each is the others' baseline"
        )
    checks.one_of("baseline", baseline, BASELINES)
    # The signal is a small difference: take it of weights near 1, where floats are dense.
    largest = jax.lax.stop_gradient(jnp.max(log_weights))
    shifted = log_weights - jnp.where(jnp.isfinite(largest), largest, 0.0)
    learning_signal = log_mean_exp(shifted) - _leave_one_out_baseline(shifted, baseline)
    # Where all the weights, or all but one, are zero the difference is infinite or undefined. What
    # the other samples say may fix the signal at no bias, so such a sample teaches nothing.
    learning_signal = jnp.where(jnp.isfinite(learning_signal), learning_signal, 0.0)
    score = jax.lax.stop_gradient(learning_signal) * address_log_probs
    score = jnp.where(learning_signal == 0, 0.0, score)
    return log_mean_exp(log_weights) + jnp.sum(score - jax.lax.stop_gradient(score))


def _leave_one_out_baseline(log_weights: chex.Array, baseline: str) -> chex.Array:
    num_samples = log_weights.shape[0]
    own = jnp.eye(num_samples, dtype=bool)
    if baseline == "arithmetic":
        stand_in = jnp.full(num_samples, -jnp.inf)  # the mean of the others changes nothing in them
        count = num_samples - 1
    else:
        stand_in = jnp.mean(jnp.broadcast_to(log_weights, own.shape), axis=1, where=~own)
        count = num_samples
    others = jnp.where(own, stand_in[:, None], log_weights[None, :])
    return jax.vmap(_log_sum_exp)(others) - math.log(count)


def log_mean_exp(log_weights: chex.Array) -> chex.Array:
    """log(1/L sum_l w_l) of `[L]`, with a gradient of zero where all weights are zero."""
    return _log_sum_exp(log_weights) - math.log(log_weights.shape[0])


def _log_sum_exp(values: chex.Array) -> chex.Array:
    """`jax.nn.logsumexp`, but with a gradient of zero, not NaN, where all values are -inf."""
    all_zero = jnp.all(jnp.isneginf(values))
    return jnp.where(all_zero, -jnp.inf, jax.nn.logsumexp(jnp.where(all_zero, 0.0, values)))


def check_pair(log_weights: chex.Array, address_log_probs: chex.Array) -> None:
    """Refuses anything but two `[L]` with L at least 1."""
    check_samples(log_weights)
    if address_log_probs.shape != log_weights.shape:
        raise ValueError(
            f"address_log_probs {address_log_probs.shape} and log_weights {log_weights.shape} "
            "must both be [L]"
        )


def check_samples(log_weights: chex.Array) -> None:
    """Refuses anything but `[L]` with L at least 1."""
    if log_weights.ndim != 1 or log_weights.shape[0] < 1:
        raise ValueError(f"log_weights is {log_weights.shape}; it must be [L] with L >= 1")
