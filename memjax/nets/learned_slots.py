"""Convolutional nets for a learned memory, whose slots are vectors."""

import math
from collections.abc import Sequence

import chex
import jax.numpy as jnp
import numpyro.distributions as dist

from memjax.nets import distributions
from memjax.nets.image import ImageDecoder, ImageEncoder
from memjax.nets.inputs import Net, as_reals
from memjax.nets.mlp import MLP


class LearnedSlotNets(Net):
    """p(z|m), q(z|m, x) and p(x|m, z) for slots m that are learned vectors `[..., D]`.

    Convolutions see x or z alone. Two MLPs, zero at first, add what m has to say: one, of m and the
    encoded x, to the parameters of q(z|m, x); one, of m, to the pixels. Where convolutions see
    learned slots, a few slots win before the rest are told apart; where all of x goes through
    hidden layers to z, slots do what z should. The paper does not say what its nets are here.

    Attributes:
      image_shape: (H, W, C).
      latent_size: size of z.
      num_filters: of every convolution.
      hidden_sizes: units of the hidden layers of p(z|m); of the pixels in reverse; the last, of
        q(z|m, x).
      zero_output: whether the decoder's last convolution begins at zero.
    """

    image_shape: Sequence[int]
    latent_size: int
    num_filters: int
    hidden_sizes: Sequence[int]
    zero_output: bool = False

    def setup(self):
        """Names the parameters."""
        types, num_outputs = self._types, 2 * self.latent_size
        hidden_sizes = tuple(self.hidden_sizes)
        self.encoder = ImageEncoder(num_outputs, self.num_filters, **types)
        sizes = (self.image_shape, self.num_filters, (), self.zero_output)
        self.decoder = ImageDecoder(*sizes, **types)
        self.latent_prior = MLP(hidden_sizes, num_outputs, **types)
        self.latent_shift = MLP(hidden_sizes[-1:], num_outputs, zero_output=True, **types)
        num_pixels = math.prod(self.image_shape)
        self.slot_pixels = MLP(hidden_sizes[::-1], num_pixels, zero_output=True, **types)

    def vector_features(self, vectors: chex.Array) -> chex.Array:
        """What the nets take of slots `[..., D]`: as they are."""
        return as_reals("vectors", vectors, self.dtype)

    def prior(self, features: chex.Array) -> dist.Distribution:
        """p(z|m), for slots `[..., D]`."""
        return distributions.diagonal_normal(self.latent_prior(features))

    def posterior(self, features: chex.Array, query: chex.Array) -> dist.Distribution:
        """q(z|m, x) for one query `[H, W, C]`."""
        encoded = self.encoder(query)
        shift = self.latent_shift(encoded, features)
        encoded = jnp.expand_dims(encoded, range(shift.ndim - 1))
        return distributions.diagonal_normal(encoded + shift)

    def decode(self, features: chex.Array, latent: chex.Array) -> chex.Array:
        """What p(x|m, z) is made of, `[..., H, W, C]`, for latents `[..., latent_size]`."""
        pixels = self.slot_pixels(features)
        pixels = pixels.reshape(*pixels.shape[:-1], *self.image_shape)
        outputs = self.decoder(latent)
        return outputs + jnp.expand_dims(pixels, range(outputs.ndim - pixels.ndim))
