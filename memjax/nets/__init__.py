"""Flax linen building blocks."""

from memjax.nets import distributions
from memjax.nets.image import ImageDecoder, ImageEncoder, add_uniform_noise, check_images
from memjax.nets.memory_cells import CategoricalCell, CategoricalState, KanervaCell
from memjax.nets.memory_layer import MemoryLayer
from memjax.nets.mlp import MLP, image_to_vector
from memjax.nets.pyramid import ConditionalNets, PyramidDecoder, PyramidEncoder, SlotFeatures

__all__ = [
    "MLP",
    "CategoricalCell",
    "CategoricalState",
    "ConditionalNets",
    "ImageDecoder",
    "ImageEncoder",
    "KanervaCell",
    "MemoryLayer",
    "PyramidDecoder",
    "PyramidEncoder",
    "SlotFeatures",
    "add_uniform_noise",
    "check_images",
    "distributions",
    "image_to_vector",
]
