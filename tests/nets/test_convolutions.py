import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.nets.convolutions import ConvTranspose


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (jnp.float32, 1e-5),
        pytest.param(jnp.bfloat16, 0.05, marks=pytest.mark.slow),
        pytest.param(jnp.float64, 1e-12, marks=pytest.mark.slow),
    ],
)
def test_a_transposed_convolution_is_flax_s_by_value_and_gradient(dtype, tolerance):
    with jax.enable_x64(dtype == jnp.float64):
        rng = np.random.default_rng(0)
        inputs = jnp.asarray(rng.normal(size=(2, 3, 3, 2, 4)), dtype)
        weights = jnp.asarray(rng.normal(size=(2, 3, 6, 4, 5)), dtype)
        ours = ConvTranspose(5, param_dtype=dtype)
        flax_s = nn.ConvTranspose(5, (4, 4), strides=(2, 2), param_dtype=dtype)
        params = ours.init(jax.random.key(0), inputs)

        @jax.jit
        def values_and_gradients(params, inputs):
            found = []
            for net in (ours, flax_s):
                apply = jax.vmap(net.apply, (None, 0))
                outputs, vjp = jax.vjp(apply, params, inputs)
                found.append((outputs, vjp(weights)))
            return found

        of_ours, of_flax_s = values_and_gradients(params, inputs)
        again = flax_s.init(jax.random.key(0), inputs)
    assert jax.tree.all(jax.tree.map(lambda *x: bool((x[0] == x[1]).all()), params, again))
    for one, other in zip(jax.tree.leaves(of_ours), jax.tree.leaves(of_flax_s), strict=True):
        assert one.dtype == other.dtype == dtype
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        assert np.abs(one - other).max() <= tolerance * max(1.0, np.abs(other).max())


def test_no_gradient_convolves_with_zeros_or_with_windows_above_its_input():
    """On a CPU XLA does both by plain loops, several times slower."""
    net, inputs = ConvTranspose(3), np.ones((2, 4, 4, 3), np.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), inputs)
    total = lambda params, inputs: net.apply(params, inputs).sum()  # noqa: E731
    jaxpr = jax.make_jaxpr(jax.grad(total, (0, 1)))(params, inputs)
    convolutions = [e for e in jaxpr.eqns if e.primitive.name == "conv_general_dilated"]
    assert len(convolutions) == 3
    for convolution in convolutions:
        assert convolution.params["lhs_dilation"] == (1, 1)
        numbers = convolution.params["dimension_numbers"]
        images, windows = (x.aval.shape for x in convolution.invars)
        for image_axis, window_axis in zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], strict=True):
            assert windows[window_axis] <= images[image_axis]
