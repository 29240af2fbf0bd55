"""How noisy a gradient in q(a|x)'s logits is: models, exact gradients, those of the estimators.

See `benchmarks.estimators`, the command.
"""

import functools
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from memjax import estimators
from memjax.memory import addressing

SHAPES = ("flat", "peaked", "bimodal", "drawn")  # of p(a|x)
NOISES = 16  # of Gumbel-Rao


def model(shape: str, num_slots: int) -> tuple[np.ndarray, np.ndarray]:
    """log p(x, a) `[N]` and the logits of q(a|x) `[N]`."""
    joint_rng_key, noise_rng_key = jax.random.split(jax.random.key(num_slots))
    log_joint = np.array(jax.random.normal(joint_rng_key, (num_slots,), np.float32), np.float64)
    noise = np.asarray(jax.random.normal(noise_rng_key, (num_slots,), np.float32), np.float64)
    if shape == "drawn":
        return 3.0 * log_joint, 1.5 * log_joint + noise
    modes = {"flat": 0, "peaked": 1, "bimodal": 2}[shape]
    log_joint[:modes] = 0.0
    if modes:  # together 19 times as likely as all others
        rest = np.log(np.exp(log_joint[modes:]).sum())
        log_joint[:modes] = rest + np.log(19.0 / modes)
    return log_joint, 0.5 * log_joint + 0.5 * noise


def exact_bound(logits: jax.Array, log_joint: jax.Array, num_samples: int) -> jax.Array:
    """The expected bound, for any number of slots and samples; in float64 right to 1e-9 or so.

    E log X is the integral of (exp(-t) - E exp(-t X)) / t, and X is a mean of independent weights.
    """
    log_q = jax.nn.log_softmax(logits)
    log_weights = log_joint - log_q
    evidence = jax.nn.logsumexp(log_joint)
    log_times = jnp.arange(-40.0, 80.0, 0.1)[:, None]
    rates = jnp.exp(log_times + (log_weights - evidence)[None, :]) / num_samples
    probs = jnp.exp(log_q)[None, :]
    below = jnp.sum(probs * jnp.expm1(-rates), axis=1)
    left = jnp.sum(probs * jnp.exp(-rates), axis=1)  # 1 + below, where that is near 0
    inner = jnp.where(
        below > -0.5, jnp.log1p(jnp.maximum(below, -0.5)), jnp.log(jnp.maximum(left, 1e-300))
    )
    terms = jnp.exp(-jnp.exp(log_times[:, 0])) - jnp.exp(num_samples * inner)
    return evidence + 0.1 * jnp.sum(terms)


def relaxed(draw_addresses: Callable, rng_key, logits, log_joint, num_samples) -> jax.Array:
    """IWAE on mixed addresses."""
    weights = draw_addresses(rng_key, logits, num_samples)
    return estimators.iwae(weights @ (log_joint - jax.nn.log_softmax(logits)))


def rebar(rng_key, logits, log_joint, num_samples) -> jax.Array:
    """RELAX with the relaxed bound for a control."""

    def bound(addresses):
        return estimators.iwae(addresses @ (log_joint - jax.nn.log_softmax(logits)))

    def control(perturbed):
        return bound(jax.nn.softmax(perturbed / 0.5, axis=1))

    return estimators.relax(rng_key, bound, control, logits, num_samples)


_STRAIGHT = partial(estimators.gumbel_softmax, straight_through=True)
_RAO = partial(estimators.gumbel_rao, num_noises=NOISES, temperature=0.5)
# Of log weights, log q(a) and the expected bound, which is NVIL's perfect baseline.
SCORES: dict[str, Callable] = {
    "vimco": lambda w, q, _: estimators.vimco(w, q),
    "geometric": lambda w, q, _: estimators.vimco(w, q, "geometric"),
    "ovis 0": lambda w, q, _: estimators.ovis(w, q),
    "ovis 1": lambda w, q, _: estimators.ovis(w, q, 1.0),
    "reinforce": lambda w, q, _: estimators.reinforce(w, q),
    "nvil": estimators.nvil,
    "rws": lambda w, q, _: estimators.reweighted_wake_sleep(w, q),
    "rloo": lambda w, q, _: estimators.rloo(w, q),
    "unordered set": lambda w, q, _: estimators.unordered_set(w, q),
    "sum and sample": lambda w, q, _: estimators.sum_and_sample(w, q, len(w) // 2),
}
# The bound of mixed addresses.
RELAXED: dict[str, Callable] = {
    "rebar": rebar,
    "gumbel": partial(relaxed, partial(estimators.gumbel_softmax, temperature=0.5)),
    "straight": partial(relaxed, _STRAIGHT),
    "rao": partial(relaxed, _RAO),
    "reinmax": partial(relaxed, estimators.reinmax),
}
NAMES = (*SCORES, *RELAXED)
OF_THE_ELBO = ("rloo", "unordered set", "sum and sample")
UNBIASED = ("vimco", "geometric", "ovis 0", "reinforce", "nvil", "rebar", *OF_THE_ELBO)
DECODES = {"rebar": 3}  # for each sample; the others' are 1


@functools.cache
def relaxed_gradients(name: str, num_samples: int) -> Callable:
    """From keys `[D]` to gradients in the logits `[D, N]`, a few at a time."""

    def one(rng_key, logits, log_joint):
        return jax.grad(partial(RELAXED[name], rng_key))(logits, log_joint, num_samples)

    many = jax.jit(jax.vmap(one, (0, None, None)))
    return lambda rng_keys, *given: np.concatenate(
        [
            np.asarray(many(chunk, *given))
            for chunk in np.split(rng_keys, range(50, len(rng_keys), 50))
        ]
    )


def score_gradients(name, num_samples, rng_keys, logits, log_joint, bound) -> np.ndarray:
    """`[D, N]`: of log q(a) by the estimator, and of that in the logits by hand."""
    addresses, log_q = map(np.asarray, sampler(name, num_samples)(rng_keys, logits))
    factors = np.asarray(slopes(name)(log_joint[addresses], log_q, bound))
    probs = np.exp(logits - np.logaddexp.reduce(logits))
    found = -factors.sum(axis=1, keepdims=True) * probs
    np.add.at(found, (np.arange(len(found))[:, None], addresses), factors)
    return found


@functools.cache
def sampler(name: str, num_samples: int) -> Callable:
    """From keys and logits to addresses and their log q(a), `[D, L]`."""
    draw = {
        "unordered set": estimators.sample_without_replacement,
        "sum and sample": partial(estimators.sample_top_and_rest, num_top=num_samples // 2),
    }.get(name, addressing.sample)
    return jax.jit(jax.vmap(partial(draw, num_samples=num_samples), (0, None)))


@functools.cache
def slopes(name: str) -> Callable:
    """What an estimator gives for d log q(a) `[D, L]`, from log p(x, a), log q(a) and the bound."""

    def objective(log_q, log_joint, bound):
        return SCORES[name](log_joint - log_q, log_q, bound)

    one = jax.grad(objective)
    return jax.jit(
        lambda log_joint, log_q, bound: jax.lax.map(
            lambda given: one(given[1], given[0], bound), (log_joint, log_q), batch_size=50
        )
    )


@functools.cache
def exact_bounds(num_slots: int, num_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each of `SHAPES`, `[shapes]`, and the gradients in the logits `[shapes, N]`."""
    log_joints, logits = zip(*(model(shape, num_slots) for shape in SHAPES), strict=True)
    with jax.enable_x64(True):
        found = _differentiate_exact(np.stack(logits), np.stack(log_joints), float(num_samples))
        return jax.tree.map(np.asarray, found)


_differentiate_exact = jax.jit(jax.vmap(jax.value_and_grad(exact_bound), (0, 0, None)))


def compare(found: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Bias and spread over the exact norm, the mean's norm over the spread; gradients `[D, N]`."""
    found = found.astype(np.float64)
    norm, mean = np.linalg.norm(exact), found.mean(axis=0)
    variance = found.var(axis=0).sum()
    noise = np.sqrt(variance / len(found))
    bias = np.linalg.norm(mean - exact)
    bias = float(bias / norm) if bias > 3 * noise else 0.0  # as many draws can't tell it from 0
    # The mean of so many draws is too long by its own noise.
    signal = norm if bias == 0 else np.sqrt(max(np.sum(mean**2) - noise**2, 0.0))
    spread = np.sqrt(variance)
    return {
        "bias": bias,
        "spread": float(spread / norm),
        "signal to noise": float(signal / max(spread, 1e-12 * norm)),
        "draws": len(found),
    }
