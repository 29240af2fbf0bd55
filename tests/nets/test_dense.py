"""The dense nets of VMA: a direct path from the slot's pixels, one encoder of query and slot."""

from functools import partial

import jax
import numpy as np
import pytest

from memjax.nets import DenseConditionalNets
from tests.model_examples import Decoder, Encoder

_SHAPE = (3, 2, 1)


def parts(nets, slot, query):
    features = nets.image_features(slot)
    latent = nets.posterior(features, query).mean
    return features, nets.prior(features).mean, latent, nets.decode(features, latent)


def drawn(nets, *inputs):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: nets.init(jax.random.key(0), *inputs, method=parts))
    return jax.tree.map(lambda x: (0.5 * rng.normal(size=x.shape)).astype(x.dtype), shapes)


@partial(jax.jit, static_argnums=0)
def apply(nets, variables, *inputs):
    return nets.apply(variables, *inputs, method=parts)


def images(*axes):
    return np.random.default_rng(1).random((*axes, *_SHAPE)).astype(np.float32)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("decoder", [None, Decoder(_SHAPE)])
def test_what_is_copied_is_added_to_what_is_decoded(likelihood, decoder):
    """exp(log_gain) times 2 m - 1 to logits, times m to a Gaussian's means."""
    slots = images(4)
    nets = DenseConditionalNets(_SHAPE, 2, (4,), likelihood, True, decoder=decoder)
    plain = nets.clone(direct=False)
    variables = drawn(nets, slots, slots[0])
    params = dict(variables["params"])
    gain = np.exp(np.asarray(params.pop("log_gain"), np.float64))
    with jax.numpy_rank_promotion("raise"):
        *_, latent, outputs = apply(nets, variables, slots, slots[0])
        *_, decoded = apply(plain, {"params": params}, slots, slots[0])
    ink = 2.0 * slots - 1.0 if likelihood == "bernoulli" else slots
    assert latent.shape == (4, 2)
    np.testing.assert_allclose(outputs, decoded + gain * ink, rtol=1e-5, atol=1e-5)


def test_vectors_have_no_direct_path():
    nets = DenseConditionalNets(_SHAPE, 2, (4,), direct=False)

    def run(nets, vectors):
        features = nets.vector_features(vectors)
        return nets.decode(features, nets.posterior(features, images()).mean)

    start = jax.jit(partial(nets.init_with_output, method=run))
    found, variables = start(jax.random.key(0), np.ones((3, 5)))
    assert found.shape == (3, *_SHAPE) and "log_gain" not in variables["params"]


def test_an_encoder_is_one_of_the_query_and_of_the_slot():
    nets = DenseConditionalNets(_SHAPE, 2, (4,), encoder=Encoder())
    slots = images(4)
    variables = drawn(nets, slots, slots[0])
    dense = variables["params"]["encoder"]["Dense_0"]
    features, *_ = apply(nets, variables, slots, slots[0])
    expected = np.maximum(slots.reshape(4, -1) @ dense["kernel"] + dense["bias"], 0)
    np.testing.assert_allclose(features.vector, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(features.image, slots)
    kernel = variables["params"]["latent_posterior"]["kernel"]
    assert kernel.shape == (3 + 3, 4)
