import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import nets
from memjax.memory import addressing, kanerva

CELLS = {
    "kanerva": nets.KanervaCell(5, num_slots=4, code_size=3, address_size=6),
    "categorical": nets.CategoricalCell(5, num_slots=4, code_size=3, address_size=6),
}


def run(cell, inputs, **options):
    layer = nn.RNN(cell, **options)
    params = layer.init(jax.random.key(0), inputs)
    return params, lambda inputs: layer.apply(params, inputs, init_key=jax.random.key(1))


@pytest.mark.parametrize("name", ["kanerva", pytest.param("categorical", marks=pytest.mark.slow)])
def test_a_cell_is_a_causal_layer_with_a_gradient(name):
    inputs = jax.random.normal(jax.random.key(2), (2, 6, 7))
    params, apply = run(CELLS[name], inputs)
    outputs = jax.jit(apply)(inputs)
    assert outputs.shape == (2, 6, 5)
    changed = jax.jit(apply)(inputs.at[:, 3].add(1.0))
    np.testing.assert_array_equal(changed[:, :3], outputs[:, :3])
    assert np.all(np.any(changed[:, 4:] != outputs[:, 4:], axis=(1, 2)))  # and it remembers

    def loss(params):
        return jnp.sum(nn.RNN(CELLS[name]).apply(params, inputs) ** 2)

    gradient = jax.jit(jax.grad(loss))(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)), path
        if "bias" not in str(path):
            assert np.any(leaf != 0), path


def test_the_kanerva_cell_reads_the_posterior_of_all_that_was_written():
    """Against the whole episode by `kanerva.write`, with the cell's own weights, by hand."""
    cell = CELLS["kanerva"]
    inputs = jax.random.normal(jax.random.key(2), (6, 7))
    params, _ = run(cell, inputs)
    memory, outputs = nn.RNN(cell, return_carry=True).apply(params, inputs)
    p = params["params"]["cell"]

    def dense(name, inputs=inputs):
        return inputs @ p[name]["kernel"] + p[name]["bias"]

    weights = addressing.similarity(dense("write_key"), p["address_matrix"], "cosine")
    noise_var = cell.noise_var / jax.nn.sigmoid(dense("gate"))[:, 0]
    expected = kanerva.write(kanerva.prior(4, 3), weights, dense("code"), noise_var)
    np.testing.assert_allclose(memory.mean, expected.mean, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(memory.row_cov, expected.row_cov, rtol=1e-3, atol=1e-4)
    before = kanerva.write(kanerva.prior(4, 3), weights[:5], dense("code")[:5], noise_var[:5])
    read_weights = addressing.similarity(dense("read_key"), p["address_matrix"], "cosine")
    found = kanerva.read(before, read_weights[5])[0]
    np.testing.assert_allclose(outputs[5], dense("output", found), rtol=1e-3, atol=1e-4)


def test_a_shut_gate_has_a_finite_gradient():
    cell = CELLS["kanerva"]
    inputs = jax.random.normal(jax.random.key(2), (6, 7))
    params, _ = run(cell, inputs)
    params["params"]["cell"]["gate"]["bias"] -= 200.0  # its sigmoid is 0

    def loss(params):
        return jnp.sum(nn.RNN(cell).apply(params, inputs) ** 2)

    gradient = jax.jit(jax.grad(loss))(params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_the_categorical_cell_keeps_the_newest_and_reads_one_of_them():
    cell = CELLS["categorical"]
    inputs = jax.random.normal(jax.random.key(2), (6, 7))
    params, _ = run(cell, inputs)
    memory, outputs = nn.RNN(cell, return_carry=True).apply(params, inputs)
    p = params["params"]["cell"]
    codes = inputs @ p["code"]["kernel"] + p["code"]["bias"]
    np.testing.assert_allclose(memory.codes, codes[jnp.array([4, 5, 2, 3])], rtol=1e-5, atol=1e-6)
    assert memory.num_writes == 6
    read = codes @ p["output"]["kernel"] + p["output"]["bias"]
    np.testing.assert_allclose(outputs[0], p["output"]["bias"], atol=1e-6)  # nothing is there yet
    for t in range(1, 6):
        held = read[max(0, t - 4) : t]
        assert np.min(np.max(np.abs(held - outputs[t]), axis=-1)) < 1e-5, t
