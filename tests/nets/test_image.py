import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.errors import UserError
from memjax.nets import ImageDecoder, ImageEncoder, add_uniform_noise
from memjax.nets.image import pyramid_shapes


@pytest.mark.parametrize(
    ("num_filters", "shape"),
    [(0, (5, 7, 3)), (4, (5, 7, 3)), pytest.param(4, (28, 28, 1), marks=pytest.mark.slow)],
)
def test_shapes_for_any_leading_axes(num_filters, shape):
    images = jax.random.uniform(jax.random.key(0), (2, 3, *shape))
    encoder = ImageEncoder(6, num_filters, (8,))
    decoder = ImageDecoder(shape, num_filters, (8,))
    codes, encoder_params = jax.jit(encoder.init_with_output)(jax.random.key(0), images)
    decoded, decoder_params = jax.jit(decoder.init_with_output)(jax.random.key(0), codes)
    assert codes.shape == (2, 3, 6) and decoded.mean.shape == images.shape
    single = jax.jit(encoder.apply)(encoder_params, images[0, 1])
    np.testing.assert_allclose(single, codes[0, 1], rtol=1e-4, atol=1e-5)
    single = jax.jit(decoder.apply)(decoder_params, codes[0, 1])
    np.testing.assert_allclose(single.mean, decoded.mean[0, 1], rtol=1e-4, atol=1e-5)


def test_every_pixel_depends_on_the_code():
    decoder = ImageDecoder((7, 5, 1), 4)
    codes = jax.random.normal(jax.random.key(0), (64, 8))
    images, _ = jax.jit(decoder.init_with_output)(jax.random.key(1), codes)
    assert np.all(np.std(images.mean, axis=0) > 0)


def test_the_pyramid_halves_three_times_or_says_that_it_cannot():
    assert pyramid_shapes((28, 28, 1)) == [(28, 28), (14, 14), (7, 7), (4, 4)]
    with pytest.raises(UserError, match="images are 4 x 9; the convolutions halve them 3 times"):
        pyramid_shapes((4, 9, 1))


def test_uniform_noise_stays_within_a_level():
    noise = add_uniform_noise(jax.random.key(0), jnp.zeros((8, 8, 1)))
    assert noise.min() >= 0 and noise.max() < 1 / 256 and np.std(noise) > 0
