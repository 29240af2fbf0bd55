"""Unbiased estimators in float64: 200,000 gradients are within four standard errors of the exact.

And what the number of samples does to a gradient's signal-to-noise ratio.
"""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import estimators
from memjax.memory import addressing
from tests import oracles

_LOG_JOINT = np.array([-2.0, -0.5, -3.0, -1.0])
_LOGITS = np.array([0.3, -0.4, 0.1, 0.8])
_DRAWS = 200_000

pytestmark = pytest.mark.usefixtures("strict_ranks", "float64")


OF_THE_BOUND = {
    "vimco": estimators.vimco,
    "geometric": partial(estimators.vimco, baseline="geometric"),
    "ovis": estimators.ovis,
    "reinforce": estimators.reinforce,
}
OF_THE_ELBO = {
    "rloo": estimators.rloo,
    "unordered_set": estimators.unordered_set,
    "sum_and_sample": partial(estimators.sum_and_sample, num_top=1),
}
SAMPLERS = {
    "unordered_set": estimators.sample_without_replacement,
    "sum_and_sample": partial(estimators.sample_top_and_rest, num_top=1),
}


def rebar(rng_key, logits, log_joint):
    def bound(addresses):
        return estimators.iwae(addresses @ (log_joint - jax.nn.log_softmax(logits)))

    def control(perturbed):
        return 0.7 * bound(jax.nn.softmax(perturbed / 0.5, axis=1))

    return estimators.relax(rng_key, bound, control, logits, 3)


def of(name, addresses, logits, log_joint):
    log_q = jax.nn.log_softmax(logits)[addresses]
    return (OF_THE_BOUND | OF_THE_ELBO)[name](log_joint[addresses] - log_q, log_q)


def derive(objective, given):
    """`[draws, 1 + N + N]`: the value, and the gradients in the logits and in log p(x, a)."""

    @jax.jit
    def many(given):
        def one(each):
            value, gradients = jax.value_and_grad(objective, (1, 2))(
                each, jnp.asarray(_LOGITS), jnp.asarray(_LOG_JOINT)
            )
            return jnp.concatenate([value[None], *gradients])

        return jax.vmap(one)(given)

    return np.asarray(many(given))


def draw(name, num_samples, num_draws):
    sample = partial(SAMPLERS.get(name, addressing.sample), num_samples=num_samples)
    rng_keys = jax.random.split(jax.random.key(0), num_draws)
    addresses, _ = jax.jit(jax.vmap(sample, (0, None)))(rng_keys, jnp.asarray(_LOGITS))
    return np.asarray(addresses)


@functools.cache
def gradients(name):
    """Of `_DRAWS` draws of three addresses, of which there are only 64: each is derived once."""
    if name == "rebar":
        return derive(rebar, jax.random.split(jax.random.key(0), _DRAWS))
    every = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    table = derive(partial(of, name), every)
    return table[draw(name, 3, _DRAWS) @ [16, 4, 1]]


@functools.cache
def exact(num_samples):
    log_joint, logits = jnp.asarray(_LOG_JOINT), jnp.asarray(_LOGITS)

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1))
    def bound(logits, log_joint):
        log_q = jax.nn.log_softmax(logits)
        return estimators.exact(log_joint - log_q, log_q, num_samples)

    value, gradients = bound(logits, log_joint)
    return np.concatenate([np.asarray(value)[None], *gradients])


@pytest.mark.parametrize("name", [*OF_THE_BOUND, *OF_THE_ELBO, "rebar"])
def test_mean_of_many_gradients_is_the_exact_one(name):
    found, right = gradients(name), exact(1 if name in OF_THE_ELBO else 3)
    standard_error = found.std(axis=0) / np.sqrt(len(found))
    assert np.all(np.abs(found.mean(axis=0) - right) < 4 * standard_error + 1e-9)


def spread(name):
    """Relative to the norm of the exact gradient."""
    found = gradients(name)[:, 1:5]
    right = exact(1 if name in OF_THE_ELBO else 3)[1:5]
    return np.sqrt(found.var(axis=0).sum()) / np.linalg.norm(right)


def test_some_unbiased_estimators_are_quieter_than_vimco():
    """At as many decodes; the control takes three for each."""
    assert spread("ovis") < spread("vimco") < spread("reinforce")
    assert spread("unordered_set") < spread("vimco")
    assert spread("unordered_set") < 0.7 * spread("rloo")
    assert spread("rebar") < 0.75 * spread("reinforce")


def test_signal_to_noise_of_independent_samples_grows_with_their_root():
    found = [derive(partial(of, "rloo"), draw("rloo", n, 20_000))[:, 1:5] for n in (4, 64)]
    few, many = (np.linalg.norm(g.mean(axis=0)) / np.sqrt(g.var(axis=0).sum()) for g in found)
    np.testing.assert_allclose(many / few, 4.0, rtol=0.2)


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_ovis_of_equal_weights_has_its_closed_form(gamma):
    of = jax.jit(jax.grad(partial(estimators.ovis, gamma=gamma), (0, 1)))
    weights, signals = of(jnp.full(5, -80.0), jnp.full(5, -1.0))
    np.testing.assert_allclose(weights, 0.2)
    np.testing.assert_allclose(signals, gamma * (0.2 + np.log(0.8)) - np.log(0.8), rtol=1e-12)


@pytest.mark.parametrize("log_weights", [[-80.0, -82.5, -79.0], [0.0, -30.0, -31.0], [1e6, 0, 1]])
def test_ovis_follows_equation_17(log_weights):
    gamma = 0.25
    of = jax.jit(jax.grad(partial(estimators.ovis, gamma=gamma), (0, 1)))
    weights, signals = of(jnp.array(log_weights), jnp.full(3, -1.0))
    logs = np.array(log_weights) - max(log_weights)
    normalized = np.exp(logs) / np.exp(logs).sum()
    np.testing.assert_allclose(weights, normalized, rtol=1e-9, atol=1e-300)
    for i, found in enumerate(signals):
        rest = np.logaddexp.reduce(np.delete(logs, i))
        baseline = rest - np.log(2) - gamma * normalized[i] + (1 - gamma) * np.log(2 / 3)
        own = np.logaddexp.reduce(logs) - np.log(3) - normalized[i]
        np.testing.assert_allclose(found - normalized[i], own - baseline, rtol=1e-9, atol=1e-12)


def test_relax_teaches_its_control_by_the_estimates_square():
    """The mixed second derivative reaches the control's parameter; the first does not."""

    def objective(logits, scale, rng_key):
        def bound(addresses):
            return jnp.sum(addresses @ jnp.asarray(_LOG_JOINT))

        def control(perturbed):
            return scale * bound(jax.nn.softmax(perturbed, axis=1))

        return estimators.relax(rng_key, bound, control, logits, 1)

    def square(scale, rng_key):
        return jnp.sum(jax.grad(objective)(jnp.asarray(_LOGITS), scale, rng_key) ** 2)

    rng_keys = jax.random.split(jax.random.key(0), 500)
    mean = jax.jit(
        jax.value_and_grad(lambda scale: jnp.mean(jax.vmap(square, (None, 0))(scale, rng_keys)))
    )
    rise = (mean(0.5 + 1e-5)[0] - mean(0.5 - 1e-5)[0]) / 2e-5
    np.testing.assert_allclose(mean(0.5)[1], rise, rtol=1e-6)
    assert mean(0.5)[1] < 0 and mean(1.0)[0] < mean(0.0)[0]
    first = jax.jit(jax.grad(objective, 1))
    assert first(jnp.asarray(_LOGITS), 0.5, rng_keys[0]) == 0


def test_reinmax_is_right_for_a_quadratic_and_gumbel_rao_quieter():
    matrix = np.random.default_rng(0).normal(size=(4, 4))
    vector = np.random.default_rng(1).normal(size=4)

    def quadratic(addresses):
        pairs = jnp.einsum("ln,nm,lm->l", addresses, matrix, addresses)
        return jnp.mean(pairs + addresses @ vector)

    probs = oracles.softmax(_LOGITS)
    values = np.diag(matrix) + vector
    right = probs * (values - probs @ values)
    draw = {
        "reinmax": partial(estimators.reinmax, temperature=1.0),
        "straight": partial(estimators.gumbel_softmax, straight_through=True, temperature=0.5),
        "rao": partial(estimators.gumbel_rao, temperature=0.5, num_noises=8),
    }

    def gradients(name):
        def one(rng_key):
            return jax.grad(lambda x: quadratic(draw[name](rng_key, x, 1)))(jnp.asarray(_LOGITS))

        rng_keys = jax.random.split(jax.random.key(0), 50_000)
        return np.asarray(jax.jit(jax.vmap(one))(rng_keys))

    found = {name: gradients(name) for name in draw}
    error = found["reinmax"].mean(axis=0) - right
    assert np.all(np.abs(error) < 4 * found["reinmax"].std(axis=0) / np.sqrt(50_000))
    straight, rao = found["straight"], found["rao"]
    noise = np.sqrt((straight.var(axis=0) + rao.var(axis=0)) / 50_000)
    assert np.all(np.abs(straight.mean(axis=0) - rao.mean(axis=0)) < 4.5 * noise)
    assert rao.var(axis=0).sum() < 0.8 * straight.var(axis=0).sum()


@pytest.mark.parametrize("name", ["gumbel_rao", "reinmax"])
def test_one_hot_samples_follow_the_probabilities(name):
    logits = jnp.array([*_LOGITS, -jnp.inf])
    sample = jax.jit(partial(getattr(estimators, name), num_samples=20_000))
    weights = np.asarray(sample(jax.random.key(0), logits))
    assert set(np.unique(weights)) == {0.0, 1.0}
    np.testing.assert_allclose(weights.mean(axis=0), oracles.softmax(logits), atol=0.015)
    pull = jax.jit(jax.grad(lambda x: jnp.sum(sample(jax.random.key(0), x)[:, 0])))
    gradient = pull(logits)
    assert np.all(np.isfinite(gradient)) and gradient[4] == 0 and gradient[0] > 0


def test_relax_refuses_a_bound_that_is_no_scalar():
    def identity(addresses):
        return addresses

    with pytest.raises(ValueError, match=r"bound\(addresses\) is \(2, 3\); it must be \(\)"):
        estimators.relax(jax.random.key(0), identity, jnp.sum, jnp.zeros(3), 2)
