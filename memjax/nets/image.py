"""Images to vectors and back: a pyramid of convolutions, or an MLP, by one field of a config."""

import math
from collections.abc import Sequence

import chex
import flax.linen as nn
import jax
import numpy as np
import numpyro.distributions as dist

from memjax.errors import UserError
from memjax.nets import distributions
from memjax.nets.convolutions import Conv, ConvTranspose
from memjax.nets.inputs import Net, as_floats, as_reals
from memjax.nets.mlp import MLP, image_to_vector, output_init

_NUM_BLOCKS = 3


class ImageEncoder(Net):
    """Images `[..., H, W, C]` to `[..., output_size]`; appendix C of the Kanerva Machine.

    Three blocks of a 4 x 4 convolution of stride 2 and a residual block, then a linear layer.

    Attributes:
      output_size: units of the linear layer.
      num_filters: of all convolutions; 0 for an MLP instead.
      hidden_sizes: of the MLP.
    """

    output_size: int
    num_filters: int = 16
    hidden_sizes: Sequence[int] = ()

    @nn.compact
    def __call__(self, images: chex.Array) -> chex.Array:
        """Encodes."""
        images = as_reals("images", images)
        if not self.num_filters:
            mlp = MLP(self.hidden_sizes, self.output_size, **self._types)
            return mlp(image_to_vector(images))
        pyramid_shapes(images.shape[-3:])
        hidden = images
        for _ in range(_NUM_BLOCKS):
            hidden = nn.relu(Conv(self.num_filters, 4, 2, **self._types)(hidden))
            hidden = _ResidualBlock(self.num_filters, **self._types)(hidden)
        return nn.Dense(self.output_size, **self._types)(image_to_vector(hidden))


class ImageDecoder(Net):
    """Codes `[..., D]` to `[..., H, W, C]`, the encoder mirrored; 0 filters for an MLP.

    Attributes:
      image_shape: (H, W, C).
      num_filters: of all transposed convolutions but the last; 0 for an MLP instead.
      hidden_sizes: of the MLP, in its own order.
      zero_output: whether the last layer begins at zero, so that at first all codes give zeros.
    """

    image_shape: Sequence[int]
    num_filters: int = 16
    hidden_sizes: Sequence[int] = ()
    zero_output: bool = False

    @nn.compact
    def __call__(self, codes: chex.Array) -> chex.Array:
        """Decodes, to what an `ImageLikelihood` takes."""
        codes = as_reals("codes", codes)
        height, width, channels = self.image_shape
        if not self.num_filters:
            sizes = (self.hidden_sizes, height * width * channels, self.zero_output)
            pixels = MLP(*sizes, **self._types)(codes)
            return pixels.reshape(*codes.shape[:-1], *self.image_shape)
        *shapes, (top_height, top_width) = pyramid_shapes(self.image_shape)
        num_units = top_height * top_width * self.num_filters
        hidden = nn.relu(nn.Dense(num_units, **self._types)(codes))
        hidden = hidden.reshape(*codes.shape[:-1], top_height, top_width, self.num_filters)
        for i, (height, width) in reversed(list(enumerate(shapes))):
            hidden = _ResidualBlock(self.num_filters, **self._types)(hidden)
            features = self.num_filters if i else channels
            init = output_init(self.zero_output and not i, nn.initializers.lecun_normal())
            hidden = ConvTranspose(features, kernel_init=init, **self._types)(hidden)
            hidden = hidden[..., :height, :width, :]
            hidden = nn.relu(hidden) if i else hidden
        return hidden


class ImageLikelihood(Net):
    """p(x|z) over images `[..., H, W, C]` from a decoder's outputs of that shape.

    Attributes:
      kind: "bernoulli", of logits; or "gaussian", of means, with one learned covariance of the
        channels, which begins at 0.135^2 for each.
      dtype: of what the distribution is given; it computes in float32 or wider, as it sums over
        many pixels.
    """

    kind: str = "bernoulli"

    @nn.compact
    def __call__(self, outputs: chex.Array) -> dist.Distribution:
        """The distribution, of batch shape `[...]`."""
        distributions.check_likelihood(self.kind)
        outputs = as_reals("outputs", outputs, self.dtype)
        if self.kind == "bernoulli":
            return distributions.bernoulli_image(outputs)
        channels = outputs.shape[-1]
        start = nn.initializers.constant(distributions.INITIAL_LOG_SCALE)
        log_scales = self.param("log_scales", start, (channels,), self.param_dtype)
        if channels == 1:
            return distributions.gaussian_image(outputs, log_scales[0])
        shape = (math.comb(channels, 2),)
        coefficients = self.param("coefficients", nn.initializers.zeros, shape, self.param_dtype)
        return distributions.channel_gaussian_image(outputs, log_scales, coefficients)


class _ResidualBlock(Net):
    """He et al. 2016's basic block, without normalisation."""

    num_filters: int

    @nn.compact
    def __call__(self, inputs: chex.Array) -> chex.Array:
        first, second = (Conv(self.num_filters, 3, **self._types) for _ in range(2))
        return nn.relu(inputs + second(nn.relu(first(inputs))))


def pyramid_shapes(image_shape: Sequence[int]) -> list[tuple[int, int]]:
    """Heights and widths from the image to the top of the pyramid, halved and rounded up.

    Raises:
      UserError: an image that can't be halved three times.
    """
    height, width = image_shape[:2]
    if min(height, width) <= 2 ** (_NUM_BLOCKS - 1):
        raise UserError(
            f"images are {height} x {width}; the convolutions halve them {_NUM_BLOCKS} times, "
            f"so they must be at least {2 ** (_NUM_BLOCKS - 1) + 1} x {2 ** (_NUM_BLOCKS - 1) + 1} "
            "(or model.num_filters 0, an MLP)"
        )
    shapes = [(height, width)]
    for _ in range(_NUM_BLOCKS):
        height, width = -(-height // 2), -(-width // 2)
        shapes.append((height, width))
    return shapes


def check_images(images: chex.Array) -> None:
    """Refuses images `[..., H, W, C]` outside [0, 1].

    Inside a compiled function, where values are unknown, nothing is refused.

    Raises:
      UserError: such as for uint8 images that were not divided by 255.
    """
    if isinstance(images, jax.core.Tracer):
        return
    # NumPy's own: inside a compiled function JAX would compute with constants later.
    values = np.asarray(images)
    least, largest = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    if not (least >= 0.0 and largest <= 1.0):
        raise UserError(f"images range from {least:g} to {largest:g}; they must be in [0, 1]")


def add_uniform_noise(rng_key: chex.PRNGKey, images: chex.Array) -> chex.Array:
    """Images `[..., H, W, C]` of 256 levels in [0, 1] made continuous, by U(0, 1/256)."""
    images = as_floats("images", images)
    return images + jax.random.uniform(rng_key, images.shape, images.dtype) / 256.0
