"""Estimators that decode no address twice: on sets of addresses, drawn without replacement.

Each is of the ELBO over the addresses, E_q[f(a)] with f(a) the log weight of a, and of its
gradient. As in `multi_sample`: log weights and log q(a) of the addresses in, a scalar to maximise
out. Where all N addresses are given both are exact. Sources: Kool et al. 2020, Estimating Gradients
for Discrete Random Variables by Sampling without Replacement; Liu et al. 2019, Rao-Blackwellized
Stochastic Gradients for Discrete Distributions.
"""

import chex
import jax
import jax.numpy as jnp

from memjax.estimators.multi_sample import as_pair, finite, score
from memjax.memory import checks


def sample_without_replacement(
    rng_key: chex.PRNGKey, address_logits: chex.Array, num_samples: int
) -> tuple[chex.Array, chex.Array]:
    """Draws different addresses, one after another from what is left of q(a), by Gumbel top-k.

    Vieira 2014, Kool et al. 2019 (Stochastic Beams). What `unordered_set` takes.

    Args:
      rng_key: a JAX random key.
      address_logits: `[N]`, of q(a); a slot at -inf comes after all others.
      num_samples: L, from 1 to N.

    Returns:
      addresses: int32 `[L]`, in the order in which they were drawn.
      address_log_probs: `[L]`, log q(a) in nats, with their gradient.

    Raises:
      ValueError: no slots, a batch of logits, or `num_samples` below 1 or above N.
    """
    (address_logits,), dtype = checks.reals(address_logits=address_logits)
    checks.draws(address_logits, num_samples)
    checks.at_most("num_samples", num_samples, "N", len(address_logits))
    noise = jax.random.gumbel(rng_key, address_logits.shape, address_logits.dtype)
    _, addresses = jax.lax.top_k(jax.lax.stop_gradient(address_logits) + noise, num_samples)
    return addresses, jax.nn.log_softmax(address_logits)[addresses].astype(dtype)


def unordered_set(log_weights: chex.Array, address_log_probs: chex.Array) -> chex.Array:
    """The ELBO and its gradient from a set of addresses; Kool et al. 2020.

    With c_s the probability that s was drawn first and b_st that s and then t were, given the set,
    the value and what log q(a) of the set's members gets are

        sum_s c_s log_weights[s],
        sum_s sum_t (1 - q_s) b_st (log_weights[s] - log_weights[t]) d address_log_probs[s],

    which is the paper's built-in baseline, pair by pair. It is `rloo` averaged over all that is not
    the set, and so never noisier. Unbiased.

    Args:
      log_weights: `[L]`, of L different addresses, in nats; -inf as in `rloo`.
      address_log_probs: `[L]`, log q(a) of theirs, with their gradient; -inf is never drawn.

    Returns:
      The bound, a scalar in nats.

    Raises:
      ValueError: no samples, shapes that differ, integers.
    """
    (log_weights, address_log_probs), dtype = as_pair(log_weights, address_log_probs)
    first, pairs = _orders(jax.lax.stop_gradient(address_log_probs))
    values = finite(log_weights)
    if len(log_weights) == 1:
        signal = values  # nothing to compare it with: REINFORCE
    else:
        signal = jnp.sum(pairs * (values[:, None] - values[None, :]), axis=1)
    return _expected(first, signal, log_weights, address_log_probs).astype(dtype)


def sample_top_and_rest(
    rng_key: chex.PRNGKey, address_logits: chex.Array, num_samples: int, num_top: int
) -> tuple[chex.Array, chex.Array]:
    """The likeliest addresses, and others drawn from what is left of q(a); see `sum_and_sample`.

    Args:
      rng_key: a JAX random key.
      address_logits: `[N]`, of q(a).
      num_samples: L, above `num_top`.
      num_top: how many of the L are the likeliest, from 1 to N - 1; the rest are drawn
        independently.

    Returns:
      addresses: int32 `[L]`, the likeliest first.
      address_log_probs: `[L]`, log q(a) in nats, with their gradient.

    Raises:
      ValueError: no slots, a batch of logits, numbers that do not fit.
    """
    (address_logits,), dtype = checks.reals(address_logits=address_logits)
    checks.draws(address_logits, num_samples)
    checks.at_most("num_top", num_top, "N - 1", len(address_logits) - 1)
    checks.at_most("num_top", num_top, "num_samples - 1", num_samples - 1)
    logits = jax.lax.stop_gradient(address_logits)
    _, top = jax.lax.top_k(logits, num_top)
    rest_logits = logits.at[top].set(-jnp.inf)
    rest = jax.random.categorical(rng_key, rest_logits, shape=(num_samples - num_top,))
    addresses = jnp.concatenate([top, rest.astype(top.dtype)])
    return addresses, jax.nn.log_softmax(address_logits)[addresses].astype(dtype)


def sum_and_sample(
    log_weights: chex.Array, address_log_probs: chex.Array, num_top: int
) -> chex.Array:
    """The ELBO, summed over the likeliest addresses and sampled over the rest; Liu et al. 2019.

    With Q the probability of the likeliest, both the value and the gradient of E_q[f(a)] are

        sum over the top of q(a) (...)  +  (1 - Q) / (L - num_top) sum over the others (...)

    where a sampled address's baseline is the estimate by the top and the other sampled ones, or,
    with one sampled address, by the top alone; the top's baseline is the mean of these. Unbiased.

    Args:
      log_weights: `[L]`, in nats, as `sample_top_and_rest` orders them; -inf as in `rloo`.
      address_log_probs: `[L]`, log q(a) of theirs, with their gradient.
      num_top: how many of them, from the first, are the likeliest; from 1 to L - 1.

    Returns:
      The bound, a scalar in nats.

    Raises:
      ValueError: shapes that differ, integers, a `num_top` out of its range.
    """
    (log_weights, address_log_probs), dtype = as_pair(log_weights, address_log_probs)
    checks.at_most("num_top", num_top, "L - 1", len(log_weights) - 1)
    num_rest = len(log_weights) - num_top
    probs = jnp.exp(jax.lax.stop_gradient(address_log_probs))
    total = jnp.sum(probs[:num_top])
    left = jnp.maximum(1.0 - total, 0.0)
    shares = jnp.concatenate([probs[:num_top], jnp.full(num_rest, left / num_rest)])
    values = finite(log_weights)
    summed = jnp.sum(shares[:num_top] * values[:num_top])
    if num_rest == 1:
        baselines = jnp.full(1, summed / total)
    else:
        others = (jnp.sum(values[num_top:]) - values[num_top:]) / (num_rest - 1)
        baselines = summed + left * others
    baseline = jnp.concatenate([jnp.full(num_top, jnp.mean(baselines)), baselines])
    signal = shares * (values - baseline)
    return _expected(shares, signal, log_weights, address_log_probs).astype(dtype)


def _expected(shares, signal, log_weights, address_log_probs) -> chex.Array:
    """sum_s shares[s] log_weights[s], whose -d log q(a) is taken away, with a score's signal."""
    counts = shares > 0
    possible = counts & (log_weights > -jnp.inf)  # both sides of a `where` are differentiated
    terms = shares * jnp.where(possible, log_weights, 0.0)
    value = jnp.sum(jnp.where(counts & ~possible, -jnp.inf, terms))
    signal = jnp.where(jnp.isfinite(value), signal, 0.0)
    return value + score(signal + jnp.where(possible, shares, 0.0), address_log_probs)


_NODES = 96  # of the integral; its error is that of float32 or less


def _orders(log_probs: chex.Array) -> tuple[chex.Array, chex.Array]:
    """For a set of addresses c_s `[L]` and (1 - q_s) b_st `[L, L]`, as in `unordered_set`.

    Let each address come at an exponential time of rate q, and all that are not in the set together
    at T, of rate r. The set is those that come before T, and T, given the set, has the density

        r exp(-r T) prod_s (1 - exp(-q_s T)),

    log-concave in log T. With m_s = q_s / (1 - exp(-q_s T)), c_s is the mean of m_s under it, and
    (1 - q_s) b_st that of m_s m_t: Kool et al.'s leave-one-out ratios, as moments.
    """
    probs = jnp.exp(log_probs)
    rate = jnp.maximum(1.0 - jnp.sum(probs), jnp.finfo(probs.dtype).eps)

    bracket = -jnp.log(rate), jnp.log(len(probs) + 1.0) - jnp.log(rate)
    mode = jax.lax.fori_loop(0, 16, _halve, (*bracket, probs, rate))[0]
    x = probs * jnp.exp(mode)
    s = _slopes(x)
    curvature = rate * jnp.exp(mode) + jnp.sum(s * (s + x - 1.0))
    at_mode = log_probs[None, :] + mode
    away = jnp.linspace(-30.0, 9.0, _NODES, dtype=probs.dtype)[:, None] * jax.lax.rsqrt(curvature)
    decay = _log_decay(at_mode + away)
    slope = jnp.sum(away + decay - _log_decay(at_mode), axis=1)
    heights = away[:, 0] - rate * jnp.exp(mode) * jnp.expm1(away[:, 0]) + slope
    heights = jax.nn.softmax(heights)
    means = jnp.where(log_probs[None, :] > -jnp.inf, jnp.exp(-(mode + away) - decay), 0.0)
    return heights @ means, (heights[:, None] * means).T @ means


def _halve(_, state):
    """The half of a bracket of log T in which the density of log T is largest."""
    low, high, probs, rate = state
    middle = 0.5 * (low + high)
    rises = 1.0 + jnp.sum(_slopes(probs * jnp.exp(middle))) > rate * jnp.exp(middle)
    return jnp.where(rises, middle, low), jnp.where(rises, high, middle), probs, rate


def _slopes(x: chex.Array) -> chex.Array:
    """x / (exp(x) - 1)."""
    safe = jnp.maximum(x, 1e-6)
    return jnp.where(x > 1e-6, safe / jnp.expm1(jnp.minimum(safe, 60.0)), 1.0)


def _log_decay(log_x: chex.Array) -> chex.Array:
    """log((1 - exp(-x)) / x)."""
    x = jnp.exp(log_x)
    safe = jnp.where(x > 1e-3, x, 1.0)
    near = -0.5 * x + x * x / 24.0
    return jnp.where(x > 1e-3, jnp.log(-jnp.expm1(-safe)) - jnp.log(safe), near)
