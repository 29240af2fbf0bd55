import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import estimators
from memjax.memory import addressing
from tests import oracles

LOG_WEIGHTS = {
    "ordinary": [-80.0, -82.5, -79.0, -95.0],
    "equal": [-3.0, -3.0, -3.0],
    "huge": [1e6, -1e6, 1e6, 0.0],
    "one zero": [-5.0, -np.inf, -6.0],
    "two samples": [-1.0, -2.0],
}


pytestmark = pytest.mark.usefixtures("strict_ranks")

# Compiled once for each number of samples.
iwae = jax.jit(jax.value_and_grad(estimators.iwae))
vimco = jax.jit(jax.value_and_grad(estimators.vimco, (0, 1)), static_argnums=2)


def test_iwae_with_one_sample_is_the_elbo():
    value, gradient = iwae(jnp.array([-7.0]))
    assert value == -7 and gradient == 1


@pytest.mark.parametrize("name", LOG_WEIGHTS)
def test_iwae_gradient_is_the_normalized_weights(name):
    value, gradient = iwae(jnp.array(LOG_WEIGHTS[name]))
    np.testing.assert_allclose(value, oracles.log_mean_exp(LOG_WEIGHTS[name]), rtol=1e-6)
    np.testing.assert_allclose(gradient, oracles.softmax(LOG_WEIGHTS[name]), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("baseline", ["arithmetic", "geometric"])
@pytest.mark.parametrize("name", LOG_WEIGHTS)
def test_vimco_gradient_follows_equation_8(name, baseline):
    log_weights = LOG_WEIGHTS[name]
    arguments = (jnp.array(log_weights), jnp.full(len(log_weights), -1.5))
    value, (weight_gradient, score_gradient) = vimco(*arguments, baseline)
    np.testing.assert_allclose(value, oracles.log_mean_exp(log_weights), rtol=1e-6)
    signals = oracles.vimco_learning_signals(log_weights, baseline)
    np.testing.assert_allclose(weight_gradient, oracles.softmax(log_weights), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(score_gradient, signals, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("baseline", ["arithmetic", "geometric"])
def test_vimco_is_finite_where_weights_vanish(baseline):
    for log_weights in ([-np.inf, -np.inf], [-np.inf, -4.0], [-np.inf, -np.inf, 2.0]):
        log_probs = jnp.full(len(log_weights), -1.0)
        value, gradients = vimco(jnp.array(log_weights), log_probs, baseline)
        np.testing.assert_allclose(value, oracles.log_mean_exp(log_weights), rtol=1e-6)
        chex.assert_tree_all_finite(gradients)
        # A sample that is all there is has nothing to be compared with: it teaches nothing.
        np.testing.assert_allclose(gradients[1][-1], 0.0, atol=1e-6)


@pytest.mark.slow  # `test_draws` has it at three samples
@pytest.mark.parametrize("baseline", ["arithmetic", "geometric"])
@pytest.mark.parametrize("num_samples", [2, 4])
def test_vimco_mean_gradient_is_the_exact_one(num_samples, baseline):
    log_joint = jnp.array([-2.0, -0.5, -3.0, -1.0])
    logits = jnp.array([0.3, -0.4, 0.1, 0.8])

    def objective(logits, rng_key):
        addresses, log_probs = addressing.sample(rng_key, logits, num_samples)
        return estimators.vimco(log_joint[addresses] - log_probs, log_probs, baseline)

    keys = jax.random.split(jax.random.key(0), 40_000)
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(objective), in_axes=(None, 0)))(
        logits, keys
    )
    bound, gradient = oracles.exact_bound_gradient(log_joint, logits, num_samples)
    for samples, exact in ((values, bound), (gradients, gradient)):
        samples = np.asarray(samples, np.float64)
        standard_error = samples.std(axis=0) / np.sqrt(len(samples))
        assert np.all(np.abs(samples.mean(axis=0) - exact) < 4 * standard_error)


def test_baselines_reduce_the_variance():
    log_joint, logits = jnp.array([-2.0, -0.5, -3.0, -1.0]), jnp.zeros(4)

    def gradient(rng_key, reinforce):
        def objective(logits):
            addresses, log_probs = addressing.sample(rng_key, logits, 4)
            log_weights = log_joint[addresses] - log_probs
            if reinforce:
                bound = estimators.iwae(log_weights)
                return bound + jax.lax.stop_gradient(bound) * log_probs.sum()
            return estimators.vimco(log_weights, log_probs)

        return jax.grad(objective)(logits)

    keys = jax.random.split(jax.random.key(0), 2_000)
    each = jax.jit(jax.vmap(gradient, (0, None)), static_argnums=1)
    assert each(keys, False).var() < 0.3 * each(keys, True).var()


def test_jit_and_vmap_equal_a_loop_and_trace_once():
    log_weights = 5 * jax.random.normal(jax.random.key(0), (6, 4))
    log_probs = -jax.random.uniform(jax.random.key(1), (6, 4))

    @jax.jit
    @chex.assert_max_traces(n=1)
    def batched(log_weights, log_probs):
        return jax.vmap(jax.value_and_grad(estimators.vimco, argnums=(0, 1)))(
            log_weights, log_probs
        )

    loop = [
        vimco(weights, probs, "arithmetic")
        for weights, probs in zip(log_weights, log_probs, strict=True)
    ]
    for _ in range(2):
        stacked = batched(log_weights, log_probs)
    chex.assert_trees_all_close(
        stacked, jax.tree.map(lambda *leaves: jnp.stack(leaves), *loop), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("baseline", ["arithmetic", "geometric"])
def test_no_weight_at_all_makes_no_nan_on_the_way(baseline):
    with jax.debug_nans(True):  # called eagerly: each step is looked at
        value = estimators.vimco(jnp.full(3, -jnp.inf), jnp.full(3, -1.0), baseline)
    assert value == -jnp.inf


def test_a_sample_of_no_weight_may_be_of_no_probability():
    arguments = jnp.array([-1.0, -jnp.inf]), jnp.array([-0.5, -jnp.inf])
    differentiated = jax.jit(jax.value_and_grad(estimators.reweighted_wake_sleep, (0, 1)))
    value, (in_weights, in_log_probs) = differentiated(*arguments)
    np.testing.assert_allclose(value, -1.0 - np.log(2), rtol=1e-6)
    np.testing.assert_array_equal(in_weights, [1.0, 0.0])
    np.testing.assert_array_equal(in_log_probs, [2.0, 0.0])


def test_the_baseline_is_arithmetic_unless_named():
    weights, log_probs = jnp.array([-1.0, -2.0, -4.0]), jnp.zeros(3)
    gradient = jax.grad(estimators.vimco, argnums=1)(weights, log_probs)
    expected = oracles.vimco_learning_signals([-1.0, -2.0, -4.0], "arithmetic")
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_bad_input_is_refused_in_one_line():
    with pytest.raises(ValueError, match="vimco needs at least 2"):
        estimators.vimco(jnp.zeros(1), jnp.zeros(1))
    with pytest.raises(ValueError, match=r"address_log_probs \(3,\) and log_weights \(2,\)"):
        estimators.vimco(jnp.zeros(2), jnp.zeros(3))
    with pytest.raises(ValueError, match="baseline is 'median'"):
        estimators.vimco(jnp.zeros(2), jnp.zeros(2), "median")
    for shape in ((), (0,), (2, 3)):
        with pytest.raises(ValueError, match=r"must be \[L\] with L >= 1"):
            estimators.iwae(jnp.zeros(shape))
