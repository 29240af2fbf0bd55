"""What a user's net is given and what of its outputs is taken."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.errors import UserError
from memjax.nets import ImageFeatures, ImageOutputs
from tests.model_examples import Decoder, Encoder

_SHAPE = (3, 2, 1)
_IMAGES = np.random.default_rng(0).random((2, 4, *_SHAPE)).astype(np.float32)


class Gives(nn.Module):
    """A net that gives what a function makes of its inputs."""

    function: object

    def __call__(self, inputs):
        return self.function(inputs)


def features(function, images=_IMAGES, **fields):
    net = ImageFeatures(Gives(function), **fields)
    return jax.eval_shape(lambda: net.init_with_output(jax.random.key(0), images)[0])


def decoded(function, codes):
    return jax.eval_shape(lambda: ImageOutputs(Gives(function), _SHAPE)(codes))


@pytest.mark.parametrize("output_size", [0, 5])
def test_leading_axes_come_back(output_size):
    net = ImageFeatures(Encoder(), output_size)
    found, variables = jax.jit(net.init_with_output)(jax.random.key(0), _IMAGES)
    assert found.shape == (2, 4, output_size or 3)
    np.testing.assert_allclose(net.apply(variables, _IMAGES[1, 2]), found[1, 2], rtol=1e-5)
    assert ("Dense_0" in variables["params"]) == bool(output_size)

    class Model(nn.Module):
        @nn.compact
        def __call__(self, codes):
            return ImageOutputs(Decoder(_SHAPE), _SHAPE)(codes)

    codes = np.random.default_rng(1).random((2, 4, 7)).astype(np.float32)
    found, variables = jax.jit(Model().init_with_output)(jax.random.key(0), codes)
    assert found.shape == (2, 4, *_SHAPE)
    np.testing.assert_allclose(Model().apply(variables, codes[1, 2]), found[1, 2], rtol=1e-5)


def test_low_precision_outputs_stay_or_become_what_is_asked_for():
    def narrow(x):
        return x.reshape(x.shape[0], -1).astype(jnp.bfloat16)

    assert features(narrow).dtype == jnp.bfloat16
    found = features(narrow, dtype=jnp.float32)
    assert found.dtype == jnp.float32 and found.shape == (2, 4, 6)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x, r"encoder gives [3, 2, 1] for an image; it must give a vector"),
        (lambda x: x[:, 0, 0, 0], "encoder gives [] for an image; it must give a vector"),
        (lambda x: x.reshape(-1), "encoder gives [48] for a batch [8, 3, 2, 1]; its first axis"),
        (jnp.sum, "encoder gives [] for a batch [8, 3, 2, 1]; its first axis must be the batch's"),
        (lambda x: x[0].reshape(-1), "encoder gives [6] for a batch [8, 3, 2, 1]; its first axis"),
        (lambda x: (x, x), "encoder gives [2, 8, 3, 2, 1] for a batch [8, 3, 2, 1]; its first"),
        (lambda x: x.astype(jnp.int32), "what encoder gives is int32; it must be floating-point"),
        (lambda x: {"mean": x}, "what encoder gives is"),
    ],
)
def test_features_of_another_shape_are_refused_in_one_line(function, message):
    with pytest.raises(UserError) as caught:
        features(function)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_the_models_field_is_named():
    with pytest.raises(UserError, match=r"^embedding gives"):
        features(lambda x: x, field="embedding")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda z: z, "decoder gives [6] for a code; it must give an image [3, 2, 1]"),
        (lambda z: z.reshape(-1, 2, 3, 1), "decoder gives [2, 3, 1] for a code; it must give an"),
        (lambda z: z.reshape(-1, 3, 2), "decoder gives [3, 2] for a code; it must give an image"),
        (lambda z: z[0].reshape(_SHAPE), "decoder gives [3, 2, 1] for a batch [4, 6]; its first"),
    ],
)
def test_images_of_another_shape_are_refused_in_one_line(function, message):
    with pytest.raises(UserError) as caught:
        decoded(function, np.ones((4, 6), np.float32))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
