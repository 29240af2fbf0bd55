"""Fully connected nets."""

from collections.abc import Sequence

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from memjax.errors import UserError
from memjax.nets.inputs import Net, as_reals

_KERNEL_INIT = nn.initializers.lecun_normal()


class MLP(Net):
    """ReLU layers and a linear last one, on the concatenation of its inputs.

    The inputs may have different leading axes, as long as they broadcast: each is multiplied by its
    own rows of the first layer's matrix, so that what several samples share is computed once.

    Attributes:
      hidden_sizes: units of the ReLU layers, at least one.
      output_size: units of the linear layer.
      zero_output: whether the linear layer begins at zero, so that at first all inputs give zeros.
    """

    hidden_sizes: Sequence[int]
    output_size: int
    zero_output: bool = False

    @nn.compact
    def __call__(self, *inputs: chex.Array) -> chex.Array:
        """Maps `[..., I_1], [..., I_2], ...` to `[..., output_size]`."""
        if min(self.hidden_sizes, default=0) < 1:
            raise UserError(
                f"hidden_sizes is {tuple(self.hidden_sizes)}; it must be one or more, each above 0"
            )
        hidden = self._first_layer([as_reals("inputs", x) for x in inputs])
        for i, size in enumerate(self.hidden_sizes[1:], start=1):
            hidden = nn.relu(nn.Dense(size, name=f"hidden_{i}", **self._types)(hidden))
        init = output_init(self.zero_output, _KERNEL_INIT)
        output = nn.Dense(self.output_size, kernel_init=init, name="output", **self._types)
        return output(hidden)

    def _first_layer(self, inputs: Sequence[chex.Array]) -> chex.Array:
        sizes = [x.shape[-1] for x in inputs]
        units = self.hidden_sizes[0]
        shape = (sum(sizes), units)
        kernel = self.param("kernel", _KERNEL_INIT, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (units,), self.param_dtype)
        kernel, bias, *inputs = promote_dtype(kernel, bias, *inputs, dtype=self.dtype)
        splits = [sum(sizes[:i]) for i in range(1, len(sizes))]
        products = [x @ block for x, block in zip(inputs, jnp.split(kernel, splits), strict=True)]
        ndim = max(product.ndim for product in products)
        terms = [jnp.expand_dims(x, range(ndim - x.ndim)) for x in (*products, bias)]
        return nn.relu(sum(terms[1:], terms[0]))


def output_init(zero: bool, otherwise: nn.initializers.Initializer) -> nn.initializers.Initializer:
    """How a last layer's kernel begins: at zero, or by `otherwise`."""
    return nn.initializers.zeros if zero else otherwise


def image_to_vector(image: jax.Array) -> jax.Array:
    """Flattens `[..., H, W, C]` to `[..., H * W * C]`."""
    image = jnp.asarray(image)
    return image.reshape(*image.shape[:-3], -1)
