"""Each estimator's expected gradient, by enumeration of all draws: nothing here is random."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import estimators
from tests import oracles

_LOG_JOINT = np.array([-3.0, -1.0, -4.5, -2.2])
_LOGITS = np.array([0.3, -0.5, 1.0, 0.1])


pytestmark = pytest.mark.usefixtures("strict_ranks", "float64")


@functools.cache
def expected_gradient(name, num_samples, at_the_posterior=False):
    """(expected value, expected gradient in logits, the same in log_joint, gradient's variance)."""
    estimator = UNBIASED.get(name, estimators.reweighted_wake_sleep)
    logits, log_joint = (_LOG_JOINT if at_the_posterior else _LOGITS), _LOG_JOINT
    size = len(logits)
    draws = np.stack(np.meshgrid(*[np.arange(size)] * num_samples), -1).reshape(-1, num_samples)

    def objective(logits, log_joint, addresses):
        log_q = jax.nn.log_softmax(logits)[addresses]
        return estimator(log_joint[addresses] - log_q, log_q)

    values, gradients = jax.jit(
        jax.vmap(jax.value_and_grad(objective, argnums=(0, 1)), in_axes=(None, None, 0))
    )(jnp.asarray(logits), jnp.asarray(log_joint), draws)
    gradients = [np.asarray(gradient) for gradient in gradients]
    probs = oracles.softmax(logits)[draws].prod(axis=1)
    means = [np.einsum("d,dn->n", probs, gradient) for gradient in gradients]
    variance = np.einsum("d,dn->n", probs, (gradients[0] - means[0]) ** 2).sum()
    return probs @ np.asarray(values), *means, variance


UNBIASED = {
    "vimco": estimators.vimco,
    "geometric vimco": partial(estimators.vimco, baseline="geometric"),
    "reinforce": estimators.reinforce,
    "reinforce with a baseline": partial(estimators.reinforce, baseline=-2.0),
    "nvil": partial(estimators.nvil, baseline=-2.0),
}


@partial(jax.jit, static_argnums=2)
def exact(logits, log_joint, num_samples):
    """The bound, and its gradients in both."""

    def bound(logits, log_joint):
        log_q = jax.nn.log_softmax(logits)
        return estimators.exact(log_joint - log_q, log_q, num_samples)

    return jax.value_and_grad(bound, (0, 1))(logits, log_joint)


@pytest.mark.parametrize("num_samples", [2, pytest.param(3, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_estimators(name, num_samples):
    value, gradient, model_gradient, _ = expected_gradient(name, num_samples)
    expected = oracles.exact_bound_gradient(_LOG_JOINT, _LOGITS, num_samples)
    np.testing.assert_allclose(value, expected[0], rtol=1e-10)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-8, atol=1e-10)
    _, (_, expected) = exact(_LOGITS, _LOG_JOINT, num_samples)
    np.testing.assert_allclose(model_gradient, expected, rtol=1e-8)


@pytest.mark.parametrize("num_samples", [1, 2, 4])
def test_exact_is_the_enumeration(num_samples):
    value, (gradient, _) = exact(_LOGITS, _LOG_JOINT, num_samples)
    expected = oracles.exact_bound_gradient(_LOG_JOINT, _LOGITS, num_samples)
    np.testing.assert_allclose(value, expected[0], rtol=1e-10)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-8, atol=1e-10)


def test_exact_ignores_addresses_that_are_never_drawn():
    masked = np.array([*_LOGITS, -np.inf]), np.array([*_LOG_JOINT, 0.0])
    with_masked, without = exact(*masked, 2), exact(_LOGITS, _LOG_JOINT, 2)
    np.testing.assert_allclose(with_masked[0], without[0])
    np.testing.assert_allclose(with_masked[1][0], [*without[1][0], 0.0], atol=1e-12)


def test_vimco_and_baselines_cut_the_variance():
    variances = {name: expected_gradient(name, 4)[3] for name in UNBIASED}
    assert variances["vimco"] < 0.2 * variances["reinforce"]
    assert variances["reinforce with a baseline"] < variances["reinforce"]


def test_nvil_teaches_its_baseline():
    log_weights, log_q = jnp.array([-1.0, -2.0]), jnp.array([-0.5, -0.7])
    nvil, reinforce = (
        jax.jit(jax.value_and_grad(f, (1, 2))) for f in (estimators.nvil, estimators.reinforce)
    )
    value, (scores, gradient) = nvil(log_weights, log_q, -3.0)
    bound = oracles.log_mean_exp(log_weights)
    np.testing.assert_allclose(value, bound)
    np.testing.assert_allclose(gradient, bound + 3.0)  # of -(bound - baseline)^2 / 2
    _, (expected_scores, nothing) = reinforce(log_weights, log_q, -3.0)
    np.testing.assert_allclose(scores, expected_scores)
    assert nothing == 0  # a baseline that is a constant


def test_reweighted_wake_sleep_follows_the_normalized_weights():
    addresses = np.array([0, 2, 2])

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1))
    def objective(logits, log_joint):
        log_q = jax.nn.log_softmax(logits)[addresses]
        return estimators.reweighted_wake_sleep(log_joint[addresses] - log_q, log_q)

    value, (in_logits, in_joint) = objective(_LOGITS, _LOG_JOINT)
    log_q = np.log(oracles.softmax(_LOGITS))[addresses]
    weights = oracles.softmax(_LOG_JOINT[addresses] - log_q)
    np.testing.assert_allclose(value, oracles.log_mean_exp(_LOG_JOINT[addresses] - log_q))
    expected_joint = np.bincount(addresses, weights, minlength=4)
    np.testing.assert_allclose(in_joint, expected_joint, atol=1e-12)
    np.testing.assert_allclose(in_logits, expected_joint - oracles.softmax(_LOGITS), atol=1e-12)


def test_reweighted_wake_sleep_is_right_at_the_true_posterior():
    """There the weights are equal, and nothing moves; elsewhere it moves towards it, in mean."""
    name = "reweighted_wake_sleep"
    _, gradient, _, _ = expected_gradient(name, 3, at_the_posterior=True)
    np.testing.assert_allclose(gradient, 0, atol=1e-12)
    _, gradient, _, _ = expected_gradient(name, 3)
    difference = oracles.softmax(_LOG_JOINT) - oracles.softmax(_LOGITS)
    assert np.dot(gradient, difference) > 0


@pytest.mark.parametrize("straight_through", [False, True])
def test_gumbel_softmax_samples_addresses(straight_through):
    rng_key = jax.random.key(0)
    logits = jnp.array([*_LOGITS, -jnp.inf])
    sample = jax.jit(
        partial(estimators.gumbel_softmax, num_samples=20_000, straight_through=straight_through)
    )
    for temperature in (0.1, 1.0):
        weights = sample(rng_key, logits, temperature=temperature)
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-9)
        if straight_through:
            np.testing.assert_allclose(weights.max(axis=1), 1)
        frequencies = np.bincount(np.argmax(weights, axis=1), minlength=5) / 20_000
        np.testing.assert_allclose(frequencies, oracles.softmax(logits), atol=0.015)
        assert np.all(weights[:, 4] == 0)


def test_gumbel_softmax_of_narrow_logits_reaches_every_slot():
    logits = jnp.zeros(1024, jnp.bfloat16)
    draw = partial(estimators.gumbel_softmax, num_samples=5_000, straight_through=True)
    one_hot = jax.jit(draw)(jax.random.key(0), logits)
    assert one_hot.dtype == jnp.bfloat16
    addresses = np.argmax(np.asarray(one_hot, np.float32), axis=1)
    assert abs(np.mean(addresses) - 511.5) < 5 * 296 / 5_000**0.5
    assert len(np.unique(addresses)) > 1000  # 1016 on average, give or take 3


def test_gumbel_softmax_gradient_nears_the_exact_one_when_cold():
    """Of E[f(a)] for a linear f, whose gradient is known."""
    values = jnp.array([1.0, -2.0, 0.5, 3.0])
    logits = jnp.asarray(_LOGITS)
    probs = oracles.softmax(_LOGITS)
    expected = probs * (values - probs @ values)

    @partial(jax.jit, static_argnums=2)
    @jax.grad
    def gradient(logits, temperature, straight_through):
        weights = estimators.gumbel_softmax(
            jax.random.key(1), logits, 100_000, temperature, straight_through=straight_through
        )
        return jnp.mean(weights @ values)

    for straight_through in (False, True):
        errors = [
            np.linalg.norm(gradient(logits, temperature, straight_through) - expected)
            for temperature in (2.0, 0.2)
        ]
        assert errors[1] < 0.3 * errors[0]


@pytest.mark.parametrize("name", [*UNBIASED, "reweighted_wake_sleep"])
def test_finite_gradients_at_the_boundaries(name):
    estimator = UNBIASED.get(name, estimators.reweighted_wake_sleep)
    gradient = jax.jit(jax.grad(estimator, argnums=(0, 1)))
    edges = [1e6, -1e6, 0.0], [-3.0] * 3, [-jnp.inf, -1.0, -2.0], [-jnp.inf] * 3
    for dtype in (jnp.float32, jnp.float64):
        for log_weights in edges:
            gradients = gradient(
                jnp.array(log_weights, dtype), jnp.array([-1.0, -2.0, -0.5], dtype)
            )
            assert np.all(np.isfinite(gradients[0])) and np.all(np.isfinite(gradients[1]))
        # The last were of no weight at all: nothing is learned from them.
        np.testing.assert_allclose(gradients, 0.0, atol=1e-6)


def test_defaults():
    """No baseline; one sample, whose bound is the ELBO of each address, weighted."""
    log_weights, log_q = jnp.asarray(_LOG_JOINT), jnp.asarray(np.log(oracles.softmax(_LOGITS)))
    found = jax.jit(estimators.exact)(log_weights, log_q)
    np.testing.assert_allclose(found, np.exp(log_q) @ log_weights, rtol=1e-9)
    _, pull_back = jax.vjp(lambda x: estimators.reinforce(log_weights, x), log_q)
    bound = oracles.log_mean_exp(_LOG_JOINT)
    np.testing.assert_allclose(pull_back(jnp.ones(()))[0], np.full(4, bound), rtol=1e-9)


def test_what_does_not_fit_is_refused():
    good, short = jnp.zeros(3), jnp.zeros(2)
    for estimator in (estimators.reinforce, estimators.reweighted_wake_sleep, estimators.exact):
        with pytest.raises(ValueError, match=r"must both be \[L\]"):
            estimator(good, short)
        with pytest.raises(ValueError, match=r"log_weights is \(0,\)"):
            estimator(jnp.zeros(0), jnp.zeros(0))
    with pytest.raises(ValueError, match="num_samples is 0"):
        estimators.exact(good, good, 0)
    with pytest.raises(ValueError, match=r"address_logits is \(2, 3\)"):
        estimators.gumbel_softmax(jax.random.key(0), jnp.zeros((2, 3)), 1)
    with pytest.raises(ValueError, match="num_samples is 0"):
        estimators.gumbel_softmax(jax.random.key(0), good, 0)
