"""A user's own nets inside a model of ours: modules that take a batch, as Flax's usually do."""

import math
from collections.abc import Sequence
from typing import Any

import chex
import flax.linen as nn
import jax.numpy as jnp

from memjax.errors import UserError
from memjax.nets.inputs import Net, as_reals


class ImageFeatures(Net):
    """Images `[..., H, W, C]` to `[..., output_size]`: a net `[B, H, W, C]` to `[B, D]`, any D,
    then a linear layer.

    Attributes:
      net: the user's.
      output_size: of the linear layer; 0 for the net's own features.
      field: of the model, which has the net; for errors.
    """

    net: nn.Module
    output_size: int = 0
    field: str = "encoder"

    @nn.compact
    def __call__(self, images: chex.Array) -> chex.Array:
        """Encodes.

        Raises:
          UserError: the net gives no vectors.
        """
        images = as_reals("images", images, self.dtype)
        features = _on_batch(self.field, self.net, images, 3, self.dtype)
        if features.ndim != images.ndim - 2:
            shape = list(features.shape[images.ndim - 3 :])
            raise UserError(f"{self.field} gives {shape} for an image; it must give a vector")
        return nn.Dense(self.output_size, **self._types)(features) if self.output_size else features


class ImageOutputs(Net):
    """Codes `[..., D]` to `[..., H, W, C]`, by a net `[B, D]` to `[B, H, W, C]`.

    Attributes:
      net: the user's.
      image_shape: (H, W, C).
    """

    net: nn.Module
    image_shape: Sequence[int]

    def __call__(self, *codes: chex.Array) -> chex.Array:
        """Decodes the concatenation of its inputs.

        Raises:
          UserError: the net gives another shape.
        """
        joined = jnp.concatenate([as_reals("codes", x, self.dtype) for x in codes], axis=-1)
        outputs = _on_batch("decoder", self.net, joined, 1, self.dtype)
        shape, wanted = outputs.shape[joined.ndim - 1 :], tuple(self.image_shape)
        if shape != wanted:
            raise UserError(
                f"decoder gives {list(shape)} for a code; it must give an image {list(wanted)}"
            )
        return outputs


def _on_batch(field: str, net: nn.Module, inputs: chex.Array, ndim: int, dtype: Any) -> chex.Array:
    """Gives the net one leading axis; its outputs get those of the inputs."""
    axes, own = inputs.shape[: inputs.ndim - ndim], inputs.shape[inputs.ndim - ndim :]
    batch = inputs.reshape(math.prod(axes), *own)
    outputs = as_reals(f"what {field} gives", net(batch), dtype)
    if outputs.shape[:1] != batch.shape[:1]:
        raise UserError(
            f"{field} gives {list(outputs.shape)} for a batch {list(batch.shape)}; "
            f"its first axis must be the batch's, of {len(batch)}"
        )
    return outputs.reshape(*axes, *outputs.shape[1:])
