"""The convolutional nets of Variational Memory Addressing, section 4.2 (VMA below).

Every image goes down one kind of pyramid, from 26 x 26 to 4 x 4. What a slot gives to its pyramid
and to the decoder is computed once for a slot, what a query gives once for a query; only the sum
of the two costs something for each sample.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
import numpyro.distributions as dist

from memjax.nets import distributions
from memjax.nets.convolutions import Conv, Dense, gather, spread
from memjax.nets.image import pyramid_shapes
from memjax.nets.inputs import Net, as_reals
from memjax.nets.mlp import MLP, image_to_vector, output_init

# Keeps a signal's size over a dozen layers of ReLUs; Flax's own has half the variance.
_KERNEL_INIT = nn.initializers.he_normal()


class Pyramid(Net):
    """Six 3 x 3 convolutions with ReLUs, every second of stride 2; VMA section 4.2.

    The first is the caller's, one for each input: the convolution of a concatenation [m, x] is
    the sum of one of m and one of x.

    Attributes:
      num_filters: of every convolution.
    """

    num_filters: int

    @nn.compact
    def __call__(self, stems: chex.Array) -> list[chex.Array]:
        """From the stems' sum `[..., H, W, F]`, one map of each size, the finest first."""
        stems = as_reals("stems", stems)
        pyramid_shapes(stems.shape[-3:])
        hidden = nn.relu(stems)
        maps = [hidden]
        for stride in (2, 1, 2, 1, 2):
            hidden = nn.relu(convolution(self.num_filters, strides=stride, **self._types)(hidden))
            if stride == 1:
                maps.append(hidden)
        return [*maps, hidden]


class PyramidEncoder(Net):
    """Images `[..., H, W, C]` to `[..., output_size]`: the pyramid, then an MLP.

    Attributes:
      output_size: units of the last, linear layer.
      num_filters: of every convolution.
      hidden_sizes: of the MLP.
    """

    output_size: int
    num_filters: int
    hidden_sizes: Sequence[int]

    @nn.compact
    def __call__(self, images: chex.Array) -> chex.Array:
        """Encodes."""
        stems = convolution(self.num_filters, **self._types)(as_reals("images", images))
        top = Pyramid(self.num_filters, **self._types)(stems)[-1]
        return MLP(self.hidden_sizes, self.output_size, **self._types)(image_to_vector(top))


class PyramidDecoder(Net):
    """Codes `[..., D]` to images `[..., H, W, C]`: the pyramid upside down.

    Sizes double by transposed convolutions of 2 x 2, each followed by a convolution of 3 x 3.

    Attributes:
      image_shape: (H, W, C).
      num_filters: of every convolution but the last.
      zero_output: whether the last begins at zero, so that at first all codes give zeros.
    """

    image_shape: Sequence[int]
    num_filters: int
    zero_output: bool = False

    @nn.compact
    def __call__(self, codes: chex.Array, skips: Sequence[chex.Array] = ()) -> chex.Array:
        """Decodes, to what an `ImageLikelihood` takes.

        `skips`, a map `[..., h, w, F]` of each size, finest first, add to ours.
        """
        *shapes, (top_height, top_width) = pyramid_shapes(self.image_shape)
        codes = as_reals("codes", codes)
        skips = [as_reals("skips", skip, self.dtype) for skip in skips]
        num_units = top_height * top_width * self.num_filters
        hidden = nn.Dense(num_units, kernel_init=_KERNEL_INIT, **self._types)(codes)
        hidden = nn.relu(hidden)
        hidden = hidden.reshape(*codes.shape[:-1], top_height, top_width, self.num_filters)
        for i, (height, width) in reversed(list(enumerate(shapes))):
            dense = Dense(4 * self.num_filters, kernel_init=_KERNEL_INIT, **self._types)
            # Sums and ReLUs before pixels change places: between the two, their gradient is slow.
            hidden = dense(hidden) + gather(skips[i]) if skips else dense(hidden)
            hidden = spread(nn.relu(hidden))[..., :height, :width, :]
            features = self.num_filters if i else self.image_shape[-1]
            init = output_init(self.zero_output and not i, _KERNEL_INIT)
            hidden = convolution(features, kernel_init=init, **self._types)(hidden)
            hidden = nn.relu(hidden) if i else hidden
        return hidden


class SlotFeatures(NamedTuple):
    """What a slot's content gives to the nets; any leading axes, so that it can be looked up."""

    stem: chex.Array  # [..., H, W, F], its part of the first convolution of [m, x]
    skips: Sequence[chex.Array]  # [..., h, w, F] of each size
    vector: chex.Array  # [..., D]


class ConditionalNets(Net):
    """p(z|m), q(z|m, x) and p(x|m, z) for slots m that are images, all with one pyramid.

    VMA section 4.2. Whatever else is known of the memory, `context` `[..., D]`, is concatenated
    with the vectors.

    Attributes:
      image_shape: (H, W, C).
      latent_size: size of z, and of the vector that an m becomes for the decoder.
      num_filters: of every convolution.
      hidden_sizes: of the MLPs behind the pyramid.
      zero_output: whether the decoder's last convolution begins at zero.
    """

    image_shape: Sequence[int]
    latent_size: int
    num_filters: int
    hidden_sizes: Sequence[int]
    zero_output: bool = False

    def setup(self):
        """Names the parameters."""
        types = self._types
        self.slot_stem = convolution(self.num_filters, **types)
        self.query_stem = convolution(self.num_filters, use_bias=False, **types)
        self.pyramid = Pyramid(self.num_filters, **types)
        self.skips = [nn.Dense(self.num_filters, **types) for _ in range(3)]
        self.latent_prior = MLP(self.hidden_sizes, 2 * self.latent_size, **types)
        self.latent_posterior = MLP(self.hidden_sizes, 2 * self.latent_size, **types)
        self.slot_code = nn.Dense(self.latent_size, **types)
        sizes = (self.image_shape, self.num_filters, self.zero_output)
        self.decoder = PyramidDecoder(*sizes, **types)

    def image_features(self, images: chex.Array) -> SlotFeatures:
        """Features of slots that hold images `[..., H, W, C]`."""
        stem_of_slots = self.slot_stem(as_reals("images", images))
        *maps, top = self.pyramid(stem_of_slots)
        skips = [skip(map_) for skip, map_ in zip(self.skips, maps, strict=True)]
        return SlotFeatures(stem_of_slots, skips, image_to_vector(top))

    def prior(self, features: SlotFeatures, *context: chex.Array) -> dist.Distribution:
        """p(z|m)."""
        return distributions.diagonal_normal(self.latent_prior(features.vector, *context))

    def posterior(
        self, features: SlotFeatures, query: chex.Array, *context: chex.Array
    ) -> dist.Distribution:
        """q(z|m, x) for one query `[H, W, C]`."""
        stems = self.query_stem(as_reals("query", query))
        stems = jnp.expand_dims(stems, range(features.stem.ndim - stems.ndim)) + features.stem
        top = image_to_vector(self.pyramid(stems)[-1])
        return distributions.diagonal_normal(self.latent_posterior(top, *context))

    def decode(
        self, features: SlotFeatures, latent: chex.Array, *context: chex.Array
    ) -> chex.Array:
        """What p(x|m, z) is made of, `[..., H, W, C]`, for latents `[..., latent_size]`."""
        latent = as_reals("latent", latent, self.dtype)
        codes = jnp.concatenate([self.slot_code(features.vector), latent, *context], axis=-1)
        return self.decoder(codes, features.skips)


def convolution(num_filters: int, **options: Any) -> Conv:
    """A 3 x 3 convolution."""
    return Conv(num_filters, 3, **{"kernel_init": _KERNEL_INIT} | options)
