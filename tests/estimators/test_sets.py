"""Estimators on sets of addresses, by enumeration of all sets: nothing here is random."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import estimators
from tests import oracles

_LOG_JOINT = np.array([-3.0, -1.0, -4.5, -2.2, -9.0])
_LOGITS = np.array([0.3, -0.5, 1.0, 0.1, -3.0])

pytestmark = pytest.mark.usefixtures("strict_ranks", "float64")


def orders(logits, num_samples):
    """All ordered draws without replacement `[D, L]`, and their probabilities."""
    probs = oracles.softmax(logits)
    draws = list(itertools.permutations(range(len(logits)), num_samples))
    found = []
    for draw in draws:
        left, probability = 1.0, 1.0
        for address in draw:
            probability *= probs[address] / left
            left -= probs[address]
        found.append(probability)
    return np.array(draws), np.array(found)


def top_and_rest(logits, num_samples, num_top):
    """The same for `sample_top_and_rest`."""
    probs = oracles.softmax(logits)
    ranked = np.argsort(-probs)
    top, rest = ranked[:num_top], ranked[num_top:]
    draws = list(itertools.product(rest, repeat=num_samples - num_top))
    chances = [np.prod(probs[list(draw)] / probs[rest].sum()) for draw in draws]
    return np.array([[*top, *draw] for draw in draws]), np.array(chances)


def expected(estimator, draws, probs, logits=_LOGITS):
    """Mean value, mean gradient in the logits and in log p(x, a), and the former's variance."""

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, None, 0))
    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def objective(logits, log_joint, addresses):
        log_q = jax.nn.log_softmax(logits)[addresses]
        return estimator(log_joint[addresses] - log_q, log_q)

    values, gradients = jax.tree.map(
        np.asarray, objective(jnp.asarray(logits), jnp.asarray(_LOG_JOINT), draws)
    )
    means = [probs @ gradient for gradient in gradients]
    return probs @ values, *means, probs @ np.sum((gradients[0] - means[0]) ** 2, axis=1)


def exact():
    """The ELBO and its gradients in the logits and in log p(x, a)."""
    return *oracles.exact_bound_gradient(_LOG_JOINT, _LOGITS, 1), oracles.softmax(_LOGITS)


def assert_exact(found, tolerance=1e-7):
    for mean, right in zip(found, exact(), strict=False):
        np.testing.assert_allclose(mean, right, atol=tolerance)


@pytest.mark.parametrize("num_samples", [1, 2, 3, 5])
def test_unordered_set_is_unbiased_and_exact_of_all(num_samples):
    found = expected(estimators.unordered_set, *orders(_LOGITS, num_samples))
    assert_exact(found)
    if num_samples == 5:
        assert found[-1] < 1e-12  # no noise: the sum over all


@pytest.mark.parametrize(("num_samples", "num_top"), [(3, 1), (3, 2), (2, 1), (5, 4)])
def test_sum_and_sample_is_unbiased(num_samples, num_top):
    estimator = functools.partial(estimators.sum_and_sample, num_top=num_top)
    found = expected(estimator, *top_and_rest(_LOGITS, num_samples, num_top))
    assert_exact(found, 1e-12)
    if num_samples == 5:
        assert found[-1] < 1e-12


def test_no_address_twice_is_quieter_than_with_replacement():
    draws = np.array(list(itertools.product(range(5), repeat=3)))
    probs = oracles.softmax(_LOGITS)[draws].prod(axis=1)
    independent = expected(estimators.rloo, draws, probs)
    assert_exact(independent, 1e-12)
    without = expected(estimators.unordered_set, *orders(_LOGITS, 3))
    assert without[-1] < 0.5 * independent[-1]


def test_unordered_set_does_not_ask_for_the_order():
    addresses = np.array([3, 0, 1])
    log_q = np.log(oracles.softmax(_LOGITS))
    of = jax.jit(jax.value_and_grad(estimators.unordered_set, (0, 1)))
    value, gradients = of(_LOG_JOINT[addresses], log_q[addresses])
    turned, others = of(_LOG_JOINT[addresses[::-1]], log_q[addresses[::-1]])
    np.testing.assert_allclose(value, turned, rtol=1e-12)
    for one, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(one, other[::-1], rtol=1e-9)


@pytest.mark.parametrize("num_samples", [8, 200])
def test_the_first_of_many_is_weighed_right(num_samples):
    """c_s, which sum to 1; of equal slots, and of slots of which all but a few are unlikely."""
    log_weights = np.zeros(num_samples)
    of = jax.jit(jax.grad(estimators.unordered_set))
    for rest in (1e-12, 0.5, 1 - 1e-9):
        share = np.full(num_samples, (1 - rest) / num_samples)
        weights = of(log_weights, np.log(share))
        np.testing.assert_allclose(weights, 1 / num_samples, rtol=1e-6)
    steep = -0.5 * np.arange(num_samples)
    weights = of(log_weights, steep - 3.0)
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-7)
    assert np.all(np.diff(weights) < 1e-15)


def test_samples_are_those_of_the_law():
    num_draws = 20_000
    rng_keys = jax.random.split(jax.random.key(0), num_draws)
    draw = jax.jit(
        jax.vmap(lambda k: estimators.sample_without_replacement(k, jnp.asarray(_LOGITS), 2))
    )
    addresses, log_probs = draw(rng_keys)
    np.testing.assert_allclose(log_probs, np.log(oracles.softmax(_LOGITS))[addresses], rtol=1e-12)
    addresses = np.asarray(addresses)
    draws, probs = orders(_LOGITS, 2)
    for pair, probability in zip(draws, probs, strict=True):
        frequency = np.mean(np.all(addresses == pair, axis=1))
        assert abs(frequency - probability) < 4.5 * np.sqrt(probability / num_draws)
    draw = jax.jit(
        jax.vmap(lambda k: estimators.sample_top_and_rest(k, jnp.asarray(_LOGITS), 3, 2))
    )
    addresses = np.asarray(draw(rng_keys)[0])
    assert np.all(addresses[:, :2] == [2, 0])
    rest = oracles.softmax(_LOGITS)[[1, 3, 4]]
    frequencies = [np.mean(addresses[:, 2] == a) for a in (1, 3, 4)]
    np.testing.assert_allclose(frequencies, rest / rest.sum(), atol=0.015)


_EDGES = {
    "huge": [1e6, -1e6, 0.0],
    "equal": [-3.0] * 3,
    "one zero": [-np.inf, -1.0, -2.0],
    "all zero": [-np.inf] * 3,
}


_DERIVED = [
    jax.jit(jax.value_and_grad(estimator, (0, 1)))
    for estimator in (
        estimators.unordered_set,
        functools.partial(estimators.sum_and_sample, num_top=1),
        estimators.rloo,
        estimators.ovis,
    )
]


@pytest.mark.parametrize("log_weights", _EDGES.values(), ids=_EDGES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_finite_gradients_at_the_boundaries(log_weights, dtype):
    with jax.debug_nans(True):
        for of in _DERIVED:
            arrays = jnp.array(log_weights, dtype), jnp.array([-1.0, -2.0, -0.9], dtype)
            value, gradients = of(*arrays)
            assert np.all(np.isfinite(gradients))
            if log_weights == _EDGES["equal"] and of is not _DERIVED[-1]:
                # Nothing to choose: beside what takes - d log q(a) away, nothing.
                np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-6)
            is_bound = of is _DERIVED[-1]  # of the sum of the weights, not of their logs
            nothing = np.isneginf(log_weights)
            assert np.isneginf(value) == (np.all(nothing) if is_bound else np.any(nothing))


def test_a_slot_that_is_never_drawn_counts_for_nothing():
    """It comes only where there are no others, with a log weight of +inf."""
    log_q = jnp.array([np.log(0.75), np.log(0.25), -jnp.inf])
    of = jax.jit(jax.value_and_grad(estimators.unordered_set, (0, 1)))
    value, gradients = of(jnp.array([-1.0, -2.0, jnp.inf]), log_q)
    np.testing.assert_allclose(value, -1.25, rtol=1e-6)
    assert np.all(np.isfinite(gradients)) and gradients[0][2] == gradients[1][2] == 0
    drawn, log_probs = estimators.sample_without_replacement(jax.random.key(0), log_q, 3)
    assert drawn[2] == 2 and np.isneginf(log_probs[2])


def test_one_slot_has_nothing_to_learn():
    def objective(logits):
        _, log_q = estimators.sample_without_replacement(jax.random.key(0), logits, 1)
        return estimators.unordered_set(-2.0 * jnp.ones(1) - log_q, log_q)

    value, gradient = jax.jit(jax.value_and_grad(objective))(jnp.zeros(1))
    np.testing.assert_allclose((value, gradient[0]), (-2.0, 0.0), atol=1e-6)


def test_what_does_not_fit_is_refused():
    rng_key, logits = jax.random.key(0), jnp.zeros(3)
    for call, message in (
        (lambda: estimators.sample_without_replacement(rng_key, logits, 4), "at most N = 3"),
        (lambda: estimators.sample_without_replacement(rng_key, logits, 0), "num_samples is 0"),
        (lambda: estimators.sample_top_and_rest(rng_key, logits, 4, 3), "at most N - 1 = 2"),
        (lambda: estimators.sample_top_and_rest(rng_key, logits, 2, 2), "at most num_samples - 1"),
        (lambda: estimators.sum_and_sample(logits, logits, 3), "num_top is 3; .* L - 1 = 2"),
        (lambda: estimators.rloo(jnp.zeros(1), jnp.zeros(1)), "rloo needs at least 2"),
        (lambda: estimators.unordered_set(logits, jnp.zeros(2)), r"must both be \[L\]"),
    ):
        with pytest.raises(ValueError, match=message) as refused:
            call()
        assert "\n" not in str(refused.value)
