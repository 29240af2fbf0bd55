"""Flax linen building blocks."""

from memjax.nets import distributions
from memjax.nets.image import ImageDecoder, ImageEncoder, add_uniform_noise
from memjax.nets.mlp import MLP, image_to_vector

__all__ = [
    "MLP",
    "ImageDecoder",
    "ImageEncoder",
    "add_uniform_noise",
    "distributions",
    "image_to_vector",
]
