import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from memjax.errors import UserError
from memjax.nets import (
    ImageDecoder,
    ImageEncoder,
    ImageLikelihood,
    add_uniform_noise,
    distributions,
)
from memjax.nets.image import pyramid_shapes


def drawn(net, inputs):
    """Variables by NumPy: nothing to compile."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, jax.random.key(0), inputs)
    return jax.tree.map(lambda x: (0.2 * rng.normal(size=x.shape)).astype(x.dtype), shapes)


@pytest.mark.parametrize(
    ("num_filters", "shape"),
    [(0, (5, 7, 3)), (2, (5, 7, 3)), pytest.param(4, (28, 28, 1), marks=pytest.mark.slow)],
)
def test_shapes_for_any_leading_axes(num_filters, shape):
    images = np.random.default_rng(0).random((2, 3, *shape)).astype(np.float32)
    encoder = ImageEncoder(6, num_filters, (8,))
    decoder = ImageDecoder(shape, num_filters, (8,))
    encoder_params, decoder_params = drawn(encoder, images), drawn(decoder, np.zeros(6, np.float32))
    codes = jax.jit(encoder.apply)(encoder_params, images)
    decoded = jax.jit(decoder.apply)(decoder_params, codes)
    assert codes.shape == (2, 3, 6) and decoded.shape == images.shape
    single = jax.jit(encoder.apply)(encoder_params, images[0, 1])
    np.testing.assert_allclose(single, codes[0, 1], rtol=1e-4, atol=1e-5)
    single = jax.jit(decoder.apply)(decoder_params, codes[0, 1])
    np.testing.assert_allclose(single, decoded[0, 1], rtol=1e-4, atol=1e-5)


def test_every_pixel_depends_on_the_code():
    decoder = ImageDecoder((7, 5, 1), 4)
    codes = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    images = jax.jit(decoder.apply)(drawn(decoder, codes), codes)
    assert np.all(np.std(images, axis=0) > 0)


_LOG_SCALES, _COEFFICIENTS = np.array([-0.7, 0.2, 0.5]), np.array([0.9, -0.4, 0.7])
_FACTOR = np.linalg.inv([[1, 0, 0], [-0.9, 1, 0], [0.4, -0.7, 1]]) * np.exp(_LOG_SCALES)
_COVARIANCE = _FACTOR @ _FACTOR.T


def gaussian(log_scales, coefficients, outputs):
    params = {"log_scales": log_scales, "coefficients": coefficients}
    given = {"params": jax.tree.map(np.float32, params)}
    return ImageLikelihood("gaussian").apply(given, outputs)


def test_a_likelihood_is_of_logits_or_of_means_with_one_covariance_of_the_channels():
    rng = np.random.default_rng(0)
    outputs, image = rng.normal(size=(2, 3, 2, 3)), rng.integers(0, 2, (3, 2, 3))
    found = ImageLikelihood().apply({}, outputs).log_prob(image.astype(np.float32))
    expected = np.where(image == 1, -outputs, outputs)
    np.testing.assert_allclose(found, -np.logaddexp(0, expected).sum((1, 2, 3)), rtol=1e-5)
    found = gaussian(_LOG_SCALES, _COEFFICIENTS, outputs).log_prob(image.astype(np.float32))
    density = scipy.stats.multivariate_normal(np.zeros(3), _COVARIANCE)
    np.testing.assert_allclose(found, density.logpdf(image - outputs).sum((1, 2)), rtol=1e-5)
    grey = {"params": {"log_scales": np.float32([-0.7])}}
    found = ImageLikelihood("gaussian").apply(grey, outputs[..., :1]).log_prob(image[..., :1])
    expected = scipy.stats.norm.logpdf(image[..., :1], outputs[..., :1], np.exp(-0.7))
    np.testing.assert_allclose(found, expected.sum((1, 2, 3)), rtol=1e-5)
    with pytest.raises(UserError, match="likelihood is 'beta'; it must be one of bernoulli, gaus"):
        ImageLikelihood("beta").apply({}, outputs)


@pytest.mark.usefixtures("strict_ranks")
def test_draws_have_the_covariance_of_the_channels():
    outputs = np.linspace(0, 1, 60 * 60 * 3, dtype=np.float32).reshape(60, 60, 3)
    found = gaussian(_LOG_SCALES, _COEFFICIENTS, outputs)
    errors = np.reshape(distributions.draw(jax.random.key(0), found) - found.mean, (-1, 3))
    np.testing.assert_array_equal(found.mean, outputs)
    np.testing.assert_allclose(np.cov(errors.T), _COVARIANCE, rtol=0.1, atol=0.1)


def test_the_covariance_of_the_channels_is_learned():
    rng = np.random.default_rng(0)
    images = np.float32(0.3 * rng.normal(size=(64, 4, 4, 3)) @ _FACTOR.T)
    likelihood = ImageLikelihood("gaussian")
    params = likelihood.init(jax.random.key(0), images)["params"]
    np.testing.assert_allclose(np.exp(params["log_scales"]), 0.135, atol=1e-3)
    assert not params["coefficients"].any()
    optimizer = optax.adam(0.03)

    def loss(params):
        outputs = jnp.zeros_like(images)
        return -likelihood.apply({"params": params}, outputs).log_prob(images).mean()

    @jax.jit
    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=1_000)
    np.testing.assert_allclose(params["log_scales"], _LOG_SCALES + np.log(0.3), atol=0.05)
    np.testing.assert_allclose(params["coefficients"], _COEFFICIENTS, atol=0.1)


@pytest.mark.parametrize("num_filters", [0, 2])
def test_a_zero_output_begins_at_zero(num_filters):
    decoder = ImageDecoder((7, 5, 1), num_filters, (4,), zero_output=True)
    found = jax.jit(lambda: decoder.init_with_output(jax.random.key(0), np.ones((3, 2)))[0])()
    assert found.shape == (3, 7, 5, 1) and not found.any()


def test_the_pyramid_halves_three_times_or_says_that_it_cannot():
    assert pyramid_shapes((28, 28, 1)) == [(28, 28), (14, 14), (7, 7), (4, 4)]
    with pytest.raises(UserError, match="images are 4 x 9; the convolutions halve them 3 times"):
        pyramid_shapes((4, 9, 1))


def test_uniform_noise_stays_within_a_level():
    noise = add_uniform_noise(jax.random.key(0), jnp.zeros((8, 8, 1)))
    assert noise.min() >= 0 and noise.max() < 1 / 256 and np.std(noise) > 0
