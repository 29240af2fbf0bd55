"""What the command `benchmarks.estimators` measures by, and what theory says it must find."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import address_noise
from memjax import estimators


@pytest.mark.parametrize("num_samples", [1, 4])
def test_exact_bounds_are_the_enumerations(num_samples):
    values, gradients = address_noise.exact_bounds(8, num_samples)

    @jax.jit
    @jax.value_and_grad
    def enumerated(logits, log_joint):
        log_q = jax.nn.log_softmax(logits)
        return estimators.exact(log_joint - log_q, log_q, num_samples)

    with jax.enable_x64(True):
        for i, shape in enumerate(address_noise.SHAPES):
            log_joint, logits = map(jnp.asarray, address_noise.model(shape, 8))
            value, gradient = enumerated(logits, log_joint)
            np.testing.assert_allclose(values[i], value, rtol=1e-12)
            np.testing.assert_allclose(gradients[i], gradient, atol=1e-12)


def test_signal_to_noise_against_samples_is_as_theory_says():
    """VIMCO's falls, OVIS's grows as the root (Lievin et al. 2020); both are unbiased."""
    log_joint, logits = (np.asarray(x, np.float32) for x in address_noise.model("bimodal", 16))
    rng_keys = jax.random.split(jax.random.key(0), 2_000)
    found = {"vimco": [], "ovis 0": []}
    for num_samples in (4, 64):
        (_, _, value, _), exact = address_noise.exact_bounds(16, num_samples)
        for name, ratios in found.items():
            given = name, num_samples, rng_keys, logits, log_joint, value
            measured = address_noise.compare(address_noise.score_gradients(*given), exact[2])
            assert measured["bias"] == 0.0
            ratios.append(measured["signal to noise"])
    few, many = found["vimco"]
    assert many < 0.6 * few
    few, many = found["ovis 0"]
    assert many > 4.0 * few


def test_gradients_by_hand_are_those_by_differentiation():
    log_joint, logits = (np.asarray(x, np.float32) for x in address_noise.model("drawn", 5))
    rng_keys = jax.random.split(jax.random.key(0), 3)
    found = address_noise.score_gradients("rloo", 2, rng_keys, logits, log_joint, 0.0)
    addresses, _ = address_noise.sampler("rloo", 2)(rng_keys, logits)
    log_joint = jnp.asarray(log_joint)

    @jax.jit
    @jax.grad
    def gradient(logits, addresses):
        log_q = jax.nn.log_softmax(logits)[addresses]
        return estimators.rloo(log_joint[addresses] - log_q, log_q)

    for drawn, by_hand in zip(addresses, found, strict=True):
        np.testing.assert_allclose(gradient(logits, drawn), by_hand, atol=1e-5)
