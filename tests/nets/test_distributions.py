import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import scipy.stats

from memjax.nets import distributions


def test_diagonal_normal_has_loc_and_log_scale():
    parameters = jnp.array([[0.5, -1.0, 0.0, 0.3], [2.0, 0.0, -0.2, 0.1]])
    value = np.array([0.1, 0.2])
    log_prob = distributions.diagonal_normal(parameters).log_prob(value)
    assert log_prob.shape == (2,)
    for row, found in zip(np.asarray(parameters, np.float64), log_prob, strict=True):
        scale = np.exp(7 * np.tanh(row[2:] / 7))
        expected = scipy.stats.norm(row[:2], scale).logpdf(value).sum()
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_diagonal_normal_survives_any_output():
    @jax.jit
    @jax.value_and_grad
    def log_prob(parameters):
        return distributions.diagonal_normal(parameters).log_prob(jnp.zeros(1))

    for log_scale in (-1e4, 1e4):
        value, gradient = log_prob(jnp.array([0.0, log_scale]))
        assert np.isfinite(value) and np.all(np.isfinite(gradient))


def test_standard_normal():
    value = np.array([0.3, -2.0, 1.0])
    found = distributions.standard_normal(3).log_prob(value)
    np.testing.assert_allclose(found, scipy.stats.norm.logpdf(value).sum(), rtol=1e-6)


def test_bernoulli_image_sums_over_pixels():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 2, 4, 1))
    image = rng.integers(0, 2, (2, 4, 1)).astype(np.float32)
    found = distributions.bernoulli_image(logits).log_prob(image)
    probs = 1 / (1 + np.exp(-logits))
    expected = np.log(np.where(image == 1, probs, 1 - probs)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_bernoulli_learns_from_a_logit_of_zero():
    """The gradient is the image minus the mean, on both sides of 0 and at it."""
    logits = jnp.array([-1.0, 0.0, 1.0]).reshape(3, 1, 1)
    learn = jax.jit(jax.grad(lambda x, p: distributions.bernoulli_image(x).log_prob(p)))
    for pixel in (0.0, 1.0):
        gradient = learn(logits, pixel)
        np.testing.assert_allclose(gradient, pixel - jax.nn.sigmoid(logits), rtol=1e-6)


def test_a_point_is_drawn_as_it_is_and_costs_nothing():
    value = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    found = distributions.point(value)
    np.testing.assert_array_equal(distributions.draw(jax.random.key(0), found), value)
    np.testing.assert_array_equal(found.mean, value)
    np.testing.assert_array_equal(found.log_prob(value), [0.0, 0.0])
    other = value + np.array([[0.0, 1.0], [0.0, 0.0]], np.float32)
    np.testing.assert_array_equal(found.log_prob(other), [-np.inf, 0.0])
    np.testing.assert_array_equal(dist.kl_divergence(found, found), [0.0, 0.0])
