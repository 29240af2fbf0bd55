"""Convolutions of 4 x 4 and stride 2, down and up, in the forms that XLA is quick at on a CPU.

The values are Flax's. A convolution is linear in its inputs and in its kernel, so each of its two
gradients is the transpose of any expression of it: here of the one whose transpose is quickest.
These expressions stand in rules for tangents (`custom_jvp`). A `custom_vjp` under `vmap` would ask
for the kernel's gradient of each image by itself.
"""

from collections.abc import Callable

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

from memjax.nets.inputs import Net

_KERNEL_INIT = nn.initializers.lecun_normal()
_NUMBERS = ("NHWC", "HWIO", "NHWC")


class Conv(Net):
    """`flax.linen.Conv(features, (4, 4), strides=2)`, with the same parameters.

    Attributes:
      features: channels of what comes out.
    """

    features: int

    @nn.compact
    def __call__(self, inputs: chex.Array) -> chex.Array:
        """From `[..., H, W, C]` to `[..., H / 2, W / 2, features]`, halves rounded up."""
        return _apply(self, halved, inputs)


class ConvTranspose(Net):
    """`flax.linen.ConvTranspose(features, (4, 4), strides=(2, 2))`, with the same parameters.

    Attributes:
      features: channels of what comes out.
    """

    features: int

    @nn.compact
    def __call__(self, inputs: chex.Array) -> chex.Array:
        """From `[..., H, W, C]` to `[..., 2 H, 2 W, features]`."""
        return _apply(self, doubled, inputs)


def _apply(
    net: Conv | ConvTranspose, convolve: Callable[..., chex.Array], inputs: chex.Array
) -> chex.Array:
    shape = (4, 4, inputs.shape[-1], net.features)
    kernel = net.param("kernel", _KERNEL_INIT, shape, net.param_dtype)
    bias = net.param("bias", nn.initializers.zeros, (net.features,), net.param_dtype)
    inputs, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=net.dtype)
    hidden = convolve(inputs.reshape(-1, *inputs.shape[-3:]), kernel) + bias[None, None, None]
    return hidden.reshape(*inputs.shape[:-3], *hidden.shape[1:])


@jax.custom_jvp
def halved(inputs: chex.Array, kernel: chex.Array) -> chex.Array:
    """`lax.conv` of stride 2 and padding "SAME".

    Args:
      inputs: `[B, H, W, C]`.
      kernel: `[4, 4, C, F]`.

    Returns:
      `[B, H / 2, W / 2, F]`, halves rounded up.
    """
    return (_halved_in_blocks if inputs.shape[-1] < 4 else _halved)(inputs, kernel)


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


@halved.defjvp
def _halved_jvp(primals, tangents):
    (inputs, kernel), (input_tangents, kernel_tangents) = primals, tangents
    by_inputs = _halved_in_blocks(input_tangents, kernel)
    return halved(inputs, kernel), by_inputs + _halved(inputs, kernel_tangents)


@doubled.defjvp
def _doubled_jvp(primals, tangents):
    (inputs, kernel), (input_tangents, kernel_tangents) = primals, tangents
    by_inputs = (_doubled_in_blocks if kernel.shape[-1] < 4 else _doubled)(input_tangents, kernel)
    return doubled(inputs, kernel), by_inputs + _doubled_exchanged(inputs, kernel_tangents)


def _halved(inputs: chex.Array, kernel: chex.Array) -> chex.Array:
    return lax.conv_general_dilated(inputs, kernel, (2, 2), "SAME", dimension_numbers=_NUMBERS)


def _halved_in_blocks(inputs: chex.Array, kernel: chex.Array) -> chex.Array:
    """A convolution of 2 x 2 over blocks of 2 x 2, whose four inputs are channels.

    Quicker for few channels, and always for the inputs' gradient, which needs no zeros between
    what comes in.
    """
    _, _, channels, features = kernel.shape
    borders = ((1, 1 + size % 2) for size in inputs.shape[1:3])
    padded = jnp.pad(inputs, ((0, 0), *borders, (0, 0)))
    batch, height, width, _ = padded.shape
    blocks = padded.reshape(batch, height // 2, 2, width // 2, 2, channels).swapaxes(2, 3)
    blocks = blocks.reshape(batch, height // 2, width // 2, 4 * channels)
    kernel = kernel.reshape(2, 2, 2, 2, channels, features).swapaxes(1, 2)
    kernel = kernel.reshape(2, 2, 4 * channels, features)
    return lax.conv_general_dilated(blocks, kernel, (1, 1), "VALID", dimension_numbers=_NUMBERS)


def _doubled(inputs: chex.Array, kernel: chex.Array) -> chex.Array:
    return lax.conv_transpose(inputs, kernel, (2, 2), "SAME")


def _doubled_in_blocks(inputs: chex.Array, kernel: chex.Array) -> chex.Array:
    """A convolution of 2 x 2 to blocks of 2 x 2, whose four outputs are channels.

    Two rows of the kernel meet an output of even place, the other two one of odd place; so do
    columns. Outputs of odd place are one input further on, so they come first, and a line at each
    border is dropped.
    """
    _, _, channels, features = kernel.shape
    kernel = kernel.reshape(2, 2, 2, 2, channels, features)[:, ::-1, :, ::-1]
    kernel = kernel.transpose(0, 2, 4, 1, 3, 5).reshape(2, 2, channels, 4 * features)
    padding = ((1, 1), (1, 1))
    outputs = lax.conv_general_dilated(inputs, kernel, (1, 1), padding, dimension_numbers=_NUMBERS)
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


def spread(hidden: chex.Array) -> chex.Array:
    """`[..., h, w, 4 F]` to `[..., 2 h, 2 w, F]`.

    After a dense layer it is the transposed convolution of 2 x 2 and stride 2, whose outputs have
    one input each; XLA's own is several times slower on a CPU.
    """
    *axes, height, width, channels = hidden.shape
    hidden = hidden.reshape(*axes, height, width, 2, 2, channels // 4)
    hidden = jnp.swapaxes(hidden, -4, -3)
    return hidden.reshape(*axes, 2 * height, 2 * width, channels // 4)
