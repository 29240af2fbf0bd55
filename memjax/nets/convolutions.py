"""Layers on maps of features, in the forms that XLA is quick at on a CPU.

The values and parameters are Flax's. Such a layer is linear in its inputs and in its kernel, so
each of its two gradients is the transpose of any expression of it: here of the one whose transpose
is quickest. These expressions stand in rules for tangents (`custom_jvp`). A `custom_vjp` under
`vmap` would ask for the kernel's gradient of each image by itself.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax
from jax.nn.initializers import Initializer

from memjax.nets import _onednn
from memjax.nets.inputs import Net

_FEW = 4  # channels, below which sums of products beat XLA's convolutions


class Conv(Net):
    """`flax.linen.Conv(features, (window, window), (strides, strides))`, the same parameters.

    Attributes:
      features: channels of what comes out.
      window: 3, or 4 with strides of 2.
      strides: 1 or 2.
      use_bias: whether there is one.
      kernel_init: as Flax's.
    """

    features: int
    window: int
    strides: int = 1
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, inputs: chex.Array) -> chex.Array:
        """From `[..., H, W, C]` to `[..., H, W, features]`; by 2, half as high and wide."""
        window = (self.window, self.window)
        arrays = _parameters(self, inputs, *window, use_bias=self.use_bias)
        return _over_images(partial(convolve, strides=self.strides), *arrays)


class ConvTranspose(Net):
    """`flax.linen.ConvTranspose(features, (4, 4), strides=(2, 2))`, with the same parameters.

    Attributes:
      features: channels of what comes out.
      kernel_init: as Flax's.
    """

    features: int
    kernel_init: Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, inputs: chex.Array) -> chex.Array:
        """From `[..., H, W, C]` to `[..., 2 H, 2 W, features]`."""
        return _over_images(doubled, *_parameters(self, inputs, 4, 4))


class Dense(Net):
    """`flax.linen.Dense(features)`, with the same parameters, where pixels are many.

    Attributes:
      features: channels of what comes out.
      kernel_init: as Flax's.
    """

    features: int
    kernel_init: Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, inputs: chex.Array) -> chex.Array:
        """From `[..., C]` to `[..., features]`."""
        inputs, kernel, bias = _parameters(self, inputs)
        if _onednn.takes(inputs, kernel):
            return shifted(_by_pixels(inputs, kernel), bias)
        return affine(inputs, kernel, bias)


def _parameters(
    net: Conv | ConvTranspose | Dense, inputs: chex.Array, *window: int, use_bias: bool = True
) -> list[Any]:
    """`inputs`, the kernel and the bias, or None, of one type."""
    shape = (*window, inputs.shape[-1], net.features)
    kernel = net.param("kernel", net.kernel_init, shape, net.param_dtype)
    bias = None
    if use_bias:
        bias = net.param("bias", nn.initializers.zeros, (net.features,), net.param_dtype)
    return promote_dtype(inputs, kernel, bias, dtype=net.dtype)


def _over_images(
    convolve: Callable, inputs: chex.Array, kernel: chex.Array, bias: chex.Array | None
) -> chex.Array:
    """`convolve` of `[..., H, W, C]` as one batch of images, and the bias, if there is one."""
    hidden = convolve(inputs.reshape(-1, *inputs.shape[-3:]), kernel)
    hidden = hidden if bias is None else shifted(hidden, bias)
    return hidden.reshape(*inputs.shape[:-3], *hidden.shape[1:])


def convolve(inputs: chex.Array, kernel: chex.Array, strides: int) -> chex.Array:
    """`lax.conv` with padding "SAME", in the quickest form.

    Args:
      inputs: `[B, H, W, C]`.
      kernel: `[K, K, C, F]`; K is 3, or 4 with stride 2.
      strides: 1 or 2, of both axes.

    Returns:
      `[B, H, W, F]`; with stride 2 half as high and wide, rounded up.
    """
    if strides == 1 and kernel.shape[-1] < _FEW:
        return thin(inputs, kernel)
    if strides == 2 and not _onednn.takes(inputs, kernel):
        return halved(inputs, kernel)
    return _plain(inputs, kernel, (strides, strides), "SAME")


@jax.custom_jvp
def shifted(inputs: chex.Array, bias: chex.Array) -> chex.Array:
    """`inputs + bias`.

    The bias's gradient is a sum over images and pixels, which XLA is slow at. oneDNN makes it as
    the kernel's gradient of a convolution of ones.

    Args:
      inputs: `[..., H, W, F]`.
      bias: `[F]`.

    Returns:
      `[..., H, W, F]`.
    """
    return inputs + jnp.expand_dims(bias, range(inputs.ndim - 1))


@jax.custom_jvp
def halved(inputs: chex.Array, kernel: chex.Array) -> chex.Array:
    """`lax.conv` of stride 2 and padding "SAME".

    Args:
      inputs: `[B, H, W, C]`.
      kernel: `[4, 4, C, F]` or `[3, 3, C, F]`.

    Returns:
      `[B, H / 2, W / 2, F]`, halves rounded up.
    """
    return (_halved_in_blocks if inputs.shape[-1] < _FEW else _halved)(inputs, kernel)


@jax.custom_jvp
def doubled(inputs: chex.Array, kernel: chex.Array) -> chex.Array:
    """`lax.conv_transpose` of stride 2 and padding "SAME".

    Args:
      inputs: `[B, H, W, C]`.
      kernel: `[4, 4, C, F]`.

    Returns:
      `[B, 2 H, 2 W, F]`.
    """
    return _doubled_in_blocks(inputs, kernel)


@jax.custom_jvp
def thin(inputs: chex.Array, kernel: chex.Array) -> chex.Array:
    """`lax.conv` of stride 1 and padding "SAME" to few channels.

    Args:
      inputs: `[B, H, W, C]`.
      kernel: `[3, 3, C, F]`.

    Returns:
      `[B, H, W, F]`.
    """
    return _thin(jnp.matmul, inputs, kernel)


@jax.custom_jvp
def affine(inputs: chex.Array, kernel: chex.Array, bias: chex.Array) -> chex.Array:
    """`inputs @ kernel + bias`.

    Args:
      inputs: `[..., C]`.
      kernel: `[C, F]`.
      bias: `[F]`.

    Returns:
      `[..., F]`.
    """
    return shifted(inputs @ kernel, bias)


@shifted.defjvp
def _shifted_jvp(primals, tangents):
    (inputs, bias), (input_tangents, bias_tangents) = primals, tangents
    if _onednn.takes(inputs, bias) and len(bias) >= _FEW:
        # Made of the inputs, the ones have the axis of images that `vmap` gives to these.
        ones = ((inputs[..., :1] == 0) | True).astype(inputs.dtype)
        moved = _by_pixels(ones, bias_tangents[None])
    else:
        moved = jnp.expand_dims(bias_tangents, range(inputs.ndim - 1))
    return shifted(inputs, bias), input_tangents + moved


@halved.defjvp
def _halved_jvp(primals, tangents):
    (inputs, kernel), (input_tangents, kernel_tangents) = primals, tangents
    by_inputs = _halved_in_blocks(input_tangents, kernel)
    return halved(inputs, kernel), by_inputs + _halved(inputs, kernel_tangents)


@doubled.defjvp
def _doubled_jvp(primals, tangents):
    (inputs, kernel), (input_tangents, kernel_tangents) = primals, tangents
    if _onednn.takes(inputs, kernel):
        by_inputs, by_kernel = _doubled_by_transpose, _doubled_by_transpose
    else:
        by_inputs = _doubled_in_blocks if kernel.shape[-1] < _FEW else _doubled
        by_kernel = _doubled_exchanged
    moved = by_inputs(input_tangents, kernel) + by_kernel(inputs, kernel_tangents)
    return doubled(inputs, kernel), moved


@thin.defjvp
def _thin_jvp(primals, tangents):
    (inputs, kernel), (input_tangents, kernel_tangents) = primals, tangents
    by_inputs = _thin(jnp.matmul, input_tangents, kernel)
    return thin(inputs, kernel), by_inputs + _thin(_by_pixels, inputs, kernel_tangents)


@affine.defjvp
def _affine_jvp(primals, tangents):
    (inputs, kernel, _), (input_tangents, *tangents) = primals, tangents
    ones = jnp.ones((*inputs.shape[:-1], 1), inputs.dtype)
    matrix = jnp.concatenate([tangents[0], tangents[1][None]])
    moved = _by_pixels(jnp.concatenate([inputs, ones], axis=-1), matrix)
    return affine(*primals), input_tangents @ kernel + moved


def _halved(inputs: chex.Array, kernel: chex.Array) -> chex.Array:
    return _plain(inputs, kernel, (2, 2), "SAME")


def _halved_in_blocks(inputs: chex.Array, kernel: chex.Array) -> chex.Array:
    """A convolution of 2 x 2 over blocks of 2 x 2, whose four inputs are channels.

    Quicker for few channels, and always for the inputs' gradient, which needs no zeros between
    what comes in.
    """
    window, _, channels, features = kernel.shape
    odd = [size % 2 for size in inputs.shape[1:3]]
    before = [(window - 2 + more) // 2 for more in odd]
    borders = [(low, 2 + more - low) for low, more in zip(before, odd, strict=True)]
    padded = jnp.pad(inputs, ((0, 0), *borders, (0, 0)))
    kernel = jnp.pad(kernel, ((0, 4 - window), (0, 4 - window), (0, 0), (0, 0)))
    kernel = kernel.reshape(2, 2, 2, 2, channels, features).swapaxes(1, 2)
    kernel = kernel.reshape(2, 2, 4 * channels, features)
    return _plain(gather(padded), kernel, (1, 1), "VALID")


def _doubled(inputs: chex.Array, kernel: chex.Array) -> chex.Array:
    return lax.conv_transpose(inputs, kernel, (2, 2), "SAME")


def _doubled_by_transpose(inputs: chex.Array, kernel: chex.Array) -> chex.Array:
    """As the transpose of a convolution of stride 2, with the kernel turned."""
    batch, height, width, _ = inputs.shape
    images = jax.ShapeDtypeStruct((batch, 2 * height, 2 * width, kernel.shape[3]), inputs.dtype)
    kernel = kernel[::-1, ::-1].swapaxes(2, 3)
    return jax.linear_transpose(partial(_halved, kernel=kernel), images)(inputs)[0]


def _doubled_in_blocks(inputs: chex.Array, kernel: chex.Array) -> chex.Array:
    """A convolution of 2 x 2 to blocks of 2 x 2, whose four outputs are channels.

    Two rows of the kernel meet an output of even place, the other two one of odd place; so do
    columns. Outputs of odd place are one input further on, so they come first, and a line at each
    border is dropped.
    """
    _, _, channels, features = kernel.shape
    kernel = kernel.reshape(2, 2, 2, 2, channels, features)[:, ::-1, :, ::-1]
    kernel = kernel.transpose(0, 2, 4, 1, 3, 5).reshape(2, 2, channels, 4 * features)
    outputs = _plain(inputs, kernel, (1, 1), ((1, 1), (1, 1)))
    return spread(outputs)[:, 1:-1, 1:-1]


def _doubled_exchanged(inputs: chex.Array, kernel: chex.Array) -> chex.Array:
    """The kernel is convolved with the inputs, spread by zeros: for the kernel's gradient.

    That is the gradient of a convolution with stride; of any other form it is a plain loop, or has
    much to copy.
    """
    padding = [(2 * size - 3, 2 * size - 3) for size in inputs.shape[1:3]]
    kernel, inputs = kernel[::-1, ::-1], inputs[:, ::-1, ::-1]
    numbers = ("HWCN", "OHWI", "NHWC")
    outputs = lax.conv_general_dilated(
        kernel, inputs, (1, 1), padding, rhs_dilation=(2, 2), dimension_numbers=numbers
    )
    return outputs.transpose(3, 1, 2, 0)


def _thin(multiply: Callable, inputs: chex.Array, kernel: chex.Array) -> chex.Array:
    """Nine products for each pixel, then their sum, each from its own neighbour.

    In float32 or wider, as a convolution adds up.
    """
    dtype = jnp.promote_types(inputs.dtype, jnp.float32)
    height, width, channels = inputs.shape[1:]
    features = kernel.shape[-1]
    matrix = kernel.transpose(2, 0, 1, 3).reshape(channels, 9 * features)
    products = multiply(inputs, matrix, preferred_element_type=dtype)
    products = jnp.pad(products, ((0, 0), (1, 1), (1, 1), (0, 0)))
    products = products.reshape(*products.shape[:-1], 3, 3, features)
    places = ((row, column) for row in range(3) for column in range(3))
    outputs = sum(
        products[:, row : row + height, column : column + width, row, column]
        for row, column in places
    )
    return jnp.asarray(outputs, inputs.dtype)


def _by_pixels(inputs: chex.Array, matrix: chex.Array, **options: Any) -> chex.Array:
    """`inputs @ matrix` as a convolution, of which each pixel is an image: for its gradient.

    A convolution's images stay one axis under `vmap`. The sum over several axes that a product's
    gradient becomes is transposed first, which takes longer than all the rest.
    """
    pixels = inputs.reshape(-1, 1, 1, inputs.shape[-1])
    if _onednn.takes(inputs, matrix):  # which is slow at images of one pixel
        pixels = inputs.reshape(-1, *((1, 1, *inputs.shape)[-3:]))
    outputs = _plain(pixels, matrix[None, None], (1, 1), "VALID", **options)
    return outputs.reshape(*inputs.shape[:-1], matrix.shape[-1])


def _plain(
    inputs: chex.Array, kernel: chex.Array, strides: Sequence[int], padding: Any, **options: Any
) -> chex.Array:
    """A convolution by oneDNN, which has no options, where it takes the arrays, else by XLA."""
    if _onednn.takes(inputs, kernel):
        return _onednn.convolve(inputs, kernel, strides, padding)
    options = {"dimension_numbers": _onednn.NUMBERS} | options
    return lax.conv_general_dilated(inputs, kernel, strides, padding, **options)


def spread(hidden: chex.Array) -> chex.Array:
    """`[..., h, w, 4 F]` to `[..., 2 h, 2 w, F]`.

    After a dense layer it is the transposed convolution of 2 x 2 and stride 2, whose outputs have
    one input each; XLA's own is several times slower on a CPU.
    """
    *axes, height, width, channels = hidden.shape
    hidden = hidden.reshape(*axes, height, width, 2, 2, channels // 4)
    hidden = jnp.swapaxes(hidden, -4, -3)
    return hidden.reshape(*axes, 2 * height, 2 * width, channels // 4)


def gather(hidden: chex.Array) -> chex.Array:
    """`[..., H, W, F]` to `[..., H / 2, W / 2, 4 F]`, halves rounded up: undoes `spread`."""
    *axes, height, width, channels = hidden.shape
    borders = ((0, height % 2), (0, width % 2), (0, 0))
    hidden = jnp.pad(hidden, (*[(0, 0)] * len(axes), *borders))
    hidden = hidden.reshape(*axes, -(-height // 2), 2, -(-width // 2), 2, channels)
    hidden = jnp.swapaxes(hidden, -4, -3)
    return hidden.reshape(*hidden.shape[:-3], 4 * channels)
