"""Estimators that VIMCO is compared with, and the enumeration that judges them all.

As in `multi_sample`: L log weights of one data point in, a scalar to maximise out, whose value is
the bound and whose gradient is the estimator's. VMA (Bornschein et al. 2017) names them in section
2.2 as alternatives that it did not investigate; `python -m benchmarks.estimators` does.
"""

import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

from memjax.estimators.multi_sample import as_pair, check_two, finite, log_mean_exp, score
from memjax.memory import checks


def reinforce(
    log_weights: chex.Array, address_log_probs: chex.Array, baseline: chex.Numeric = 0.0
) -> chex.Array:
    """The multi-sample bound with the score-function gradient; Williams 1992.

    With normalised weights v, the gradient is

        sum_l v_l d log_weights[l] + (bound - baseline) sum_l d address_log_probs[l].

    Unbiased for any baseline that does not depend on the samples; its variance is what VIMCO cuts.

    Args:
      log_weights: `[L]`, in nats; -inf is a weight of zero.
      address_log_probs: `[L]`, log q(a) of the samples, with their gradient.
      baseline: a constant scalar, such as a running mean of the bound; passes no gradient.

    Returns:
      The bound, a scalar in nats.

    Raises:
      ValueError: no samples, shapes that differ, integers.
    """
    arrays, dtype = as_pair(log_weights, address_log_probs, baseline=baseline)
    log_weights, address_log_probs, baseline = arrays
    bound = log_mean_exp(log_weights)
    signal = bound - baseline
    signal = jnp.where(jnp.isfinite(signal), signal, 0.0)
    return (bound + score(signal, address_log_probs)).astype(dtype)


def rloo(log_weights: chex.Array, address_log_probs: chex.Array) -> chex.Array:
    """The ELBO with the leave-one-out REINFORCE gradient; Kool et al. 2019.

    The bound is that of one address, whatever L is: log_weights are f in E_q[f(a)], and each
    sample's baseline is the mean of the others. With the mean m of all, value and gradient are

        1/L sum_l log_weights[l],    1/(L-1) sum_l (log_weights[l] - m) d address_log_probs[l]

    beside the model's own gradient, 1/L sum_l d log p(x, a_l, z_l). The mean of -d log q(a), which
    is 0 in expectation, is left out, so nothing moves where q(a) is the posterior. In q's
    parameters this is also VarGrad, the gradient of half the log weights' variance (Richter et al.
    2020).

    Args:
      log_weights: `[L]`, L at least 2, in nats; with a -inf the value is -inf, and q(a) learns
        nothing.
      address_log_probs: `[L]`, log q(a) of the samples, with their gradient.

    Returns:
      The bound, a scalar in nats.

    Raises:
      ValueError: fewer than 2 samples, shapes that differ, integers.
    """
    (log_weights, address_log_probs), dtype = as_pair(log_weights, address_log_probs)
    check_two("rloo", log_weights)
    num_samples = len(log_weights)
    possible = log_weights > -jnp.inf  # both sides of a `where` are differentiated
    bound = jnp.mean(jnp.where(possible, log_weights, -jnp.inf))
    values = finite(log_weights)
    above = values - values[0]  # large weights are not rounded
    signal = (above - jnp.mean(above)) / (num_samples - 1)
    signal = jnp.where(jnp.isfinite(bound), signal, 0.0)
    signal = signal + jnp.where(possible, 1.0 / num_samples, 0.0)  # takes -d log q(a) away
    return (bound + score(signal, address_log_probs)).astype(dtype)


def nvil(
    log_weights: chex.Array, address_log_probs: chex.Array, baseline: chex.Numeric
) -> chex.Array:
    """`reinforce` with a learned baseline b(x), a net of the data; Mnih and Gregor 2014.

    The gradient has the further term -d (bound - baseline)^2 / 2, by which the baseline learns to
    predict the bound; it adds nothing to the value.

    Args:
      log_weights: `[L]`, in nats.
      address_log_probs: `[L]`, log q(a) of the samples, with their gradient.
      baseline: a scalar, with its gradient.

    Returns:
      The bound, a scalar in nats.

    Raises:
      ValueError: no samples, shapes that differ, integers.
    """
    arrays, dtype = as_pair(log_weights, address_log_probs, baseline=baseline)
    log_weights, address_log_probs, baseline = arrays
    objective = reinforce(log_weights, address_log_probs, jax.lax.stop_gradient(baseline))
    bound = jax.lax.stop_gradient(objective)
    error = 0.5 * jnp.square(jnp.where(jnp.isfinite(bound), bound, baseline) - baseline)
    return (objective - (error - jax.lax.stop_gradient(error))).astype(dtype)


def reweighted_wake_sleep(log_weights: chex.Array, address_log_probs: chex.Array) -> chex.Array:
    """The multi-sample bound for p, the wake-phase update for q(a); Bornschein and Bengio 2015.

    The gradient is sum_l v_l d log p(x, a_l, z_l) for the model, the bound's own but for its score
    terms, and sum_l v_l d address_log_probs[l] for the posterior: q(a) is drawn to the posterior
    that the normalised weights v stand for, not up the bound. Biased at any finite L, with no score
    terms and so with little variance.

    Args:
      log_weights: `[L]`, in nats; must hold -log q(a) with its gradient.
      address_log_probs: `[L]`, log q(a) of the samples, with their gradient.

    Returns:
      The bound, a scalar in nats.

    Raises:
      ValueError: no samples, shapes that differ, integers.
    """
    (log_weights, address_log_probs), dtype = as_pair(log_weights, address_log_probs)
    bound, weights = jax.value_and_grad(log_mean_exp)(log_weights)  # the normalised weights
    # log_weights holds -log q(a) with the weight -v: twice v makes it v.
    return (bound + score(2.0 * weights, address_log_probs)).astype(dtype)


def exact(
    log_weights: chex.Array, address_log_probs: chex.Array, num_samples: int = 1
) -> chex.Array:
    """The expected multi-sample bound and its exact gradient, by enumeration of all addresses.

        sum over a_1..a_L of q(a_1) ... q(a_L) log(1/L sum_l w(a_l))

    The order of the draws does not matter, so it takes the time and memory of the C(N + L - 1, L)
    multisets, not of N^L tuples. With L = 1 it is the exact ELBO over the addresses.

    Args:
      log_weights: `[N]`, of every address.
      address_log_probs: `[N]`, log q(a) of every address, with their gradient; -inf is never drawn.
      num_samples: L, at least 1.

    Returns:
      The expected bound, a scalar in nats.

    Raises:
      ValueError: no addresses, shapes that differ, integers, or `num_samples` below 1.
    """
    (log_weights, address_log_probs), dtype = as_pair(log_weights, address_log_probs)
    checks.at_least("num_samples", num_samples)
    draws, log_orders = _multisets(len(log_weights), num_samples)
    log_probs = jnp.sum(address_log_probs[draws], axis=1) + log_orders.astype(log_weights.dtype)
    probs = jnp.exp(log_probs)
    possible = probs > 0  # not 0 times a bound of -inf
    drawn_weights = jnp.where(possible[:, None], log_weights[draws], 0.0)
    bounds = jax.vmap(log_mean_exp)(drawn_weights)
    return jnp.sum(jnp.where(possible, probs * bounds, 0.0)).astype(dtype)


def _multisets(num_slots: int, num_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """All draws of L of N addresses, sorted, `[M, L]`, and the log of how many orders each has."""
    ascending = itertools.combinations_with_replacement(range(num_slots), num_samples)
    draws = np.array(list(ascending), np.int32)
    # The product of 1, 2, ... along each run of equals is the product of the counts' factorials.
    place, log_repeats = np.ones(len(draws)), np.zeros(len(draws))
    for left, right in itertools.pairwise(draws.T):
        place = np.where(left == right, place + 1.0, 1.0)
        log_repeats += np.log(place)
    return draws, math.lgamma(num_samples + 1) - log_repeats
