"""The transposed convolution of stride 2, as a convolution and a change of places."""

import chex
import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

from memjax.nets.inputs import Net

_KERNEL_INIT = nn.initializers.lecun_normal()


class ConvTranspose(Net):
    """`flax.linen.ConvTranspose(features, (4, 4), strides=(2, 2))`, with the same parameters.

    XLA convolves with the zeros between inputs on a CPU, and its gradient of the kernel is slower
    still.

    Attributes:
      features: channels of what comes out.
    """

    features: int

    @nn.compact
    def __call__(self, inputs: chex.Array) -> chex.Array:
        """From `[..., H, W, C]` to `[..., 2 H, 2 W, features]`."""
        shape = (4, 4, inputs.shape[-1], self.features)
        kernel = self.param("kernel", _KERNEL_INIT, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        inputs, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        *axes, height, width, channels = inputs.shape
        hidden = doubled(inputs.reshape(-1, height, width, channels), kernel)
        hidden = hidden + bias[None, None, None]
        return hidden.reshape(*axes, 2 * height, 2 * width, self.features)


def doubled(inputs: chex.Array, kernel: chex.Array) -> chex.Array:
    """`lax.conv_transpose(inputs, kernel, (2, 2), "SAME")` of a 4 x 4 kernel.

    Two rows of the kernel meet an output of even place, the other two one of odd place; so do
    columns. All four kinds of outputs are channels of one 2 x 2 convolution. Outputs of odd place
    are one input further on, so they come first, and a line at each border is dropped.

    Args:
      inputs: `[B, H, W, C]`.
      kernel: `[4, 4, C, F]`.

    Returns:
      `[B, 2 H, 2 W, F]`.
    """
    _, _, channels, features = kernel.shape
    kernel = kernel.reshape(2, 2, 2, 2, channels, features)[:, ::-1, :, ::-1]
    kernel = kernel.transpose(0, 2, 4, 1, 3, 5).reshape(2, 2, channels, 4 * features)
    # Were it left to the convolution, XLA's gradient of the kernel would be a plain loop on a CPU.
    padded = jnp.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
    numbers = ("NHWC", "HWIO", "NHWC")
    outputs = lax.conv_general_dilated(padded, kernel, (1, 1), "VALID", dimension_numbers=numbers)
    return spread(outputs)[:, 1:-1, 1:-1]


def spread(hidden: chex.Array) -> chex.Array:
    """`[..., h, w, 4 F]` to `[..., 2 h, 2 w, F]`.

    After a dense layer it is the transposed convolution of 2 x 2 and stride 2, whose outputs have
    one input each; XLA's own is several times slower on a CPU.
    """
    *axes, height, width, channels = hidden.shape
    hidden = hidden.reshape(*axes, height, width, 2, 2, channels // 4)
    hidden = jnp.swapaxes(hidden, -4, -3)
    return hidden.reshape(*axes, 2 * height, 2 * width, channels // 4)
