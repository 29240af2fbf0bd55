from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import nets
from memjax.errors import UserError
from memjax.memory import causal

_LAYERS = (nets.KanervaLayer, nets.DeltaLayer, nets.LinearAttentionLayer)
_FIELDS = {"num_heads": 2, "key_size": 4, "code_size": 3}
_LENGTH = 6
_INPUTS = np.random.default_rng(0).normal(size=(2, _LENGTH, 5)).astype(np.float32)
_REAL = np.arange(_LENGTH) < 4  # of padded sequences


@pytest.fixture(scope="module", params=_LAYERS, ids=lambda cls: cls.__name__)
def layer(request):
    return request.param(7, **_FIELDS)


def drawn(layer):
    """Variables of the sizes that a layer begins with, by NumPy: nothing to compile."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), _INPUTS)
    return jax.tree.map(
        lambda x: (rng.normal(size=x.shape) / max(x.shape[0], 4) ** 0.5).astype(x.dtype), shapes
    )


@pytest.fixture(scope="module")
def variables(layer):
    return drawn(layer)


@pytest.fixture(scope="module")
def apply(layer):
    """Compiled once for each combination of what is given."""
    return jax.jit(layer.apply)


@pytest.fixture(scope="module")
def whole(apply, variables):
    return apply(variables, _INPUTS)


@pytest.fixture(scope="module")
def derive(layer):
    """Gradients of the outputs' sines, and what the layer gives, where two steps are padding."""

    @jax.jit
    @partial(jax.grad, argnums=(0, 1), has_aux=True)
    def derive(variables, inputs):
        outputs, memory = layer.apply(variables, inputs, mask=np.stack([_REAL] * 2))
        return jnp.sum(jnp.sin(outputs)), (outputs, memory)

    return derive


@pytest.fixture(scope="module")
def short(apply, variables):
    return apply(variables, _INPUTS[:, :4])


def assert_same(found, wanted, atol):
    """What memories hold; a root of a covariance is one of many."""
    if isinstance(found, causal.CausalState):
        found, wanted = (
            (m.mean, m.precision, m.root @ jnp.swapaxes(m.root, -1, -2)) for m in (found, wanted)
        )
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, atol=atol)


def test_a_step_reads_what_stands_up_to_it(apply, variables, whole):
    outputs, _ = whole
    assert outputs.shape == (2, _LENGTH, 7)
    changed = _INPUTS.copy()
    changed[:, 3] += 1.0
    other, _ = apply(variables, changed)
    np.testing.assert_array_equal(other[:, :3], outputs[:, :3])
    assert np.abs(other[:, 3:] - outputs[:, 3:]).max(axis=(0, 2)).min() > 1e-4


def test_token_by_token_is_the_whole(layer, apply, variables, whole):
    memory, outputs = layer.initial_memory((2,)), []
    for t in range(_LENGTH):
        output, memory = apply(variables, _INPUTS[:, t : t + 1], memory)
        outputs.append(output)
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), whole[0], atol=2e-5)
    assert_same(memory, whole[1], 2e-5)


def test_padding_changes_nothing_whatever_stands_in_it(derive, variables, short):
    padded = np.where(_REAL[:, None], _INPUTS, np.nan)
    (gradients, in_inputs), (outputs, memory) = derive(variables, padded)
    _, (alone, memory_alone) = derive(variables, np.where(_REAL[:, None], _INPUTS, 0.0))
    np.testing.assert_array_equal(outputs, alone)
    assert not outputs[:, 4:].any()
    np.testing.assert_allclose(outputs[:, :4], short[0], atol=1e-6)
    for one, other in zip(jax.tree.leaves(memory), jax.tree.leaves(memory_alone), strict=True):
        np.testing.assert_array_equal(one, other)
    assert_same(memory, short[1], 1e-6)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))
    assert not in_inputs[:, 4:].any() and np.abs(in_inputs[:, :4]).min(axis=(0, 2)).min() > 0


@pytest.mark.parametrize("of_decays", [True, False])
def test_gradients_are_slopes(derive, variables, of_decays):
    """In float32 to a few hundredths: that no part is missing."""
    rng, name = np.random.default_rng(2), jax.tree_util.keystr
    direction = jax.tree_util.tree_map_with_path(
        lambda path, x: rng.normal(size=x.shape) * (("decay" in name(path)) == of_decays), variables
    )

    def at(step):
        moved = jax.tree.map(lambda x, d: (x + step * d).astype(x.dtype), variables, direction)
        (gradient, _), (outputs, _) = derive(moved, _INPUTS)
        return sum(jax.tree.leaves(jax.tree.map(np.vdot, gradient, direction))), np.sin(outputs)

    rise = np.sum(at(1e-2)[1] - at(-1e-2)[1]) / 2e-2
    np.testing.assert_allclose(at(0.0)[0], rise, rtol=0.03)


def test_packed_sequences_are_separate_ones(layer, apply, variables, short):
    ids = np.broadcast_to([0, 0, 0, 0, 3, 3], (2, _LENGTH))
    packed, memory = apply(variables, _INPUTS, segment_ids=ids)
    np.testing.assert_allclose(packed[:, :4], short[0], atol=1e-6)
    memory_last = layer.initial_memory((2,))
    for t in (4, 5):
        last, memory_last = apply(variables, _INPUTS[:, t : t + 1], memory_last)
        np.testing.assert_allclose(packed[:, t : t + 1], last, atol=2e-5)
    assert_same(memory, memory_last, 2e-5)


def steps_of_a_head(params):
    """Keys, codes, gates and decays of the second head, first sequence, in NumPy."""

    def dense(name):
        return _INPUTS[0] @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"])

    keys = dense("key").reshape(_LENGTH, 2, 4)[:, 1]
    keys = keys / np.linalg.norm(keys, axis=-1, keepdims=True)
    codes = dense("code").reshape(_LENGTH, 2, 3)[:, 1]
    gates, decays = (1 / (1 + np.exp(-dense(name)[:, 1])) for name in ("write_gate", "decay_gate"))
    return zip(keys, codes, gates, decays, strict=True)


@pytest.mark.parametrize("kind", _LAYERS, ids=lambda cls: cls.__name__)
def test_memories_follow_their_rules(kind):
    """One head's memory after the last step, in NumPy."""
    layer = kind(7, **_FIELDS)
    variables = drawn(layer)
    _, memory = jax.jit(layer.apply)(variables, _INPUTS)
    held, precision = np.zeros((4, 3)), np.eye(4)
    for key, code, gate, decay in steps_of_a_head(variables["params"]):
        if kind is nets.KanervaLayer:  # ridge regression, by its normal equations
            gate = gate / np.exp(variables["params"]["log_noise_var"][1])
            information = decay * (precision @ held) + np.outer(key, code) * gate
            precision = np.eye(4) + decay * (precision - np.eye(4)) + np.outer(key, key) * gate
            held = np.linalg.solve(precision, information)
            continue
        held = decay * held
        held += gate * np.outer(key, code - key @ held if kind is nets.DeltaLayer else code)
    found = memory.mean if kind is nets.KanervaLayer else memory
    np.testing.assert_allclose(found[0, 1], held, atol=1e-5)


def test_the_noise_begins_at_a_tenth():
    layer = nets.KanervaLayer(7, **_FIELDS)
    begin = jax.jit(lambda rng_key: layer.init(rng_key, _INPUTS)["params"]["log_noise_var"])
    np.testing.assert_allclose(begin(jax.random.key(0)), np.log(0.1), rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mask": np.ones((2, 5), bool)}, r"mask is bool\[2, 5\]; it must be bool\[2, 6\]"),
        ({"mask": np.ones((2, 6))}, r"mask is float32\[2, 6\]; it must be bool\[2, 6\]"),
        ({"segment_ids": np.zeros((2, 6))}, "segment_ids is float"),
        ({"segment_ids": np.tile([0, 1, 1, 0, 2, 2], (2, 1))}, "segment_ids go back after 1"),
        ({"inputs": _INPUTS[0, 0]}, r"inputs has shape \[5\]; it must be \[..., T, D\]"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    layer = nets.DeltaLayer(7, **_FIELDS)
    with pytest.raises(UserError, match=message):
        layer.init(jax.random.key(0), **({"inputs": _INPUTS} | given))
    with pytest.raises(UserError, match="num_heads is 0"):
        nets.KanervaLayer(7, num_heads=0).initial_memory()


@pytest.mark.parametrize("kind", [nets.KanervaLayer, nets.DeltaLayer])
def test_a_memory_that_does_not_fit_is_refused(kind):
    layer = kind(7, **_FIELDS)
    with pytest.raises(UserError, match="dtype is bfloat16; it must be float32 or wider"):
        layer.initial_memory((2,), jnp.bfloat16)
    other = nets.KanervaLayer if kind is nets.DeltaLayer else nets.DeltaLayer
    larger = kind(7, **{**_FIELDS, "code_size": 9})
    for memory, message in (
        (other(7, **_FIELDS).initial_memory((2,)), "memory is a"),
        (larger.initial_memory((2,)), "memory.* has shape"),
        (layer.initial_memory((3,)), "memory.* has shape"),
        (
            jax.tree.map(lambda x: x.astype(jnp.bfloat16), layer.initial_memory((2,))),
            "memory.* is bfloat16; it must be float32 or wider",
        ),
    ):
        with pytest.raises(UserError, match=message):
            jax.eval_shape(layer.init, jax.random.key(0), _INPUTS, memory)


@pytest.mark.parametrize("kind", [nets.DeltaLayer, nets.LinearAttentionLayer])
def test_a_wide_type_and_a_divided_batch(kind):
    """What is carried follows its inputs: in float64, and under `shard_map`."""
    layer, rng_key = kind(7, **_FIELDS), jax.random.key(0)
    with jax.enable_x64(True):
        wide = layer.clone(dtype=jnp.float64)
        (outputs, _), variables = jax.eval_shape(wide.init_with_output, rng_key, _INPUTS)
    assert outputs.dtype == jnp.float64
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("devices",))
    split, same = jax.sharding.PartitionSpec("devices"), jax.sharding.PartitionSpec()
    divided = jax.shard_map(layer.apply, mesh=mesh, in_specs=(same, split), out_specs=split)
    variables = jax.eval_shape(layer.init, rng_key, _INPUTS)
    outputs, _ = jax.eval_shape(divided, variables, _INPUTS)
    assert outputs.shape == (2, _LENGTH, 7)


@pytest.mark.slow
def test_it_stands_in_nnx_models():
    from flax import nnx

    layer = nnx.bridge.ToNNX(nets.KanervaLayer(7, **_FIELDS), rngs=nnx.Rngs(0))
    layer.lazy_init(_INPUTS)
    outputs, _ = layer(_INPUTS)
    assert outputs.shape == (2, _LENGTH, 7)


def test_a_stack_of_them_is_a_model():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            hidden, _ = nets.KanervaLayer(5, **_FIELDS, decays=False)(inputs)
            return nets.LinearAttentionLayer(3, **_FIELDS)(hidden)[0]

    shape = jax.eval_shape(lambda: Model().init_with_output(jax.random.key(0), _INPUTS[0])[0]).shape
    assert shape == (_LENGTH, 3)
