import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.nets import MLP, image_to_vector


def forward(params, inputs):
    """The same net in float64 NumPy, on the concatenation of its inputs."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)["params"]
    hidden = np.maximum(np.concatenate(inputs, axis=-1) @ params["kernel"] + params["bias"], 0)
    for i in range(1, len(params) - 2):
        layer = params[f"hidden_{i}"]
        hidden = np.maximum(hidden @ layer["kernel"] + layer["bias"], 0)
    return hidden @ params["output"]["kernel"] + params["output"]["bias"]


@pytest.mark.parametrize("hidden_sizes", [(7,), (7, 5), (7, 5, 6)])
def test_against_numpy_on_the_concatenation(hidden_sizes):
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    net = MLP(hidden_sizes, 3)
    params = jax.jit(net.init)(jax.random.key(0), one, other)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)  # biases begin at zero
    np.testing.assert_allclose(
        jax.jit(net.apply)(params, one, other), forward(params, [one, other]), rtol=1e-4, atol=1e-5
    )


def test_inputs_broadcast():
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=3), rng.normal(size=(4, 2))
    net = MLP((7,), 3)
    params = net.init(jax.random.key(0), shared, own)
    tiled = net.apply(params, np.broadcast_to(shared, (4, 3)), own)
    np.testing.assert_allclose(net.apply(params, shared, own), tiled, rtol=1e-5, atol=1e-6)


def test_a_zero_output_begins_at_zero_and_learns():
    """The hidden layers begin as they do without it."""
    inputs = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    net, rng_key = MLP((7, 5), 3, zero_output=True), jax.random.key(0)

    @jax.jit
    def begin():
        outputs, variables = net.init_with_output(rng_key, inputs)
        return outputs, variables["params"], MLP((7, 5), 3).init(rng_key, inputs)["params"]

    outputs, params, usual = begin()
    assert not outputs.any()
    chex.assert_trees_all_equal(params | {"output": usual["output"]}, usual)
    gradient = jax.jit(jax.grad(lambda p: net.apply({"params": p}, inputs).sum()))(params)
    assert jnp.all(gradient["output"]["kernel"].any(axis=1) == (hidden_of(params, inputs) > 0))


def hidden_of(params, inputs):
    """Which of the last hidden units are ever on: `[units]`."""
    return jax.nn.relu(
        jax.nn.relu(inputs @ params["kernel"] + params["bias"]) @ params["hidden_1"]["kernel"]
    ).max(axis=0)


def test_image_to_vector_keeps_leading_axes():
    images = jnp.arange(2 * 3 * 4 * 5 * 1.0).reshape(2, 3, 4, 5, 1)
    vectors = image_to_vector(images)
    assert vectors.shape == (2, 3, 20)
    np.testing.assert_array_equal(vectors[1, 2], np.ravel(images[1, 2]))
