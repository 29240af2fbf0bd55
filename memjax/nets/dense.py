"""The nets of Variational Memory Addressing without convolutions, section 4.1 (VMA below)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
import numpyro.distributions as dist
from flax.linen.dtypes import promote_dtype

from memjax.nets import distributions
from memjax.nets.injected import ImageFeatures, ImageOutputs
from memjax.nets.inputs import Net, as_reals
from memjax.nets.mlp import MLP, image_to_vector


class DenseFeatures(NamedTuple):
    """What a slot's content gives to the nets; any leading axes, so that it can be looked up."""

    image: chex.Array | None  # [..., H, W, C], if it is one
    vector: chex.Array | None  # [..., D]; None for the image's pixels


class DenseConditionalNets(Net):
    """p(z|m), q(z|m, x) and p(x|m, z) by MLPs; VMA section 4.1.

    Where the slot m is an image, the decoder has a direct path from it to the pixels: a learned
    gain for each pixel times 2 m - 1, which is added to a Bernoulli's logits, or times m, to a
    Gaussian's means. A hidden layer of 128 units cannot copy an image that it has never seen, and
    recall is just that. The gain is an exponential, so that it can reach the 8 nats or so that a
    certain pixel takes in a few thousand steps.

    Attributes:
      image_shape: (H, W, C).
      latent_size: size of z.
      hidden_sizes: units of the encoder's hidden layers; the decoder has them in reverse.
      likelihood: "bernoulli" or "gaussian".
      direct: whether there is a direct path; for slots that are images.
      encoder: a net that makes vectors of x and m, see `ImageFeatures`; None: their pixels.
      decoder: a net that makes an image of the concatenation of m's vector and z; None: an MLP.
      zero_output: whether that MLP's last layer begins at zero.
    """

    image_shape: Sequence[int]
    latent_size: int
    hidden_sizes: Sequence[int]
    likelihood: str = "bernoulli"
    direct: bool = True
    encoder: nn.Module | None = None
    decoder: nn.Module | None = None
    zero_output: bool = False

    def setup(self):
        """Names the parameters."""
        types = self._types
        self.latent_prior = MLP(self.hidden_sizes, 2 * self.latent_size, **types)
        self.latent_posterior = MLP(self.hidden_sizes, 2 * self.latent_size, **types)
        if self.encoder is not None:
            self.features = ImageFeatures(self.encoder, **types)
        if self.decoder is None:
            sizes = tuple(self.hidden_sizes)[::-1]
            num_pixels = math.prod(self.image_shape)
            self.pixels: nn.Module = MLP(sizes, num_pixels, self.zero_output, **types)
        else:
            self.pixels = ImageOutputs(self.decoder, self.image_shape, **types)
        if self.direct:
            shape = tuple(self.image_shape)
            self.log_gain = self.param("log_gain", nn.initializers.zeros, shape, self.param_dtype)

    def image_features(self, images: chex.Array) -> DenseFeatures:
        """Features of slots that hold images `[..., H, W, C]`."""
        images = as_reals("images", images, self.dtype)
        return DenseFeatures(images, None if self.encoder is None else self.features(images))

    def vector_features(self, vectors: chex.Array) -> DenseFeatures:
        """Features of slots that hold vectors `[..., D]`."""
        return DenseFeatures(None, as_reals("vectors", vectors, self.dtype))

    def prior(self, features: DenseFeatures) -> dist.Distribution:
        """p(z|m)."""
        return distributions.diagonal_normal(self.latent_prior(_vector(features)))

    def posterior(self, features: DenseFeatures, query: chex.Array) -> dist.Distribution:
        """q(z|m, x) for one query `[H, W, C]`."""
        query = _vector(self.image_features(query))
        return distributions.diagonal_normal(self.latent_posterior(query, _vector(features)))

    def decode(self, features: DenseFeatures, latent: chex.Array) -> chex.Array:
        """What p(x|m, z) is made of, `[..., H, W, C]`, for latents `[..., latent_size]`."""
        latent = as_reals("latent", latent)
        pixels = self.pixels(_vector(features), latent)
        outputs = pixels.reshape(*latent.shape[:-1], *self.image_shape)
        if features.image is None or not self.direct:
            return outputs
        bernoulli = self.likelihood == "bernoulli"
        ink = 2.0 * features.image - 1.0 if bernoulli else features.image
        outputs, ink, log_gain = promote_dtype(outputs, ink, self.log_gain, dtype=self.dtype)
        return outputs + jnp.expand_dims(jnp.exp(log_gain), range(ink.ndim - 3)) * ink


def _vector(features: DenseFeatures) -> chex.Array:
    if features.image is not None and features.vector is None:
        return image_to_vector(features.image)
    assert features.vector is not None
    return features.vector
