"""Flax linen building blocks."""

from memjax.nets import distributions
from memjax.nets.mlp import MLP, image_to_vector

__all__ = ["MLP", "distributions", "image_to_vector"]
