"""Multi-sample bounds on log p(x) and the gradient estimators that climb them.

Each function takes L log weights of one data point, `log p(x, a, z) - log q(a, z given x)`, and
returns a scalar to maximise: its value is the bound, its gradient the estimator's. Sources: Burda
et al. 2015 (IWAE); Mnih and Rezende 2016 (VIMCO); Lievin et al. 2020 (OVIS).
"""

import math
from typing import Any

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
      ValueError: no samples, a batch of them, or integers.
    """
    (log_weights,), dtype = checks.reals(log_weights=log_weights)
    check_samples(log_weights)
    return log_mean_exp(log_weights).astype(dtype)


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
      ValueError: fewer than 2 samples, shapes that differ, an unknown baseline, integers.
    """
    (log_weights, address_log_probs), dtype = as_pair(log_weights, address_log_probs)
    check_two("vimco", log_weights)
    checks.one_of("baseline", baseline, BASELINES)
    signal = _learning_signal(jax.lax.stop_gradient(log_weights), baseline)
    # Where all the weights, or all but one, are zero the difference is infinite or undefined. What
    # the other samples say may fix the signal at no bias, so such a sample teaches nothing.
    signal = jnp.where(jnp.isfinite(signal), signal, 0.0)
    return (log_mean_exp(log_weights) + score(signal, address_log_probs)).astype(dtype)


def ovis(
    log_weights: chex.Array, address_log_probs: chex.Array, gamma: chex.Numeric = 0.0
) -> chex.Array:
    """The multi-sample bound with the asymptotic OVIS gradient; Lievin et al. 2020, eq. 17.

    As `vimco`, with another baseline, for which the signal-to-noise ratio grows with L:

        learning_signal[l] = -log(1 - v_l) + gamma (v_l + log(1 - 1/L)).

    Take gamma = 0 if few samples carry the weight. The baseline is then the bound with w_l replaced
    by 0: it does not know its sample, and there is no bias. Take gamma = 1 if most samples carry
    weight. The factor of log q(a) is then log((1 - 1/L) / (1 - v_l)), nearly v_l - 1/L. This is
    biased, like `reweighted_wake_sleep`, whose update it nears as L grows.

    Args:
      log_weights: `[L]`, L at least 2, in nats; -inf is a weight of zero.
      address_log_probs: `[L]`, log q(a) of the samples, with their gradient.
      gamma: a scalar from 0 to 1; passes no gradient.

    Returns:
      The bound, a scalar in nats.

    Raises:
      ValueError: fewer than 2 samples, shapes that differ, integers.
    """
    arrays, dtype = as_pair(log_weights, address_log_probs, gamma=gamma)
    log_weights, address_log_probs, gamma = arrays
    check_two("ovis", log_weights)
    logs = jax.lax.stop_gradient(log_weights)
    largest = jnp.max(logs)
    logs = logs - jnp.where(jnp.isfinite(largest), largest, 0.0)
    log_total = _log_sum_exp(logs)
    weights = jnp.exp(logs - jnp.maximum(log_total, 0.0))  # 0 where all weights are
    # The largest weight may be nearly all of the sum; then what is left is added up anew.
    is_most = (jnp.arange(len(logs)) == jnp.argmax(logs)) & (weights > 0.5)
    log_rest = _log_sum_exp(jnp.where(is_most, -jnp.inf, logs))
    left = jnp.log1p(-jnp.where(is_most, 0.0, weights))
    left = jnp.where(is_most, log_rest - jnp.maximum(log_total, 0.0), left)
    signal = gamma * (weights + math.log1p(-1.0 / len(logs))) - left
    signal = jnp.where(jnp.isfinite(signal) & jnp.isfinite(log_total), signal, 0.0)
    return (log_mean_exp(log_weights) + score(signal, address_log_probs)).astype(dtype)


def _learning_signal(log_weights: chex.Array, baseline: str) -> chex.Array:
    """`[L]`: log W - log(W - w_l + m_l), where the w_l add up to W and m_l is the others' mean.

    Among many samples this is a small difference of large numbers. It is made of w_l - m_l, and
    that of differences of log weights, so that it is right to rounding however small it is.
    """
    num_samples = len(log_weights)
    largest = jnp.max(log_weights)
    logs = log_weights - jnp.where(jnp.isfinite(largest), largest, 0.0)
    total = jnp.maximum(jnp.sum(jnp.exp(logs)), 1.0)  # 0 where all weights are
    own = jnp.arange(num_samples) == jnp.argmax(logs)
    log_rest = _log_sum_exp(jnp.where(own, -jnp.inf, logs))  # of all but the largest
    if baseline == "arithmetic":
        below = jnp.expm1(logs)  # the weights minus 1, exact where they are near 1
        change = (jnp.mean(below) - below) * num_samples / (num_samples - 1)
        log_mean = log_rest - math.log(num_samples - 1)
    else:
        log_means = _means_of_the_others(logs)
        is_same = log_means == logs  # -inf too, of which there is no difference
        difference = jnp.where(is_same, 0.0, log_means) - jnp.where(is_same, 0.0, logs)
        larger = jnp.exp(jnp.maximum(log_means, logs))
        change = jnp.sign(difference) * larger * -jnp.expm1(-jnp.abs(difference))
        log_mean = jnp.max(jnp.where(own, log_means, -jnp.inf))
    change /= total
    # Only the largest weight may be nearly all of the sum; then what is left is added up anew.
    is_most = own & (change < -0.5)
    left = jnp.log(total) - jnp.logaddexp(log_rest, log_mean)
    return jnp.where(is_most, left, -jnp.log1p(jnp.where(is_most, 0.0, change)))


def _means_of_the_others(logs: chex.Array) -> chex.Array:
    """For each of `[L]` the mean of the others; -inf if any of those is."""
    is_zero = jnp.isneginf(logs)
    finite = jnp.where(is_zero, 0.0, logs)
    num_zeros = jnp.sum(is_zero) - is_zero
    means = (jnp.sum(finite) - finite) / (len(logs) - 1)
    return jnp.where(num_zeros > 0, -jnp.inf, means)


def score(signal: chex.Array, address_log_probs: chex.Array) -> chex.Array:
    """Zero, with the gradient sum_l signal[l] d address_log_probs[l]; both are `[L]`."""
    signal = jnp.broadcast_to(jax.lax.stop_gradient(signal), address_log_probs.shape)
    terms = jnp.where(signal == 0, 0.0, signal * address_log_probs)
    return jnp.sum(terms - jax.lax.stop_gradient(terms))


def log_mean_exp(log_weights: chex.Array) -> chex.Array:
    """log(1/L sum_l w_l) of `[L]`, with a gradient of zero where all weights are zero."""
    return _log_sum_exp(log_weights) - math.log(len(log_weights))


def _log_sum_exp(values: chex.Array) -> chex.Array:
    """`jax.nn.logsumexp`, but with a gradient of zero, not NaN, where all values are -inf."""
    all_zero = jnp.all(jnp.isneginf(values))
    return jnp.where(all_zero, -jnp.inf, jax.nn.logsumexp(jnp.where(all_zero, 0.0, values)))


def as_pair(
    log_weights: chex.Array, address_log_probs: chex.Array, **others: chex.Numeric
) -> tuple[list[jax.Array], Any]:
    """Two `[L]` with L at least 1, and scalars, as `checks.reals` gives them."""
    arrays, dtype = checks.reals(
        log_weights=log_weights, address_log_probs=address_log_probs, **others
    )
    check_samples(arrays[0])
    if arrays[1].shape != arrays[0].shape:
        raise ValueError(
            f"address_log_probs {arrays[1].shape} and log_weights {arrays[0].shape} "
            "must both be [L]"
        )
    for name, array in zip(others, arrays[2:], strict=True):
        checks.shape(name, array, ())
    return arrays, dtype


def check_samples(log_weights: chex.Array) -> None:
    """Refuses anything but `[L]` with L at least 1."""
    if log_weights.ndim != 1 or len(log_weights) < 1:
        raise ValueError(f"log_weights is {log_weights.shape}; it must be [L] with L >= 1")


def finite(log_weights: chex.Array) -> chex.Array:
    """`[L]` without gradient, and 0 for what is infinite: where one is, the ELBO is no help."""
    log_weights = jax.lax.stop_gradient(log_weights)
    return jnp.where(jnp.isfinite(log_weights), log_weights, 0.0)


def check_two(name: str, log_weights: chex.Array) -> None:
    """Refuses `[L]` of a single sample."""
    if len(log_weights) < 2:
        raise ValueError(
            f"log_weights has 1 sample; {name} needs at least 2: each is the others' baseline"
        )
