import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.errors import UserError
from memjax.nets import ConditionalNets, PyramidDecoder
from memjax.nets.convolutions import spread
from memjax.nets.pyramid import Pyramid

_SHAPE = (7, 5, 1)


def images(seed, *axes):
    return np.random.default_rng(seed).integers(0, 2, (*axes, *_SHAPE)).astype(np.float32)


def test_sizes_halve_three_times():
    stems = jnp.zeros((2, 26, 26, 3))
    maps = jax.eval_shape(lambda: Pyramid(3).init_with_output(jax.random.key(0), stems)[0])
    assert [m.shape for m in maps] == [(2, n, n, 3) for n in (26, 13, 7, 4)]
    with pytest.raises(UserError, match="images are 4 x 9"):
        Pyramid(3).init(jax.random.key(0), jnp.zeros((4, 9, 3)))


def test_a_dense_layer_spread_is_a_transposed_convolution():
    inputs = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    kernel = jax.random.normal(jax.random.key(1), (2, 2, 5, 6))
    dense = kernel.transpose(2, 0, 1, 3).reshape(5, 24)
    expected = nn.ConvTranspose(6, (2, 2), strides=(2, 2), use_bias=False).apply(
        {"params": {"kernel": kernel[::-1, ::-1]}}, inputs
    )
    np.testing.assert_allclose(spread(inputs @ dense), expected, rtol=1e-5, atol=1e-5)


def test_the_posterior_is_of_the_concatenation_of_slot_and_query():
    nets = ConditionalNets(_SHAPE, 2, 3, (4,))
    slot, query = images(0), images(1)

    @nn.nowrap
    def posterior(nets, slot, query):
        return nets.posterior(nets.image_features(slot), query).mean

    rng_key = jax.random.key(0)
    found, params = jax.jit(lambda: nets.init_with_output(rng_key, slot, query, method=posterior))()
    layers = params["params"]
    kernels = [layers[name]["kernel"] for name in ("slot_stem", "query_stem")]
    both = np.concatenate([slot, query], axis=-1)
    whole = {"kernel": np.concatenate(kernels, axis=2), "bias": layers["slot_stem"]["bias"]}

    @jax.jit
    def by_hand():
        bound, stem = nets.bind(params), nn.Conv(3, (3, 3)).apply({"params": whole}, both)
        return bound.latent_posterior(bound.pyramid(stem)[-1].reshape(-1))[:2]

    np.testing.assert_allclose(found, by_hand(), rtol=1e-4, atol=1e-5)


def test_every_pixel_depends_on_the_code():
    decoder = PyramidDecoder(_SHAPE, 3)
    codes = jax.random.normal(jax.random.key(0), (2, 32, 8))
    decoded = jax.jit(lambda: decoder.init_with_output(jax.random.key(1), codes)[0])()
    assert decoded.shape == (2, 32, *_SHAPE)
    assert np.all(np.std(decoded, axis=1) > 0)


def test_a_zero_output_begins_at_zero():
    nets = ConditionalNets(_SHAPE, 2, 3, (4,), zero_output=True)

    @nn.nowrap
    def decode(nets, slots, latent):
        return nets.decode(nets.image_features(slots), latent)

    begin = jax.jit(lambda *given: nets.init_with_output(*given, method=decode)[0])
    found = begin(jax.random.key(0), images(0, 4), np.ones((4, 2)))
    assert found.shape == (4, *_SHAPE) and not found.any()
