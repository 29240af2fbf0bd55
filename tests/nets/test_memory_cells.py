import functools

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
_INPUTS = np.random.default_rng(0).normal(size=(6, 7)).astype(np.float32)


@functools.cache
def drawn(name):
    """Parameters by NumPy: nothing to compile."""
    rng = np.random.default_rng(1)
    layer = nn.RNN(CELLS[name])
    shapes = jax.eval_shape(layer.init, jax.random.key(0), _INPUTS)
    return jax.tree.map(lambda x: (0.5 * rng.normal(size=x.shape)).astype(x.dtype), shapes)


@functools.partial(jax.jit, static_argnums=0)
def outputs_and_gradient(name, params, inputs):
    """The memory and what is read, and the gradient of the sum of its squares."""

    def loss(params):
        layer = nn.RNN(CELLS[name], return_carry=True)
        memory, outputs = layer.apply(params, inputs, init_key=jax.random.key(1))
        return jnp.sum(outputs**2), (memory, outputs)

    (_, found), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    return *found, gradient


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_a_causal_layer_with_a_gradient(name):
    _, outputs, gradient = outputs_and_gradient(name, drawn(name), _INPUTS)
    assert outputs.shape == (6, 5)
    changed = _INPUTS.copy()
    changed[3] += 1.0
    _, after, _ = outputs_and_gradient(name, drawn(name), changed)
    np.testing.assert_array_equal(after[:3], outputs[:3])
    assert np.any(after[4:] != outputs[4:])  # it remembers
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)), path
        if "bias" not in str(path):
            assert np.any(leaf != 0), path


@pytest.mark.parametrize("name", CELLS)
def test_inputs_have_any_leading_axes(name):
    """Each with a memory of its own."""
    cell = CELLS[name]
    params, inputs = {"params": drawn(name)["params"]["cell"]}, _INPUTS[:2, None]
    carry = jax.eval_shape(lambda: cell.initialize_carry(jax.random.key(0), (2, 1, 7)))
    memory, found = jax.eval_shape(cell.apply, params, carry, inputs)
    assert found.shape == (2, 1, 5)
    assert jax.tree.map(jnp.shape, memory) == jax.tree.map(jnp.shape, carry)


def test_the_kanerva_cell_reads_the_posterior_of_all_that_was_written():
    """Against the whole episode by `kanerva.write`, with the cell's own weights, by hand."""
    cell, params = CELLS["kanerva"], drawn("kanerva")
    memory, outputs, _ = outputs_and_gradient("kanerva", params, _INPUTS)
    p = params["params"]["cell"]

    def dense(name, inputs=_INPUTS):
        return inputs @ p[name]["kernel"] + p[name]["bias"]

    @jax.jit
    def by_hand():
        weights = addressing.similarity(dense("write_key"), p["address_matrix"], "cosine")
        noise_var = cell.noise_var / jax.nn.sigmoid(dense("gate"))[:, 0]
        code = dense("code")
        after = kanerva.write(kanerva.prior(4, 3), weights, code, noise_var)
        before = kanerva.write(kanerva.prior(4, 3), weights[:5], code[:5], noise_var[:5])
        read_weights = addressing.similarity(dense("read_key"), p["address_matrix"], "cosine")
        return after, dense("output", kanerva.read(before, read_weights[5])[0])

    expected, found = by_hand()
    np.testing.assert_allclose(memory.mean, expected.mean, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(memory.row_cov, expected.row_cov, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(outputs[5], found, rtol=1e-3, atol=1e-4)


def test_a_shut_gate_has_a_finite_gradient():
    params = jax.tree.map(np.copy, drawn("kanerva"))
    params["params"]["cell"]["gate"]["bias"] -= 200.0  # its sigmoid is 0
    _, _, gradient = outputs_and_gradient("kanerva", params, _INPUTS)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_the_categorical_cell_keeps_the_newest_and_reads_one_of_them():
    params = drawn("categorical")
    memory, outputs, _ = outputs_and_gradient("categorical", params, _INPUTS)
    p = params["params"]["cell"]
    codes = _INPUTS @ p["code"]["kernel"] + p["code"]["bias"]
    np.testing.assert_allclose(memory.codes, codes[[4, 5, 2, 3]], rtol=1e-5, atol=1e-6)
    assert memory.num_writes == 6
    read = codes @ p["output"]["kernel"] + p["output"]["bias"]
    np.testing.assert_allclose(outputs[0], p["output"]["bias"], atol=1e-6)  # nothing is there yet
    for t in range(1, 6):
        held = read[max(0, t - 4) : t]
        assert np.min(np.max(np.abs(held - outputs[t]), axis=-1)) < 1e-5, t
