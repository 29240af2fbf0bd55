from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.nets.convolutions import Conv, ConvTranspose, Dense, gather, spread


def _pair(window, strides):
    ours = partial(Conv, window=window, strides=strides)
    return ours, partial(nn.Conv, kernel_size=(window, window), strides=strides)


_up = partial(nn.ConvTranspose, kernel_size=(4, 4), strides=(2, 2))
_PAIRS = {  # ours, Flax's, features, inputs
    "up to one channel": (ConvTranspose, _up, 1, (2, 3, 3, 2, 4)),
    "up to more": (ConvTranspose, _up, 5, (2, 3, 1, 2, 4)),
    "down from one channel": (*_pair(4, 2), 5, (2, 3, 5, 4, 1)),
    "down from more": (*_pair(4, 2), 5, (2, 3, 5, 4, 4)),
    "down, 3 x 3, from one channel": (*_pair(3, 2), 5, (2, 3, 5, 4, 1)),
    "down, 3 x 3": (*_pair(3, 2), 5, (2, 3, 5, 4, 4)),
    "3 x 3 to one channel": (*_pair(3, 1), 1, (2, 3, 5, 4, 4)),
    "3 x 3 to two": (*_pair(3, 1), 2, (2, 3, 5, 4, 4)),
    "dense": (Dense, nn.Dense, 5, (2, 3, 5, 4, 4)),
}
_BY_PRODUCTS = ("3 x 3 to one channel", "3 x 3 to two", "dense")


@pytest.mark.parametrize(
    "pair", [pytest.param(p, marks=pytest.mark.slow) if "one" in p else p for p in _PAIRS]
)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (jnp.float32, 1e-5),
        pytest.param(jnp.bfloat16, 0.05, marks=pytest.mark.slow),
        pytest.param(jnp.float64, 1e-12, marks=pytest.mark.slow),
    ],
)
def test_a_convolution_is_flax_s_by_value_tangent_and_gradient(pair, dtype, tolerance):
    """Also the gradient of the kernel for each image, under `vmap`."""
    ours, flax_s, features, shape = _PAIRS[pair]
    with jax.enable_x64(dtype == jnp.float64):
        rng = np.random.default_rng(0)
        inputs = jnp.asarray(rng.normal(size=shape), dtype)
        nets = [kind(features=features, param_dtype=dtype) for kind in (ours, flax_s)]
        params = [net.init(jax.random.key(0), inputs) for net in nets]

        @jax.jit
        def values_and_gradients(params, inputs):
            found = []
            for net in nets:
                apply = jax.vmap(net.apply, (None, 0))
                outputs, vjp = jax.vjp(apply, params, inputs)
                of_each = jax.vmap(lambda x, net=net: jax.grad(_total(net))(params, x))(inputs)
                tangents = jax.jvp(apply, (params, inputs), (params, inputs))[1]
                found.append((outputs, vjp(jnp.sin(outputs)), of_each, tangents))
            return found

        of_ours, of_flax_s = values_and_gradients(params[0], inputs)
    assert jax.tree.all(jax.tree.map(lambda *x: bool((x[0] == x[1]).all()), *params))
    for one, other in zip(jax.tree.leaves(of_ours), jax.tree.leaves(of_flax_s), strict=True):
        assert one.dtype == other.dtype == dtype
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        assert np.abs(one - other).max() <= tolerance * max(1.0, np.abs(other).max())


@pytest.mark.parametrize("pair", _PAIRS)
def test_no_gradient_convolves_with_zeros_or_with_windows_above_its_input(pair):
    """On a CPU XLA does both by plain loops, several times slower."""
    kind, _, features, shape = _PAIRS[pair]
    net, inputs = kind(features=features), np.ones((2, 8, 8, shape[-1]), np.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), inputs)
    jaxpr = jax.make_jaxpr(jax.jit(jax.grad(_total(net), (0, 1))))(params, inputs)
    found = list(_convolutions(jaxpr.jaxpr))
    assert len(found) >= (1 if pair in _BY_PRODUCTS else 3)
    for equation in found:
        assert equation.params["lhs_dilation"] == (1, 1)
        numbers = equation.params["dimension_numbers"]
        images, windows = (x.aval.shape for x in equation.invars)
        for image_axis, window_axis in zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], strict=True):
            assert windows[window_axis] <= images[image_axis]


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 3)])
def test_gather_undoes_spread(height, width):
    maps = np.random.default_rng(0).normal(size=(2, height, width, 3))
    blocks = gather(jnp.asarray(maps))
    assert blocks.shape == (2, -(-height // 2), -(-width // 2), 12)
    np.testing.assert_array_equal(spread(blocks)[:, :height, :width], jnp.asarray(maps))


def _total(net):
    return lambda params, inputs: jnp.sum(jnp.sin(net.apply(params, inputs)))


def _convolutions(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            yield equation
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                yield from _convolutions(value.jaxpr)
