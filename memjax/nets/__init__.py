"""Flax linen building blocks.

They take floating-point numbers of any width, NumPy arrays and lists, and refuse integers. Each has
the two types of Flax's own modules, by keyword: `dtype`, of the computation and of what comes out
(None: the widest of inputs and parameters), and `param_dtype`, of the parameters, float32.
Memories that are carried, and distributions, are float32 or wider.
"""

from memjax.nets import distributions
from memjax.nets.dense import DenseConditionalNets
from memjax.nets.image import (
    ImageDecoder,
    ImageEncoder,
    ImageLikelihood,
    add_uniform_noise,
    check_images,
)
from memjax.nets.injected import ImageFeatures, ImageOutputs
from memjax.nets.inputs import as_floats
from memjax.nets.learned_slots import LearnedSlotNets
from memjax.nets.memory_cells import CategoricalCell, CategoricalState, KanervaCell
from memjax.nets.memory_layer import MemoryLayer
from memjax.nets.mlp import MLP, image_to_vector
from memjax.nets.pyramid import ConditionalNets, PyramidDecoder, PyramidEncoder, SlotFeatures
from memjax.nets.sequence_layers import DeltaLayer, KanervaLayer, LinearAttentionLayer

__all__ = [
    "MLP",
    "CategoricalCell",
    "CategoricalState",
    "ConditionalNets",
    "DeltaLayer",
    "DenseConditionalNets",
    "ImageDecoder",
    "ImageEncoder",
    "ImageFeatures",
    "ImageLikelihood",
    "ImageOutputs",
    "KanervaCell",
    "KanervaLayer",
    "LearnedSlotNets",
    "LinearAttentionLayer",
    "MemoryLayer",
    "PyramidDecoder",
    "PyramidEncoder",
    "SlotFeatures",
    "add_uniform_noise",
    "as_floats",
    "check_images",
    "distributions",
    "image_to_vector",
]
