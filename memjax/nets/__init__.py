"""Flax linen building blocks."""

from memjax.nets import distributions
from memjax.nets.image import ImageDecoder, ImageEncoder, add_uniform_noise
from memjax.nets.mlp import MLP, image_to_vector
from memjax.nets.pyramid import ConditionalNets, PyramidDecoder, PyramidEncoder, SlotFeatures

__all__ = [
    "MLP",
    "ConditionalNets",
    "ImageDecoder",
    "ImageEncoder",
    "PyramidDecoder",
    "PyramidEncoder",
    "SlotFeatures",
    "add_uniform_noise",
    "distributions",
    "image_to_vector",
]
