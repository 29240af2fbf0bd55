"""Nets in every type: any width in; out and inside as Flax's modules do; no integers."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from memjax import nets
from memjax.errors import UserError
from memjax.nets import distributions
from tests.model_examples import Decoder, Encoder

_SHAPE = (5, 5, 1)
_NETS = {
    nets.MLP: (nets.MLP((4,), 3), (6,)),
    nets.ImageEncoder: (nets.ImageEncoder(3, 2), _SHAPE),
    nets.ImageDecoder: (nets.ImageDecoder(_SHAPE, 2), (6,)),
    nets.PyramidEncoder: (nets.PyramidEncoder(3, 2, (4,)), _SHAPE),
    nets.PyramidDecoder: (nets.PyramidDecoder(_SHAPE, 2), (6,)),
    nets.MemoryLayer: (nets.MemoryLayer(3, 2), (6,)),
    nets.KanervaCell: (nn.RNN(nets.KanervaCell(3, 4, 2, 5)), (3, 6)),
    nets.KanervaLayer: (nets.KanervaLayer(3, 2, 4, 2), (3, 6)),
    nets.DeltaLayer: (nets.DeltaLayer(3, 2, 4, 2), (3, 6)),
    nets.LinearAttentionLayer: (nets.LinearAttentionLayer(3, 2, 4, 2), (3, 6)),
    nets.CategoricalCell: (nn.RNN(nets.CategoricalCell(3, 4, 2, 5)), (3, 6)),
    nets.ConditionalNets: (nets.ConditionalNets(_SHAPE, 2, 2, (4,)), _SHAPE),
    nets.DenseConditionalNets: (nets.DenseConditionalNets(_SHAPE, 2, (4,)), _SHAPE),
    nets.LearnedSlotNets: (nets.LearnedSlotNets(_SHAPE, 2, 2, (4,)), _SHAPE),
    nets.ImageFeatures: (nets.ImageFeatures(Encoder(), 2), _SHAPE),
    nets.ImageOutputs: (nets.ImageOutputs(Decoder(_SHAPE), _SHAPE), (6,)),
    nets.ImageLikelihood: (nets.ImageLikelihood("gaussian"), _SHAPE),
}
_CONDITIONAL = (nets.ConditionalNets, nets.DenseConditionalNets, nets.LearnedSlotNets)
_LAYERS = (nets.KanervaLayer, nets.DeltaLayer, nets.LinearAttentionLayer)
_INJECTED = (nets.ImageFeatures, nets.ImageOutputs)  # a user's net has types of its own


def apply(net, variables, inputs):
    if isinstance(net, _CONDITIONAL):
        return net.apply(variables, inputs, method=conditional)
    return net.apply(variables, inputs)


def conditional(net, image):
    if isinstance(net, nets.LearnedSlotNets):
        features = net.vector_features(jnp.asarray(image)[..., 0, 0])
    else:
        features = net.image_features(image)
    latent = net.posterior(features, image).mean
    return net.prior(features), net.decode(features, latent)


def with_types(net, **types):
    return nn.RNN(net.cell.clone(**types)) if isinstance(net, nn.RNN) else net.clone(**types)


@functools.cache
def variables_of(kind, param_dtype=jnp.float32):
    net, shape = _NETS[kind]
    net, inputs = with_types(net, param_dtype=param_dtype), np.zeros(shape, np.float32)
    if kind is nets.ImageLikelihood:  # whose parameter is no input of a `Dense`
        return {"params": {"log_scales": np.zeros(1, param_dtype)}}
    methods = {"method": conditional} if kind in _CONDITIONAL else {}
    return jax.eval_shape(lambda: net.init(jax.random.key(0), inputs, **methods))


def float_types(tree):
    return {x.dtype for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)}


def test_no_net_is_forgotten():
    public = {getattr(nets, name) for name in nets.__all__}
    modules = {x for x in public if isinstance(x, type) and issubclass(x, nn.Module)}
    assert modules == set(_NETS), "say in `_NETS` how a new net is made, and of what shape is given"


@pytest.mark.parametrize(
    "kind",
    [  # it takes long to trace, and its like have the rest of it
        pytest.param(kind, marks=[pytest.mark.slow] * (kind is nets.KanervaLayer)) for kind in _NETS
    ],
    ids=lambda kind: kind.__name__,
)
def test_floats_of_any_width(kind):
    net, shape = _NETS[kind]
    inputs = np.random.default_rng(0).random(shape).astype(np.float32)
    variables = variables_of(kind)
    with jax.numpy_rank_promotion("raise"):
        given = jax.ShapeDtypeStruct(shape, jnp.float16)
        found = jax.eval_shape(lambda v, x: apply(net, v, x), variables, given)
        assert float_types(found) == {jnp.dtype(jnp.float32)}
        if not isinstance(net, nn.RNN):  # which asks for a shape itself
            jax.eval_shape(lambda v: apply(net, v, inputs.tolist()), variables)
        with jax.enable_x64(True):
            for dtype in (jnp.float32, jnp.float64):
                given = jax.ShapeDtypeStruct(shape, dtype)
                found = float_types(jax.eval_shape(lambda v, x: apply(net, v, x), variables, given))
                # A likelihood's scales stay as they are.
                assert found - {jnp.dtype(jnp.float32)} <= {jnp.dtype(dtype)} <= found


def outputs_of(kind, found):
    """What is no distribution, and no memory: those are float32 or wider."""
    if kind in _CONDITIONAL or kind in _LAYERS:
        return found[1 if kind in _CONDITIONAL else 0]
    return () if kind is nets.ImageLikelihood else found


@pytest.mark.parametrize("kind", _NETS, ids=lambda kind: kind.__name__)
def test_each_net_has_flaxs_two_types(kind):
    """`dtype`, or else what inputs and parameters are together; `param_dtype`."""
    fields = {field.name: field.default for field in dataclasses.fields(kind)}
    assert (fields["dtype"], fields["param_dtype"]) == (None, jnp.float32)
    plain, shape = _NETS[kind]
    half, full = jnp.bfloat16, jnp.float32
    cases = [(half, full, full, half), (full, half, half, full)]
    if kind not in (*_INJECTED, *_CONDITIONAL):  # which draw latents, in float32
        cases.append((None, half, half, half))
    for dtype, param_dtype, given, wanted in cases:
        net = with_types(plain, dtype=dtype, param_dtype=param_dtype)
        variables = variables_of(kind, param_dtype)
        own = jax.tree_util.tree_leaves_with_path(variables["params"])
        own = {leaf.dtype for path, leaf in own if "'net'" not in jax.tree_util.keystr(path)}
        assert own <= {jnp.dtype(param_dtype)}
        inputs = jax.ShapeDtypeStruct(shape, given)
        found = jax.eval_shape(lambda v, x, net=net: apply(net, v, x), variables, inputs)
        assert float_types(found) <= {jnp.dtype(wanted), jnp.dtype(full)}
        assert float_types(outputs_of(kind, found)) <= {jnp.dtype(wanted)}
        assert kind not in _LAYERS or float_types(found[1]) == {jnp.dtype(full)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", _NETS, ids=lambda kind: kind.__name__)
def test_bfloat16_is_finite(kind):
    plain, shape = _NETS[kind]
    rng = np.random.default_rng(0)
    net = with_types(plain, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    inputs, variables = jax.tree.map(
        lambda leaf: (0.3 * rng.random(leaf.shape)).astype(leaf.dtype),
        (np.zeros(shape, np.float32), variables_of(kind, jnp.bfloat16)),
    )
    for leaf in jax.tree.leaves(jax.jit(functools.partial(apply, net))(variables, inputs)):
        assert not jnp.issubdtype(leaf.dtype, jnp.floating) or np.isfinite(leaf).all()


@pytest.mark.parametrize("kind", _NETS, ids=lambda kind: kind.__name__)
def test_integers_are_refused(kind):
    net, shape = _NETS[kind]
    variables = variables_of(kind)
    with pytest.raises(UserError, match=r"^\w+ is uint8; it must be floating-point"):
        apply(net, variables, np.zeros(shape, np.uint8))


def test_a_density_over_many_pixels_is_summed_in_float32():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(3 * rng.normal(size=(28, 28, 1)), jnp.bfloat16)
    image = jnp.asarray(rng.integers(0, 2, (28, 28, 1)), jnp.bfloat16)
    wide, pixels = np.asarray(logits, np.float64), np.asarray(image, np.float64)
    found = distributions.bernoulli_image(logits).log_prob(image)
    np.testing.assert_allclose(found, (pixels * wide - np.logaddexp(0, wide)).sum(), rtol=1e-5)
    log_scale = jnp.asarray(-0.5, jnp.float16)
    found = distributions.gaussian_image(logits, log_scale).log_prob(image)
    np.testing.assert_allclose(
        found, scipy.stats.norm.logpdf(pixels, wide, np.exp(-0.5)).sum(), rtol=1e-5
    )
    one, zeros = jnp.full(3, log_scale), jnp.zeros(3, jnp.float16)
    colours = distributions.channel_gaussian_image(jnp.tile(logits, 3), one, zeros)
    np.testing.assert_allclose(colours.log_prob(jnp.tile(image, 3)), 3 * found, rtol=1e-5)
    found = distributions.diagonal_normal(jnp.array([0.0, 60.0], jnp.float16))
    assert np.isfinite(found.variance) and found.variance > 1e5  # no float16


def test_draws_are_numpyros_in_the_parameters_type():
    gaussian = distributions.diagonal_normal(np.linspace(-1, 1, 6))
    rng_key = jax.random.key(0)
    repeated = distributions.draw(rng_key, distributions.repeat(gaussian, 4))
    np.testing.assert_allclose(repeated, gaussian.sample(rng_key, (4,)), rtol=1e-6)
    image = distributions.bernoulli_image(np.linspace(-2, 2, 9).reshape(3, 3, 1))
    drawn = distributions.draw(rng_key, image)
    np.testing.assert_array_equal(drawn, image.sample(rng_key))
    assert drawn.dtype == jnp.float32
    with jax.enable_x64(True):
        narrow = distributions.standard_normal(3)
        assert distributions.draw(rng_key, narrow).dtype == jnp.float32


@pytest.mark.parametrize("kind", [nets.KanervaCell, nets.CategoricalCell])
def test_a_carry_keeps_its_type_and_is_never_narrow(kind):
    cell, inputs = kind(3, 4, 2, 5), np.ones((2, 6), np.float32)
    rng_key = jax.random.key(0)
    variables = jax.eval_shape(lambda: cell.init(rng_key, carry(cell), inputs))
    with jax.enable_x64(True):
        given = jax.ShapeDtypeStruct(inputs.shape, jnp.float64)
        after, _ = jax.eval_shape(cell.apply, variables, cast(carry(cell), jnp.float32), given)
        assert float_types(after) == {jnp.dtype(jnp.float32)}
    with pytest.raises(UserError, match="is bfloat16; it must be float32 or wider"):
        jax.eval_shape(cell.apply, variables, cast(carry(cell), jnp.bfloat16), inputs)


def carry(cell):
    return cell.initialize_carry(jax.random.key(0), (2, 6))


def cast(memory, dtype):
    def one(leaf):
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(one, memory)


def test_images_are_checked_where_their_values_are_known():
    for images in (jnp.full(_SHAPE, 2.0), np.full(_SHAPE, 2.0), [[[2.0]]]):
        with pytest.raises(UserError, match="images range from 0 to 2"):
            jax.jit(lambda images=images: nets.check_images(images))()
    jax.jit(nets.check_images)(jnp.full(_SHAPE, 2.0))  # nothing is known here
    nets.check_images(np.zeros((0, *_SHAPE)))
